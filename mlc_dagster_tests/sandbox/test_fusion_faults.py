"""Everything that can be made to go wrong, and that it goes wrong exactly as asked."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mlc_dagster.sandbox.faults import Faults
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, exact, invoice


def test_latency_delays_only_what_it_names(fusion: FusionSandbox, caller: Caller) -> None:
    """Per path; the server's own clock is the witness."""
    # A little more than is asserted: the loop may wake a moment before another clock has counted all of it.
    fusion.faults.add("latency", path="invoices", seconds=0.22)
    caller.get("invoices")
    caller.get("ledgersLOV")
    seconds = [entry.seconds for entry in fusion.books.requests(method="GET")]
    assert seconds[0] >= 0.2 > seconds[1]


def test_latency_does_not_block_other_requests(fusion: FusionSandbox, caller: Caller) -> None:
    """Sixteen slow requests overlap."""
    fusion.faults.add("latency", path="invoices", seconds=0.3)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: caller.get("invoices"), range(16)))
    entries = fusion.books.requests(route="invoices")
    assert max(entry.in_flight for entry in entries) > 8
    assert fusion.books.high_water > 8


def test_a_503_strikes_as_often_as_told_and_stores_nothing(fusion: FusionSandbox, caller: Caller) -> None:
    """With Retry-After when given."""
    fault = fusion.faults.add("status", method="POST", path="invoices", status=503, retry_after=7, count=2)
    answers = [caller.post(invoice()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 201]
    assert answers[0].headers["Retry-After"] == "7"
    assert (fault.fired, len(fusion.books.invoices())) == (2, 1)


def test_a_429_may_come_without_retry_after(fusion: FusionSandbox, caller: Caller) -> None:
    """The header is not promised."""
    fusion.faults.add("status", status=429, count=1)
    answer = caller.get("invoices")
    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers


def test_skip_lets_the_first_ones_pass(fusion: FusionSandbox, caller: Caller) -> None:
    """To strike the third page, say."""
    fusion.faults.add("status", path="suppliers", skip=2, count=1)
    assert [caller.get("suppliers").status_code for _ in range(4)] == [200, 200, 503, 200]


def test_probability_is_seeded() -> None:
    """The same seed strikes the same requests, and about as many as asked."""

    def strikes(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add("status", probability=0.05)
        return [bool(faults.matching("GET", "invoices")) for _ in range(2000)]

    assert strikes(1) == strikes(1)
    assert strikes(1) != strikes(2)
    assert 60 <= sum(strikes(1)) <= 140


def test_patterns_choose_by_path_and_method() -> None:
    """A star reaches every resource but never the token endpoint."""
    faults = Faults()
    faults.add("latency", path="*LOV", method="get")
    faults.add("reset")
    kinds = {
        path: [fault.kind for fault in faults.matching("GET", path)]
        for path in ("ledgersLOV", "invoices", "oauth2/v1/token")
    }
    assert kinds == {"ledgersLOV": ["latency", "reset"], "invoices": ["reset"], "oauth2/v1/token": []}


def test_a_reset_comes_before_anything_is_stored(fusion: FusionSandbox, caller: Caller) -> None:
    """The client sees the connection die."""
    fusion.faults.add("reset", method="POST", count=1)
    with pytest.raises(httpx.ReadError):
        caller.post(invoice())
    assert fusion.books.invoices() == []
    assert fusion.books.count("POST", "invoices", 0) == 1


def test_a_hang_ends_with_the_client_and_stores_nothing(fusion: FusionSandbox, caller: Caller) -> None:
    """Time-out before the commit."""
    fusion.faults.add("hang", method="POST", count=1)
    with pytest.raises(httpx.ReadTimeout):
        caller.client.post("/invoices", json=invoice(), timeout=0.2)
    assert fusion.books.invoices() == []


def test_commit_then_hang_stores_and_never_answers(fusion: FusionSandbox, caller: Caller) -> None:
    """The time-out after which a blind retry would double the invoice."""
    fusion.faults.add("commit_then_hang", path="invoices", count=1)
    with pytest.raises(httpx.ReadTimeout):
        caller.client.post("/invoices", json=invoice(), timeout=0.2)
    assert [booked.number for booked in fusion.books.invoices()] == ["INV-1"]
    assert caller.post(invoice()).status_code == 400


def test_a_hang_with_seconds_ends_by_itself(fusion: FusionSandbox, caller: Caller) -> None:
    """The server gives up, not the client."""
    fusion.faults.add("commit_then_hang", path="invoices", count=1, seconds=0.1)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        caller.post(invoice())
    assert len(fusion.books.invoices()) == 1


def test_commit_then_reset_stores_and_cuts(fusion: FusionSandbox, caller: Caller) -> None:
    """A reset whose invoice is there."""
    fusion.faults.add("commit_then_reset", path="invoices", count=1)
    with pytest.raises(httpx.ReadError):
        caller.post(invoice())
    assert len(fusion.books.invoices()) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_commit_then_status_stores_and_lies(fusion: FusionSandbox, caller: Caller, status: int) -> None:
    """A gateway in between may answer like this."""
    fusion.faults.add("commit_then_status", path="invoices", status=status, count=1)
    assert caller.post(invoice()).status_code == status
    assert len(fusion.books.invoices()) == 1


def test_a_cut_off_answer_is_shorter_than_announced(fusion: FusionSandbox, caller: Caller) -> None:
    """Half a body of a stored invoice."""
    fusion.faults.add("cut_off", method="POST", path="invoices", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        caller.post(invoice())
    assert len(fusion.books.invoices()) == 1


def test_the_token_endpoint_can_be_down_alone(fusion: FusionSandbox, caller: Caller) -> None:
    """Tokens already issued stay good."""
    fusion.faults.add("token_down")
    assert httpx.post(fusion.token_url, data={}).status_code == 503
    assert caller.get("invoices").status_code == 200


def test_a_revoked_role_is_403(fusion: FusionSandbox, caller: Caller) -> None:
    """For everything, or for one resource."""
    fusion.faults.add("revoked", path="*LOV")
    assert caller.get("ledgersLOV").status_code == 403
    assert caller.get("invoices").status_code == 200


def test_lost_data_access_shows_nothing(fusion: FusionSandbox, caller: Caller) -> None:
    """200 and zero rows, also for what is there; items are not found and nothing can be created."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    fusion.faults.add("zero_rows")
    assert caller.items("invoices", q="InvoiceNumber='INV-1'") == []
    assert caller.items("suppliers") == []
    assert caller.get(f"invoices/{invoice_id}").status_code == 404
    assert caller.post(invoice("B")).status_code == 400
    fusion.faults.clear()
    assert len(caller.items("invoices")) == 1


def test_a_concurrency_cap_refuses_the_requests_above_it(fusion: FusionSandbox, caller: Caller) -> None:
    """Four are served while they overlap, the rest is 503."""
    fusion.faults.add("concurrency_cap", path="invoices", cap=4)
    gate = fusion.faults.gate(method="GET", path="invoices")
    with ThreadPoolExecutor(10) as threads:
        waiting = [threads.submit(caller.get, "invoices") for _ in range(10)]
        assert gate.wait_held(requests=4)
        refused: list[int] = []
        deadline = time.monotonic() + 10
        while len(refused) < 6 and time.monotonic() < deadline:
            refused = [entry.status for entry in fusion.books.requests(route="invoices")]
        gate.release()
        answered = sorted(future.result().status_code for future in waiting)
    assert refused == [503] * 6
    assert answered == [200] * 4 + [503] * 6


def test_a_gate_holds_a_request_before_it_is_handled(fusion: FusionSandbox, caller: Caller) -> None:
    """The moment between the intent and the commit, to kill a client in."""
    gate = fusion.faults.gate(method="POST", path="invoices")
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(caller.post, invoice())
        assert gate.wait_held()
        assert (gate.held, fusion.books.invoices()) == (1, [])
        gate.release()
        assert pending.result().status_code == 201


def test_a_gate_holds_an_answer_after_the_commit(fusion: FusionSandbox, caller: Caller) -> None:
    """The moment between the commit and the record."""
    gate = fusion.faults.gate(method="POST", path="invoices", stage="after")
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(caller.post, invoice())
        assert gate.wait_held()
        assert len(fusion.books.invoices()) == 1
        gate.release()
        assert pending.result().status_code == 201


def test_a_dropped_request_never_reaches_fusion(fusion: FusionSandbox, caller: Caller) -> None:
    """For a client that was killed while its request was on the way."""
    gate = fusion.faults.gate(method="POST", path="invoices")
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(caller.post, invoice())
        assert gate.wait_held()
        gate.drop()
        with pytest.raises(httpx.ReadError):
            pending.result()
    assert fusion.books.invoices() == []


def test_a_released_request_is_stored_although_its_client_is_gone(fusion: FusionSandbox, caller: Caller) -> None:
    """A killed client does not take its request back."""
    gate = fusion.faults.gate(method="POST", path="invoices")
    with pytest.raises(httpx.ReadTimeout):
        caller.client.post("/invoices", json=invoice(), timeout=0.2)
    gate.release()
    assert caller.get("invoices").status_code == 200
    deadline = time.monotonic() + 10
    while not fusion.books.invoices() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert len(fusion.books.invoices()) == 1


def test_waiting_at_a_gate_that_nobody_reaches_gives_up(fusion: FusionSandbox) -> None:
    """A test must not hang."""
    assert fusion.faults.gate(path="invoices").wait_held(0.05) is False


@pytest.mark.parametrize(("quirk", "expected"), [("has_more_always_false", False), ("has_more_always_true", True)])
def test_has_more_can_lie(fusion: FusionSandbox, caller: Caller, quirk: str, expected: bool) -> None:
    """Clients page to the empty page instead."""
    fusion.faults.add_quirk(quirk)
    seen = [caller.get("suppliers", limit=10, offset=offset).json()["hasMore"] for offset in (0, 10, 20)]
    assert seen == [expected] * 3


def test_pages_without_an_order_can_be_shuffled(fusion: FusionSandbox, caller: Caller) -> None:
    """With an order on a unique attribute they never are."""
    fusion.faults.add_quirk("shuffled_pages")
    expected = [str(number) for number in range(30000, 30020)]
    shuffled = [[row["SupplierNumber"] for row in caller.items("suppliers")] for _ in range(5)]
    assert any(page != expected for page in shuffled)
    assert [row["SupplierNumber"] for row in caller.items("suppliers", orderBy="SupplierId:asc")] == expected


def test_items_can_be_missing_on_an_empty_page(fusion: FusionSandbox, caller: Caller) -> None:
    """One connector's authors met it."""
    fusion.faults.add_quirk("no_items_when_empty")
    assert "items" not in exact(caller.get("invoices"))


def test_faults_are_read_from_a_file(tmp_path: Path) -> None:
    """YAML, and JSON which is YAML too."""
    text = "faults:\n  - {kind: status, status: 429, path: invoices, probability: 0.5}\nquirks: [shuffled_pages]\n"
    (tmp_path / "faults.yaml").write_text(text)
    (tmp_path / "faults.json").write_text(json.dumps({"faults": [{"kind": "latency", "seconds": 0.1}]}))
    faults = Faults()
    faults.load(tmp_path / "faults.yaml")
    faults.load(tmp_path / "faults.json")
    described = faults.describe()
    assert [(fault["kind"], fault["status"]) for fault in described["faults"]] == [("status", 429), ("latency", 503)]
    assert described["quirks"] == ["shuffled_pages"]


@pytest.mark.parametrize(
    "document",
    [
        {"faults": [{"kind": "gremlin"}]},
        {"faults": [{"kind": "status", "odds": 1}]},
        {"fault": []},
        {"quirks": ["lies"]},
    ],
)
def test_a_fault_nobody_knows_is_refused(document: dict[str, object]) -> None:
    """A typo in a fault file must not make a test pass."""
    with pytest.raises(ValueError, match=r"gremlin|odds|unknown keys|lies"):
        Faults().load(document)

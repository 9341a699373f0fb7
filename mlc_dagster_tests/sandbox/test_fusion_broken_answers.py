"""Answers that arrive late, in part or not at all, and what a wrong question or a wrong clock does to them."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpx
import pytest

from mlc_dagster.sandbox.faults import Faults
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, invoice

PATIENCE = 10.0


def test_bursts_strike_the_first_of_every_so_many() -> None:
    """A gateway that is overloaded again and again, and answers in between."""
    faults = Faults()
    faults.add("status", status=429, every=4, burst=2, skip=1)
    assert [bool(faults.matching("GET", "invoices")) for _ in range(10)] == [
        False, True, True, False, False, True, True, False, False, True,
    ]  # fmt: skip


def test_retry_after_can_be_a_date_by_fusions_own_clock(fusion: FusionSandbox, caller: Caller) -> None:
    """With a clock an hour ahead the date means nothing beside ours, and everything beside the Date header."""
    fusion.world.move_clock(dt.timedelta(hours=1))
    fusion.faults.add("status", status=503, retry_at=30, count=1)
    answer = caller.get("invoices")
    until, sent = (parsedate_to_datetime(answer.headers[name]) for name in ("Retry-After", "Date"))
    assert dt.timedelta(seconds=28) <= until - sent <= dt.timedelta(seconds=31)


def test_an_invoice_is_stored_after_its_answer_was_given_up(fusion: FusionSandbox, caller: Caller) -> None:
    """Time-out, then commit: the look-up in between finds nothing, a later one finds it."""
    fusion.faults.add("commit_late", path="invoices", reads=2, count=1)
    with pytest.raises(httpx.ReadTimeout):
        caller.client.post("/invoices", json=invoice(), timeout=0.2)
    assert caller.items("invoices", q="InvoiceNumber='OTHER'") == []
    assert caller.items("invoices", q="InvoiceNumber='INV-1'") == []
    assert fusion.books.invoices() == []
    assert caller.items("invoices", q="InvoiceNumber='INV-1'") == []
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=PATIENCE)
    while not fusion.books.invoices() and dt.datetime.now(dt.UTC) < deadline:
        pass
    assert len(caller.items("invoices", q="InvoiceNumber='INV-1'")) == 1


def test_a_truncated_answer_announces_what_it_sends(fusion: FusionSandbox, caller: Caller) -> None:
    """A proxy framed half a document anew: complete for HTTP, and no JSON."""
    fusion.faults.add("truncated", method="POST", path="invoices", count=1)
    answer = caller.post(invoice())
    assert answer.status_code == 201
    with pytest.raises(ValueError, match=r"."):
        answer.json()
    assert len(fusion.books.invoices()) == 1


def test_a_stuck_answer_begins_and_never_ends(fusion: FusionSandbox, caller: Caller) -> None:
    """Status and half a body arrive; a client that counts only the first byte waits for ever."""
    fusion.faults.add("stuck", method="POST", path="invoices", count=1)
    with caller.client.stream("POST", "/invoices", json=invoice(), timeout=0.3) as answer:
        assert answer.status_code == 201
        with pytest.raises(httpx.ReadTimeout):
            answer.read()
    assert len(fusion.books.invoices()) == 1


def test_a_trickle_is_complete_and_slower_than_any_pause_in_it(fusion: FusionSandbox, caller: Caller) -> None:
    """No pause reaches a read time-out; only a limit for the whole request notices."""
    fusion.faults.add("trickle", path="invoices", seconds=0.05, count=1)
    before = dt.datetime.now(dt.UTC)
    assert caller.client.get("/invoices", timeout=1.0).json()["items"] == []
    assert dt.datetime.now(dt.UTC) - before >= dt.timedelta(seconds=0.3)


def test_a_wrong_dialect_finds_nothing_and_reads_everything(fusion: FusionSandbox, caller: Caller) -> None:
    """200 and zero rows to whatever ``q`` asks for; the same rows are there when nobody asks."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    fusion.faults.add("wrong_dialect")
    assert caller.items("invoices", q="InvoiceNumber='INV-1'") == []
    assert len(caller.items("invoices")) == 1
    assert caller.get(f"invoices/{invoice_id}").status_code == 200


def test_a_renumbered_invoice_has_its_new_number_only(fusion: FusionSandbox, caller: Caller) -> None:
    """The old number is free again, the new one is taken."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    fusion.world.renumber_invoice(invoice_id, "INV-1A")
    assert caller.items("invoices", q="InvoiceNumber='INV-1'") == []
    assert caller.items("invoices", q="InvoiceNumber='INV-1A'")[0]["InvoiceId"] == invoice_id
    assert caller.post(invoice("INV-1A")).status_code == 400
    assert caller.post(invoice()).status_code == 201


def test_a_merged_supplier_hands_his_invoices_over(fusion: FusionSandbox, caller: Caller) -> None:
    """They keep their ids; no new invoice of his is taken."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    fusion.world.merge_suppliers("30012", "30014")
    [row] = caller.items("invoices", q="SupplierNumber='30014'")
    assert row["InvoiceId"] == invoice_id
    assert caller.post(invoice("INV-2")).status_code == 400
    with pytest.raises(LookupError, match="39999"):
        fusion.world.merge_suppliers("30012", "39999")


def test_a_stopping_server_lets_go_of_a_late_commit() -> None:
    """A test must end though nobody looks the invoice up."""
    with ThreadPoolExecutor(1) as threads:
        with FusionSandbox() as fusion:
            late = fusion.faults.add("commit_late", path="invoices", reads=99)
            caller = Caller(fusion)
            pending = threads.submit(caller.post, invoice())
            deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=PATIENCE)
            while not late.fired and dt.datetime.now(dt.UTC) < deadline:
                pass
        with caller, pytest.raises(httpx.TransportError):
            pending.result(PATIENCE)

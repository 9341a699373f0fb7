"""Rule C5 (and H5): a refusal that concerns everybody stops the run; one of a document parks that document."""

import json

import pytest

from mlc_dagster.fusion.errors import AccessRefused, NotAuthorised
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    attempts,
    beside,
    clerk,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    only,
    ours,
    phases,
    posts,
    states,
    until,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def tokens(flow: Rehearsal) -> int:
    return flow.fusion.books.count("POST", "oauth2/v1/token", 200)


def test_c5_expired_token_is_renewed_once_for_all(flow: Rehearsal) -> None:
    """401 in the middle of a run: Fusion refused before acting, one new token serves every request under way."""
    clerk(flow)
    drop(flow, many(4))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=4)
        before = tokens(flow)
        flow.fusion.expire_tokens()
        gate.release()
        run.result(30)
    assert tokens(flow) == before + 1
    assert (posts(flow, 401), posts(flow, 201)) == (4, 4)
    assert_books(flow, *numbers(4))
    assert set(phases(flow)) == {"CREATED"}
    assert_adds_up(flow, created=4)


def test_c5_401_also_with_a_new_token_stops_the_run(flow: Rehearsal) -> None:
    """The user was removed: asking again and again would lock the client out."""
    clerk(flow)
    fault = flow.fusion.faults.add("status", method="POST", path="invoices", status=401)
    drop(flow, many(3))
    with pytest.raises(PostingStopped) as stopped:
        flow.process()
    assert isinstance(stopped.value.cause, NotAuthorised)
    assert set(states(flow).values()) == {"VALIDATED"}
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_c5_revoked_role_stops_the_run_and_parks_nothing(flow: Rehearsal) -> None:
    """A role taken away by mistake must not park ten thousand invoices."""
    flow.change_config({"fusion": {"max_in_flight": 4}})
    clerk(flow)
    fault = flow.fusion.faults.add("revoked", method="POST", path="invoices")
    drop(flow, many(30))
    with pytest.raises(PostingStopped) as stopped:
        flow.process()
    assert isinstance(stopped.value.cause, AccessRefused)
    assert set(states(flow).values()) == {"VALIDATED"}
    assert posts(flow) <= 8
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(30))
    assert_adds_up(flow, created=30)


@pytest.mark.parametrize("status", [404, 405, 406, 415])
def test_c5_refusal_of_the_address_or_the_format_stops_the_run(flow: Rehearsal, status: int) -> None:
    """These speak of our settings, not of a document."""
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=status, count=3)
    drop(flow, many(3))
    with pytest.raises(PostingStopped):
        flow.process()
    assert set(states(flow).values()) == {"VALIDATED"}
    flow.fusion.faults.clear()
    later(flow)
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_c5_revoked_role_keeps_a_later_attempt_frozen(flow: Rehearsal) -> None:
    """An invoice that was sent before does not become unsent by a 403: it waits with its bytes."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    clerk(flow)
    fault = flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.faults.remove(fault)
    fault = flow.fusion.faults.add("revoked", method="POST", path="invoices")
    with pytest.raises(PostingStopped):
        later(flow)
    assert states(flow) == {"INV-1": "SENDING"}
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, "INV-1")
    assert len({row["body_sha256"] for row in attempts(flow)}) == 1
    assert_adds_up(flow, created=1)


def test_c5_refused_content_is_looked_up_once_and_parked_in_fusions_words(flow: Rehearsal) -> None:
    """The period was closed after we read it: the invoice is parked with Fusion's code and text, the others go on."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.set_period("Oct-26", "C")
    with_cached_period = {"invoice_date": "2026-10-30", "posting_date": "2026-10-30"}
    drop(flow, [*one("LATE", **with_cached_period), *one("INV-2")], sequence=2)
    flow.fusion.books.forget_requests()
    flow.process()
    row = invoices(flow)["LATE"]
    assert (row["state"], row["reason"]) == ("PARKED", "FUSION_REJECTED(AP-810401)")
    [problem] = row["problems"]
    assert problem["field"] == "AP-810401"
    assert "not in an open or future enterable period" in problem["value"]
    assert (posts(flow, 400), posts(flow, 201)) == (1, 1)
    assert_books(flow, "INV-1", "INV-2")
    later(flow)
    assert posts(flow) == 2
    assert_adds_up(flow, created=2, parked=1)


def test_c5_refused_and_stored_all_the_same_is_adopted(flow: Rehearsal) -> None:
    """A proxy replayed the request: Fusion stored the first copy and refused the second as its duplicate."""
    clerk(flow)
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, body="AP-810776", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert posts(flow) == 1
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


def test_c5_refused_as_duplicate_of_a_clerks_is_already_in_fusion(flow: Rehearsal) -> None:
    """The clerk was quicker between our look-up and our POST."""
    clerk(flow)
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        there = clerk(flow, "INV-1")
        gate.release()
        run.result(30)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", there)
    assert (posts(flow), ours(flow)) == (1, [])
    assert_adds_up(flow, already_in_fusion=1)


def test_c5_refusal_that_cannot_be_looked_up_is_unknown(flow: Rehearsal) -> None:
    """Refused, and then nothing is visible: no proof that nothing was stored, so it is not parked as refused."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.change_config({"fusion": {"wait_in_run": 0}})
    drop(flow, one("INV-2"), sequence=2)
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, count=1)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        hidden = flow.fusion.faults.add("zero_rows", method="GET", path="invoices*")
        gate.release()
        run.result(30)
    assert states(flow)["INV-2"] == "UNKNOWN"
    flow.fusion.faults.remove(hidden)
    later(flow)
    later(flow)
    assert_books(flow, "INV-1", "INV-2")
    assert posts(flow) == 2
    assert_adds_up(flow, created=2)


def test_h5_renamed_supplier_is_read_again_by_id_and_sent_once_more(flow: Rehearsal) -> None:
    """Fusion checks the name; the id survives a rename. Everything else of the frozen body stays as it was."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.change_supplier(SUPPLIER, name='Acme "Holdings" é, Inc.')
    drop(flow, one("INV-2", "10.10", "20.20"), sequence=2)
    flow.process()
    first, second = attempts(flow, "INV-2")
    assert (first["phase"], second["phase"]) == ("REJECTED", "CREATED")
    before, after = json.loads(first["body"]), json.loads(second["body"])
    assert after == before | {"Supplier": 'Acme "Holdings" é, Inc.'}
    assert_books(flow, "INV-1", "INV-2")
    assert (posts(flow, 400), posts(flow, 201)) == (1, 2)
    assert states(flow)["INV-2"] == "CONFIRMED"
    assert_adds_up(flow, created=2)


def test_h5_renamed_supplier_after_a_busy_answer(flow: Rehearsal) -> None:
    """The one retry under the new name is there whichever attempt it was that Fusion refused."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.change_supplier(SUPPLIER, name="Acme Renamed")
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    drop(flow, one("INV-2"), sequence=2)
    flow.process()
    assert phases(flow, "INV-2") == ["REFUSED", "REJECTED", "CREATED"]
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2)


def test_h5_inactive_supplier_is_refused_once(flow: Rehearsal) -> None:
    """His name did not change, so there is nothing to try again."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.change_supplier(SUPPLIER, active=False)
    drop(flow, one("INV-2"), sequence=2)
    flow.process()
    assert invoices(flow)["INV-2"]["reason"] == "FUSION_REJECTED(AP-810203)"
    assert posts(flow, 400) == 1
    assert_adds_up(flow, created=1, parked=1)


def test_c5_what_waits_for_a_slot_is_not_sent_once_the_run_is_stopped(flow: Rehearsal) -> None:
    """Intents are committed a little ahead of the slots; those that wait behind a 403 go back unsent."""
    flow.change_config({"fusion": {"max_in_flight": 4}})
    clerk(flow)
    drop(flow, many(10))
    wanted = only(flow.poll_settled().runs)
    fault = flow.fusion.faults.add("status", method="POST", path="invoices", status=403)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=4)
        until(lambda: phases(flow) == ["INTENT"] * 5)
        gate.release()
        with pytest.raises(PostingStopped):
            run.result(30)
    assert posts(flow) == 4
    assert set(states(flow).values()) == {"VALIDATED"}
    assert phases(flow) == ["RELEASED"] * 5
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(10))
    assert posts(flow, 201) == 10
    assert_adds_up(flow, created=10)

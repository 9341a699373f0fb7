"""C5: of a business unit that may be refused as a whole one is tried, and whose turn comes first when it is not."""

import json

import pytest

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger.invoice_chunks import window_rows
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import RequestCount
from mlc_dagster.stampli.posting.absence import AbsenceProver
from mlc_dagster.stampli.posting.claiming import Claiming
from mlc_dagster.stampli.posting.refusals import MOST_ALIKE, UnitsStopped
from mlc_dagster.stampli.posting.sending import PostingStopped, PostingSummary, Sender
from mlc_dagster.stampli.posting.uncertainty import Uncertainty
from mlc_dagster.stampli.posting.window_posting import LOOKED_UP
from mlc_dagster.stampli.steps import with_client
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.faults.people import OTHER_SUPPLIER
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.faults.test_people_access import no_posting
from mlc_dagster_tests.protocols.posting import (
    UNIT,
    assert_adds_up,
    assert_books,
    beside,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    phases,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal

IN_FLIGHT = 4
OCTOBER = {"invoice_date": "2026-10-30", "posting_date": "2026-10-30"}
SOON = 30
"""Seconds after which what was validated is not validated again: our own look at the periods would park it."""
CHUNK = 400
"""So many invoices are read from a window at once."""


def counted(flow: Rehearsal, state: str, prefix: str = "") -> int:
    return sum(found == state for number, found in states(flow).items() if number.startswith(prefix))


def run_all(flow: Rehearsal, seconds: float = 870.0) -> int:
    """What the poll after so much time wants, each run of it; how many were stopped."""
    flow.clock.advance(seconds)
    stopped = 0
    for wanted in flow.poll_settled().runs:
        try:
            flow.run(wanted)
        except UnitsStopped:
            stopped += 1
    return stopped


def october_closed(flow: Rehearsal) -> None:
    """A period is closed in Fusion under our hands: each invoice of it is refused with the same words."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    drop(flow, one("OLD-1", **OCTOBER))
    flow.process()
    flow.fusion.set_period("Oct-26", "C")


def late(count: int) -> list[dict[str, str]]:
    return [row for number in range(1, count + 1) for row in one(f"LATE-{number}", **OCTOBER)]


def test_c5_what_is_refused_keeps_no_sound_invoice_behind_it_waiting(flow: Rehearsal) -> None:
    """More of them than are read at once stand first in the window: the run after the stop posts all that are sound."""
    october_closed(flow)
    drop(flow, [*late(CHUNK + 20), *many(2 * MOST_ALIKE, "OK")], 2)
    with pytest.raises(UnitsStopped):
        flow.process()
    assert counted(flow, "VALIDATED", "OK") == 2 * MOST_ALIKE
    flow.change_config({"retry": {"check_every": 1}})
    with pytest.raises(UnitsStopped):
        later(flow, SOON)
    assert counted(flow, "CONFIRMED", "OK") == 2 * MOST_ALIKE
    assert counted(flow, "PARKED") == 2 * MOST_ALIKE
    assert_books(flow, "OLD-1", *numbers(2 * MOST_ALIKE, "OK"))


def test_c5_of_one_business_unit_one_is_tried_whatever_windows_wait(flow: Rehearsal) -> None:
    """A weekend without the role: what is parked grows with its hours, not with their square."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    faults = no_posting(flow)
    drop(flow, many(20, "W1"))
    assert run_all(flow) == 1
    windows = 5
    for window in range(2, windows + 1):
        drop(flow, many(2, f"W{window}"), window)
        before = posts(flow)
        # Each run tells what it did not begin.
        assert run_all(flow) == window
        assert posts(flow) == before + 1
    assert counted(flow, "PARKED") == MOST_ALIKE + windows - 1
    flow.fusion.faults.remove(faults[0])
    finish(flow)
    sound = [number for number, state in states(flow).items() if state == "CONFIRMED"]
    assert len(sound) == 20 + 2 * (windows - 1) - (MOST_ALIKE + windows - 1)
    assert_books(flow, *sound)
    assert_adds_up(flow, created=len(sound), parked=MOST_ALIKE + windows - 1)


def test_c5_nothing_is_sent_again_by_hand_a_moment_after_a_refusal(flow: Rehearsal) -> None:
    """The run says what the last one was told, with the command that brings the parked ones back."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    no_posting(flow)
    drop(flow, many(12))
    with pytest.raises(UnitsStopped):
        flow.process()
    before = posts(flow)
    with pytest.raises(UnitsStopped, match=r"you have no access to it.*--parked-for 'FUSION_REJECTED\(AP-810101\)'"):
        later(flow, 60)
    assert (posts(flow), counted(flow, "PARKED")) == (before, MOST_ALIKE)


def test_c5_what_tells_more_than_the_last_refusal_is_tried_at_once(flow: Rehearsal) -> None:
    """A window of faulty invoices is tried first at every poll; it must not use up the turn of the sound ones."""
    october_closed(flow)
    drop(flow, late(MOST_ALIKE + 5), 2)
    assert run_all(flow, SOON) == 1
    before = posts(flow)
    drop(flow, many(3, "OK"), 3)
    run_all(flow, SOON)
    assert counted(flow, "CONFIRMED", "OK") == 3
    assert posts(flow, 201) == 4
    assert posts(flow) - before <= 3 + 5


def refused_for_now(flow: Rehearsal, count: int) -> int:
    """Fusion is busy (503), and the run ends while they wait; how many do."""
    flow.change_config({"fusion": {"max_in_flight": 2 * IN_FLIGHT, "wait_in_run": 0}})
    busy = flow.fusion.faults.add("status", method="POST", path="invoices", status=503)
    drop(flow, many(count))
    flow.process()
    flow.fusion.faults.remove(busy)
    return phases(flow).count("REFUSED")


def test_c5_what_waits_to_be_sent_again_is_not_parked_for_a_role(flow: Rehearsal) -> None:
    """Busy first, then the role is taken away: ten are parked of those that wait, and then one per run."""
    waiting = refused_for_now(flow, 60)
    assert waiting > MOST_ALIKE + 4 * IN_FLIGHT // 2
    [fault] = no_posting(flow)
    with pytest.raises(UnitsStopped):
        later(flow)
    assert counted(flow, "PARKED") == MOST_ALIKE
    for run in (1, 2):
        before = posts(flow)
        with pytest.raises(UnitsStopped):
            later(flow)
        assert posts(flow) == before + 1, "one is tried, alone"
        assert counted(flow, "PARKED") == MOST_ALIKE + run
    flow.fusion.faults.remove(fault)
    flow.change_config({"fusion": {"wait_in_run": 5}})
    finish(flow)
    sound = [number for number, state in states(flow).items() if state == "CONFIRMED"]
    assert len(sound) == 60 - MOST_ALIKE - 2
    assert_books(flow, *sound)
    assert_adds_up(flow, created=len(sound), parked=MOST_ALIKE + 2)


def test_c5_what_was_never_stored_goes_back_however_often_it_was_tried(flow: Rehearsal) -> None:
    """A role is missing for days (403): nothing is frozen, and nothing waits to be sent in bulk."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    flow.fusion.faults.add("status", method="POST", path="invoices", status=403)
    drop(flow, one("INV-1"))
    for run in (1, 2, 3):
        with pytest.raises(PostingStopped, match="403"):
            flow.process() if run == 1 else later(flow)
        assert states(flow) == {"INV-1": "VALIDATED"}
        assert phases(flow) == ["RELEASED"] * run


def test_c5_a_creation_counts_whatever_fusion_calls_the_business_unit(flow: Rehearsal) -> None:
    """Its answer names the unit in its own way: what was created between the refused shows that it is not all."""
    # One at a time, in the order of their names: INV-1, INV-10, INV-11, …
    flow.change_config({"fusion": {"max_in_flight": 1}})
    first, second = no_posting(flow)[0], no_posting(flow)[0]
    first.count = second.count = MOST_ALIKE - 1
    second.skip = MOST_ALIKE
    created = {"InvoiceId": 1, "InvoiceNumber": f"INV-{MOST_ALIKE + 8}", "BusinessUnit": UNIT.upper()}
    flow.fusion.faults.add(
        "commit_then_status", path="invoices", status=201, skip=MOST_ALIKE - 1, count=1,
        body=json.dumps(created), content_type="application/json",
    )  # fmt: skip
    drop(flow, many(2 * MOST_ALIKE))
    flow.process()
    assert counted(flow, "PARKED") == 2 * (MOST_ALIKE - 1)
    assert (posts(flow, 201), posts(flow, 400)) == (2, 2 * (MOST_ALIKE - 1))


def test_c5_while_nobody_can_tell_what_became_of_the_one_that_is_tried_no_other_follows(flow: Rehearsal) -> None:
    """Refused late, and Fusion shows nothing of its group: it is looked for again before anything else is sent."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    no_posting(flow)
    drop(flow, many(MOST_ALIKE + 4))
    with pytest.raises(UnitsStopped):
        flow.process()
    before = posts(flow)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: later(flow)) as run:
        assert gate.wait_held(20)
        flow.clock.advance(40)
        # By its number it is shown to be absent; what is asked for afterwards is hidden.
        flow.fusion.faults.add("zero_rows", method="GET", path="invoices", skip=1)
        gate.release()
        run.result(60)
    assert posts(flow) == before + 1


def test_c5_another_suppliers_invoice_is_tried_before_one_that_is_like_the_refused(flow: Rehearsal) -> None:
    """It tells most: refused as well, it is not the supplier; created, the others of its kind are not kept waiting."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    [fault] = no_posting(flow)
    drop(flow, [*many(MOST_ALIKE + 5), *one("Z-1", vendor_id=OTHER_SUPPLIER)])
    with pytest.raises(UnitsStopped):
        flow.process()
    fault.skip, fault.fired = 1, 0
    later(flow)
    assert invoices(flow)["Z-1"]["state"] == "CONFIRMED"


def test_c5_what_waits_for_its_slot_is_not_sent_after_its_business_unit_closed(flow: Rehearsal) -> None:
    """Committed ahead, and the tenth refusal comes before its turn: it goes back unsent."""
    role = flow.fusion.faults.add("status", method="POST", path="invoices", status=403)
    drop(flow, one("INV-1"))
    with pytest.raises(PostingStopped):
        flow.process()
    flow.fusion.faults.remove(role)
    before = posts(flow)
    flow.clock.advance(600)
    [wanted] = flow.poll().runs
    inbound, summary = flow.inbound, PostingSummary()
    with hold_window(flow.ledger, wanted.window_start, wanted.generation, owner="one", run_id="one", last=True) as held:

        async def closed_meanwhile(client: FusionClient) -> None:
            async with LedgerWriter(flow.ledger) as writer:
                sender = Sender(client, writer, inbound.settings.fusion, summary)
                prover = AbsenceProver(flow.ledger, client, inbound.pod)
                uncertainty = Uncertainty(inbound, client, writer, held.work, prover, sender, summary)
                with flow.ledger.reading() as reading:
                    rows = window_rows(reading, wanted.window_start, (InvoiceState.VALIDATED,), LOOKED_UP)
                lease_end = sender.deadline()
                [intent] = await Claiming(inbound, writer, held.work, summary).claim(rows)
                uncertainty.alike.wait(UNIT)
                await uncertainty.post(intent, lease_end)

        with_client(inbound, RequestCount(), closed_meanwhile)
    assert (posts(flow), summary.dropped) == (before, 1)
    assert (states(flow), phases(flow)) == ({"INV-1": "VALIDATED"}, ["RELEASED", "RELEASED"])

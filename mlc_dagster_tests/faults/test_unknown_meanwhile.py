"""While nobody knows what became of a request: what must wait for it, and for how long."""

from urllib.parse import unquote_plus

import sqlalchemy as sa

from mlc_dagster.fusion.pacing import LONGEST_PAUSE
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.submissions import MOST_UNKNOWN
from mlc_dagster.ledger.windows import GenerationKind
from mlc_dagster_tests.faults.scenes import Scene, finish, judge
from mlc_dagster_tests.protocols.posting import drop, later, many, numbers, one, only, phases, posts, states
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.servers.runner import RunProcess

AMBIGUOUS_WAIT = 360.0
LEASE = 3.0 + LONGEST_PAUSE + 1
"""Seconds, of a request with the time limit of the rehearsal."""


def look_ups(flow: Rehearsal, number: str = "INV-1") -> int:
    """How often Fusion was asked for the number."""
    asked = flow.fusion.books.requests(method="GET", route="invoices")
    return sum(f"'{number}'" in unquote_plus(entry.query) for entry in asked)


def settled(flow: Rehearsal, *books: str, **buckets: int) -> None:
    flow.change_config({"fusion": {"ambiguous_wait": 0.4}})
    finish(flow)
    judge(flow, Scene("meanwhile", lambda _: None, books, buckets, boundaries=0))


def test_c3_the_number_stays_claimed_while_its_outcome_is_unknown(flow: Rehearsal) -> None:
    """Another document under the supplier's number comes just then: Fusion, still at work on the first, shows none."""
    flow.change_config({"fusion": {"ambiguous_wait": AMBIGUOUS_WAIT, "wait_in_run": 0}})
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    assert states(flow) == {"INV-1": "UNKNOWN"}
    drop(flow, one("INV-1", "250.00", invoice_id="another document"), 2)
    flow.process()
    with flow.ledger.reading() as reading:
        rows = reading.rows(sa.select(invoice).order_by(invoice.c.id))
    assert [(row["state"], row["reason"]) for row in rows] == [("UNKNOWN", None), ("PARKED", "DUP_EXACT")]
    assert posts(flow) == 1
    flow.clock.advance(AMBIGUOUS_WAIT)
    settled(flow, "INV-1", created=1, parked=1)
    [booked] = flow.fusion.books.invoices(number="INV-1")
    assert booked.amount == 100


def test_c4_the_request_of_a_dead_sender_has_the_whole_wait_before_it_is_looked_for(flow: Rehearsal) -> None:
    """Fusion may store it minutes after its sender died: absence is asked for once its limit is over, not before."""
    flow.change_config({"fusion": {"ambiguous_wait": AMBIGUOUS_WAIT, "wait_in_run": 0}})
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        run.kill()
    before = look_ups(flow)
    for seconds in (LEASE + 1, AMBIGUOUS_WAIT - 60):
        later(flow, seconds)
        assert (phases(flow), look_ups(flow)) == (["UNKNOWN"], before)
    gate.release()
    flow.clock.advance(120)
    settled(flow, "INV-1", created=1)
    assert posts(flow) == 1


def test_c4_another_window_that_may_begin_nothing_goes_on_by_itself(flow: Rehearsal) -> None:
    """Its run ended well with everything left: nobody fails, nothing is refused, and yet it must be asked for again."""
    flow.change_config({"fusion": {"ambiguous_wait": 4 * AMBIGUOUS_WAIT, "wait_in_run": 0}})
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=MOST_UNKNOWN)
    drop(flow, many(MOST_UNKNOWN))
    flow.process()
    assert posts(flow) == MOST_UNKNOWN
    flow.clock.advance(1000)
    drop(flow, many(3, "NEW"), 2)
    [wanted] = [run for run in flow.poll_settled().runs if run.kind is GenerationKind.FILES]
    flow.run(wanted)
    assert posts(flow) == MOST_UNKNOWN
    assert [states(flow)[number] for number in numbers(3, "NEW")] == ["VALIDATED"] * 3
    flow.clock.advance(4 * AMBIGUOUS_WAIT)
    settled(flow, *numbers(MOST_UNKNOWN), *numbers(3, "NEW"), created=MOST_UNKNOWN + 3)

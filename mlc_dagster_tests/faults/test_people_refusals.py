"""C5: a role or data access is taken away, and Fusion says so with a 400 for each invoice, as for a faulty one."""

import json

import pytest

from mlc_dagster.assets.failures import as_failure
from mlc_dagster.sandbox.faults import Fault
from mlc_dagster.stampli.posting.refusals import MOST_ALIKE, RefusedAlike, UnitsStopped
from mlc_dagster_tests.cli.conftest import run_mlc
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.faults.test_people_access import no_access, no_posting
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
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
from mlc_dagster_tests.protocols.test_identity_fusion import UK
from mlc_dagster_tests.servers.rehearsal import Rehearsal

REASON = "FUSION_REJECTED(AP-810101)"
IN_FLIGHT = 4
OCTOBER = {"invoice_date": "2026-10-30", "posting_date": "2026-10-30"}


def parked(flow: Rehearsal) -> list[str]:
    return [number for number, state in states(flow).items() if state == "PARKED"]


def refused(flow: Rehearsal, count: int) -> list[Fault]:
    """So many invoices while every POST is refused: the run stops; the faults."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    faults = no_posting(flow)
    drop(flow, many(count))
    with pytest.raises(UnitsStopped):
        flow.process()
    return faults


def test_c5_refused_one_by_one_stops_the_run_and_goes_on_when_the_role_is_back(flow: Rehearsal) -> None:
    """Ten thousand invoices are not parked for one role: ten are, then one per run, and a command brings them back."""
    faults = refused(flow, 40)
    assert len(parked(flow)) == MOST_ALIKE
    assert posts(flow) <= MOST_ALIKE + 2 * IN_FLIGHT
    left = {state for number, state in states(flow).items() if number not in parked(flow)}
    assert left == {"VALIDATED"}
    for run in (1, 2):
        before = posts(flow)
        with pytest.raises(UnitsStopped):
            later(flow)
        assert posts(flow) == before + 1, "one is tried, alone"
        assert len(parked(flow)) == MOST_ALIKE + run
    flow.fusion.faults.remove(faults[0])
    later(flow)
    assert sorted(parked(flow)) == sorted(number for number, row in invoices(flow).items() if row["reason"] == REASON)
    assert len(parked(flow)) == MOST_ALIKE + 2
    assert list(states(flow).values()).count("CONFIRMED") == 28
    why = ("--reason", "the role was given back")
    assert run_mlc("--config", flow.config, "invoices", "retry", "--parked-for", REASON, *why).exit_code == 0
    finish(flow)
    assert_books(flow, *numbers(40))
    assert posts(flow, 201) == 40
    assert_adds_up(flow, created=40)


def test_c5_what_is_told_names_the_text_the_remedy_and_the_command(flow: Rehearsal) -> None:
    """Whoever gets the alert knows what Fusion said, whom to give what, and how the parked ones come back."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    no_posting(flow)
    drop(flow, many(12))
    with pytest.raises(UnitsStopped) as stopped:
        flow.process()
    cause = stopped.value.cause
    assert isinstance(cause, RefusedAlike)
    [stop] = cause.stops
    assert (stop.business_unit, stop.count, stop.reason) == ("US1 Business Unit", MOST_ALIKE, REASON)
    for said in (
        "you have no access to it",
        f"`mlc invoices retry --parked-for '{REASON}'`",
        "the role or data access that is missing",
        "stay VALIDATED",
    ):
        assert said in str(stopped.value)
    failure = as_failure(stopped.value)
    assert failure is not None, "or the alert would show a traceback"
    assert REASON in str(failure.description)
    [problem] = invoices(flow)[parked(flow)[0]]["problems"]
    assert (problem["field"], problem["value"].count("AP-810101")) == ("AP-810101", 1)


def test_c5_another_business_unit_goes_on(flow: Rehearsal) -> None:
    """A period is closed in one ledger under our hands: the other company's invoices are posted and read back.

    The next run tries what has least in common with what was refused: the cause was in the invoices after all.
    """
    flow.change_config(UK)
    pounds = {"company_id": "C200", "currency": "GBP"}
    drop(flow, [*one("OLD-1", **OCTOBER), *one("OLD-2", **pounds)])
    flow.process()
    flow.fusion.set_period("Oct-26", "C")
    late = [row for number in range(1, 31) for row in one(f"LATE-{number}", **OCTOBER)]
    abroad = [row for number in range(1, 4) for row in one(f"UK-{number}", **pounds)]
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    drop(flow, [*late, *abroad, *one("US-1"), *one("US-2")], 2)
    with pytest.raises(UnitsStopped, match="US1 Business Unit"):
        flow.process()
    found = states(flow)
    assert {found[f"UK-{number}"] for number in range(1, 4)} == {"CONFIRMED"}
    assert len(parked(flow)) == MOST_ALIKE
    assert (found["US-1"], found["US-2"]) == ("VALIDATED", "VALIDATED")
    later(flow)
    found = states(flow)
    assert (found["US-1"], found["US-2"]) == ("CONFIRMED", "CONFIRMED")
    assert_books(flow, "OLD-1", "OLD-2", "US-1", "US-2", "UK-1", "UK-2", "UK-3")


WORDS = (
    "terms", "pay group", "liability account", "tax classification", "exchange rate", "ship-to", "project", "approver",
    "withholding group", "payment method", "bank account", "legal entity",
)  # fmt: skip


def test_c5_invoices_that_are_really_faulty_are_parked_each_for_its_own(flow: Rehearsal) -> None:
    """As many refusals in a row, each with another text: nothing is stopped, and what is sound is posted."""
    flow.change_config({"fusion": {"max_in_flight": IN_FLIGHT}})
    for skipped, word in enumerate(WORDS):
        body = json.dumps({"title": "Bad Request", "status": "400", "detail": f"The {word} is not valid."})
        fault = {"status": 400, "skip": skipped, "count": 1, "body": body, "content_type": "application/json"}
        flow.fusion.faults.add("status", method="POST", path="invoices", **fault)
    drop(flow, many(len(WORDS) + 3))
    flow.process()
    assert len(parked(flow)) == len(WORDS) > MOST_ALIKE
    assert list(states(flow).values()).count("CONFIRMED") == 3


def test_c5_a_creation_between_them_shows_that_it_is_not_everything(flow: Rehearsal) -> None:
    """Every second one is refused with the same words: a faulty supplier among sound ones."""
    flow.change_config({"fusion": {"max_in_flight": 1}})
    [fault] = no_posting(flow)
    fault.every = 2
    drop(flow, many(3 * MOST_ALIKE))
    flow.process()
    found = list(states(flow).values())
    assert (found.count("PARKED"), found.count("CONFIRMED")) == (15, 15)


def test_c5_while_the_outcome_of_the_one_that_is_tried_is_unknown_no_other_follows(flow: Rehearsal) -> None:
    """Its answer was lost: nobody knows whether the role is back; found out, all go on, each once."""
    [fault] = refused(flow, 16)
    before = posts(flow)
    flow.fusion.faults.remove(fault)
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    later(flow)
    assert posts(flow) == before + 1
    flow.change_config({"fusion": {"wait_in_run": 5}})
    finish(flow)
    assert_books(flow, *(number for number, state in states(flow).items() if state == "CONFIRMED"))
    assert posts(flow) == before + 16 - MOST_ALIKE, "each once"
    assert_adds_up(flow, created=16 - MOST_ALIKE, parked=MOST_ALIKE)


def test_c5_refused_alike_where_nothing_is_visible(bare: Rehearsal) -> None:
    """A business unit for which access was forgotten at go-live: one is tried per run, and soon somebody is told."""
    flow = bare
    no_access(flow)
    drop(flow, many(14))
    flow.process()
    for _ in range(MOST_ALIKE - 2):
        later(flow)
    for tried in (MOST_ALIKE, MOST_ALIKE + 1):
        with pytest.raises(UnitsStopped, match=f"{tried} in a row"):
            later(flow)
        assert (posts(flow), len(parked(flow))) == (tried, tried)


def test_c5_what_was_under_way_when_the_run_stopped_is_not_parked(flow: Rehearsal) -> None:
    """Refused with the same words and looked for once, as every refusal: it goes back, and its number is free."""
    refused(flow, 30)
    assert phases(flow).count("REJECTED") == MOST_ALIKE
    assert set(phases(flow)) <= {"REJECTED", "RELEASED"}
    assert len(parked(flow)) == MOST_ALIKE

"""C2 and C5: somebody takes the posting user's data access away, for reading and for posting, and gives it back."""

import json

import pytest

from mlc_dagster.sandbox.faults import Fault
from mlc_dagster.stampli.posting.absence import DataAccessLost
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    beside,
    clerk,
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

NO_ACCESS = json.dumps(
    {
        "title": "Bad Request",
        "status": "400",
        "o:errorDetails": [
            {
                "detail": "The business unit US1 Business Unit does not exist or you have no access to it. (AP-810101)",
                "o:errorCode": "AP-810101",
                "o:errorPath": "BusinessUnit",
            }
        ],
    }
)


def no_posting(flow: Rehearsal) -> list[Fault]:
    """What Fusion answers to a POST without data access."""
    body = {"body": NO_ACCESS, "content_type": "application/json"}
    return [flow.fusion.faults.add("status", method="POST", path="invoices", status=400, **body)]


def no_access(flow: Rehearsal) -> list[Fault]:
    """Neither reading nor posting."""
    return [flow.fusion.faults.add("zero_rows", method="GET", path="invoices"), *no_posting(flow)]


def given_back(flow: Rehearsal, faults: list[Fault]) -> None:
    for fault in faults:
        flow.fusion.faults.remove(fault)


def lost_on_the_way(flow: Rehearsal, rows: list[dict[str, str]], requests: int) -> list[Fault]:
    """Access is lost between the look-ups of these invoices and the answers to their POSTs."""
    faults = no_posting(flow)
    drop(flow, rows)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20, requests=requests)
        faults.append(flow.fusion.faults.add("zero_rows", method="GET", path="invoices"))
        gate.release()
        with pytest.raises(DataAccessLost):
            run.result(30)
    return faults


def test_c5_access_lost_on_the_way_parks_nothing_and_releases_itself(flow: Rehearsal) -> None:
    """Refused, and nothing is shown that was shown before: nobody knows, the run says why, and it goes on by itself."""
    faults = lost_on_the_way(flow, many(3), 3)
    assert set(states(flow).values()) == {"UNKNOWN"}
    for _ in range(3):
        with pytest.raises(DataAccessLost, match="data access of the posting user"):
            later(flow)
    assert posts(flow) == 3, "nothing is sent while nothing can be proven"
    given_back(flow, faults)
    finish(flow)
    assert_books(flow, *numbers(3))
    assert phases(flow).count("ABSENT") == 3, "each sent again after two proofs of absence"
    assert posts(flow, 201) == 3
    assert_adds_up(flow, created=3)


def test_c5_access_lost_on_the_way_and_stored_all_the_same(flow: Rehearsal) -> None:
    """A proxy had sent the first copy; only the second was refused: found when access is back, not sent again."""
    drop(flow, one("INV-1"))
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, body=NO_ACCESS, count=1)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        hidden = flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
        gate.release()
        with pytest.raises(DataAccessLost):
            run.result(30)
    flow.fusion.faults.remove(hidden)
    finish(flow)
    assert_books(flow, "INV-1")
    assert (posts(flow), states(flow)) == (1, {"INV-1": "CONFIRMED"})


def test_c5_refused_where_nothing_was_ever_visible_is_sent_again_once_something_is(bare: Rehearsal) -> None:
    """A business unit for which access was forgotten at go-live: nobody has to release ten thousand invoices."""
    flow = bare
    faults = no_access(flow)
    drop(flow, many(4))
    flow.process()
    for _ in range(5):
        later(flow)
        observe_step(flow.inbound)
    assert {row["reason"] for row in invoices(flow).values()} == {"FUSION_REJECTED(AP-810101)"}
    [problem] = invoices(flow)["INV-1"]["problems"]
    assert "you have no access to it" in problem["value"]
    assert "check its data access" in problem["remedy"]
    assert posts(flow) == 4, "each was tried once, and none is tried again without proof"
    given_back(flow, faults)
    clerk(flow)
    observe_step(flow.inbound)
    finish(flow)
    assert_books(flow, *numbers(4))
    assert (posts(flow, 400), posts(flow, 201)) == (4, 4)
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_adds_up(flow, created=4)


def test_c5_one_that_goes_through_releases_those_refused_before(bare: Rehearsal) -> None:
    """Access is given while the unit is still empty: the next first invoice is created, and shows that it works."""
    flow = bare
    faults = no_access(flow)
    drop(flow, many(2))
    flow.process()
    given_back(flow, faults)
    later(flow)
    assert states(flow) == {"INV-1": "PARKED", "INV-2": "CONFIRMED"}
    observe_step(flow.inbound)
    finish(flow)
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2)


def test_c5_refused_unseen_and_stored_all_the_same_is_adopted(bare: Rehearsal) -> None:
    """Proven is proven: what turns out to be there is ours, and is not sent again."""
    flow = bare
    hidden = flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, body=NO_ACCESS, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    assert states(flow) == {"INV-1": "PARKED"}
    observe_step(flow.inbound)
    assert later(flow) == []
    flow.fusion.faults.remove(hidden)
    observe_step(flow.inbound)
    finish(flow)
    assert (posts(flow), states(flow)) == (1, {"INV-1": "CONFIRMED"})
    assert_books(flow, "INV-1")


def test_c5_refused_again_in_sight_of_others_is_for_a_person(bare: Rehearsal) -> None:
    """It was the document after all: one further request, then PARKED with its proof, and nothing more."""
    flow = bare
    faults = no_access(flow)
    drop(flow, one("INV-1"))
    flow.process()
    given_back(flow, faults[:1])
    clerk(flow)
    observe_step(flow.inbound)
    finish(flow)
    for _ in range(3):
        observe_step(flow.inbound)
        later(flow)
    assert phases(flow) == ["REFUSED", "REJECTED"]
    assert invoices(flow)["INV-1"]["reason"] == "FUSION_REJECTED(AP-810101)"
    assert posts(flow) == 2
    assert_adds_up(flow, parked=1)


def test_c5_access_lost_once_more_before_it_was_looked_for(bare: Rehearsal) -> None:
    """Visible for a moment: nothing is sent on the strength of a look that is over."""
    flow = bare
    faults = no_access(flow)
    drop(flow, one("INV-1"))
    flow.process()
    given_back(flow, faults)
    clerk(flow)
    observe_step(flow.inbound)
    assert states(flow) == {"INV-1": "UNKNOWN"}
    faults = no_access(flow)
    for _ in range(2):
        with pytest.raises(DataAccessLost):
            later(flow)
    assert posts(flow) == 1
    given_back(flow, faults)
    finish(flow)
    assert_books(flow, "INV-1")
    assert posts(flow, 201) == 1

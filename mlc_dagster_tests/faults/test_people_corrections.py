"""A correction arrives, or a crosswalk changes, while the first version is on its way: one invoice, and a person knows.

Proven elsewhere: a correction before and after posting and while an outcome is unknown (B4), a crosswalk changed after
posting (B2); in ``protocols/``.
"""

import pytest

from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, REVISED, crosswalk, lost_answer
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    attempts,
    drop,
    invoices,
    one,
    only,
    ours,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.servers.runner import RunProcess
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("sequence", [1, 2], ids=["the same file", "another file"])
def test_b4_a_correction_while_the_request_is_under_way_waits_and_is_for_a_person(
    flow: Rehearsal, stage: str, sequence: int
) -> None:
    """Before or after Fusion stored it, nobody here knows: the correction waits, and is never a second invoice."""
    flow.change_config({"fusion": {"request_timeout": 30}})
    drop(flow, [*one("INV-1"), *one("INV-2")])
    first = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage=stage)
    with RunProcess(flow, first) as run:
        assert gate.wait_held(30, requests=2)
        flow.clock.advance(1000)
        flow.drop(file_name(sequence), invoice_csv([*one("INV-1", "150.00", **REVISED), *one("INV-2")]))
        for wanted in flow.poll_settled().runs:
            if wanted.window_start != first.window_start:
                flow.run(wanted)
        assert states(flow) == {"INV-1": "SENDING", "INV-2": "SENDING"}
        gate.release()
        assert run.result()["created"] == 2
    finish(flow)
    assert posts(flow) == 2
    assert str(flow.fusion.books.invoices(number="INV-1")[0].amount) == "100.00"
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2, parked=1, duplicate=1)


@pytest.mark.parametrize("number", ["INV-1", "INV-1B"], ids=["its number", "another number"])
def test_b4_a_correction_of_a_lost_one_waits_and_never_goes_beside_it(flow: Rehearsal, number: str) -> None:
    """Stored without an answer; the correction came before anybody looked: the first is adopted, the second told."""
    lost_answer(flow, *one("INV-1", invoice_id="x"))
    drop(flow, one(number, "150.00", invoice_id="x", **REVISED), 2)
    flow.process()
    finish(flow)
    assert posts(flow) == 1
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1, parked=1)


# A crosswalk.


def test_b2_the_same_invoice_again_under_a_changed_crosswalk_is_a_duplicate(flow: Rehearsal) -> None:
    """Exported once more after its vendor was mapped to another supplier: it is the invoice that it was."""
    drop(flow, one("INV-1"))
    flow.process()
    crosswalk(flow, SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(1000)
    drop(flow, [*one("INV-1"), *one("INV-2")], 2)
    flow.process()
    finish(flow)
    assert {each.number: each.supplier_number for each in ours(flow)} == {"INV-1": SUPPLIER, "INV-2": OTHER_SUPPLIER}
    assert_adds_up(flow, created=2, duplicate=1)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
def test_b2_a_crosswalk_changed_while_an_outcome_is_unknown_changes_nothing(flow: Rehearsal, stored: bool) -> None:
    """Looked for, and sent again if need be, as it was frozen: mapped anew it would be another supplier's invoice."""
    if stored:
        lost_answer(flow, *one("INV-1"))
    else:
        flow.change_config({"fusion": {"wait_in_run": 0}})
        flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
        drop(flow, one("INV-1"))
        flow.process()
    crosswalk(flow, SUPPLIER, OTHER_SUPPLIER)
    finish(flow)
    [found] = ours(flow)
    assert (found.number, found.supplier_number) == ("INV-1", SUPPLIER)
    assert len({row["body_sha256"] for row in attempts(flow)}) == 1
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_adds_up(flow, created=1)


def test_b2_a_correction_under_a_changed_crosswalk_after_posting_is_for_a_person(flow: Rehearsal) -> None:
    """Another amount, another supplier by the new crosswalk, another number: still the invoice that is posted."""
    drop(flow, one("INV-1", invoice_id="x"))
    flow.process()
    crosswalk(flow, SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(1000)
    drop(flow, one("INV-1B", "150.00", invoice_id="x", **REVISED), 2)
    flow.process()
    finish(flow)
    assert posts(flow) == 1
    assert invoices(flow)["INV-1"]["state"] == "CONFIRMED"
    assert_adds_up(flow, created=1, parked=1)

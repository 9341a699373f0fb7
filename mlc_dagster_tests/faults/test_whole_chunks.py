"""A run looks invoices up chunk by chunk; one of which nothing can be sent must not hide those behind it."""

import pytest

from mlc_dagster.stampli.posting import window_posting as posting
from mlc_dagster_tests.protocols.posting import assert_adds_up, assert_books, clerk, drop, many, numbers, one
from mlc_dagster_tests.protocols.test_identity_fusion import UK
from mlc_dagster_tests.servers.rehearsal import Rehearsal

CHUNK = 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with chunks of a size that a clerk can fill."""
    monkeypatch.setattr(posting, "_CHUNK", CHUNK)


def test_two_chunks_that_are_in_fusion_already_do_not_end_the_run(flow: Rehearsal) -> None:
    """A clerk entered all of them by hand; what follows them in the window is due today as well."""
    for number in numbers(2 * CHUNK):
        clerk(flow, number)
    drop(flow, many(2 * CHUNK + 2))
    [(_, _, report)] = flow.process()
    assert (report.posting.already_in_fusion, report.posting.created) == (2 * CHUNK, 2)
    assert_books(flow, *numbers(2 * CHUNK + 2)[-2:])
    assert_adds_up(flow, already_in_fusion=2 * CHUNK, created=2)


def test_two_chunks_of_numbers_used_elsewhere_do_not_end_the_run(flow: Rehearsal) -> None:
    """All of them are held for a person."""
    for number in numbers(2 * CHUNK):
        clerk(flow, number, BusinessUnit="UK1 Business Unit")
    drop(flow, many(2 * CHUNK + 2))
    [(_, _, report)] = flow.process()
    assert (report.posting.parked.total(), report.posting.created) == (2 * CHUNK, 2)
    assert_adds_up(flow, parked=2 * CHUNK, created=2)


def test_a_business_unit_that_waits_for_its_first_invoice_holds_up_no_other(flow: Rehearsal) -> None:
    """Fusion refuses its first invoice for longer than this run waits: the next business unit's go out meanwhile."""
    flow.change_config({"fusion": {"refused_wait": 60, "wait_in_run": 1}})
    flow.change_config(UK)
    flow.fusion.faults.add("status", method="POST", path="invoices", count=1)
    in_london = [row for number in range(3 * CHUNK) for row in one(f"UK-{number}", company_id="C200", currency="GBP")]
    drop(flow, in_london)
    drop(flow, many(2), 2)
    [(_, _, report)] = flow.process()
    assert (report.posting.refused, report.posting.created) == (1, 2)
    assert_books(flow, *numbers(2))

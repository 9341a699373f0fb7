"""B1 and B4: which appearance of an invoice counts, and that it is posted once however often it appears."""

from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.intake import (
    align,
    bill,
    deliver,
    drop,
    invoice_row,
    outcomes,
    posted_numbers,
    prove_books,
    stepwise,
    verdict,
    whole_equation,
)
from mlc_dagster_tests.servers.rehearsal import COMPANIES, Rehearsal, rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv


def test_b1_an_invoice_is_its_stampli_id_and_not_what_a_crosswalk_makes_of_it(flow: Rehearsal) -> None:
    """With a crosswalked identity, a changed crosswalk would make yesterday's invoice a new one."""
    deliver(flow, 1, bill("1", "10.00", vendor_id="30012"))
    table = flow.folder / "vendors.csv"
    table.write_text("stampli,fusion\n30012,30014\n")
    flow.change_config({"stampli": {"crosswalks": {"vendors": "vendors.csv"}}})
    deliver(flow, 2, bill("1", "10.00", vendor_id="30012"), bill("2", "20.00", vendor_id="30012"))
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    prove_books(flow, "N-1", "N-2")
    assert [booked.supplier_number for booked in flow.fusion.books.invoices()] == ["30012", "30014"]


def test_b1_the_same_id_in_two_companies_is_two_invoices(flow: Rehearsal) -> None:
    """Ids count per company."""
    flow.change_config({"stampli": {"companies": {"C101": dict(COMPANIES["C100"])}}})
    deliver(flow, 1, bill("1", "10.00", number="A"), bill("1", "20.00", number="B", company_id="C101"))
    prove_books(flow, "A", "B")


def test_b4_one_invoice_in_two_files_of_one_window_is_posted_once(flow: Rehearsal) -> None:
    """Exports overlap; the second appearance is a row of its own, and a duplicate."""
    drop(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("1", "10.00"), bill("2", "20.00"))
    flow.process()
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    assert whole_equation(flow).count("duplicate") == 1
    prove_books(flow, "N-1", "N-2")


def test_b4_one_invoice_in_two_windows_is_posted_once(flow: Rehearsal) -> None:
    """The later window reports a duplicate and posts only what is new."""
    deliver(flow, 1, bill("1", "10.00"))
    flow.clock.advance(20 * 60)
    deliver(flow, 2, bill("1", "10.00"), bill("2", "20.00"))
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    prove_books(flow, "N-1", "N-2")


def test_b4_the_order_of_rows_and_columns_makes_no_new_content(flow: Rehearsal) -> None:
    """A digest over raw bytes would take a re-sorted export for a revision of every invoice."""
    rows = bill("1", "10.00", "20.00")
    deliver(flow, 1, rows)
    rows[0]["due_date"] = rows[1]["due_date"]
    flow.drop(file_name(2), invoice_csv(reversed(rows), columns=tuple(reversed(list(rows[0])))))
    flow.process()
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    prove_books(flow, "N-1")


@pytest.mark.parametrize("newer_first", [False, True])
def test_b4_a_higher_revision_before_sending_supersedes_whatever_arrives_first(
    flow: Rehearsal, *, newer_first: bool
) -> None:
    """By revision, never by arrival: the corrected amount is posted."""
    old, new = bill("1", "10.00"), bill("1", "12.00", invoice_revision="2")
    drop(flow, 1, new if newer_first else old)
    drop(flow, 2, old if newer_first else new)
    flow.process()
    assert outcomes(flow, "1") == (["CURRENT", "STALE"] if newer_first else ["SUPERSEDED", "CURRENT"])
    assert str(flow.fusion.books.totals()["USD"]) == "12.00"
    prove_books(flow, "N-1")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param({"approved_at": "2026-10-30T10:00:00Z"}, {"approved_at": "2026-10-30T11:00:00Z"},
                     ["SUPERSEDED", "CURRENT"], id="approved later"),
        pytest.param({"approved_at": "2026-10-30T11:00:00Z"}, {"approved_at": "2026-10-30T10:00:00Z"},
                     ["CURRENT", "STALE"], id="approved earlier"),
        pytest.param({}, {}, ["SUPERSEDED", "CURRENT"], id="higher sequence"),
    ],
)  # fmt: skip
def test_b4_one_revision_with_two_contents_is_ordered_by_approval_then_sequence(
    flow: Rehearsal, first: dict[str, str], second: dict[str, str], expected: list[str]
) -> None:
    """Stampli does not always count revisions up."""
    drop(flow, 1, bill("1", "10.00", **first))
    drop(flow, 2, bill("1", "12.00", **second))
    flow.process()
    assert outcomes(flow, "1") == expected
    assert str(flow.fusion.books.totals()["USD"]) == ("12.00" if expected[1] == "CURRENT" else "10.00")
    prove_books(flow, "N-1")


def test_b4_sequences_that_are_not_padded_are_read_in_the_order_of_their_numbers(flow: Rehearsal) -> None:
    """Read as text, 10 comes before 9: what the ninth file brought would count as late instead of superseded."""
    rules = Path("mlc_dagster/stampli/profiles/stampli_lines_v1.yaml").read_text("utf-8")
    (flow.folder / "unpadded.yaml").write_text(rules.replace(r"(?P<sequence>\d{6})", r"(?P<sequence>\d+)"), "utf-8")
    flow.change_config({"stampli": {"profile": "./unpadded.yaml"}})
    drop(flow, 9, bill("1", "10.00"), name="stampli_invoices_C100_20261030T170000Z_9.csv")
    drop(flow, 10, bill("1", "12.00"), name="stampli_invoices_C100_20261030T170000Z_10.csv")
    flow.process()
    assert outcomes(flow, "1") == ["SUPERSEDED", "CURRENT"]
    assert str(flow.fusion.books.totals()["USD"]) == "12.00"
    prove_books(flow, "N-1")


def test_b4_one_revision_in_two_versions_of_one_file_follows_the_versions(flow: Rehearsal) -> None:
    """The file was sent again under its name with the amount corrected, before anything was posted."""
    vendor = {"vendor_id": "39999"}
    deliver(flow, 1, bill("1", "10.00", **vendor))
    deliver(flow, 1, bill("1", "12.00", **vendor))
    assert outcomes(flow, "1") == ["SUPERSEDED", "CURRENT"]
    assert invoice_row(flow, "1")["amount_minor"] == 1200
    prove_books(flow)


def test_b4_where_nothing_says_which_is_newer_nothing_is_posted(flow: Rehearsal) -> None:
    """Same revision, same approval, same sequence: a person decides; a higher revision resolves it."""
    drop(flow, 1, bill("1", "10.00"))
    other = file_name(1, stamp="20261030T180000Z")
    flow.drop(other, invoice_csv(bill("1", "12.00")))
    flow.process()
    assert verdict(flow, "1") == "PARKED REVISION_CONFLICT"
    prove_books(flow)
    deliver(flow, 2, bill("1", "13.00", invoice_revision="2"))
    assert outcomes(flow, "1") == ["SUPERSEDED", "SUPERSEDED", "CURRENT"]
    assert str(flow.fusion.books.totals()["USD"]) == "13.00"
    prove_books(flow, "N-1")


def test_b4_a_revision_after_posting_is_for_a_person_and_never_a_second_invoice(flow: Rehearsal) -> None:
    """Also under another number, which Fusion would take for another invoice."""
    deliver(flow, 1, bill("1", "10.00"))
    deliver(flow, 2, bill("1", "12.00", invoice_revision="2", number="N-1-corrected"))
    assert outcomes(flow, "1") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    assert verdict(flow, "1") == "CONFIRMED"
    assert whole_equation(flow).count("parked") == 1
    prove_books(flow, "N-1")


def test_b4_a_lower_revision_after_posting_is_stale(flow: Rehearsal) -> None:
    """A delayed file must not raise an alarm over what was overtaken long ago."""
    deliver(flow, 1, bill("1", "12.00", invoice_revision="2"))
    deliver(flow, 2, bill("1", "10.00"))
    assert outcomes(flow, "1") == ["CURRENT", "STALE"]
    prove_books(flow, "N-1")


def test_b4_a_void_before_posting_posts_nothing(flow: Rehearsal) -> None:
    """Approved in one file and voided in the next of the same window."""
    drop(flow, 1, bill("1", "10.00"), bill("2", "20.00"))
    drop(flow, 2, bill("1", "10.00", status="VOID"))
    flow.process()
    assert verdict(flow, "1") == "REJECTED VOIDED_IN_STAMPLI"
    assert whole_equation(flow).count("rejected") == 1
    prove_books(flow, "N-2")


def test_b4_a_void_of_a_parked_invoice_rejects_it(flow: Rehearsal) -> None:
    """It must not be posted when its supplier is created later."""
    deliver(flow, 1, bill("1", "10.00", vendor_id="39999"))
    deliver(flow, 2, bill("1", "10.00", vendor_id="39999", status="VOID"))
    flow.fusion.create_supplier("39999", "Late Ltd")
    flow.process()
    assert verdict(flow, "1") == "REJECTED VOIDED_IN_STAMPLI"
    prove_books(flow)


def test_b4_a_void_after_posting_is_for_a_person(flow: Rehearsal) -> None:
    """Cancelling in Fusion is a decision about a payment."""
    deliver(flow, 1, bill("1", "10.00"))
    deliver(flow, 2, bill("1", "10.00", status="VOID"))
    assert outcomes(flow, "1") == ["CURRENT", "PARKED VOID_AFTER_POST"]
    prove_books(flow, "N-1")
    assert not flow.fusion.books.invoices()[0].canceled


def test_b4_lines_of_two_files_are_never_merged(flow: Rehearsal) -> None:
    """Two halves in two files are two faulty appearances, not one good invoice."""
    rows = bill("1", "10.00", "20.00")
    drop(flow, 1, rows[:1])
    drop(flow, 2, rows[1:])
    flow.process()
    assert verdict(flow, "1") == "PARKED AMOUNT_MISMATCH"
    prove_books(flow)


def test_b4_a_revision_waits_while_the_outcome_is_unknown_and_is_decided_by_itself(flow: Rehearsal) -> None:
    """Commit-then-reset: whether revision 2 supersedes or comes too late is not known before the look-up."""
    flow.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
    align(flow)
    deliver(flow, 1, bill("0", "5.00"))
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    deliver(flow, 2, bill("1", "10.00"))
    assert verdict(flow, "1") == "UNKNOWN"
    deliver(flow, 3, bill("1", "12.00", invoice_revision="2"))
    assert outcomes(flow, "1") == ["CURRENT", "WAITING"]
    assert whole_equation(flow).count("unknown") == 2
    _until_quiet(flow)
    assert outcomes(flow, "1") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    prove_books(flow, "N-0", "N-1")


def test_b4_a_revision_that_waited_never_joins_the_frozen_one_that_is_sent_again(flow: Rehearsal) -> None:
    """The unknown request never arrived: its bytes are sent again, and the revision is one after posting."""
    flow.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
    align(flow)
    deliver(flow, 1, bill("0", "5.00"))
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    deliver(flow, 2, bill("1", "10.00"))
    assert verdict(flow, "1") == "UNKNOWN"
    deliver(flow, 3, bill("1", "12.00", invoice_revision="2"))
    _until_quiet(flow)
    assert outcomes(flow, "1") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    assert str(flow.fusion.books.invoices()[1].amount) == "10.00"
    prove_books(flow, "N-0", "N-1")


def test_b4_a_revision_during_the_post_step_does_not_reach_fusion_twice(flow: Rehearsal) -> None:
    """Another window's run reads a newer revision between validation and posting of the first."""
    align(flow)
    drop(flow, 1, bill("1", "10.00"))
    first = flow.poll_settled().runs[0]

    def meanwhile() -> None:
        flow.clock.advance(15 * 60)
        drop(flow, 2, bill("1", "12.00", invoice_revision="2"))
        for wanted in flow.poll_settled().runs:
            if wanted.window_start != first.window_start:
                flow.run(wanted)

    stepwise(flow, first, after_validate=meanwhile)
    assert outcomes(flow, "1") == ["SUPERSEDED", "CURRENT"]
    assert posted_numbers(flow) == ["N-1"]
    assert str(flow.fusion.books.totals()["USD"]) == "12.00"
    prove_books(flow, "N-1")


def test_b4_the_rules_hold_on_postgresql_too(tmp_path: Path, postgres_url: str) -> None:
    """Same bytes, duplicate, supersession, void, cure and a revision that waited, in one ledger of the other kind."""
    with rehearsal(tmp_path, ledger_url=postgres_url, seed=Seed(20, TODAY)) as flow:
        flow.open_feed()
        flow.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
        late = bill("3", "30.00", vendor_id="39999")
        drop(flow, 1, bill("1", "10.00"), bill("2", "20.00"), late)
        drop(flow, 2, bill("1", "12.00", invoice_revision="2"), bill("2", "20.00", status="VOID"), late)
        flow.process()
        assert outcomes(flow, "1") == ["SUPERSEDED", "CURRENT"]
        assert (verdict(flow, "2"), outcomes(flow, "3")) == ("REJECTED VOIDED_IN_STAMPLI", ["CURRENT", "DUPLICATE"])
        flow.fusion.create_supplier("39999", "Late Ltd")
        observe_step(flow.inbound)
        flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
        flow.process()
        assert verdict(flow, "3") == "UNKNOWN"
        deliver(flow, 3, bill("3", "33.00", vendor_id="39999", invoice_revision="2"))
        assert outcomes(flow, "3") == ["CURRENT", "DUPLICATE", "WAITING"]
        _until_quiet(flow)
        assert outcomes(flow, "3") == ["CURRENT", "DUPLICATE", "PARKED REVISION_AFTER_POST"]
        prove_books(flow, "N-1", "N-3")


def _until_quiet(flow: Rehearsal) -> None:
    """Poll, seven minutes apart, until nothing is wanted any more."""
    for _ in range(8):
        flow.clock.advance(7 * 60)
        runs = flow.poll().runs
        if not runs:
            return
        for wanted in runs:
            flow.run(wanted)
    raise AssertionError("runs are asked for without an end")

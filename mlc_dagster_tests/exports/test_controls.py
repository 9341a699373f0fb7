"""The outbound controls: what they pass, what they find, and over which files."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from mlc_dagster.exports import controls
from mlc_dagster.exports.controls import Finding
from mlc_dagster.fusion.journal_lines import JournalLine
from mlc_dagster.fusion.records import Read
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster_tests.exports.workshop import START, Workshop, invoice, journal
from mlc_dagster_tests.servers.ledgers import new_file

QUARTER = dt.timedelta(minutes=15)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(new_file(tmp_path / "ledger.sqlite"))
    yield opened
    opened.close()


def balance_of(ledger: Ledger, folder: Path, *reads: Read) -> Finding:
    """What the control finds of a file with these journals, made by a writer that lets everything through."""
    bench = Workshop.open(ledger, folder / "bench", "journals")
    bench.read(*reads)
    assert bench.build().new == len(reads)
    return controls.debits_equal_credits(bench.outbound, bench.feed, None)


def statistical(batch: int) -> Read:
    """A headcount: one side only, a currency of its own, and a ledger that has another."""
    line = JournalLine(line_number=1, account_combination="101-9", entered_dr=Decimal(12), accounted_dr=Decimal(12))
    return journal(batch, "12", currency="STAT", ledger_currency="USD", lines=(line,))


def test_statistical_journals_need_no_credits(ledger: Ledger, tmp_path: Path) -> None:
    """Beside journals of money in one file they must not fail the control."""
    found = balance_of(ledger, tmp_path, journal(1, "100", ledger_currency="USD"), statistical(2))
    assert (found.faults, found.numbers) == ([], {"journals": 2})


def test_statistical_lines_of_a_journal_of_money_need_no_credits(ledger: Ledger, tmp_path: Path) -> None:
    """Lines may have a currency of their own; quantities and money are never added up."""
    money = journal(1, "100", ledger_currency="USD")
    lines = (*money.content.lines, JournalLine(line_number=3, currency="STAT", entered_dr=Decimal(7)))  # type: ignore[union-attr]
    found = balance_of(ledger, tmp_path, journal(1, "100", ledger_currency="USD", lines=lines))
    assert found.faults == []


def test_a_journal_that_does_not_balance_is_found(ledger: Ledger, tmp_path: Path) -> None:
    """A layout, or a fault in a writer, may let one pass; the control reads the records again and does not."""
    lines = (
        JournalLine(line_number=1, account_combination="101-1", entered_dr=Decimal(100)),
        JournalLine(line_number=2, account_combination="101-2", entered_cr=Decimal(99)),
    )
    found = balance_of(ledger, tmp_path, statistical(1), journal(2, "100", lines=lines))
    [fault] = found.faults
    assert "2/US Primary Ledger/Accrual: entered debits 100, credits 99 USD" in fault


def test_files_of_given_up_and_held_records_are_seen_by_their_runs_controls(ledger: Ledger, tmp_path: Path) -> None:
    """They are made without reading anything, at a moment and of no window; damage to them must be found too."""
    bench = Workshop.open(ledger, tmp_path / "bench")
    bench.read(invoice(1, "100", text="HOLD"))
    bench.build()
    bench.writer.held.clear()
    bench.read(invoice(2, "200"))
    bench.build()
    with ledger.transaction() as transaction:
        exported.abandon(transaction, bench.files()[0]["id"], by="ann", approved_by="bob", reason="wrong layout")
    bench.read()
    bench.build()
    [_, again] = bench.files()
    assert again["window_start"] == again["window_end"] == START + 3 * QUARTER
    of_the_run = START + 2 * QUARTER, START + 3 * QUARTER
    assert [row["id"] for row in controls.files_in(bench.outbound, bench.feed, of_the_run)] == [again["id"]]


def test_files_of_other_windows_are_left_to_their_runs(ledger: Ledger, tmp_path: Path) -> None:
    """A run that judged everything ever sent would take longer each day."""
    bench = Workshop.open(ledger, tmp_path / "bench")
    bench.read(invoice(1, "100"))
    bench.build()
    bench.read(invoice(2, "200"))
    bench.build()
    found = controls.files_in(bench.outbound, bench.feed, (START, START + QUARTER))
    assert [row["id"] for row in found] == [bench.files()[0]["id"]]

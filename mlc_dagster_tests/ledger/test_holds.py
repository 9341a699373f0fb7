"""Legal holds: what they name is kept whatever the rules say, and two people end them."""

import datetime as dt
from pathlib import Path

import pytest

from mlc_dagster.ledger import holds
from mlc_dagster.ledger.approval import Approval, Decision
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.holds import HoldTerms
from mlc_dagster.ledger.retention_items import Kind
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster_tests.ledger.exporting import commit, new_file, open_feed
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, events
from mlc_dagster_tests.ledger.retaining import (
    YEARS,
    deliver,
    extract_of,
    gone,
    kept,
    occurrence_of,
    read_file,
    stored,
)

WHY = Decision(by="Ada", reason="litigation about the supplier")


@pytest.fixture
def archive(archive_root: Path) -> LocalArchive:
    return LocalArchive(archive_root)


@pytest.mark.parametrize(
    "terms",
    [
        HoldTerms(company="C100"),
        HoldTerms(supplier="V1"),
        HoldTerms(begins=WINDOW, ends=WINDOW + dt.timedelta(days=1)),
        HoldTerms(company="C100", supplier="V1", begins=WINDOW),
    ],
)
def test_a_legal_hold_keeps_what_it_names(
    ledger: Ledger, archive: LocalArchive, clock: HandClock, terms: HoldTerms
) -> None:
    """Whatever the rules say: erasing evidence of a case is an offence."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        number = holds.place_hold(transaction, terms, WHY)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {}
    assert kept(ledger, Kind.INVOICE) == {f"legal hold {number}": 1}
    assert kept(ledger, Kind.SOURCE_FILE) == {f"legal hold {number}": 1}


@pytest.mark.parametrize(
    "terms",
    [
        HoldTerms(company="C200"),
        HoldTerms(company="C100", supplier="V2"),
        HoldTerms(file="other.csv"),
        HoldTerms(begins=WINDOW + dt.timedelta(days=1)),
    ],
)
def test_a_legal_hold_keeps_nothing_else(
    ledger: Ledger, archive: LocalArchive, clock: HandClock, terms: HoldTerms
) -> None:
    """A hold on one company must not stop erasure for the others."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        holds.place_hold(transaction, terms, WHY)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {"source_files": 1, "invoices": 1}


def test_a_hold_names_a_file_or_an_invoice(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """By the name that people have of it."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    _, key = read_file(ledger, archive, InvoiceState.CONFIRMED)
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        holds.place_hold(transaction, HoldTerms(file=row["path"].rpartition("/")[2]), WHY)
        holds.place_hold(transaction, HoldTerms(invoice=occurrence_of(ledger, key)["number"]), WHY)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {"source_files": 1, "invoices": 1}
    assert kept(ledger, Kind.SOURCE_FILE) == {"legal hold 1": 1, "legal hold 2": 1}


def test_what_nobody_can_give_to_a_company_is_held_with_it(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """Extracts and exported files are of all companies at once."""
    key = extract_of(ledger, archive, "read")
    fence = open_feed(ledger)
    [file] = commit(ledger, fence, new_file(1, sha256=stored(archive, b"x")), extract_id=key)
    deliver(ledger, file)
    with ledger.transaction() as transaction:
        holds.place_hold(transaction, HoldTerms(company="C100"), WHY)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {}


def test_a_released_hold_keeps_nothing_and_stays_on_record(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """Two people end it; who began and who ended it can be told for ever."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        number = holds.place_hold(transaction, HoldTerms(company="C100"), WHY)
    clock.advance(YEARS)
    both = Approval(by="Ada", reason="the case is closed", approved_by="Grace")
    with ledger.transaction() as transaction:
        holds.release_hold(transaction, number, both)
    with pytest.raises(LedgerError, match="released before"), ledger.transaction() as transaction:
        holds.release_hold(transaction, number, both)
    assert gone(ledger, archive) == {"source_files": 1, "invoices": 1}
    [event] = events(ledger, "hold.released")
    assert (event["detail"]["approved_by"], event["detail"]["before"]) == ("Grace", {"company": "C100"})
    with ledger.reading() as reading:
        assert holds.list_holds(reading) == []
        assert len(holds.list_holds(reading, released=True)) == 1


def test_a_hold_that_names_nothing_is_refused() -> None:
    """It would hold everything, by mistake."""
    with pytest.raises(LedgerError, match="names nothing"):
        HoldTerms()

"""``mlc exceptions`` and ``mlc audit``: what needs a person, and the proof that nobody touched the record."""

import sqlite3
from pathlib import Path

from mlc_dagster.sandbox.samples import POSTED
from mlc_dagster_tests.cli.conftest import Polled, json_of, run_mlc


def test_every_invoice_that_is_not_posted_is_an_exception(polled: Polled) -> None:
    """What is neither posted nor in this list is lost."""
    found = json_of(run_mlc("--config", polled.config, "exceptions", "--json"))["exceptions"]
    expected = {invoice.number for sample in polled.files.first for invoice, fate in sample.fates if fate != POSTED}
    told = {each["what"] for each in found if each["kind"] == "invoice"}
    [row] = [each for each in found if each["kind"] == "row"]
    # The row with a cell too many could not be given to an invoice; the other row that was set aside could.
    [ragged] = expected - told
    assert told <= expected
    assert row["reason"] == "ROW_MALFORMED"
    assert ragged.startswith("INV-")
    assert [each["reason"] for each in found if each["kind"] == "file"] == ["FILE_SCHEMA"]


def test_every_exception_has_owner_and_remedy(polled: Polled) -> None:
    """An exception without an owner stays where it is."""
    found = json_of(run_mlc("--config", polled.config, "exceptions", "--json"))["exceptions"]
    assert all(each["owner"] and each["to_do"] and each["since"] for each in found)
    amounts = {each["what"]: each["amount_text"] for each in found if each["kind"] == "invoice"}
    assert "2,400.00 USD" in amounts.values()
    assert all(amounts.values())


def test_a_ledger_without_exceptions_says_so(private: Path) -> None:
    """An empty table leaves the reader in doubt whether anything was looked at."""
    for file in (private.parent / "data").glob("ledger.sqlite*"):
        file.unlink()
    result = run_mlc("--config", private, "exceptions")
    assert (result.exit_code, result.stdout) == (0, "Nothing needs a person.\n")


def test_the_trail_of_a_poll_is_sealed_and_holds(polled: Polled) -> None:
    """Every run seals at its end; nothing is left that could be changed unseen."""
    found = json_of(run_mlc("--config", polled.config, "audit", "verify", "--json"))
    assert found["fault"] is None
    assert found["sealed"] > 100


def test_seal_appends_what_came_since(private: Path) -> None:
    """An operator's command is on record at once and sealed by the next run or by hand."""
    parked = json_of(run_mlc("--config", private, "invoices", "list", "--state", "parked", "--json"))["invoices"][0]
    run_mlc("--config", private, "audit", "seal")
    run_mlc("--config", private, "invoices", "retry", parked["id"])
    assert run_mlc("--config", private, "audit", "seal").stdout == "1 event sealed.\n"


def test_a_changed_trail_ends_with_code_1(private: Path) -> None:
    """Somebody with the database file and a good reason is found out."""
    with sqlite3.connect(private.parent / "data" / "ledger.sqlite") as database:
        triggers = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE audit_event SET actor = 'nobody' WHERE id = 5")
    result = run_mlc("--config", private, "audit", "verify")
    assert result.exit_code == 1
    assert "event 5" in result.stderr

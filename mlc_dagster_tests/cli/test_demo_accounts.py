"""The demonstration's verdict: it must be able to say no."""

import dataclasses
from decimal import Decimal

import pytest

from mlc_dagster.cli.context import Workplace
from mlc_dagster.cli.demo.accounts import Side, books_side, faults_of, file_accounts, ledger_side
from mlc_dagster.settings_file import load_settings
from mlc_dagster_tests.cli.conftest import Polled


def sides_of(polled: Polled) -> tuple[dict[str, Side], list[str]]:
    """The two real sides after a poll, and what is wrong with them."""
    books = polled.sandbox.books()
    with Workplace(load_settings(polled.config), polled.config).ledger() as ledger, ledger.reading() as reading:
        sides = {"ledger": ledger_side(reading)}
        # Other tests post to the same Fusion; this poll's invoices are those in this poll's windows.
        return sides, faults_of(sides, books | {"duplicates": []}, reading)


def test_a_poll_s_ledger_has_no_faults(polled: Polled) -> None:
    """The yardstick itself: without a difference it is silent."""
    _, faults = sides_of(polled)
    assert faults == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"count": 1}, "invoices"),
        ({"totals": {"USD": Decimal("0.01")}}, "USD"),
        ({"totals": {"CHF": Decimal("0.05")}}, "CHF"),
    ],
)
def test_a_cent_or_an_invoice_too_many_is_found(
    polled: Polled, change: dict[str, int | dict[str, Decimal]], fault: str
) -> None:
    """A demonstration that agrees with everything proves nothing."""
    sides, _ = sides_of(polled)
    ours = sides["ledger"]
    totals = dict(ours.totals)
    more = change.get("totals", {})
    assert isinstance(more, dict)
    for currency, amount in more.items():
        totals[currency] = totals.get(currency, Decimal(0)) + amount
    count = change.get("count", 0)
    assert isinstance(count, int)
    other = dataclasses.replace(ours, count=ours.count + count, totals=totals)
    with Workplace(load_settings(polled.config), polled.config).ledger() as ledger, ledger.reading() as reading:
        faults = faults_of({"ledger": ours, "Fusion": other}, {"duplicates": []}, reading)
    assert len(faults) == 1
    assert fault in faults[0]


def test_an_invoice_that_fusion_has_twice_is_found(polled: Polled) -> None:
    """Equal totals can hide one invoice lost and another one doubled."""
    sides, _ = sides_of(polled)
    with Workplace(load_settings(polled.config), polled.config).ledger() as ledger, ledger.reading() as reading:
        faults = faults_of(sides, {"duplicates": [["30001", "inv-1"]]}, reading)
    assert len(faults) == 1


def test_books_are_read_without_rounding() -> None:
    """The books say money as text; a float on the way would lose the fils."""
    side = books_side({"invoices": 2, "totals": {"KWD": "1250.500"}})
    assert side == Side(2, {"KWD": Decimal("1250.500")})


def test_every_file_is_accounted_for(polled: Polled) -> None:
    """Each line of the table: posted, duplicate and parked are all its invoices."""
    with Workplace(load_settings(polled.config), polled.config).ledger() as ledger, ledger.reading() as reading:
        accounts = file_accounts(reading, {})
    read = [account for account in accounts if account.state == "READ"]
    assert len(accounts) == len(polled.files.first) + 3
    assert all(account.invoices == account.posted + account.duplicate + account.parked for account in read)
    assert all(account.why for account in accounts if account.parked or account.state != "READ")

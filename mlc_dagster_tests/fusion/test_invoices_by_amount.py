"""Finding invoices by date and amount, for those that bear another number or supplier than they were created with."""

from decimal import Decimal

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import NotPlain
from mlc_dagster.fusion.invoices import Control
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.raw_server import in_loop
from mlc_dagster_tests.fusion.test_sandbox import TODAY, connect
from mlc_dagster_tests.sandbox.fusion_caller import invoice, line

DAY = {"InvoiceDate": TODAY.isoformat(), "AccountingDate": TODAY.isoformat()}


def enter(fusion: FusionSandbox, number: str, amount: str, **more: object) -> int:
    document = invoice(number, amount, **{**DAY, **more})
    return fusion.enter_invoice(document)


async def numbers(client: FusionClient, amount: str, control: Control | None) -> tuple[list[str], bool]:
    found = await invoices.find_by_amount(client, TODAY, Decimal(amount), control)
    return sorted(row.number for row in found.rows), found.control_seen


@in_loop
async def test_all_of_one_date_and_amount_are_found_with_their_proof() -> None:
    """Whatever they are called; the control row, of another amount, shows that the question works."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        control = Control(enter(fusion, "CTRL-1", "7.00"), "CTRL-1")
        enter(fusion, "INV-1", "30.00")
        enter(fusion, "INV-2", "30.00")
        enter(fusion, "INV-3", "30.01")
        enter(fusion, "INV-4", "30.00", InvoiceDate="2026-11-19")
        async with connect(fusion) as client:
            assert await numbers(client, "30.00", control) == (["INV-1", "INV-2"], True)
            assert await numbers(client, "7.00", control) == (["CTRL-1"], True)
            fusion.faults.add("zero_rows", path="invoices")
            assert await numbers(client, "30.00", control) == ([], False)


@in_loop
async def test_credit_memos_are_found_too() -> None:
    """Their amounts are negative."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        memo = {"InvoiceType": "Credit memo", "invoiceLines": [line(1, "-30.00")]}
        control = Control(enter(fusion, "CM-1", "-30.00", **memo), "CM-1")
        async with connect(fusion) as client:
            assert await numbers(client, "-30.00", control) == (["CM-1"], True)
            assert await numbers(client, "30.00", control) == ([], True)


@in_loop
async def test_a_control_row_that_cannot_be_asked_for_is_refused() -> None:
    """A quote in its number would change the question."""
    with FusionSandbox(Seed(20, TODAY)) as fusion:
        async with connect(fusion) as client:
            with pytest.raises(NotPlain):
                await invoices.find_by_amount(client, TODAY, Decimal(1), Control(1, "O'Brien"))

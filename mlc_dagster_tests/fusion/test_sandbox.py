"""The connector against the embedded Fusion: the resources as a whole, judged by the sandbox's own books."""

import asyncio
import datetime as dt
import json
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.business_units import read_business_units
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.fusion.combinations import read_combinations
from mlc_dagster.fusion.errors import AccessRefused, BusinessRefusal, FusionError, OutcomeUnknown, Refused
from mlc_dagster.fusion.holds import read_holds
from mlc_dagster.fusion.invoices import Control, InvoiceRecord
from mlc_dagster.fusion.ledgers import read_ledgers
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.periods import PAYABLES, read_periods
from mlc_dagster.fusion.suppliers import read_supplier_by_id, read_suppliers
from mlc_dagster.fusion.value_sets import read_values
from mlc_dagster.sandbox import seed as seeded
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.settings import FusionSettings
from mlc_dagster_tests.fusion.raw_server import in_loop

TODAY = dt.date(2026, 11, 20)
VERSIONS = pytest.mark.parametrize("version", [2, 3, 4, 9])


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(120, TODAY)) as running:
        yield running


def connect(
    sandbox: FusionSandbox, *, report: Callable[[Exchange], None] | None = None, **changes: Any
) -> FusionClient:
    given = {
        "base_url": sandbox.base_url,
        "token_url": sandbox.token_url,
        "client_id": sandbox.client_id,
        "client_secret": "env:FUSION_SECRET",
        "scope": sandbox.scope,
        "charts": {},
        "request_timeout": 10,
    }
    settings = FusionSettings.model_validate({**given, **changes})
    return FusionClient(settings, FusionCredentials(client_secret=sandbox.client_secret), report=report)


def body(number: str, supplier: str = "30000", *, lines: int = 1) -> bytes:
    names = {"name": Seed(120, TODAY).supplier_name(supplier)}
    document = {
        "InvoiceNumber": number,
        "InvoiceCurrency": "USD",
        "InvoiceAmount": f"{lines}0.10",
        "InvoiceDate": TODAY.isoformat(),
        "AccountingDate": TODAY.isoformat(),
        "BusinessUnit": seeded.US_BUSINESS_UNIT,
        "Supplier": names["name"],
        "SupplierNumber": supplier,
        "SupplierSite": "HQ",
        "InvoiceSource": "Stampli",
        "InvoiceGroup": "W1-G1",
        "InvoiceType": "Standard",
        "invoiceLines": [
            {
                "LineNumber": line,
                "LineType": "Item",
                "LineAmount": "10.10" if line == 1 else "10.00",
                "DistributionCombination": "101-4410-60540-000-000-000",
            }
            for line in range(1, lines + 1)
        ],
    }
    return json.dumps(document).encode()


async def create(client: FusionClient, number: str, supplier: str = "30000", *, lines: int = 1) -> InvoiceRecord:
    return await invoices.create(client, body(number, supplier, lines=lines), before_first_byte=lambda: None)


@VERSIONS
@in_loop
async def test_reference_data_reads_the_same_in_every_framework_version(sandbox: FusionSandbox, version: int) -> None:
    """Customers pin different versions: arrays or collections, numbers or text, the meaning must not change."""
    numbers = sandbox.seed.supplier_numbers()
    async with connect(sandbox, framework_version=version) as client:
        suppliers = await read_suppliers(client, [*numbers, "99999"])
        again = await read_supplier_by_id(client, suppliers["30000"].supplier_id)
        nobody = await read_supplier_by_id(client, 1)
        ledgers = await read_ledgers(client, [seeded.US_LEDGER, "No Ledger"])
        units = await read_business_units(client, [seeded.US_BUSINESS_UNIT, "No Unit"])
        chart = ledgers[seeded.US_LEDGER].chart_of_accounts_id
        accounts = ["60540", seeded.DISABLED_ACCOUNT, seeded.SUMMARY_ACCOUNT]
        combinations = await read_combinations(client, chart, list(seeded.SEGMENTS), "account", accounts)
        periods = await read_periods(client, ledgers[seeded.US_LEDGER].ledger_id, PAYABLES)
        values = await read_values(client, "US1 Cost Center", ["4410", seeded.DISABLED_DEPARTMENT, "9999"])
    assert set(suppliers) == set(numbers)
    assert again == suppliers["30000"]
    assert nobody is None
    assert suppliers[seeded.INACTIVE_SUPPLIER].inactive_date is not None
    assert [site.name for site in suppliers[seeded.TWO_PAY_SITES_SUPPLIER].sites] == ["HQ", "WEST"]
    assert suppliers[seeded.UNASSIGNED_SUPPLIER].sites[0].assignments == ()
    hq = suppliers["30000"].sites[0]
    assert (hq.pay, hq.primary_pay, hq.assignments[0].client_bu) == (True, True, seeded.US_BUSINESS_UNIT)
    assert (set(ledgers), chart) == ({seeded.US_LEDGER}, seeded.US_CHART)
    assert set(units) == {seeded.US_BUSINESS_UNIT}
    usable = [row for row in combinations if row.enabled and row.detail_posting and not row.summary]
    assert {row.segments[2] for row in usable} == {"60540"}
    assert len(combinations) == 3 * len(seeded.DEPARTMENTS)
    assert {period.name: period.status for period in periods}["Nov-26"] == "O"
    assert {value: row.enabled for value, row in values.items()} == {"4410": True, seeded.DISABLED_DEPARTMENT: False}


@VERSIONS
@in_loop
async def test_invoice_is_created_found_and_read_back(sandbox: FusionSandbox, version: int) -> None:
    """The whole round of one invoice, with more lines than a nested page holds."""
    async with connect(sandbox, framework_version=version) as client:
        assert await invoices.any_invoice(client, seeded.US_BUSINESS_UNIT) is None
        control_row = await create(client, "CTRL-1")
        control = Control(control_row.invoice_id, control_row.number)
        before = await invoices.find_by_number(client, ["NW-1"], control)
        created = await create(client, "NW-1", lines=60)
        after = await invoices.find_by_number(client, ["NW-1"], control)
        by_supplier = await invoices.find_by_supplier(client, "30000", TODAY, control)
        back = (await invoices.read_back(client, [created.invoice_id]))[created.invoice_id]
    assert (before.rows, before.control_seen) == ([], True)
    assert [row.invoice_id for row in after.rows] == [created.invoice_id]
    assert {row.number for row in by_supplier.rows} == {"CTRL-1", "NW-1"}
    assert (back.amount, back.invoice_source, back.invoice_group) == (Decimal("600.10"), "Stampli", "W1-G1")
    assert back.created_by == sandbox.client_id
    lines = back.lines or ()
    assert [line.number for line in lines] == list(range(1, 61))
    assert sum(line.amount or Decimal(0) for line in lines) == back.amount
    assert len(sandbox.books.invoices()) == 2


@in_loop
async def test_validation_holds_and_observation(sandbox: FusionSandbox) -> None:
    """After creation Fusion's own life begins; it is observed, in bulk and by id."""
    async with connect(sandbox) as client:
        record = await create(client, "NW-2")
        said = [await invoices.validate(client, record), await invoices.calculate_tax(client, record)]
        sandbox.cancel_invoice((await create(client, "NW-3")).invoice_id)
        control = await invoices.any_invoice(client, seeded.US_BUSINESS_UNIT)
        assert control is not None
        ids = [row.invoice_id for row in sandbox.books.invoices()]
        seen = await invoices.observe(client, [*ids, 4711])
        holds = await read_holds(client, ["NW-2"])
    by_number = {row.number: row for row in seen.values()}
    assert all(said)
    assert by_number["NW-2"].validation_status == "Validated"
    assert (by_number["NW-2"].canceled, by_number["NW-3"].canceled) in {(False, True), (None, True)}
    assert 4711 not in seen
    assert holds == []


@in_loop
async def test_attachment_is_added_once_and_listed(sandbox: FusionSandbox) -> None:
    """The document follows its invoice."""
    async with connect(sandbox) as client:
        record = await create(client, "NW-2")
        before = await invoices.list_attachments(client, record.invoice_id)
        added = await invoices.add_attachment(client, record.invoice_id, "NW-2.pdf", b"%PDF-1.7 ...")
        listed = await invoices.list_attachments(client, record.invoice_id)
    assert before == []
    assert [attachment.attachment_id for attachment in listed] == [added.attachment_id]
    assert listed[0].file_name == "NW-2.pdf"


@VERSIONS
@in_loop
async def test_second_invoice_of_the_number_is_a_business_refusal(sandbox: FusionSandbox, version: int) -> None:
    """The code is found in whatever shape the version gives to errors."""
    async with connect(sandbox, framework_version=version) as client:
        await create(client, "NW-4")
        with pytest.raises(BusinessRefusal) as caught:
            await create(client, "NW-4")
    assert "AP-810776" in caught.value.codes


@pytest.mark.parametrize(
    ("fault", "expected", "stored"),
    [
        ({"kind": "commit_then_reset"}, OutcomeUnknown, 1),
        ({"kind": "commit_then_hang"}, OutcomeUnknown, 1),
        ({"kind": "commit_then_status", "status": 504}, OutcomeUnknown, 1),
        ({"kind": "cut_off", "method": "POST"}, OutcomeUnknown, 1),
        ({"kind": "reset", "method": "POST"}, OutcomeUnknown, 0),
        ({"kind": "status", "method": "POST", "status": 503, "retry_after": 3}, Refused, 0),
        ({"kind": "status", "method": "POST", "status": 429}, Refused, 0),
        ({"kind": "status", "method": "POST", "status": 500}, OutcomeUnknown, 0),
        ({"kind": "revoked", "method": "POST"}, AccessRefused, 0),
    ],
)
@in_loop
async def test_faults_become_what_they_prove(
    sandbox: FusionSandbox, fault: dict[str, Any], expected: type[FusionError], stored: int
) -> None:
    """OutcomeUnknown stands both for a stored and for an unstored invoice; the others only for an unstored one."""
    sandbox.faults.add(path="invoices", count=1, **fault)
    sent: list[Exchange] = []
    async with connect(sandbox, report=sent.append, request_timeout=1.5) as client:
        with pytest.raises(expected):
            await create(client, "NW-5")
    assert len(sandbox.books.invoices()) == stored
    assert [exchange.path.endswith("/invoices") for exchange in sent] == [False, True]


@in_loop
async def test_lost_data_access_is_not_absence(sandbox: FusionSandbox) -> None:
    """Zero rows with status 200: the control row is missing too, so nothing is proven."""
    async with connect(sandbox) as client:
        record = await create(client, "NW-6")
        control = Control((await create(client, "CTRL-1")).invoice_id, "CTRL-1")
        sandbox.faults.add("zero_rows", path="invoices")
        found = await invoices.find_by_number(client, [record.number], control)
    assert found == invoices.Found([], control_seen=False)


@pytest.mark.parametrize(
    "quirk", ["has_more_always_false", "has_more_always_true", "no_items_when_empty", "shuffled_pages"]
)
@in_loop
async def test_paging_survives_misleading_answers(sandbox: FusionSandbox, quirk: str) -> None:
    """Every quirk once led somebody to lose rows."""
    sandbox.faults.add_quirk(quirk)
    async with connect(sandbox, page_size=7) as client:
        periods = await read_periods(client, 300000046975971, PAYABLES)
        suppliers = await read_suppliers(client, sandbox.seed.supplier_numbers())
    assert len({period.name for period in periods}) == 36
    assert len(suppliers) == 120


@in_loop
async def test_expired_token_costs_one_refusal_and_no_invoice(sandbox: FusionSandbox) -> None:
    """Tokens can be revoked at any moment, between two invoices as well."""
    async with connect(sandbox) as client:
        await create(client, "NW-7")
        sandbox.expire_tokens()
        await create(client, "NW-8")
    assert [row.number for row in sandbox.books.invoices()] == ["NW-7", "NW-8"]
    assert sandbox.books.duplicates() == []


@in_loop
async def test_noise_and_limits_end_with_every_invoice_once(sandbox: FusionSandbox) -> None:
    """Refused ones are sent again, and the sandbox's books must show each exactly once."""
    sandbox.faults.add("latency", path="invoices", method="POST", seconds=0.02)
    sandbox.faults.add("status", path="invoices", method="POST", status=503, probability=0.05)
    chance = random.Random(3)

    async def post(client: FusionClient, number: str) -> int:
        for attempt in range(1, 20):
            try:
                await create(client, number)
            except Refused:
                await asyncio.sleep(chance.uniform(0, 0.05))
            else:
                return attempt
        raise AssertionError

    async with connect(sandbox, max_in_flight=8) as client:
        attempts = await asyncio.gather(*(post(client, f"N-{index}") for index in range(150)))
        assert client.limiter.peak <= 8
    assert sorted(row.number for row in sandbox.books.invoices()) == sorted(f"N-{index}" for index in range(150))
    assert sum(attempts) == sandbox.books.count("POST", "invoices")
    assert sandbox.books.duplicates() == []

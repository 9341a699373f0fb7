"""Reference data as the mapping needs it, out of rows as Fusion sends them."""

import datetime as dt
from typing import Any

import pytest

from mlc_dagster.fusion.business_units import read_business_units
from mlc_dagster.fusion.combinations import read_combinations
from mlc_dagster.fusion.errors import RemoteDown
from mlc_dagster.fusion.holds import read_holds
from mlc_dagster.fusion.ledgers import Ledger, read_ledgers
from mlc_dagster.fusion.periods import PAYABLES, read_periods
from mlc_dagster.fusion.suppliers import read_supplier_by_id, read_suppliers
from mlc_dagster.fusion.value_sets import read_values
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, Script, collection, in_loop


def serving(**rows_by_path: list[dict[str, Any]]) -> Script:
    by_path = {path.replace("__", "/"): rows for path, rows in rows_by_path.items()}

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(by_path[received.path], received))

    return script


ASSIGNMENT = {"ClientBU": "US1 Business Unit", "BillToBU": "US1 Business Unit", "BillToLocation": "Seattle"}


def site(number: int, **more: Any) -> dict[str, Any]:
    return {"SupplierSiteId": number, "SupplierSite": f"SITE{number}", "ProcurementBU": "US1 Business Unit", **more}


def supplier(number: int, **more: Any) -> dict[str, Any]:
    return {
        "SupplierId": str(number),
        "Supplier": "Northwind",
        "SupplierNumber": f"{number}",
        "Status": "ACTIVE",
        **more,
    }


@pytest.mark.parametrize("nested", [True, False])
@in_loop
async def test_supplier_comes_with_sites_and_assignments(nested: bool) -> None:
    """Framework 3 and later nests collections, 2 arrays; the choice of the site needs both levels."""

    def children(rows: list[Any]) -> Any:
        return {"items": rows, "count": len(rows), "hasMore": False, "limit": 25, "offset": 0} if nested else rows

    one = site(7, SitePurposePayFlag="Y", SitePurposePrimaryPayFlag=False, assignments=children([ASSIGNMENT]))
    async with (
        RawServer(serving(suppliers=[supplier(1287, sites=children([one]))])) as server,
        server.client() as client,
    ):
        found = await read_suppliers(client, ["1287", "404", "it's odd"])
    (chosen,) = found["1287"].sites
    assert set(found) == {"1287"}
    assert found["1287"].supplier_id == 1287
    assert (chosen.site_id, chosen.name, chosen.pay, chosen.primary_pay) == (7, "SITE7", True, False)
    assert chosen.assignments[0].client_bu == "US1 Business Unit"
    assert server.received[0].params["q"] == "SupplierNumber in ('1287','404')"
    assert server.received[0].params["expand"] == "sites.assignments"


@in_loop
async def test_more_sites_than_fit_are_all_read() -> None:
    """A supplier with forty sites shows twenty-five of them; the right one may be the last."""
    sites = [site(n, assignments={"items": [ASSIGNMENT], "count": 1, "limit": 25}) for n in range(1, 41)]
    sites[39]["assignments"] = {"items": [ASSIGNMENT] * 2, "count": 2, "hasMore": True, "limit": 2}
    first = {"items": sites[:25], "count": 25, "hasMore": False, "limit": 25, "offset": 0}
    script = serving(
        suppliers=[supplier(1, sites=first)],
        suppliers__1__child__sites=sites,
        suppliers__1__child__sites__40__child__assignments=[{**ASSIGNMENT, "ClientBU": f"BU{n}"} for n in range(3)],
    )
    async with RawServer(script) as server, server.client() as client:
        found = await read_suppliers(client, ["1"])
    assert [one.site_id for one in found["1"].sites] == list(range(1, 41))
    assert [one.client_bu for one in found["1"].sites[39].assignments] == ["BU0", "BU1", "BU2"]


@in_loop
async def test_supplier_is_read_again_by_its_id() -> None:
    """After a refusal the supplier may have been renamed; its id still finds it."""
    async with (
        RawServer(serving(suppliers=[supplier(5, InactiveDate="2026-01-31")])) as server,
        server.client() as client,
    ):
        found = await read_supplier_by_id(client, 5)
    assert found is not None
    assert (found.inactive_date, found.sites) == (dt.date(2026, 1, 31), ())
    assert server.received[0].params["q"] == "SupplierId=5"


@in_loop
async def test_many_suppliers_are_few_requests() -> None:
    """One request per supplier would take longer than posting."""
    rows = [supplier(n) for n in range(1, 201)]

    async def script(received: Received, connection: Connection) -> None:
        asked = received.params["q"].partition("(")[2].strip(")").replace("'", "").split(",")
        await connection.answer(200, collection([row for row in rows if row["SupplierNumber"] in asked], received))

    async with RawServer(script) as server, server.client() as client:
        found = await read_suppliers(client, [str(n) for n in range(1, 201)])
    assert len(found) == 200
    assert len(server.received) == 4


@in_loop
async def test_one_failing_chunk_fails_the_whole_reading_as_itself() -> None:
    """Half of the suppliers would park the other half's invoices; the caller gets one plain error."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(503, raw=b"")

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(RemoteDown):
            await read_suppliers(client, [str(n) for n in range(1, 201)])
        assert client.limiter.in_flight == 0


@pytest.mark.parametrize("name", ["US Primary Ledger", "R&D Ledger"])
@in_loop
async def test_ledger_is_found_by_name_plain_or_not(name: str) -> None:
    """Display names hold what people like; a name that cannot be asked for is picked from the list."""
    row = {"LedgerId": "300000046975971", "Name": name, "CurrencyCode": "USD", "ChartOfAccountsId": 5237}
    other = {**row, "Name": "Other", "LedgerId": 1}
    async with RawServer(serving(ledgersLOV=[other, row])) as server, server.client() as client:
        found = await read_ledgers(client, [name])
    assert found == {name: Ledger(300000046975971, name, "USD", 5237)}


@in_loop
async def test_business_units_are_found_by_name() -> None:
    """A wrong name in the settings is told apart from an invisible one before anything is posted."""
    rows = [{"BusinessUnitId": 1, "BusinessUnitName": "US1"}, {"BusinessUnitId": 2, "Name": "FR1"}]
    async with RawServer(serving(finBusinessUnitsLOV=rows)) as server, server.client() as client:
        found = await read_business_units(client, ["US1", "FR1", "XX"])
    assert {name: unit.business_unit_id for name, unit in found.items()} == {"US1": 1, "FR1": 2}


@in_loop
async def test_combinations_carry_segments_in_the_charts_order() -> None:
    """Segments are attributes named by the chart; flags come as Y/N or true/false; absent flags forbid posting."""
    base = {"_CHART_OF_ACCOUNTS_ID": 5237, "AccountType": "E", "entity": "101", "account": "60540", "subAccount": "120"}
    rows = [
        {**base, "_CODE_COMBINATION_ID": 1, "EnabledFlag": "Y", "DetailPostingAllowedFlag": True, "SummaryFlag": "N"},
        {**base, "_CODE_COMBINATION_ID": "2", "EnabledFlag": "N", "EndDateActive": "2025-12-31"},
    ]
    async with RawServer(serving(accountCombinationsLOV=rows)) as server, server.client() as client:
        good, bad = await read_combinations(client, 5237, ["entity", "account", "subAccount"], "account", ["60540"])
    assert good.segments == ("101", "60540", "120")
    assert (good.enabled, good.detail_posting, good.summary, good.account_type) == (True, True, False, "E")
    assert (bad.combination_id, bad.enabled, bad.detail_posting, bad.summary) == (2, False, False, True)
    assert bad.end == dt.date(2025, 12, 31)
    assert server.received[0].params["q"] == "_CHART_OF_ACCOUNTS_ID=5237 and account in ('60540')"


@in_loop
async def test_periods_are_those_of_the_application() -> None:
    """Another module's open period says nothing about ours; the answer is not trusted to have filtered."""
    period = {"LedgerId": 1, "PeriodNameId": "10-26", "StartDate": "2026-10-01", "EndDate": "2026-10-31"}
    rows = [
        {**period, "ApplicationId": 101, "ClosingStatus": "C"},
        {**period, "ApplicationId": "200", "ClosingStatus": "O"},
    ]
    async with RawServer(serving(accountingPeriodStatusLOV=rows)) as server, server.client() as client:
        (found,) = await read_periods(client, 1, PAYABLES)
    assert (found.name, found.application_id, found.status) == ("10-26", 200, "O")
    assert (found.start, found.end) == (dt.date(2026, 10, 1), dt.date(2026, 10, 31))
    assert server.received[0].params["q"] == "LedgerId=1 and ApplicationId=200"


@in_loop
async def test_values_of_a_set_are_found_by_its_code() -> None:
    """The code has blanks and goes into the path."""
    rows = [
        {"ValueId": 1, "Value": "120", "EnabledFlag": "Y", "SummaryFlag": "N"},
        {"Value": "121", "EnabledFlag": "N"},
    ]
    path = "valueSets/Corporate%20Cost%20Center/child/values"

    async def script(received: Received, connection: Connection) -> None:
        assert received.path == path
        await connection.answer(200, collection(rows, received))

    async with RawServer(script) as server, server.client() as client:
        found = await read_values(client, "Corporate Cost Center", ["120", "121", "999"])
    assert {value: row.enabled for value, row in found.items()} == {"120": True, "121": False}


@in_loop
async def test_holds_tell_released_from_standing() -> None:
    """A released hold keeps its row; counting it would keep a paid invoice on the list of problems."""
    hold = {
        "HoldId": 1,
        "InvoiceNumber": "A-1",
        "HoldName": "Line Variance",
        "HoldDate": "2026-10-14T15:05:40.000+00:00",
    }
    rows = [hold, {**hold, "HoldId": 2, "ReleaseName": "Approved"}]
    async with RawServer(serving(invoiceHolds=rows)) as server, server.client() as client:
        standing, released = await read_holds(client, ["A-1"])
    assert (standing.released, released.released) == (False, True)
    assert standing.held_at == dt.datetime(2026, 10, 14, 15, 5, 40, tzinfo=dt.UTC)

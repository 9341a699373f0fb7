"""Suppliers with their sites and site assignments (``suppliers``, children ``sites`` and ``assignments``).

An invoice of a business unit needs a pay site with an assignment to it; these rows hold what that decision needs.
Child rows do not name their parent, hence the nesting.
"""

import datetime as dt
from collections.abc import Collection

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import all_rows, rows_by_key, together
from mlc_dagster.fusion.q import equals
from mlc_dagster.fusion.wire import Id, Nested, YesNo, day, flag, has_more_children, nested_rows

PATH = "suppliers"
EXPAND = "sites.assignments"


class Assignment(msgspec.Struct, frozen=True):
    """A site's assignment to a client business unit."""

    client_bu: str | None
    bill_to_bu: str | None
    inactive_date: dt.date | None
    status: str | None


class Site(msgspec.Struct, frozen=True):
    """A supplier site. ``pay`` and ``primary_pay`` are None where the environment does not show them."""

    site_id: int
    name: str
    procurement_bu: str | None
    pay: bool | None
    primary_pay: bool | None
    status: str | None
    inactive_date: dt.date | None
    assignments: tuple[Assignment, ...]


class Supplier(msgspec.Struct, frozen=True):
    """A supplier. ``status`` is a display word; ``inactive_date`` is what decides."""

    supplier_id: int
    name: str
    number: str
    status: str | None
    inactive_date: dt.date | None
    sites: tuple[Site, ...]


class _AssignmentRow(msgspec.Struct, rename="pascal"):
    client_bu: str | None = msgspec.field(default=None, name="ClientBU")
    bill_to_bu: str | None = msgspec.field(default=None, name="BillToBU")
    inactive_date: str | None = None
    status: str | None = None

    def assignment(self) -> Assignment:
        return Assignment(self.client_bu, self.bill_to_bu, day(self.inactive_date), self.status)


class _SiteRow(msgspec.Struct, rename="pascal"):
    supplier_site_id: Id
    supplier_site: str
    procurement_bu: str | None = msgspec.field(default=None, name="ProcurementBU")
    site_purpose_pay_flag: YesNo = None
    site_purpose_primary_pay_flag: YesNo = None
    status: str | None = None
    inactive_date: str | None = None
    assignments: Nested[_AssignmentRow] = msgspec.field(default=None, name="assignments")


class _SupplierRow(msgspec.Struct, rename="pascal"):
    supplier_id: Id
    supplier: str
    supplier_number: str
    status: str | None = None
    inactive_date: str | None = None
    sites: Nested[_SiteRow] = msgspec.field(default=None, name="sites")


async def read_suppliers(client: FusionClient, numbers: Collection[str]) -> dict[str, Supplier]:
    """Suppliers by number; numbers that do not exist, or are not plain, are absent."""
    rows = await rows_by_key(
        client,
        PATH,
        _SupplierRow,
        attribute="SupplierNumber",
        keys=numbers,
        order_by="SupplierId:asc",
        expand=EXPAND,
        unique=True,
    )
    wanted = set(numbers)
    found = await together(_supplier(client, row) for row in rows if row.supplier_number in wanted)
    return {supplier.number: supplier for supplier in found}


async def read_supplier_by_id(client: FusionClient, supplier_id: int) -> Supplier | None:
    """The supplier as it is now: its id survives a rename, its name and number need not."""
    pages = client.pages(PATH, _SupplierRow, q=equals("SupplierId", supplier_id), expand=EXPAND, limit=1)
    rows = await all_rows(pages, at_most=1)
    return await _supplier(client, rows[0]) if rows else None


async def _supplier(client: FusionClient, row: _SupplierRow) -> Supplier:
    sites = nested_rows(row.sites)
    path = f"{PATH}/{row.supplier_id}/child/sites"
    if has_more_children(row.sites):
        sites = await all_rows(client.pages(path, _SiteRow, expand="assignments", order_by="SupplierSiteId:asc"))
    return Supplier(
        supplier_id=row.supplier_id,
        name=row.supplier,
        number=row.supplier_number,
        status=row.status,
        inactive_date=day(row.inactive_date),
        sites=tuple(await together(_site(client, path, site) for site in sites)),
    )


async def _site(client: FusionClient, path: str, row: _SiteRow) -> Site:
    assignments = nested_rows(row.assignments)
    if has_more_children(row.assignments):
        children = f"{path}/{row.supplier_site_id}/child/assignments"
        assignments = await all_rows(client.pages(children, _AssignmentRow, order_by="AssignmentId:asc"))
    return Site(
        site_id=row.supplier_site_id,
        name=row.supplier_site,
        procurement_bu=row.procurement_bu,
        pay=flag(row.site_purpose_pay_flag),
        primary_pay=flag(row.site_purpose_primary_pay_flag),
        status=row.status,
        inactive_date=day(row.inactive_date),
        assignments=tuple(assignment.assignment() for assignment in assignments),
    )

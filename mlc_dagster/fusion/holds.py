"""Holds on invoices (``invoiceHolds``). A released hold keeps its row, with the release named."""

import datetime as dt
from collections.abc import Collection

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import rows_by_key
from mlc_dagster.fusion.wire import Id, instant


class Hold(msgspec.Struct, frozen=True):
    """A hold. The row names its invoice by number, business unit and supplier, not by id."""

    hold_id: int
    invoice_number: str
    business_unit: str | None
    supplier: str | None
    line_held: str | None
    name: str
    reason: str | None
    held_at: dt.datetime | None
    release_name: str | None
    released_at: dt.datetime | None

    @property
    def released(self) -> bool:
        return bool(self.release_name)


class _Row(msgspec.Struct, rename="pascal"):
    hold_id: Id
    invoice_number: str
    hold_name: str
    business_unit: str | None = None
    supplier: str | None = None
    line_held: str | int | None = None
    hold_reason: str | None = None
    hold_date: str | None = None
    release_name: str | None = None
    release_date: str | None = None


async def read_holds(client: FusionClient, numbers: Collection[str]) -> list[Hold]:
    """Holds on invoices of these numbers, released ones included, whatever supplier or business unit.

    Numbers that are not plain cannot be asked for and yield nothing.
    """
    rows = await rows_by_key(
        client, "invoiceHolds", _Row, attribute="InvoiceNumber", keys=numbers, order_by="HoldId:asc"
    )
    return [
        Hold(
            hold_id=row.hold_id,
            invoice_number=row.invoice_number,
            business_unit=row.business_unit,
            supplier=row.supplier,
            line_held=None if row.line_held is None else str(row.line_held),
            name=row.hold_name,
            reason=row.hold_reason,
            held_at=instant(row.hold_date),
            release_name=row.release_name,
            released_at=instant(row.release_date),
        )
        for row in rows
    ]

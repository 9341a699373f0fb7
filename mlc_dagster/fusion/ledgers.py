"""Ledgers (``ledgersLOV``): id, currency and chart of accounts behind the name written in the settings."""

from collections.abc import Collection

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import rows_by_name
from mlc_dagster.fusion.wire import Id


class Ledger(msgspec.Struct, frozen=True, rename="pascal"):
    """A ledger. ``currency`` is an ISO code."""

    ledger_id: Id
    name: str
    currency: str = msgspec.field(name="CurrencyCode")
    chart_of_accounts_id: Id


async def read_ledgers(client: FusionClient, names: Collection[str]) -> dict[str, Ledger]:
    """Ledgers by name; unknown names, and those the user may not see, are absent."""
    rows = await rows_by_name(client, "ledgersLOV", Ledger, attribute="Name", names=names, order_by="LedgerId:asc")
    wanted = set(names)
    return {row.name: row for row in rows if row.name in wanted}

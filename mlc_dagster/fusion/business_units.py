"""Business units (``finBusinessUnitsLOV``), to tell a wrong name in the settings from one the user may not see.

The list is short and is read whole: only its id and name are sure to exist in every release.
"""

from collections.abc import Collection

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import all_rows
from mlc_dagster.fusion.wire import Id


class BusinessUnit(msgspec.Struct, frozen=True):
    """A business unit."""

    business_unit_id: int
    name: str


class _Row(msgspec.Struct, rename="pascal"):
    business_unit_id: Id
    business_unit_name: str | None = None
    name: str | None = None


async def read_business_units(client: FusionClient, names: Collection[str]) -> dict[str, BusinessUnit]:
    """Business units by name; unknown names, and those the user may not see, are absent."""
    rows = await all_rows(client.pages("finBusinessUnitsLOV", _Row, order_by="BusinessUnitId:asc"))
    units = (BusinessUnit(row.business_unit_id, row.business_unit_name or row.name or "") for row in rows)
    wanted = set(names)
    return {unit.name: unit for unit in units if unit.name in wanted}

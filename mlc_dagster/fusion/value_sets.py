"""Values of a value set (``valueSets/{code}/child/values``), such as the cost centres of a chart of accounts."""

import datetime as dt
from collections.abc import Collection
from urllib.parse import quote

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import rows_by_key
from mlc_dagster.fusion.wire import YesNo, day, flag


class ValueSetValue(msgspec.Struct, frozen=True):
    """A value. ``summary`` values are parents in a hierarchy and take no posting."""

    value: str
    enabled: bool
    summary: bool
    start: dt.date | None
    end: dt.date | None


class _Row(msgspec.Struct, rename="pascal"):
    value: str
    enabled_flag: YesNo = None
    summary_flag: YesNo = None
    start_date_active: str | None = None
    end_date_active: str | None = None


async def read_values(client: FusionClient, value_set_code: str, values: Collection[str]) -> dict[str, ValueSetValue]:
    """Those of ``values`` that the set holds, disabled ones included; an absent summary flag means no parent."""
    rows = await rows_by_key(
        client,
        f"valueSets/{quote(value_set_code, safe='')}/child/values",
        _Row,
        attribute="Value",
        keys=values,
        order_by="ValueId:asc",
    )
    wanted = set(values)
    return {
        row.value: ValueSetValue(
            value=row.value,
            enabled=flag(row.enabled_flag) is True,
            summary=flag(row.summary_flag) is True,
            start=day(row.start_date_active),
            end=day(row.end_date_active),
        )
        for row in rows
        if row.value in wanted
    }

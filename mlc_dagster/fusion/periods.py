"""Accounting periods and their status per ledger and application (``accountingPeriodStatusLOV``)."""

import datetime as dt

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.lookup import all_rows
from mlc_dagster.fusion.q import all_of, equals
from mlc_dagster.fusion.wire import Id, day

PAYABLES = 200
GENERAL_LEDGER = 101


class Period(msgspec.Struct, frozen=True):
    """A period. ``status`` is O open, F future enterable, C closed, P permanently closed, N never opened, W closing."""

    name: str
    application_id: int
    status: str
    start: dt.date
    end: dt.date


class _Row(msgspec.Struct, rename="pascal"):
    period_name_id: str
    application_id: Id
    closing_status: str
    start_date: str
    end_date: str


async def read_periods(client: FusionClient, ledger_id: int, application_id: int) -> list[Period]:
    """Periods of one ledger in one application. Without the application another module's status would come back."""
    q = all_of(equals("LedgerId", ledger_id), equals("ApplicationId", application_id))
    rows = await all_rows(client.pages("accountingPeriodStatusLOV", _Row, q=q, order_by="PeriodNameId:asc"))
    return [_period(row) for row in rows if row.application_id == application_id]


def _period(row: _Row) -> Period:
    start, end = day(row.start_date), day(row.end_date)
    if start is None or end is None:
        msg = f"period {row.period_name_id!r} has no start or end date"
        raise ResponseInvalid(msg, where="GET accountingPeriodStatusLOV")
    return Period(row.period_name_id, row.application_id, row.closing_status, start, end)

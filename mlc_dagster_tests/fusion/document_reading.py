"""What the tests of reading documents share: a client to the embedded Fusion, ranges, a small journal server."""

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from mlc_dagster.fusion import documents
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.fusion.documents import Source
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.records import Read
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.settings import FusionSettings
from mlc_dagster_tests.fusion.raw_server import ROOT, Connection, Received, Script, collection

TODAY = dt.date(2026, 11, 20)
EVER = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


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


async def changed(
    client: FusionClient,
    source: Source,
    start: dt.datetime = EVER[0],
    end: dt.datetime = EVER[1],
    *,
    child_dates: bool = True,
) -> list[Read]:
    pages = documents.changed(client, source, start, end, child_dates=child_dates)
    return [read async for page in pages for read in page]


async def by_id(client: FusionClient, source: Source, *ids: int) -> list[Read]:
    return [read async for page in documents.by_id(client, source, ids) for read in page]


def line(number: int, **changes: Any) -> dict[str, Any]:
    """Odd lines are debits of their number, even ones credits."""
    amounts = {"EnteredDr": number} if number % 2 else {"EnteredCr": number}
    return {"JeLineNumber": number, "LastUpdateDate": "2026-11-20T10:00:00.000+00:00", **amounts, **changes}


def lines(count: int) -> list[dict[str, Any]]:
    return [line(number) for number in range(1, count + 1)]


def journal_batch(rows: list[dict[str, Any]], *, nested: Any = None, **header: Any) -> dict[str, Any]:
    """Batch 7 with one journal as an expanded row; ``nested`` in place of its first 25 lines as a collection."""
    first = {"items": rows[:25], "count": min(25, len(rows)), "hasMore": len(rows) > 25, "limit": 25, "offset": 0}
    named = {"JournalName": "J", "LedgerName": "L", "LastUpdateDate": "2026-11-20T10:00:00.000+00:00"}
    links = [{"rel": "self", "href": f"https://pod.example:443{ROOT}journalBatches/7/child/journalHeaders/0002AB"}]
    shown = {**named, **header, "journalLines": first if nested is None else nested, "links": links}
    headers = {"items": [shown], "count": 1, "hasMore": False, "limit": 25, "offset": 0}
    return {"JeBatchId": 7, "LastUpdateDate": "2026-11-20T10:00:00.000+00:00", "journalHeaders": headers}


def serving(batch: dict[str, Any], rows: list[dict[str, Any]], *, cap: int | None = None, **lies: Any) -> Script:
    """One batch; its lines at their own address, with ``lies`` about them."""

    async def script(received: Received, connection: Connection) -> None:
        if received.path.endswith("/child/journalLines"):
            total = {"totalResults": len(rows)} if "totalResults" in received.params else {}
            await connection.answer(200, collection(rows, received, cap=cap, **{**total, **lies}))
        else:
            await connection.answer(200, collection(above([batch], "JeBatchId", received), received))

    return script


def above(rows: list[dict[str, Any]], key: str, received: Received) -> list[dict[str, Any]]:
    """The rows that the bounds on ``key`` in ``q`` leave, in the order asked for."""
    q = received.params.get("q", "")
    for sign, number in re.findall(rf"{key} (>|<=) (\d+)", q):
        rows = [row for row in rows if (row[key] > int(number) if sign == ">" else row[key] <= int(number))]
    return sorted(rows, key=lambda row: row[key], reverse=received.params.get("orderBy", "").endswith(":desc"))


def totals(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The header's running totals of these lines."""
    dr = sum((Decimal(str(row.get("EnteredDr", 0))) for row in rows), Decimal(0))
    cr = sum((Decimal(str(row.get("EnteredCr", 0))) for row in rows), Decimal(0))
    return {"RunningTotalDr": str(dr), "RunningTotalCr": str(cr)}

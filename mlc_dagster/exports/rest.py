"""Extraction over Fusion's REST resources, one kind of document each."""

import datetime as dt
from collections.abc import AsyncIterator, Collection

from mlc_dagster.exports.extraction import Extraction
from mlc_dagster.fusion import documents
from mlc_dagster.fusion.changes import Listed, fusion_now
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.documents import SetAside, Source
from mlc_dagster.fusion.journals import JOURNALS
from mlc_dagster.fusion.payables import INVOICES
from mlc_dagster.fusion.purchase_orders import PURCHASE_ORDERS
from mlc_dagster.fusion.records import Read
from mlc_dagster.fusion.supplier_records import SUPPLIERS
from mlc_dagster.settings import Settings

SOURCES = {source.name: source for source in (JOURNALS, INVOICES, PURCHASE_ORDERS, SUPPLIERS)}
"""By their names in mlc.yaml."""


class RestExtraction:
    """One source of one environment, read through an open client."""

    def __init__(
        self, client: FusionClient, source: Source, *, child_dates: bool, set_aside: SetAside | None = None
    ) -> None:
        self._client = client
        self._source = source
        self._child_dates = child_dates
        self._set_aside = set_aside

    async def now(self) -> dt.datetime:
        return await fusion_now(self._client, self._source.path)

    def changed(self, start: dt.datetime, end: dt.datetime) -> AsyncIterator[list[Read]]:
        return documents.changed(
            self._client, self._source, start, end, child_dates=self._child_dates, set_aside=self._set_aside
        )

    async def listed(self, start: dt.datetime, end: dt.datetime) -> list[Listed]:
        return await documents.listed(self._client, self._source, start, end)

    def by_id(self, fusion_ids: Collection[int]) -> AsyncIterator[list[Read]]:
        return documents.by_id(self._client, self._source, fusion_ids, set_aside=self._set_aside)


def rest_extraction(
    client: FusionClient, source: str, settings: Settings, set_aside: SetAside | None = None
) -> Extraction:
    """The source of that name (journals, invoices, purchase_orders, suppliers) over an open client.

    ``set_aside`` is told of each document that cannot be read; without it, such a one ends the read.
    """
    return RestExtraction(client, SOURCES[source], child_dates=settings.outbound.child_dates, set_aside=set_aside)

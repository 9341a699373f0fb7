"""Which resources of Fusion a configuration needs: found by having the connectors ask a client that sends nothing.

So no list of resources is kept here that could differ from what the flows ask for, with fields, children and order.
"""

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from mlc_dagster.exports.rest import SOURCES
from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.combinations import read_combinations
from mlc_dagster.fusion.documents import Source, by_id, changed
from mlc_dagster.fusion.holds import read_holds
from mlc_dagster.fusion.invoices import any_invoice, list_attachments, read_back
from mlc_dagster.fusion.ledgers import read_ledgers
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.periods import PAYABLES, read_periods
from mlc_dagster.fusion.suppliers import read_suppliers
from mlc_dagster.fusion.value_sets import read_values
from mlc_dagster.settings import ChartSettings, FusionSettings, Settings, StampliSettings

_EMPTY = b'{"items":[],"count":0,"hasMore":false,"limit":25,"offset":0}'
_ANY = "0"
"""A key to ask for; what it is does not matter, for the condition with it is left out."""
_BY_CHILDREN = re.compile(r"[A-Za-z.]+\.LastUpdateDate")


@dataclass(frozen=True)
class Need:
    """A collection that a flow reads, and how it asks; ``limit`` and the condition on keys apart."""

    path: str
    params: Mapping[str, str]
    purpose: str
    must_have_rows: bool = False
    """Whether nothing can be posted while it shows no row."""
    may_be_empty: bool = False
    """Whether no row says nothing about data access."""
    children: str | None = None
    """The dotted date that the condition is on, where children are asked for by their own dates."""
    setting: str = ""
    """Key of mlc.yaml whose names stand in the question."""

    @property
    def name(self) -> str:
        """What people call it."""
        with_children = f" with {self.params['expand']}" if self.params.get("expand") else ""
        return f"{self.path}{with_children}"

    @property
    def key(self) -> str:
        """Fusion's name of the id that rows are sorted by; empty where they are not."""
        return self.params.get("orderBy", "").partition(",")[0].partition(":")[0]


class _Listener(FusionClient):
    """Hears what is asked for and answers that nothing is there."""

    def __init__(self, settings: FusionSettings) -> None:
        # Nothing is sent, so nothing is signed.
        silent = {"auth": "basic", "username": "nobody", "ca_bundle": None, "client_certificate": None}
        super().__init__(settings.model_copy(update=silent), FusionCredentials())
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def read(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        self.asked.append((path, dict(params or {})))
        return Answer(200, httpx.Headers(), _EMPTY)


Question = Callable[[FusionClient], Awaitable[object]]


class _Needs:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.found: dict[tuple[str, ...], Need] = {}

    async def hear(
        self,
        question: Question,
        purpose: str,
        *,
        must_have_rows: bool = False,
        may_be_empty: bool = False,
        setting: str = "",
    ) -> None:
        """Have a connector put its question, and note what it would have asked."""
        listener = _Listener(self._settings.fusion)
        await question(listener)
        for path, params in listener.asked:
            words = params.get("q", "").replace("(", " ").split()
            children = next((word for word in words if _BY_CHILDREN.fullmatch(word)), None)
            kept = {
                name: value
                for name, value in params.items()
                if name in ("onlyData", "fields", "expand", "orderBy") or (name == "q" and children)
            }
            need = Need(path, kept, purpose, must_have_rows, may_be_empty, children, setting)
            self.found.setdefault((path, kept.get("fields", ""), kept.get("expand", ""), children or ""), need)


def needs_of(settings: Settings) -> list[Need]:
    """What the flows of mlc.yaml read, each collection and manner of asking once."""
    return asyncio.run(_needs_of(settings))


async def _needs_of(settings: Settings) -> list[Need]:
    needs = _Needs(settings)
    if settings.stampli is not None:
        await _inbound(needs, settings, settings.stampli)
    for name in dict.fromkeys(entry.source for entry in settings.exports):
        feeds = ", ".join(entry.name for entry in settings.exports if entry.source == name)
        question = _reading(SOURCES[name], child_dates=settings.outbound.child_dates)
        await needs.hear(question, f"read for {feeds}", setting="outbound.child_dates")
    return list(needs.found.values())


async def _inbound(needs: _Needs, settings: Settings, stampli: StampliSettings) -> None:
    posting = "needed to post invoices"
    await needs.hear(lambda client: read_ledgers(client, [_ANY]), posting, must_have_rows=True)
    await needs.hear(lambda client: read_periods(client, 0, PAYABLES), posting, must_have_rows=True)
    await needs.hear(lambda client: read_suppliers(client, [_ANY]), posting, must_have_rows=True)
    for name in dict.fromkeys(company.chart for company in stampli.companies.values()):
        await _chart(needs, name, settings.fusion.charts[name])
    for question in (lambda client: any_invoice(client, _ANY), lambda client: read_back(client, [0])):
        await needs.hear(question, "needed to prove what is posted and what is not")
    await needs.hear(lambda client: read_holds(client, [_ANY]), "needed to follow invoices", may_be_empty=True)


async def _chart(needs: _Needs, name: str, chart: ChartSettings) -> None:
    checking = f"needed to check accounts of chart {name}"
    setting = f"fusion.charts.{name}"

    def combinations(client: FusionClient) -> Awaitable[object]:
        return read_combinations(client, 0, chart.segments, chart.natural_account, [_ANY])

    await needs.hear(combinations, checking, must_have_rows=True, setting=f"{setting}.segments")
    values = chart.cost_center_value_set
    if values is not None:
        await needs.hear(
            lambda client: read_values(client, values, [_ANY]),
            checking,
            must_have_rows=True,
            setting=f"{setting}.cost_center_value_set",
        )


def attachments_of(settings: Settings, invoice_id: int) -> Need:
    """The attachments of one invoice that is there."""
    needs = _Needs(settings)
    asyncio.run(needs.hear(lambda client: list_attachments(client, invoice_id), "needed to attach documents"))
    [need] = needs.found.values()
    return need


def _reading(source: Source, *, child_dates: bool) -> Question:
    """As an export reads its source: by ids, by dates, and by the dates of children."""
    end = dt.datetime.now(dt.UTC)

    async def ask(client: FusionClient) -> None:
        for reading in (
            by_id(client, source, [1]),
            changed(client, source, end - dt.timedelta(hours=1), end, child_dates=child_dates),
        ):
            async with aclosing(reading) as records:
                async for _ in records:
                    pass

    return ask

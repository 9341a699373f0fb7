"""Nested collections in full: those that came with their parent where that is proven, read from their own address else.

Children of an expanded row come 25 at a time, whatever was asked for; a client that trusts them loses lines. What
belongs here: when a collection is complete, how it is read otherwise, and how that is verified. What a document is
made of is for ``documents`` and the modules of the sources.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mlc_dagster.fusion.changes import counted_page
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, ResponseInvalid
from mlc_dagster.fusion.levels import Kept, Level
from mlc_dagster.fusion.lookup import together
from mlc_dagster.fusion.paging import collection_params
from mlc_dagster.fusion.wire import DEFAULT_LIMIT, Page, decoded, nested_rows

EXPANDED_LIMIT = 100
"""Rows of a page that brings its children along: answers of a few megabytes at most."""

TRIES = 3
"""Readings of one child collection before its movement is an error; the first in parallel, the others in order."""


class DocumentMoved(ResponseInvalid):
    """The parts of a document do not fit together; it changed while it was read, or Fusion shows it inconsistently."""


class Rows:
    """Rows of one collection by their key, whatever order they came in, and the distinct texts of LastUpdateDate.

    The order counts: it is part of what a version's hash is taken over.
    """

    def __init__(self, rows: Kept, changed: set[str]) -> None:
        self.rows = rows
        self.changed = changed


def came_along(level: Level, raw: msgspec.Raw, parent: Any) -> Rows | None:
    """The rows that came with their parent, if they are all: the page says so, is not full, and the parent agrees.

    Raises:
        msgspec.DecodeError: not rows of this level.
    """
    nested = _decode_nested(level.row, raw)
    if nested is None or not _is_all(nested):
        return None
    came = nested_rows(nested)
    rows = level.kept(came)
    if level.agrees is not None and level.agrees(parent, rows):
        return None
    rows, keys = level.ordered(rows)
    if len(set(keys)) != len(keys):
        return None
    return Rows(rows, {row.last_update_date for row in came if row.last_update_date})


async def read_children(client: FusionClient, level: Level, path: str, parent: Any) -> Rows:
    """The collection at ``path`` (``…/child/lines``), whole and verified: count, uniqueness, the parent's figures.

    Raises:
        DocumentMoved: it did not hold still, or contradicts its parent.
        FusionError: as ``FusionClient.read``.
    """
    fields = level.asked_for if level.name not in client.whole_rows else None
    try:
        return await _verified(level, path, parent, _Reading(client, level, path, parent, fields))
    except BusinessRefusal as refusal:
        if refusal.status != 400 or fields is None:
            raise
        # An attribute that this release does not have is absent in whole rows, and an error in ``fields``.
        client.whole_rows.add(level.name)
    return await _verified(level, path, parent, _Reading(client, level, path, parent, None))


async def _verified(level: Level, path: str, parent: Any, reading: "_Reading") -> Rows:
    before: Sequence[Any] | None = None
    counts: list[str] = []
    for attempt in range(TRIES):
        await reading.once(side_by_side=attempt == 0)
        rows, keys = level.ordered(reading.rows)
        unique = len(set(keys)) == len(keys)
        wrong = level.agrees(parent, rows) if level.agrees is not None and unique else None
        if unique and (reading.counted or keys == before or wrong == ""):
            if wrong:
                raise DocumentMoved(wrong, where=f"GET {path}")
            return Rows(rows, reading.changed)
        before = keys
        counts.append(f"{len(keys)} rows, {len(set(keys))} distinct, of {reading.total}")
    msg = f"{level.name} did not hold still over {TRIES} readings ({'; '.join(counts)})"
    raise DocumentMoved(msg, where=f"GET {path}")


class _Reading:
    """Readings of one child collection by offset."""

    def __init__(self, client: FusionClient, level: Level, path: str, parent: Any, fields: str | None) -> None:
        self._client = client
        self._level = level
        self._path = path
        self._parent = parent
        page_size = client.settings.page_size
        self._limit = min(page_size, EXPANDED_LIMIT) if level.children else page_size
        # onlyData drops the links; they are the address of the next level, its keys being opaque.
        shown = {"onlyData": "false", "links": "self"} if level.children else {}
        self._params = collection_params(fields=fields, expand=level.expand, order_by=level.order_by, params=shown)
        self._parts: list[Kept] = []
        """What was kept of each page."""
        self.changed: set[str] = set()
        self.total: int | None = None
        self.counted = False
        """Whether the last reading found as many rows as Fusion counts; without a count two must be alike."""
        self._count = 0

    @property
    def rows(self) -> Kept:
        if len(self._parts) > 1:
            self._parts = [self._level.joined(self._parts)]
        return self._parts[0] if self._parts else ()

    async def once(self, *, side_by_side: bool) -> None:
        self._parts, self._count, self.changed = [], 0, set()
        page = await self._page(0, count=True)
        self.total = page.total
        self._take(page)
        step = len(page.rows)
        if side_by_side and self.total is not None and step:
            offsets = range(step, self.total, step)
            # In the order of their offsets, whatever comes first.
            for page in await together(self._page(offset) for offset in offsets):
                self._take(page)
        while not self._proven(page):
            page = await self._page(self._count)
            self._take(page)
        self.counted = self.total is not None and self._count >= self.total

    def _take(self, page: "_Page") -> None:
        self._parts.append(page.rows)
        self._count += len(page.rows)

    def _proven(self, page: "_Page") -> bool:
        """Whether ``page`` was the last: an empty one is; else count and hasMore must say so, and one sign more."""
        if not page.rows:
            return True
        if page.has_more is not False or self.total != self._count:
            return False
        if len(page.rows) < min(self._limit, page.limit or self._limit):
            return True
        agrees = self._level.agrees
        return agrees is not None and agrees(self._parent, self.rows) == ""

    async def _page(self, offset: int, *, count: bool = False) -> "_Page":
        params = {**self._params, "limit": str(self._limit), "offset": str(offset)}
        if count:
            params["totalResults"] = "true"
        answer = await self._client.read(self._path, params)
        # Whoever waits for the slot just freed sends before this page is decoded: decoding must not cost latency.
        await asyncio.sleep(0)
        page = counted_page(self._level.row, answer, f"GET {self._path}")
        rows = page.items or []
        self.changed |= {row.last_update_date for row in rows} - {None}
        # At once, while the rows just decoded are at hand in the processor's cache.
        return _Page(self._level.kept(rows), page.total_results, page.has_more, page.limit)


class _Page(NamedTuple):
    """Of a page."""

    rows: Kept
    total: int | None
    has_more: bool | None
    limit: int | None


def _is_all(nested: Page[Any] | list[Any]) -> bool:
    """Whether a nested collection is proven to be whole; exactly 25 rows never are, as many come of more."""
    rows = nested_rows(nested)
    if isinstance(nested, list):
        return len(rows) != DEFAULT_LIMIT
    if nested.has_more is not False or (nested.items is None and nested.count != 0):
        return False
    said = len(rows) if nested.count is None else nested.count
    return said == len(rows) and len(rows) < (nested.limit or DEFAULT_LIMIT) and len(rows) != DEFAULT_LIMIT


_NESTED: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decode_nested(row_type: Any, raw: msgspec.Raw) -> Page[Any] | list[Any] | None:
    if not bytes(raw):
        return None
    decoder = _NESTED.get(row_type)
    if decoder is None:
        decoder = _NESTED[row_type] = msgspec.json.Decoder(Page[row_type] | list[row_type] | None, strict=False)
    return decoded(decoder, bytes(raw))

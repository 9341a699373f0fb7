"""Whole documents of one source: which changed, listed, by id. What a source's records are is told by its ``Source``.

Documents whose children all came along are made at once; the others are completed side by side, a bounded number at a
time, so that memory holds a few documents and no more. Every generator closes those that it reads from: a caller who
stops leaves no request under way. One document that cannot be read is the caller's to set aside; the others come.
"""

import asyncio
import datetime as dt
import functools
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec

from mlc_dagster.fusion.changes import ChildDatesRefused, Listed, between, keyset_pages, widened
from mlc_dagster.fusion.children import EXPANDED_LIMIT, DocumentMoved, Rows, came_along, read_children
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, ResponseInvalid
from mlc_dagster.fusion.levels import Level
from mlc_dagster.fusion.lookup import all_rows, together
from mlc_dagster.fusion.paging import collection_params
from mlc_dagster.fusion.q import any_of, chunked, equals
from mlc_dagster.fusion.records import Read
from mlc_dagster.fusion.wire import instant

ResultT = TypeVar("ResultT")

IN_THE_AIR = 8
"""Documents that are completed side by side; each is in memory until it is whole."""


class Unreadable(NamedTuple):
    """A document that contradicts itself on every reading, or has a value that is none."""

    fusion_id: int
    text: str


SetAside = Callable[[Unreadable], None]
"""Told of a document that cannot be read; its neighbours are. Without it such a document ends the whole read."""


class Node:
    """A wire row with its children, and theirs."""

    __slots__ = ("below", "collections", "level", "row")

    def __init__(self, level: Level, row: Any) -> None:
        self.level = level
        self.row = row
        self.collections: dict[str, Rows] = {}
        self.below: dict[str, list[Node]] = {}
        """The rows of a collection that have children themselves."""

    def changed(self) -> set[str]:
        """Distinct texts of LastUpdateDate of the row and everything below it."""
        found: set[str] = {self.row.last_update_date} if self.row.last_update_date else set()
        for rows in self.collections.values():
            found |= rows.changed
        for nodes in self.below.values():
            for node in nodes:
                found |= node.changed()
        return found

    def record(self) -> Any:
        """The record with all below it; raises ResponseInvalid for a value that is none."""
        return self.level.record(**self.level.values(self.row), **self.children())

    def children(self) -> dict[str, Any]:
        """The records of the children, by the parent record's field."""
        return {self.level.fields[child.name]: self._children_at(child) for child in self.level.children}

    def _children_at(self, child: Level) -> Any:
        nodes = self.below.get(child.name)
        if nodes is not None:
            return tuple(node.record() for node in nodes)
        rows = self.collections[child.name].rows
        return rows if child.packed is not None else tuple(child.record(**child.values(row)) for row in rows)


@dataclass(frozen=True, eq=False)
class Source:
    """A kind of document: its top level, the id of its top-level rows, and what is read from a complete one."""

    name: str
    """journals, invoices, purchase_orders or suppliers."""
    top: Level
    id_attribute: str
    """Fusion's name of the id."""
    reads: Callable[[Node], list[Read]]
    plain_path: bool = True
    """Whether the id itself is the key in addresses; else the self link is."""

    @property
    def path(self) -> str:
        return self.top.name

    def id_of(self, row: Any) -> int:
        return getattr(row, self.top.key[0])


async def changed(
    client: FusionClient,
    source: Source,
    start: dt.datetime,
    end: dt.datetime,
    *,
    child_dates: bool,
    set_aside: SetAside | None = None,
) -> AsyncGenerator[list[Read], None]:
    """Whole records of which any part changed in ``[start, end)``, each once.

    Raises:
        ChildDatesRefused: the environment does not know the LastUpdateDate of a child level.
        ResponseInvalid: a page is none; without ``set_aside`` also one document that cannot be read.
        FusionError: as ``FusionClient.read``.
    """
    # First the children: a refusal comes before anything was read. A document that is changed in between moves out of
    # the window and belongs to a later one.
    by_children = await _changed_below(client, source, start, end) if child_dates else set[int]()
    q = between("LastUpdateDate", start, end)

    def aside(found: Unreadable) -> None:
        by_children.discard(found.fusion_id)
        if set_aside is not None:
            set_aside(found)

    pages = _pages(client, source, q, aside if set_aside else None)
    async with aclosing(_completed(client, source, pages, aside if set_aside else None)) as by_themselves:
        async for reads in by_themselves:
            by_children.difference_update(read.fusion_id for read in reads)
            yield reads
    async with aclosing(by_id(client, source, by_children, set_aside=set_aside)) as by_children_alone:
        async for reads in by_children_alone:
            yield reads


async def listed(client: FusionClient, source: Source, start: dt.datetime, end: dt.datetime) -> list[Listed]:
    """Ids of the top-level rows whose own LastUpdateDate is in ``[start, end)``."""
    return await _listed(client, source, between("LastUpdateDate", start, end))


async def by_id(
    client: FusionClient, source: Source, fusion_ids: Collection[int], *, set_aside: SetAside | None = None
) -> AsyncGenerator[list[Read], None]:
    """Whole records by the id of their top-level row; gone ones are absent. Raises as ``changed``."""
    ids = sorted(set(fusion_ids))
    if not ids:
        return
    frame = collection_params(q=any_of(source.id_attribute, [0]), expand=source.top.expand, params={"links": "self"})
    room = client.room_in_url(source.path, {**frame, "orderBy": f"{source.id_attribute}:asc", "totalResults": "true"})

    async def group(texts: list[str]) -> list[list[Any]]:
        q = any_of(source.id_attribute, (int(text) for text in texts))
        return [page async for page in _pages(client, source, q, set_aside)]

    async def pages() -> AsyncGenerator[list[Any], None]:
        groups = (group(texts) for texts in chunked(map(str, ids), room))
        async with aclosing(side_by_side(_each(groups))) as found:
            async for pages_of_group in found:
                for page in pages_of_group:
                    yield page

    async with aclosing(_completed(client, source, pages(), set_aside)) as completed:
        async for reads in completed:
            yield reads


async def side_by_side(
    work: AsyncGenerator[Coroutine[Any, Any, ResultT], None], *, at_most: int = IN_THE_AIR
) -> AsyncGenerator[ResultT, None]:
    """Results as they come, ``at_most`` under way; no more work is asked for before a result was taken."""
    tasks: set[asyncio.Future[ResultT]] = set()
    try:
        async with aclosing(work):
            async for coroutine in work:
                tasks.add(asyncio.ensure_future(coroutine))
                while len(tasks) >= at_most:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    while done:
                        task = done.pop()
                        tasks.discard(task)
                        yield task.result()
                        # Not kept while the next one is waited for: a document is megabytes.
                        del task
        for task in asyncio.as_completed(list(tasks)):
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _each(work: Any) -> AsyncGenerator[Any, None]:
    for coroutine in work:
        yield coroutine


def _pages(client: FusionClient, source: Source, q: str, set_aside: SetAside | None) -> AsyncGenerator[list[Any], None]:
    def unreadable(fusion_id: int, text: str) -> None:
        if set_aside is not None:
            set_aside(Unreadable(fusion_id, text))

    return keyset_pages(
        client,
        source.path,
        source.top.row,
        key=source.id_attribute,
        q=q,
        expand=source.top.expand,
        links="self",
        limit=min(client.settings.page_size, EXPANDED_LIMIT),
        unreadable=None if set_aside is None else unreadable,
    )


async def _changed_below(client: FusionClient, source: Source, start: dt.datetime, end: dt.datetime) -> set[int]:
    """Documents with a child that changed in the range, those left out that surely changed in it themselves."""
    first, last = widened(start, end)
    second = dt.timedelta(seconds=1)

    async def look(path: str) -> list[int]:
        try:
            rows = await _listed(client, source, between(f"{path}.LastUpdateDate", start, end))
        except BusinessRefusal as refusal:
            if refusal.status != 400:
                raise
            raise ChildDatesRefused(path, refusal) from refusal
        # Kept at the edges: whether Fusion's filter sees those as in the range is its own affair.
        return [
            row.fusion_id
            for row in rows
            if row.last_update_date is None or not first + second <= row.last_update_date < last - second
        ]

    return {number for found in await together(look(path) for path in source.top.paths()) for number in found}


async def _listed(client: FusionClient, source: Source, q: str) -> list[Listed]:
    row_type: type[Any] = _id_row(source.id_attribute)
    found: list[Listed] = []
    fields = (source.id_attribute, "LastUpdateDate")
    async for page in keyset_pages(client, source.path, row_type, key=source.id_attribute, q=q, fields=fields):
        # A date that is none is a fault of the document, told when that is read; here it must not end the list.
        found += [Listed(row.fusion_id, _date_of(row.last_update_date)) for row in page]
    return found


@functools.cache
def _id_row(id_attribute: str) -> type[msgspec.Struct]:
    dated = msgspec.field(name="LastUpdateDate", default=msgspec.Raw())
    fields = [("fusion_id", int, msgspec.field(name=id_attribute)), ("last_update_date", msgspec.Raw, dated)]
    return msgspec.defstruct("IdRow", fields)


_TEXT = msgspec.json.Decoder(str | None)


def _date_of(raw: msgspec.Raw) -> dt.datetime | None:
    try:
        return instant(_TEXT.decode(raw)) if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError, ResponseInvalid):
        return None


async def _completed(
    client: FusionClient, source: Source, pages: AsyncGenerator[list[Any], None], set_aside: SetAside | None
) -> AsyncGenerator[list[Read], None]:
    """Pages of top-level rows as whole documents, those first whose children came along."""

    def fault(row: Any, error: ResponseInvalid) -> list[Read]:
        if set_aside is None:
            raise error
        set_aside(Unreadable(source.id_of(row), str(error)))
        return []

    async def completed_or_aside(node: Node, missing: list[Missing]) -> list[Read]:
        try:
            return await _document(client, source, node, missing)
        except ResponseInvalid as error:
            return fault(node.row, error)

    async def work() -> AsyncGenerator[Coroutine[Any, Any, list[Read]], None]:
        async with aclosing(pages):
            async for page in pages:
                ready: list[Read] = []
                for row in page:
                    node = Node(source.top, row)
                    missing: list[Missing] = []
                    try:
                        missing = _open(node, source.path)
                        ready += [] if missing else source.reads(node)
                    except ResponseInvalid as error:
                        ready += fault(row, error)
                        continue
                    if missing:
                        yield completed_or_aside(node, missing)
                if ready:
                    yield _given(ready)

    at_most = max(2, min(IN_THE_AIR, client.settings.max_in_flight))
    async with aclosing(side_by_side(work(), at_most=at_most)) as completed:
        async for reads in completed:
            if reads:
                yield reads


async def _given(reads: list[Read]) -> list[Read]:
    return reads


Missing = tuple[Node, Level]


def _open(node: Node, where: str) -> list[Missing]:
    """Takes in the children that came along, at every level; the collections that have to be read."""
    missing: list[Missing] = []
    for child in node.level.children:
        try:
            rows = came_along(child, node.level.nested(node.row, child), node.row)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"{child.name} are not rows of this collection: {error}"
            raise ResponseInvalid(msg, where=f"GET {where}") from None
        if rows is None:
            missing.append((node, child))
        else:
            missing += _hang(node, child, rows, where)
    return missing


def _hang(node: Node, child: Level, rows: Rows, where: str) -> list[Missing]:
    node.collections[child.name] = rows
    if not child.children:
        return []
    node.below[child.name] = [Node(child, row) for row in rows.rows]
    return [part for below in node.below[child.name] for part in _open(below, where)]


async def _document(client: FusionClient, source: Source, node: Node, missing: list[Missing]) -> list[Read]:
    """A document with everything that did not come along; read anew, once, if it changed meanwhile."""
    try:
        await _complete(client, source, missing)
    except DocumentMoved:
        async with aclosing(_pages(client, source, equals(source.id_attribute, source.id_of(node.row)), None)) as pages:
            rows = await all_rows(pages, at_most=1)
        if not rows:
            return []
        node = Node(source.top, rows[0])
        await _complete(client, source, _open(node, source.path))
    return source.reads(node)


async def _complete(client: FusionClient, source: Source, missing: list[Missing]) -> None:
    while missing:
        found = await together(
            read_children(client, child, f"{_address(source, node)}/child/{child.name}", node.row)
            for node, child in missing
        )
        missing = [
            part
            for (node, child), rows in zip(missing, found, strict=True)
            for part in _hang(node, child, rows, source.path)
        ]


def _address(source: Source, node: Node) -> str:
    if node.level is source.top and source.plain_path:
        return f"{source.path}/{source.id_of(node.row)}"
    path: str | None = node.row.path
    if path is None:
        msg = f"a row of {node.level.name} came without its self link, which its children are read from"
        raise ResponseInvalid(msg, where=f"GET {source.path}")
    return path

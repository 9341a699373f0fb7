"""Reads whole collections page by page.

The rules that survive what Fusion's collections do: advance by the rows received, because the server may cap the
limit; stop at the empty page, because hasMore has been seen wrong both ways; sort by a unique attribute, because
pages overlap otherwise.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.halves import shown
from mlc_dagster.fusion.wire import Page, page_of

RowT = TypeVar("RowT")


class Reader(Protocol):
    """What paging needs of the client: one GET with its retries."""

    def read(self, path: str, params: Mapping[str, str]) -> Awaitable[Answer]: ...


def collection_params(
    *,
    q: str | None = None,
    fields: str | Sequence[str] | None = None,
    expand: str | Sequence[str] | None = None,
    order_by: str | None = None,
    finder: str | None = None,
    params: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Query parameters of a collection GET, ``limit`` and ``offset`` apart; ``onlyData`` unless ``params`` says not.

    Raises:
        ValueError: both ``fields`` and ``expand``; Fusion then ignores ``expand`` without a word.
    """
    if fields is not None and expand is not None:
        msg = "fields and expand cannot be combined: Fusion ignores expand when both are given"
        raise ValueError(msg)
    chosen = {
        "q": q,
        "finder": finder,
        "fields": _joined(fields),
        "expand": _joined(expand),
        "orderBy": order_by,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return {"onlyData": "true", **given, **(params or {})}


def query_string(params: Mapping[str, str]) -> str:
    """``params`` percent-encoded; blanks as %20, since some gateways take ``+`` literally."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in params.items())


async def read_pages(
    reader: Reader, path: str, row_type: type[RowT], params: Mapping[str, str], *, limit: int
) -> AsyncIterator[list[RowT]]:
    """The collection's pages in order, each as rows of ``row_type``; never an empty one.

    Text that cannot be kept is shown as its escapes (``halves``): a row that is there must not be missed for it, nor
    those beside it.

    Raises:
        ResponseInvalid: an answer that is not a page of such rows, or the same page twice.
        FusionError: as ``FusionClient.read``.
    """
    where = f"GET {path}"
    offset = 0
    previous: list[RowT] | None = None
    while True:
        answer = await reader.read(path, {**params, "limit": str(limit), "offset": str(offset)})
        rows = _rows(answer, row_type, where)
        if not rows:
            return
        if rows == previous:
            msg = f"the page at offset {offset} is the page before it; the server does not page this collection"
            raise ResponseInvalid(msg, where=where)
        yield rows
        previous = rows
        offset += len(rows)


def _rows(answer: Answer, row_type: type[RowT], where: str) -> list[RowT]:
    try:
        page = _page(row_type, answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"HTTP {answer.status} is not a page of this collection: {error}"
        raise ResponseInvalid(msg, where=where) from None
    if page.items is not None:
        return page.items
    if page.count == 0:
        # An empty page may come without its items.
        return []
    msg = f"HTTP {answer.status} without items and without count 0; emptiness is not proven"
    raise ResponseInvalid(msg, where=where)


def _page(row_type: type[RowT], content: bytes) -> Page[RowT]:
    try:
        return page_of(row_type, content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if (readable := shown(content)) == content:
            raise
        return page_of(row_type, readable)


def _joined(names: str | Sequence[str] | None) -> str | None:
    return names if names is None or isinstance(names, str) else ",".join(names)

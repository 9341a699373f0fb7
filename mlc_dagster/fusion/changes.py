"""What changed between two instants of Fusion's clock: the clock, conditions on dates, keyset paging by id.

What belongs here: collections that move while they are read. With offsets, a row that is updated between two pages
leaves the window and shifts the rest, so one row is never seen; ``id > last`` cannot skip. What does not: the children
of a row (``children``), and what a row means.
"""

import asyncio
import datetime as dt
import functools
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, FusionError, ResponseInvalid
from mlc_dagster.fusion.halves import blotted
from mlc_dagster.fusion.lookup import together
from mlc_dagster.fusion.paging import collection_params
from mlc_dagster.fusion.q import all_of
from mlc_dagster.fusion.wire import Id, decoded, item_of

RowT = TypeVar("RowT")

MAX_RANGES = 8
"""Id ranges of one collection that are read side by side; each keeps one page in memory."""

WORTH_SPLITTING = 2
"""Pages still to come from which on a range is split; below, finding the largest id costs more than it saves."""


class Listed(NamedTuple):
    """A top-level row by id, and when Fusion says it changed (UTC)."""

    fusion_id: int
    last_update_date: dt.datetime | None


class CountedPage(msgspec.Struct, Generic[RowT], rename="camel"):
    """A page with the count of the whole collection, where it was asked for; an estimate, by Oracle's own words."""

    items: list[RowT] | None = None
    count: Id | None = None
    has_more: bool | None = None
    limit: Id | None = None
    total_results: Id | None = None


_RAW_PAGE = msgspec.json.Decoder(CountedPage[msgspec.Raw], strict=False)


class ChildDatesRefused(FusionError):
    """Fusion refuses to look for rows by the LastUpdateDate of their children."""

    def __init__(self, collection: str, cause: BusinessRefusal) -> None:
        self.collection = collection
        super().__init__(
            f"{collection}.LastUpdateDate cannot be asked for here: {cause.text}; set outbound.child_dates: false. "
            "Then a line that changed without its document is found by the daily look-back and sweep only",
            where=cause.where,
        )


async def fusion_now(client: FusionClient, path: str = "journalBatches") -> dt.datetime:
    """Fusion's time, UTC, whole seconds: the Date header of a GET for one row of ``path``.

    Raises:
        ResponseInvalid: the answer has no readable Date.
        FusionError: as ``FusionClient.read``.
    """
    answer = await client.read(path, collection_params(fields="LastUpdateDate", params={"limit": "1"}))
    text = answer.headers.get("date", "")
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        msg = f"Date: {text!r} is not a time; windows are closed by Fusion's clock, which cannot be read"
        raise ResponseInvalid(msg, where=f"GET {path}") from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)


def widened(start: dt.datetime, end: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """``[start, end)`` in whole seconds, none of it lost.

    Fusion shows milliseconds, its filters may know seconds only. What comes twice at the edges is the same version.
    """
    first = start.astimezone(dt.UTC).replace(microsecond=0)
    last = end.astimezone(dt.UTC)
    return first, last if last.microsecond == 0 else last.replace(microsecond=0) + dt.timedelta(seconds=1)


def between(attribute: str, start: dt.datetime, end: dt.datetime) -> str:
    """Condition for ``q``: ``attribute`` in ``[start, end)``, widened to whole seconds, in UTC."""
    first, last = widened(start, end)
    return f"{attribute} >= '{_written(first)}' and {attribute} < '{_written(last)}'"


def _written(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def counted_page(row_type: Any, answer: Answer, where: str) -> CountedPage[Any]:
    """The page in ``answer``; ``items`` is a list, empty only if the page says so itself.

    Raises:
        ResponseInvalid: not a page of such rows.
    """
    try:
        page = decoded(_decoder(row_type), answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"HTTP {answer.status} is not a page of this collection: {error}"
        raise ResponseInvalid(msg, where=where) from None
    if page.items is None:
        if page.count != 0:
            msg = f"HTTP {answer.status} without items and without count 0; emptiness is not proven"
            raise ResponseInvalid(msg, where=where)
        page.items = []
    return page


@functools.cache
def _decoder(row_type: Any) -> msgspec.json.Decoder[CountedPage[Any]]:
    page_type: Any = CountedPage[row_type]
    return msgspec.json.Decoder(page_type, strict=False)


async def keyset_pages(
    client: FusionClient,
    path: str,
    row_type: type[RowT],
    *,
    key: str,
    q: str = "",
    fields: str | Sequence[str] | None = None,
    expand: str | None = None,
    links: str | None = None,
    limit: int | None = None,
    ranges: int | None = None,
    unreadable: Callable[[int, str], None] | None = None,
) -> AsyncGenerator[list[RowT], None]:
    """Pages of the rows that meet ``q``, each row once, in no order; a large set is read by id ranges side by side.

    Args:
        key: Fusion's name of the id, a whole number; ``row_type`` has a field of that name.
        links: link relations to ask for (``self``); without, ``onlyData``.
        limit: rows per page, ``page_size`` when absent.
        ranges: ranges read at once, MAX_RANGES at most by default; no more pages than that wait for the caller.
        unreadable: told id and fault of a row that is not of ``row_type``, or has text that cannot be kept; the others
            of its page come. Without it such a row is an error.

    Raises:
        ResponseInvalid: an answer that is not a page of such rows, or rows that were not asked for.
        FusionError: as ``FusionClient.read``.
    """
    shown = {} if links is None else {"onlyData": "false", "links": links}
    params = collection_params(fields=fields, expand=expand, order_by=f"{key}:asc", params=shown)
    reading: _Keyset[RowT] = _Keyset(
        client,
        path,
        row_type,
        key=key,
        q=q,
        params=params,
        limit=limit or client.settings.page_size,
        ranges=ranges or min(MAX_RANGES, client.settings.max_in_flight),
        unreadable=unreadable,
    )
    runner = asyncio.ensure_future(reading.run())
    try:
        while (page := await reading.pages.get()) is not None:
            yield page
        await runner
    finally:
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)


class _Unreadable(NamedTuple):
    """Stands for a row that is none."""

    key: int
    text: str


class _Keyset(Generic[RowT]):
    """One reading of one collection; pages come out of ``pages``, None at the end."""

    def __init__(
        self,
        client: FusionClient,
        path: str,
        row_type: type[RowT],
        *,
        key: str,
        q: str,
        params: Mapping[str, str],
        limit: int,
        ranges: int,
        unreadable: Callable[[int, str], None] | None,
    ) -> None:
        self._unreadable = unreadable
        self._client = client
        self._path = path
        self._row_type = row_type
        self._key = key
        self._key_of = _reader_of(row_type, key)
        self._q = q
        self._params = params
        self._limit = limit
        self._ranges = ranges
        self._walking = 0
        self.pages: asyncio.Queue[list[RowT] | None] = asyncio.Queue(maxsize=1)

    async def run(self) -> None:
        """Reads everything, then puts None, also after a failure; a cancelled run has nobody who waits."""
        try:
            await self._walk(None, None)
        except Exception:
            await self.pages.put(None)
            raise
        await self.pages.put(None)

    async def _walk(self, low: int | None, high: int | None) -> None:
        """Rows with ``low < id <= high`` in their order; hands what is left to several walks if that is much."""
        self._walking += 1
        try:
            rest: int | None = None
            first = True
            while True:
                page = await self._page(low, high, count=first)
                rows = page.items or []
                if not rows:
                    return
                low = self._checked(rows, low, high)
                await self.pages.put(self._readable(rows))
                rest = page.total_results if first else rest
                rest = None if rest is None else rest - len(rows)
                first = False
                if page.has_more is False and rest == 0 and len(rows) < min(self._limit, page.limit or self._limit):
                    # One of the three alone has been seen wrong; together they save the request for the empty page.
                    return
                if rest is not None and rest > WORTH_SPLITTING * len(rows) and self._walking < self._ranges:
                    break
        finally:
            self._walking -= 1
        await self._split(low, high, pages=math.ceil(rest / len(rows)))

    async def _split(self, low: int, high: int | None, *, pages: int) -> None:
        top = await self._largest(low) if high is None else high
        parts = min(self._ranges - self._walking, pages, top - low)
        if parts < 2:
            await self._walk(low, high)
            return
        bounds: list[int | None] = [low + (top - low) * part // parts for part in range(parts)]
        # The last range stays as open as it was: a row that appears above the largest id of now is still read.
        await together(self._walk(start, end) for start, end in zip(bounds, [*bounds[1:], high], strict=True))

    async def _largest(self, low: int) -> int:
        q = all_of(f"({self._q})" if self._q else "", f"{self._key} > {low}")
        params = collection_params(q=q, fields=self._key, order_by=f"{self._key}:desc", params={"limit": "1"})
        answer = await self._client.read(self._path, params)
        page = counted_page(dict[str, Any], answer, f"GET {self._path}")
        try:
            return max([low, *(int(row[self._key]) for row in page.items or [])])
        except (KeyError, TypeError, ValueError):
            msg = f"a row without a whole number in {self._key}"
            raise ResponseInvalid(msg, where=f"GET {self._path}") from None

    async def _page(self, low: int | None, high: int | None, *, count: bool) -> CountedPage[RowT | _Unreadable]:
        q = all_of(
            f"({self._q})" if self._q and low is not None else self._q,
            "" if low is None else f"{self._key} > {low}",
            "" if high is None else f"{self._key} <= {high}",
        )
        params = {**self._params, **({"q": q} if q else {}), "limit": str(self._limit)}
        if count:
            params["totalResults"] = "true"
        answer = await self._client.read(self._path, params)
        # Whoever waits for the slot just freed sends before this page is decoded: decoding must not cost latency.
        await asyncio.sleep(0)
        try:
            return counted_page(self._row_type, answer, f"GET {self._path}")
        except ResponseInvalid:
            if self._unreadable is None or (page := self._row_by_row(answer)) is None:
                raise
            return page

    def _row_by_row(self, answer: Answer) -> CountedPage[RowT | _Unreadable] | None:
        """A page with some rows that are none; None where not even those have an id."""
        half = ""
        try:
            page = _RAW_PAGE.decode(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # The decoder takes half of a surrogate pair, anywhere, for broken JSON.
            half = ", or half of a surrogate pair, which stands for no character"
            try:
                page = _RAW_PAGE.decode(blotted(answer.content))
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
        rows: list[RowT | _Unreadable] = []
        for raw in page.items or []:
            try:
                rows.append(item_of(self._row_type, bytes(raw)))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                number = _id_in(raw, self._key)
                if number is None:
                    return None
                rows.append(_Unreadable(number, f"GET {self._path}: {error}{half}"))
        return CountedPage(rows, page.count, page.has_more, page.limit, page.total_results)

    def _readable(self, rows: list[RowT | _Unreadable]) -> list[RowT]:
        found: list[RowT] = []
        for row in rows:
            if not isinstance(row, _Unreadable):
                found.append(row)
            elif self._unreadable is not None:
                self._unreadable(row.key, row.text)
        return found

    def _checked(self, rows: list[RowT | _Unreadable], low: int | None, high: int | None) -> int:
        """The last id. A server that ignores ``q`` or ``orderBy`` must not pass: rows would be lost or doubled."""
        last = low
        for row in rows:
            number = row.key if isinstance(row, _Unreadable) else self._key_of(row)
            if (last is not None and number <= last) or (high is not None and number > high):
                msg = f"{self._key} {number} came after {last} where ids above {low} were asked for, rising"
                raise ResponseInvalid(msg, where=f"GET {self._path}")
            last = number
        return cast("int", last)


def _id_in(row: msgspec.Raw, key: str) -> int | None:
    """The id of a row that is otherwise none: nothing else in it is looked at."""
    try:
        return _key_decoder(key).decode(row).number
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@functools.cache
def _key_decoder(key: str) -> msgspec.json.Decoder[Any]:
    kind = msgspec.defstruct("Numbered", [("number", Id, msgspec.field(name=key))])
    return msgspec.json.Decoder(kind, strict=False)


def _reader_of(row_type: Any, key: str) -> Callable[[Any], int]:
    for field in msgspec.structs.fields(row_type):
        if field.encode_name == key:
            return attrgetter(field.name)
    msg = f"{row_type.__name__} has no field for {key}"
    raise ValueError(msg)

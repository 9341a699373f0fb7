"""Many keys, few requests: ``attribute in (…)`` look-ups in chunks that run side by side.

What belongs here: splitting, and joining what comes back. What a missing key means is for the caller; it is told
nothing but the rows.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.paging import collection_params
from mlc_dagster.fusion.q import all_of, any_of, chunked, is_plain

RowT = TypeVar("RowT")
ResultT = TypeVar("ResultT")


async def together(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Results in the order of ``work``. The first failure is raised as it is, after the others were stopped."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_rows(pages: AsyncIterator[list[RowT]], *, at_most: int | None = None) -> list[RowT]:
    """All rows of ``pages``; reading stops early once ``at_most`` are there, where no more can exist."""
    rows: list[RowT] = []
    async for page in pages:
        rows += page
        if at_most is not None and len(rows) >= at_most:
            break
    return rows


async def rows_by_key(
    client: FusionClient,
    path: str,
    row_type: type[RowT],
    *,
    attribute: str,
    keys: Collection[str] | Collection[int],
    order_by: str,
    condition: str = "",
    fields: Sequence[str] | None = None,
    expand: str | None = None,
    unique: bool = False,
) -> list[RowT]:
    """Rows whose ``attribute`` is one of ``keys`` and that meet ``condition``.

    Keys that are not plain are not asked for: no row has been asked about them, none comes back. ``unique`` says that
    a key has one row at most, which saves the request for the empty page.
    """
    written: dict[str, str | int] = {str(key): key for key in keys if isinstance(key, int) or is_plain(key)}
    frame = collection_params(
        q=all_of(condition, f"{attribute} in ()"), fields=fields, expand=expand, order_by=order_by
    )

    async def look_up(group: list[str]) -> list[RowT]:
        q = all_of(condition, any_of(attribute, (written[text] for text in group)))
        pages = client.pages(path, row_type, q=q, fields=fields, expand=expand, order_by=order_by)
        return await all_rows(pages, at_most=len(group) if unique else None)

    found = await together(look_up(group) for group in chunked(written, client.room_in_url(path, frame)))
    return [row for rows in found for row in rows]


async def rows_by_name(
    client: FusionClient, path: str, row_type: type[RowT], *, attribute: str, names: Collection[str], order_by: str
) -> list[RowT]:
    """Rows of a short list by their display names; the whole list when a name cannot be put into a question."""
    if all(is_plain(name) for name in names):
        return await rows_by_key(client, path, row_type, attribute=attribute, keys=names, order_by=order_by)
    return await all_rows(client.pages(path, row_type, order_by=order_by))

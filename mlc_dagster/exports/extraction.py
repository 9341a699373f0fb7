"""How records get out of Fusion: the interface, whatever stands behind it.

REST stands behind it today (``fusion.journals`` and its neighbours). Extract files of BICC, BI Publisher or Data
Extraction could: whatever can say what changed between two instants of Fusion's clock, and read records by id.
"""

import datetime as dt
from collections.abc import AsyncIterator, Collection
from typing import Protocol

from mlc_dagster.fusion.changes import Listed
from mlc_dagster.fusion.records import Read


class Extraction(Protocol):
    """One source of one Fusion environment."""

    async def now(self) -> dt.datetime:
        """Fusion's own time, UTC."""
        ...

    def changed(self, start: dt.datetime, end: dt.datetime) -> AsyncIterator[list[Read]]:
        """Whole records of which any part changed in ``[start, end)``, each once, in lists of bounded size."""
        ...

    async def listed(self, start: dt.datetime, end: dt.datetime) -> list[Listed]:
        """Ids of the top-level rows that changed in ``[start, end)``, with when; nothing else is read."""
        ...

    def by_id(self, fusion_ids: Collection[int]) -> AsyncIterator[list[Read]]:
        """Whole records by the id of their top-level row; gone ones are absent."""
        ...

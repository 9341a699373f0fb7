"""In what order a window's invoices are begun where Fusion refused many of their business unit with the same words.

Belongs here: whose turn it is. Does not: what a refusal says and when a unit counts as refused as a whole
(``refusals``). While everything of a unit may be refused, one goes alone: of the whole window the one that is least
like what was refused. Once one was created, what is like the refused comes last: it must not keep the others waiting.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster.stampli.posting.refusals import LAST_TURN, AlikeRefusals


class Turns:
    """One run's rounds over one window: first the invoices unlike what was refused, last those most like it."""

    def __init__(self, alike: AlikeRefusals) -> None:
        self._alike = alike
        self._round = 0
        self._put_back = False
        self._best: dict[str, Row] = {}
        """Of each suspected unit the one to try, as far as the window was read."""

    def restart(self) -> None:
        """The window is read from its beginning again, with what is known now."""
        self._round, self._put_back = 0, False
        self._best.clear()

    def next_round(self) -> bool:
        """The window was read to its end: True when invoices were put back whose turn has come."""
        if not self._put_back or self._round >= LAST_TURN:
            return False
        self._round, self._put_back = self._round + 1, False
        return True

    def now(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the next rows that are looked up now."""
        return [row for row in rows if self._has_its_turn(row)]

    def _has_its_turn(self, row: Row) -> bool:
        unit: str = row["business_unit"]
        if self._alike.waits(unit):
            return False
        if self._alike.suspected(unit):
            return self._alike.worth_trying(unit, row["mapping"]) and self._beats(row)
        if self._alike.closeness(unit, row["mapping"]) <= self._round:
            return True
        self._put_back = True
        return False

    def _beats(self, row: Row) -> bool:
        unit: str = row["business_unit"]
        best = self._best.get(unit)
        return best is None or self._alike.met(unit, row["mapping"]) < self._alike.met(unit, best["mapping"])

    def apart(self, absent: Sequence[Row]) -> list[Row]:
        """Of what is proven absent those that may be begun; of suspected units the one to try is kept.

        Told apart now: a refusal may have come while these were looked up.
        """
        begun: list[Row] = []
        for row in absent:
            if not self._alike.suspected(row["business_unit"]):
                begun.append(row)
            elif self._has_its_turn(row):
                self._best[row["business_unit"]] = row
        return begun

    def to_try(self) -> list[Row]:
        """The window was read to its end: what goes alone. A unit that rests, and has none, is closed."""
        for unit in self._alike.resting():
            if unit not in self._best:
                self._alike.rest(unit)
        tried = [row for unit, row in self._best.items() if not self._alike.waits(unit)]
        self._best.clear()
        return tried


def sent_again_now(alike: AlikeRefusals, proven: deque[tuple[Row, Phase]], free: int) -> list[tuple[Row, Phase]]:
    """Taken out of the attempts proven absent: as many as are ``free`` slots.

    Of a unit that may be refused as a whole one at a time; those of a closed one stay.
    """
    group: list[tuple[Row, Phase]] = []
    for attempt, ended_as in [proven.popleft() for _ in range(len(proven))]:
        unit: str = attempt["business_unit"]
        suspected = alike.suspected(unit)
        stays = alike.waits(unit) or (suspected and not alike.worth_trying(unit, attempt["body"]))
        if len(group) == free or stays:
            proven.append((attempt, ended_as))
            continue
        if suspected:
            alike.trying(unit)
        group.append((attempt, ended_as))
    return group

"""Account combinations that exist (``accountCombinationsLOV``).

Each segment is an attribute named by the customer's chart of accounts, so the row type is made per chart. The list
knows nothing of combinations that dynamic insertion could still create.
"""

import datetime as dt
import functools
from collections.abc import Collection, Sequence

import msgspec

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.lookup import rows_by_key
from mlc_dagster.fusion.q import equals
from mlc_dagster.fusion.wire import Id, YesNo, day, flag

PATH = "accountCombinationsLOV"
ID = "_CODE_COMBINATION_ID"
CHART = "_CHART_OF_ACCOUNTS_ID"


class Combination(msgspec.Struct, frozen=True):
    """A combination; ``segments`` in the chart's order. ``account_type`` is A, L, O, R or E."""

    combination_id: int
    segments: tuple[str, ...]
    account_type: str | None
    enabled: bool
    detail_posting: bool
    summary: bool
    start: dt.date | None
    end: dt.date | None


class _Row(msgspec.Struct, rename="pascal", kw_only=True):
    combination_id: Id = msgspec.field(name=ID)
    account_type: str | None = None
    enabled_flag: YesNo = None
    detail_posting_allowed_flag: YesNo = None
    summary_flag: YesNo = None
    start_date_active: str | None = None
    end_date_active: str | None = None


async def read_combinations(
    client: FusionClient,
    chart_of_accounts_id: int,
    segments: Sequence[str],
    natural_account: str,
    accounts: Collection[str],
) -> list[Combination]:
    """All combinations of the chart whose natural account is one of ``accounts``, disabled ones included.

    ``segments`` are the names the list gives to the chart's segments, ``natural_account`` is one of them. A flag that
    is absent counts against the combination.
    """
    rows = await rows_by_key(
        client,
        PATH,
        _row_type(tuple(segments)),
        attribute=natural_account,
        keys=accounts,
        condition=equals(CHART, chart_of_accounts_id),
        order_by=f"{ID}:asc",
        fields=(
            ID,
            "AccountType",
            "EnabledFlag",
            "DetailPostingAllowedFlag",
            "SummaryFlag",
            "StartDateActive",
            "EndDateActive",
            *segments,
        ),
    )
    return [_combination(row, len(segments)) for row in rows]


@functools.cache
def _row_type(segments: tuple[str, ...]) -> type[_Row]:
    fields = [(_segment(position), str) for position in range(len(segments))]
    names = {_segment(position): name for position, name in enumerate(segments)}
    return msgspec.defstruct("CombinationRow", fields, bases=(_Row,), rename=names, kw_only=True)  # type: ignore[return-value]


def _segment(position: int) -> str:
    return f"segment_{position}"


def _combination(row: _Row, segments: int) -> Combination:
    return Combination(
        combination_id=row.combination_id,
        segments=tuple(getattr(row, _segment(position)) for position in range(segments)),
        account_type=row.account_type,
        enabled=flag(row.enabled_flag) is True,
        detail_posting=flag(row.detail_posting_allowed_flag) is True,
        summary=flag(row.summary_flag) is not False,
        start=day(row.start_date_active),
        end=day(row.end_date_active),
    )

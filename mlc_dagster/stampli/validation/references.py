"""Fusion's reference data for a batch of invoices: read in bulk, cached in the ledger, read again on a miss.

No request per invoice: the distinct keys of a batch are asked for together. A cached answer is used up to its age
limit; "not there" is never taken from the cache, so that a supplier created a minute ago is found.
"""

import datetime as dt
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.combinations import Combination, read_combinations
from mlc_dagster.fusion.ledgers import Ledger as FusionLedger
from mlc_dagster.fusion.ledgers import read_ledgers
from mlc_dagster.fusion.lookup import together
from mlc_dagster.fusion.periods import GENERAL_LEDGER, PAYABLES, Period, read_periods
from mlc_dagster.fusion.suppliers import Supplier, read_suppliers
from mlc_dagster.fusion.value_sets import ValueSetValue, read_values
from mlc_dagster.ledger import references as cache
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.settings import ChartSettings, FusionSettings
from mlc_dagster.stampli.validation.mapping import Needed

T = TypeVar("T")


class UnknownLedger(Expected):
    """A ledger named in mlc.yaml is not visible in Fusion."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"fusion.charts: Fusion shows no ledger named {name!r}; check its spelling and the user's data access"
        )


@dataclass
class ReferenceData:
    """Answers to ``mapping``'s questions, each with the time at which it was read."""

    suppliers: dict[str, Supplier | None] = field(default_factory=dict[str, Supplier | None])
    combinations: dict[tuple[str, tuple[str, ...]], Combination] = field(
        default_factory=dict[tuple[str, tuple[str, ...]], Combination]
    )
    cost_centers: dict[tuple[str, str], ValueSetValue | None] = field(
        default_factory=dict[tuple[str, str], ValueSetValue | None]
    )
    periods: dict[tuple[str, int], list[Period]] = field(default_factory=dict[tuple[str, int], list[Period]])
    ledgers: dict[str, FusionLedger] = field(default_factory=dict[str, FusionLedger])
    read_at: dict[tuple[str, str], dt.datetime] = field(default_factory=dict[tuple[str, str], dt.datetime])
    """(kind, key) → when Fusion said so, UTC."""

    def supplier(self, number: str, /) -> Supplier | None:
        return self.suppliers.get(number)

    def combination(self, chart: str, segments: tuple[str, ...], /) -> Combination | None:
        return self.combinations.get((chart, segments))

    def cost_center(self, chart: str, value: str, /) -> ValueSetValue | None:
        return self.cost_centers.get((chart, value))

    def ap_period(self, ledger: str, on: dt.date, /) -> Period | None:
        return self._period(ledger, PAYABLES, on)

    def gl_period(self, ledger: str, on: dt.date, /) -> Period | None:
        return self._period(ledger, GENERAL_LEDGER, on)

    def _period(self, ledger: str, application: int, on: dt.date) -> Period | None:
        covering = [p for p in self.periods.get((ledger, application), []) if p.start <= on <= p.end]
        # An adjusting period overlaps the last ordinary one and is shorter.
        return max(covering, key=lambda period: period.end - period.start, default=None)

    def age_of(self, kind: str, key: str, now: dt.datetime) -> str:
        """``read 2026-11-21T08:50:15Z, 12 s old`` for the audit trail."""
        at = self.read_at.get((kind, key))
        if at is None:
            return "not read"
        return _age(at, max(0, int((now - at).total_seconds())))


@functools.lru_cache(maxsize=1024)
def _age(at: dt.datetime, seconds: int) -> str:
    """Said some ten times of each invoice, and nearly always the same."""
    return f"read {at:%Y-%m-%dT%H:%M:%SZ}, {seconds} s old"


class ReferenceReader:
    """Fills a ``ReferenceData`` for one run; what was asked freshly in this run is not asked again."""

    def __init__(self, ledger: Ledger, client: FusionClient, settings: FusionSettings) -> None:
        self._ledger = ledger
        self._client = client
        self._settings = settings
        self._pod = settings.base_url
        self._fresh: set[tuple[str, str]] = set()
        self.data = ReferenceData()

    def chart(self, name: str) -> ChartSettings:
        return self._settings.charts[name]

    async def load(self, wanted: Mapping[tuple[str, str], Needed], *, fresh: bool = False) -> bool:
        """Read what ``wanted`` (by (chart, ledger) of mlc.yaml) names; True when Fusion was asked for anything.

        Args:
            wanted: keys per chart and ledger.
            fresh: ask Fusion even for what the cache has, unless this run asked for it already.

        Raises:
            UnknownLedger: a ledger of mlc.yaml is not visible.
            FusionError: Fusion cannot be read.
        """
        asked = await self._ledgers({ledger for _, ledger in wanted})
        numbers = {number for needed in wanted.values() for number in needed.supplier_numbers}
        return asked | any(
            await together((self._suppliers(numbers, fresh=fresh), self._of_ledgers(wanted, fresh=fresh)))
        )

    async def _of_ledgers(self, wanted: Mapping[tuple[str, str], Needed], *, fresh: bool) -> bool:
        """One after the other: two ledgers may have their chart in common, and it is asked for once."""
        asked = False
        for (chart_name, ledger_name), needed in wanted.items():
            asked |= any(
                await together(
                    (
                        self._combinations(chart_name, ledger_name, needed.accounts, fresh=fresh),
                        self._cost_centers(chart_name, needed.cost_centers, fresh=fresh),
                        self._periods(ledger_name, fresh=fresh),
                    )
                )
            )
        return asked

    async def _ledgers(self, names: Iterable[str]) -> bool:
        missing = [name for name in names if name not in self.data.ledgers]
        known, absent = self._from_cache("ledger", missing, FusionLedger, self._settings.reference_max_age, fresh=False)
        self.data.ledgers |= known
        if not absent:
            return False
        found = await read_ledgers(self._client, absent)
        self._store("ledger", absent, found)
        for name in absent:
            if name not in found:
                raise UnknownLedger(name)
        self.data.ledgers |= found
        return True

    async def _suppliers(self, numbers: Collection[str], *, fresh: bool) -> bool:
        missing = [n for n in numbers if fresh or self.data.suppliers.get(n) is None]
        known, absent = self._from_cache("supplier", missing, Supplier, self._settings.reference_max_age, fresh=fresh)
        self.data.suppliers |= known
        if not absent:
            return False
        found = await read_suppliers(self._client, absent)
        self._store("supplier", absent, found)
        self.data.suppliers |= {number: found.get(number) for number in absent}
        return True

    async def _combinations(self, chart_name: str, ledger_name: str, accounts: Collection[str], *, fresh: bool) -> bool:
        chart = self._settings.charts[chart_name]
        keys = {f"{chart_name}|{account}": account for account in accounts}
        missing = [key for key in keys if fresh or ("combination", key) not in self.data.read_at]
        known, absent = self._from_cache(
            "combination", missing, list[Combination], self._settings.reference_max_age, fresh=fresh
        )
        for rows in known.values():
            self._add_combinations(chart_name, rows)
        if not absent:
            return False
        asked = [keys[key] for key in absent]
        chart_id = self.data.ledgers[ledger_name].chart_of_accounts_id
        rows = await read_combinations(self._client, chart_id, chart.segments, chart.natural_account, asked)
        position = chart.segments.index(chart.natural_account)
        by_account: dict[str, list[Combination]] = {key: [] for key in absent}
        for row in rows:
            by_account.setdefault(f"{chart_name}|{row.segments[position]}", []).append(row)
        for key in [k for k in self.data.combinations if k[0] == chart_name and k[1][position] in asked]:
            del self.data.combinations[key]
        self._store("combination", absent, by_account)
        self._add_combinations(chart_name, rows)
        return True

    def _add_combinations(self, chart_name: str, rows: Iterable[Combination]) -> None:
        self.data.combinations |= {(chart_name, row.segments): row for row in rows}

    async def _cost_centers(self, chart_name: str, values: Collection[str], *, fresh: bool) -> bool:
        value_set = self._settings.charts[chart_name].cost_center_value_set
        if value_set is None:
            return False
        keys = {f"{chart_name}|{value}": value for value in values}
        missing = [k for k, v in keys.items() if fresh or self.data.cost_centers.get((chart_name, v)) is None]
        known, absent = self._from_cache(
            "cost_center", missing, ValueSetValue, self._settings.reference_max_age, fresh=fresh
        )
        self.data.cost_centers |= {(chart_name, keys[key]): value for key, value in known.items()}
        if not absent:
            return False
        found = await read_values(self._client, value_set, [keys[key] for key in absent])
        self._store("cost_center", absent, {f"{chart_name}|{value}": row for value, row in found.items()})
        self.data.cost_centers |= {(chart_name, keys[key]): found.get(keys[key]) for key in absent}
        return True

    async def _periods(self, ledger_name: str, *, fresh: bool) -> bool:
        keys = {f"{ledger_name}|{application}": application for application in (PAYABLES, GENERAL_LEDGER)}
        missing = [key for key, app in keys.items() if fresh or (ledger_name, app) not in self.data.periods]
        known, absent = self._from_cache("period", missing, list[Period], self._settings.period_max_age, fresh=fresh)
        self.data.periods |= {(ledger_name, keys[key]): rows for key, rows in known.items()}
        ledger_id = self.data.ledgers[ledger_name].ledger_id
        for key, rows in zip(
            absent, await together(read_periods(self._client, ledger_id, keys[key]) for key in absent), strict=True
        ):
            self._store("period", [key], {key: rows})
            self.data.periods[(ledger_name, keys[key])] = rows
        return bool(absent)

    def _from_cache(
        self, kind: str, keys: Collection[str], of: Callable[..., T] | type[T], max_age: float, *, fresh: bool
    ) -> tuple[dict[str, T], list[str]]:
        """(what the cache knows, what must be asked for). Freshly asked keys of this run are not asked again."""
        open_keys = [key for key in keys if (kind, key) not in self._fresh]
        if fresh or not open_keys:
            return {}, open_keys
        with self._ledger.reading() as reading:
            rows = cache.cached(reading, self._pod, kind, open_keys, max_age=dt.timedelta(seconds=max_age))
        known: dict[str, T] = {}
        for key, (payload, at) in rows.items():
            known[key] = msgspec.json.decode(payload, type=of)
            self.data.read_at[(kind, key)] = at
        return known, [key for key in open_keys if key not in known]

    def _store(self, kind: str, asked: Iterable[str], found: Mapping[str, object]) -> None:
        payloads: dict[str, str | None] = dict.fromkeys(asked)
        payloads |= {key: msgspec.json.encode(value).decode() for key, value in found.items()}
        with self._ledger.transaction() as transaction:
            at = cache.keep(transaction, self._pod, kind, payloads)
        for key in payloads:
            self.data.read_at[(kind, key)] = at
            self._fresh.add((kind, key))

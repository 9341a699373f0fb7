"""What every desk of the embedded Fusion works with: tables, clock, numbers, the lock, and rows as kept documents.

A desk (general ledger, purchasing, payables) is a mixin over ``State``; ``world`` puts them together and loads them.
"""

import datetime as dt
import fnmatch
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mlc_dagster.sandbox.books import Books
from mlc_dagster.sandbox.fusion.resources import NUMBER, Resource, Row, Table
from mlc_dagster.sandbox.seed import BUSINESS_UNITS, BusinessUnit, Seed

FIRST_NUMBER = 300000900000001

Moment = dt.datetime | str
Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The default clock."""
    return dt.datetime.now(dt.UTC)


def timestamp(moment: Moment) -> str:
    """A moment as Fusion shows it: ISO, UTC, milliseconds, offset."""
    value = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    value = value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
    return value.isoformat(timespec="milliseconds")


@dataclass
class Policies:
    """How this Fusion is set up where customers' pods differ."""

    duplicate_scope: tuple[str, ...] = ("supplier", "number", "business_unit")
    """What must be unique together; ``site`` may be added, ``business_unit`` left out."""
    duplicate_code: str = "AP-810776"
    null_statuses_on_create: bool = True
    tax_rate: Decimal | None = None
    """When given, calculateTax adds a Tax line of this share of the item lines."""
    approval_required: bool = False
    dynamic_insertion: bool = False
    """Whether a combination that does not exist is created when each of its values exists."""
    job_statuses: tuple[str, ...] = ("RUNNING", "PAUSED", "SUCCEEDED")
    """What successive looks at a submitted job see; the last one stays."""
    journals_from_accounting: bool = False
    """Whether Create Accounting transfers to the general ledger: a posted, summarised Payables batch."""


@dataclass
class _PageHook:
    pattern: str
    pages: int
    action: "Callable[[Any], object]"


class State:
    """Tables, clock, numbers and lock. All access happens under ``lock``."""

    def __init__(self, seed: Seed, books: Books, policies: Policies | None, clock: Clock) -> None:
        self.seed = seed
        self.books = books
        self.policies = policies or Policies()
        self.lock = threading.RLock()
        self.units: dict[str, BusinessUnit] = {unit.name: unit for unit in BUSINESS_UNITS}
        self.tables: dict[str, Table] = {}
        self._clock = clock
        self._ahead = dt.timedelta(0)
        self._last_number = FIRST_NUMBER
        self._page_hooks: list[_PageHook] = []

    # The clock.

    def clock(self) -> dt.datetime:
        """This Fusion's time, UTC; what its Date header and its update dates say."""
        return self._clock() + self._ahead

    def move_clock(self, by: dt.timedelta) -> None:
        """Sets the clock ahead (or back) from where it is; a restarted server on the same books is as far ahead."""
        with self.lock:
            self._ahead += by
            self.books.record_document("clock", "ahead", {"seconds": self._ahead.total_seconds()})

    def set_clock(self, clock: Clock) -> None:
        """Takes another clock and forgets how far the old one was moved."""
        with self.lock:
            self._clock = clock
            self._ahead = dt.timedelta(0)
            self.books.record_document("clock", "ahead", {"seconds": 0.0})

    def now(self) -> str:
        return timestamp(self.clock())

    # Rows.

    def next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def keep(self, kind: str, row: Row, resource: Resource) -> None:
        """Writes a row's present state to the books' file, if there is one."""
        if self.books.on_disk:
            self.books.record_document(kind, f"{row.key:020d}", document(row, resource))

    def row_of(self, resource: str, key: int) -> Row:
        """A top-level row. Raises LookupError."""
        row = self.tables[resource].rows.get(key)
        if row is None:
            msg = f"no {resource} {key}"
            raise LookupError(msg)
        return row

    def touch(self, resource: str, keys: Iterable[int], *, at: Moment | None = None) -> None:
        """Gives top-level rows a new LastUpdateDate, now unless told, and changes nothing else. Raises LookupError."""
        kind = KEPT_AS.get(resource)
        if kind is None:
            msg = f"rows of {resource} cannot be touched"
            raise LookupError(msg)
        with self.lock:
            table = self.tables[resource]
            for key in keys:
                row = self.row_of(resource, int(key))
                table.change(row, {"LastUpdateDate": timestamp(at) if at is not None else self.now()})
                self.keep(kind, row, table.resource)

    # Changes between two pages of one read.

    def after_page(self, resource: str, pages: int, action: "Callable[[Any], object]") -> None:
        """Runs ``action(world)`` once, after so many more pages of the collection were read, before anything else is.

        Args:
            resource: shell pattern on the collection's path below the version segment, keys as links carry them.
            pages: 1 for the next page.
            action: called under the lock.
        """
        with self.lock:
            self._page_hooks.append(_PageHook(resource, pages, action))

    def page_was_read(self, path: str) -> None:
        """For the server: a page of this collection was rendered."""
        due: list[_PageHook] = []
        for hook in self._page_hooks:
            if fnmatch.fnmatchcase(path, hook.pattern):
                hook.pages -= 1
                due += [hook] if hook.pages == 0 else []
        self._page_hooks = [hook for hook in self._page_hooks if hook.pages > 0]
        for hook in due:
            hook.action(self)

    def _seen(self, row: Row) -> None:
        self._last_number = max(self._last_number, int(row.key))
        for rows in row.children.values():
            for child in rows:
                self._seen(child)


KEPT_AS = {
    "suppliers": "supplier",
    "invoices": "invoice",
    "invoiceHolds": "hold",
    "journalBatches": "journal",
    "purchaseOrders": "order",
}
"""Top-level resource to the kind under which the books keep its rows."""


def exact(value: Any) -> Decimal | None:
    """An amount given as Decimal, int or text; None stays None. Raises TypeError for a float, ValueError for words."""
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        msg = f"{value!r} is no exact amount; give a Decimal, an int or text"
        raise TypeError(msg)
    try:
        return Decimal(value)
    except ArithmeticError:
        msg = f"{value!r} is no amount"
        raise ValueError(msg) from None


def fitting(resource: Resource, values: Mapping[str, Any]) -> dict[str, Any]:
    """Changes under Fusion's attribute names, amounts exact. Raises ValueError for an attribute that is not there."""
    unknown = sorted(set(values) - set(resource.attributes))
    if unknown:
        msg = f"{resource.name} has no attribute {', '.join(unknown)}"
        raise ValueError(msg)
    return {name: exact(value) if resource.attributes[name].kind == NUMBER else value for name, value in values.items()}


def document(row: Row, resource: Resource) -> dict[str, Any]:
    """A row and its children as JSON-ready values; decimals become text by the writer's default."""
    return {
        "key": row.key,
        "version": row.version,
        "values": row.values,
        "children": {
            name: [document(child, resource.children[name]) for child in rows] for name, rows in row.children.items()
        },
    }


def restored(kept: Mapping[str, Any], resource: Resource) -> Row:
    """The row of a ``document``."""
    values = dict(kept["values"])
    for name, value in values.items():
        kind = resource.attributes[name].kind if name in resource.attributes else NUMBER
        # Amounts set aside under names that no resource shows (StoredAmount) are numbers; ids there are ints already.
        if kind == NUMBER and value is not None and not isinstance(value, int):
            values[name] = Decimal(value)
    row = Row(kept["key"], values)
    row.version = kept["version"]
    row.children = {
        name: [restored(child, resource.children[name]) for child in rows] for name, rows in kept["children"].items()
    }
    return row

"""Header and trailer records: their templates, and the control totals that these may show.

Belongs here: ``{rows}``, ``{total.entered_dr:2}`` and their like, totals of a document and of a file. Does not: how a
record is joined or padded; those are the writers'.
"""

import datetime as dt
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from mlc_dagster import money
from mlc_dagster.exports.balance import NO_CURRENCY, check_balance
from mlc_dagster.exports.layouts.cells import values_of
from mlc_dagster.exports.layouts.dates import check_pattern, date_text
from mlc_dagster.exports.layouts.documents import Document
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.fields import Field
from mlc_dagster.exports.layouts.numbers import ScaleExceeded, digits_of, number_texts
from mlc_dagster.exports.writing import DocumentHeld, Frame, Part
from mlc_dagster.fusion.canonical import plain
from mlc_dagster.fusion.records import Invoice, Journal, PurchaseOrder

_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_COUNTS = ("rows", "documents", "records", "sequence")
_TIMES = ("utc", "window_start", "window_end")
_WORDS = ("feed", "layout", "version", "currency")

OWN_TOTALS: Mapping[str, tuple[str, ...]] = {
    "journals": ("entered_dr", "entered_cr", "accounted_dr", "accounted_cr"),
    "invoices": ("amount",),
    "purchase_orders": ("ordered",),
    "suppliers": (),
}
"""Totals that every file of a source has; layouts may declare more."""


@dataclass(frozen=True, slots=True)
class DeclaredTotal:
    """A total of the layout: the sum of a field over the rows, or the sum of its digits read as numbers."""

    name: str
    field: Field
    hashed: bool


def document_totals(document: Document, declared: Sequence[DeclaredTotal]) -> dict[str, Decimal]:
    """Exact totals of one document, each with its currency; journals are checked for balance.

    Raises:
        DocumentHeld: UNBALANCED.
    """
    content = document.content
    totals: dict[str, Decimal] = {}
    if isinstance(content, Journal):
        totals = check_balance(content)
    elif isinstance(content, Invoice):
        totals[f"amount {content.currency or NO_CURRENCY}"] = content.amount or Decimal(0)
    elif isinstance(content, PurchaseOrder):
        totals[f"ordered {content.currency or NO_CURRENCY}"] = content.ordered or Decimal(0)
    for total in declared:
        values = values_of(total.field, document)
        if total.hashed:
            totals[total.name] = Decimal(sum(digits_of(str(value)) for value in values if value is not None))
            continue
        if total.field.money is None:
            totals[total.name] = money.total(value for value in values if value is not None)
            continue
        currencies = document.currencies(total.field)
        own = currencies if isinstance(currencies, list) else [currencies] * len(values)
        for value, currency in zip(values, own, strict=True):
            if value is not None:
                name = f"{total.name} {currency or NO_CURRENCY}"
                totals[name] = money.total((totals.get(name, Decimal(0)), value))
    return totals


@dataclass(frozen=True)
class FileFacts:
    """What a header or trailer may say of its file."""

    frame: Frame
    rows: int
    documents: int
    records: int
    """Rows, records of documents, column names left out, header and trailer included."""
    totals: Mapping[str, Decimal]
    layout: str
    version: str
    currency: str | None = None
    """Of a record per currency."""

    @classmethod
    def of(cls, parts: Sequence[Part], frame: Frame, *, layout: str, version: str) -> "FileFacts":
        totals: dict[str, Decimal] = {}
        for part in parts:
            for name, amount in part.totals.items():
                totals[name] = money.total((totals.get(name, Decimal(0)), amount))
        rows = sum(part.rows for part in parts)
        documents = sum(part.documents for part in parts)
        return cls(frame, rows, documents, 0, totals, layout, version)

    @property
    def currencies(self) -> list[str]:
        return sorted({name.rpartition(" ")[2] for name in self.totals if " " in name})

    def total(self, name: str) -> Decimal:
        """Over all currencies, as importers check it; of the record's currency where it has one."""
        if self.currency is not None:
            return self.totals.get(f"{name} {self.currency}", self.totals.get(name, Decimal(0)))
        return money.total(amount for key, amount in self.totals.items() if key == name or key.startswith(f"{name} "))

    def total_text(self, name: str, places: int | None) -> str:
        """A total in full: with ``places`` decimals, else those of the record's currency, else as many as it has.

        Raises:
            ScaleExceeded: it has more than ``places``.
        """
        amount = plain(self.total(name))
        if places is None and self.currency is not None:
            units = money.minor_units(self.currency)
            places = units if units is not None and money.decimals(amount) <= units else None
        return number_texts([amount], places)[0] or "0"


class Template:
    """Text with placeholders, checked when the layout is loaded."""

    def __init__(self, text: str, *, totals: Iterable[str], per_currency: bool) -> None:
        """Raises ValueError naming the nearest placeholder."""
        words = tuple(word for word in _WORDS if per_currency or word != "currency")
        known = [*_COUNTS, *_TIMES, *words, *(f"total.{name}" for name in totals)]
        self.text = text
        self.scales: dict[str, int] = {}
        """Decimals that a total is written with, where that is said."""
        for match in _PLACEHOLDER.finditer(text):
            name, form = match[1], match[2] or ""
            if name not in known:
                near: list[str] = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                hint = f"did you mean {{{near[0]}}}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"{{{name}}}: no such placeholder; {hint}")
            if name in _TIMES:
                check_pattern(form)
            elif form and (name in _WORDS or not form.removesuffix("d").isdecimal()):
                raise ValueError(f"{{{name}:{form}}}: numbers take digits after the colon, such as 06; words nothing")
            elif form and name.startswith("total."):
                self.scales[name.removeprefix("total.")] = int(form.removesuffix("d"))

    def render(self, facts: FileFacts) -> str:
        """The text with everything filled in."""

        def fill(match: re.Match[str]) -> str:
            name, form = match[1], match[2] or ""
            if name in _TIMES:
                return date_text(_time(facts.frame, name), form or "%Y-%m-%dT%H:%M:%SZ")
            if name.startswith("total."):
                return facts.total_text(name.removeprefix("total."), int(form.removesuffix("d")) if form else None)
            value = facts.frame.sequence if name == "sequence" else getattr(facts, name, None)
            if name == "feed":
                value = facts.frame.feed
            return str(value).zfill(int(form.removesuffix("d"))) if form else str(value)

        return _PLACEHOLDER.sub(fill, self.text)


def _time(frame: Frame, name: str) -> dt.datetime:
    times = {"utc": frame.created_at, "window_start": frame.window_start, "window_end": frame.window_end}
    return times[name]


def check_scales(totals: Mapping[str, Decimal], scales: Mapping[str, int]) -> None:
    """Refuse a document whose total the header or trailer could not show; sums of those that fit do fit.

    Raises:
        DocumentHeld: AMOUNT_SCALE.
    """
    for key, amount in totals.items():
        places = scales.get(key.partition(" ")[0])
        if places is None:
            continue
        try:
            number_texts([amount], places)
        except ScaleExceeded as error:
            raise DocumentHeld(
                "AMOUNT_SCALE",
                f"the total {key} of the document: {error}, which is what header or trailer have; write more there",
                target=f"total {key}",
            ) from None


def total_names(source: str, declared: Iterable[str], source_file: str) -> tuple[str, ...]:
    """Names that header and trailer may use; raises LayoutError where a declared one is taken."""
    own = OWN_TOTALS[source]
    names = tuple(declared)
    if taken := [name for name in names if name in own or " " in name]:
        raise LayoutError(
            source_file, [f"totals.{taken[0]}: is a total that {source} have by themselves, or has a blank; rename it"]
        )
    return (*own, *names)

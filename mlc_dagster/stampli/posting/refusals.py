"""Refusals that say the same of every invoice: a fault of role or data access that Fusion answers one by one, with 400.

Belongs here: when a business unit counts as refused as a whole, for one run, and what people are told. Does not: what
becomes of the single invoice (``uncertainty``), and in what order invoices are begun (``window_posting``). What earlier
runs met is read from the ledger's attempts.
"""

import asyncio
import datetime as dt
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mlc_dagster.fusion.errors import BusinessRefusal
from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import Row
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.comparison import body_fields
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.body import body_keys

MOST_ALIKE = 10
"""So many refusals in a row that say the same, none created between them: it is not the invoices."""
_RECALLED = 50
"""Refusals of earlier runs that are looked at; a fault that was met more often left as many."""
_LONGEST = 2000
"""Characters of an answer that are compared, as many as the ledger keeps."""
_CODE = re.compile(r"\(([A-Z][A-Z0-9_]*-\d{3,})\)|(?:^|; )([A-Z][A-Z0-9_]*-\d{3,})(?=[: ])")
_QUOTED = re.compile(
    r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u2018[^\u2019]*\u2019(?!\w)|\u00ab[^\u00bb]*\u00bb"
)
_NUMBER = re.compile(r"\d(?:[\d.,:/-]*\d)?")
_OWN = ("InvoiceNumber", "Supplier", "SupplierNumber", "SupplierSite", "InvoiceAmount")
"""What names one invoice in a refusal of it."""


def answer_text(refusal: BusinessRefusal) -> str:
    """What Fusion said, with its codes, on one line."""
    return "; ".join(
        f"{detail.code} {detail.text}" if detail.code and detail.code not in detail.text else detail.text
        for detail in refusal.details
    )


def problem_of(refusal: BusinessRefusal, remedy: str | None) -> Problem:
    """What a person is told of an invoice that Fusion refused; ``remedy`` in place of the catalogue's."""
    text = "; ".join(detail.text for detail in refusal.details)
    return problem("FUSION_REJECTED", field=_codes(refusal), value=text, remedy=remedy)


def reason_of(refusal: BusinessRefusal) -> str:
    """For what it is parked."""
    return f"FUSION_REJECTED({_codes(refusal)})"


def _codes(refusal: BusinessRefusal) -> str:
    """Fusion's codes; where it gave none, the HTTP status."""
    return ", ".join(refusal.codes) or f"HTTP {refusal.status}"


def likeness(answer: str, body: bytes) -> str:
    """What a refusal says apart from the invoice that it is about: equal for all that one fault refuses."""
    text = answer[:_LONGEST]
    codes = [code or bare for code, bare in _CODE.findall(text)]
    fields = body_fields(body) if body else {}
    own = {format(value, "f") if name == "InvoiceAmount" else str(value)
           for name in _OWN if (value := fields.get(name)) is not None}  # fmt: skip
    # One that is part of another must not cut it in two; within a word it names nothing.
    for value in sorted(own, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", text)
    return " ".join([*codes, _NUMBER.sub("#", _QUOTED.sub("#", text))])


class RefusedAlike(Exception):
    """Fusion refuses every invoice of these business units with the same words; nothing was stored of any."""

    def __init__(self, stops: "Sequence[UnitStop]", posting_user: str) -> None:
        self.stops = tuple(stops)
        told = "; ".join(
            f"Fusion refuses every invoice of business unit {stop.business_unit} alike ({stop.count} in a row, none "
            f"created between them): {stop.answer[:500]}"
            for stop in self.stops
        )
        reasons = dict.fromkeys(stop.reason for stop in self.stops)
        retries = " and ".join(f"`mlc invoices retry --parked-for '{reason}'`" for reason in reasons)
        super().__init__(
            f"{told}. No more of them are begun: those not sent stay VALIDATED, and each later run tries one before "
            f"the others. Give {posting_user} the role or data access that is missing, or do what the text says; then "
            f"{retries} has the next poll take up again what was parked for it"
        )


class UnitsStopped(PostingStopped):
    """Business units were refused as a whole; everything else was posted to its end."""


@dataclass(frozen=True)
class UnitStop:
    """A business unit of which this run begins nothing more."""

    business_unit: str
    count: int
    """Refusals in a row that said the same, those of earlier runs included."""
    reason: str
    """For what the refused were parked."""
    answer: str
    """What Fusion said last."""


@dataclass
class _Unit:
    """What is known of a business unit since its last creation."""

    alike: str = ""
    count: int = 0
    """Refusals in a row that said ``alike``."""
    faults: set[str] = field(default_factory=set[str])
    """What so many said in a row that it is not the invoices."""
    closed: bool = False
    suppliers: Counter[str] = field(default_factory=Counter[str])
    dates: Counter[dt.date] = field(default_factory=Counter[dt.date])
    """Of what was refused: another supplier's invoice of another day tells most."""
    stop: UnitStop | None = None

    def add(self, said: str, body: bytes) -> None:
        self.count = self.count + 1 if said == self.alike else 1
        self.alike = said
        if self.count >= MOST_ALIKE:
            self.faults.add(said)
        if body:
            keys = body_keys(body)
            self.suppliers[keys.supplier_number] += 1
            self.dates[keys.invoice_date] += 1


class AlikeRefusals:
    """One run's knowledge of business units that are refused as a whole."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._units: dict[str, _Unit] = {}
        self._recalled: set[str] = set()
        self._reopened = False
        self._answers = itertools.count(1)
        self._created: dict[str, int] = {}
        """Place of the latest answer that created one, by business unit."""

    async def recall(self, units: Iterable[str]) -> None:
        """What earlier runs met in these business units; read once for each."""
        unread = sorted(set(units) - self._recalled)
        if not unread:
            return
        self._recalled.update(unread)
        for unit, rows in (await asyncio.to_thread(self._earlier, unread)).items():
            before = _Unit()
            for row in rows:
                before.add(likeness(row["answer"], row["body"]), row["body"])
            if not before.count:
                continue
            # This run may have met some already, by what it sent again: the row goes on from there.
            known = self._units.setdefault(unit, before)
            known.faults |= before.faults

    def _earlier(self, units: Sequence[str]) -> dict[str, list[Row]]:
        with self._inbound.ledger.reading() as reading:
            return {
                unit: recovery.refused_since_creation(reading, self._inbound.pod, unit, at_most=_RECALLED)
                for unit in units
            }

    def answered(self) -> int:
        """The place of an answer that is here now among this run's; a refusal is looked into before it is counted."""
        return next(self._answers)

    def refused(self, unit: str, refusal: BusinessRefusal, body: bytes, place: int) -> bool:
        """Count a refusal; False when it says what this business unit was closed for already."""
        if place < self._created.get(unit, 0):
            # Looked into while another was created: Fusion does not refuse everything.
            return True
        known = self._units.setdefault(unit, _Unit())
        answer = answer_text(refusal)
        said = likeness(answer, body)
        if known.closed and said in known.faults:
            return False
        known.add(said, body)
        if said in known.faults:
            known.closed = True
            known.stop = UnitStop(unit, max(known.count, MOST_ALIKE), reason_of(refusal), answer)
        return True

    def created(self, unit: str) -> None:
        """Fusion created one: whatever it refused before, it does not refuse everything."""
        self._created[unit] = self.answered()
        known = self._units.pop(unit, None)
        self._reopened |= known is not None and bool(known.faults)

    def wait(self, unit: str) -> None:
        """What became of the one that was tried is not known yet: nothing follows it in this run."""
        self._units.setdefault(unit, _Unit()).closed = True

    def suspected(self, unit: str) -> bool:
        """True while nothing was created since so many were refused alike: one goes alone, before the others."""
        known = self._units.get(unit)
        return known is not None and bool(known.faults)

    def closed(self, unit: str) -> bool:
        """True when nothing more of the business unit is begun in this run."""
        known = self._units.get(unit)
        return known is not None and known.closed

    def anything_closed(self) -> bool:
        return any(known.closed for known in self._units.values())

    def reopened(self) -> bool:
        """True, once, when a business unit that was passed over may go on."""
        reopened, self._reopened = self._reopened, False
        return reopened

    def unlikest(self, rows: Sequence[Row]) -> Row:
        """Of a suspected unit's, the one to try: it has least in common with what was refused, perhaps with cause."""
        return min(rows, key=self._met)

    def _met(self, row: Row) -> int:
        known, keys = self._units[row["business_unit"]], body_keys(row["mapping"])
        return known.suppliers[keys.supplier_number] + known.dates[keys.invoice_date]

    def stopped(self) -> UnitsStopped | None:
        """What ends the run, when its other business units are done."""
        stops = [known.stop for _, known in sorted(self._units.items()) if known.closed and known.stop is not None]
        return UnitsStopped(RefusedAlike(stops, self._inbound.settings.fusion.posting_user)) if stops else None

"""Refusals that say the same of every invoice: a fault of role or data access that Fusion answers one by one, with 400.

Belongs here: when a business unit counts as refused as a whole, for one run, and what people are told. Does not: what
becomes of the single invoice (``uncertainty``), and in what order invoices are begun (``turns``). What earlier runs met
is read from the ledger's attempts.
"""

import asyncio
import datetime as dt
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mlc_dagster.fusion.errors import BusinessRefusal
from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import Row
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.comparison import body_fields
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.body import body_keys

LAST_TURN = 2
"""What is closest to what was refused; see ``AlikeRefusals.closeness``."""
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
_PASSING = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?|\d{9,}")
"""Days, times of day and ids that Fusion gave to a row: another one in each answer, whatever is wrong."""
_DECIMALS = re.compile(r"(.*\d)[.,](\d{1,2}|\d{4,})")
_LONGEST_REST = dt.timedelta(minutes=10)
"""So long at most nothing more is tried of a business unit after a refusal of it, by whatever run."""
_OWN = ("InvoiceNumber", "Supplier", "SupplierNumber", "SupplierSite", "InvoiceAmount")
"""What names one invoice in a refusal of it."""
_ACCOUNTS = ("DistributionCombination", "MultiperiodAccountingAccrualAccount")
"""Of a line. One account that is closed is one fault, another account another."""


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
    """What a refusal says apart from the invoice that it is about: equal for all that one fault refuses.

    The invoice's own names, amounts and days are taken out, and what Fusion makes up for each answer. Its accounts and
    every number that it does not contain stay: they may be what is wrong. Nothing of a body that was erased can be told
    apart, so all numbers go.
    """
    text = answer[:_LONGEST]
    codes = [code or bare for code, bare in _CODE.findall(text)]
    fields = body_fields(body) if body else {}
    own = {format(value, "f") if name == "InvoiceAmount" else str(value)
           for name in _OWN if (value := fields.get(name)) is not None}  # fmt: skip
    accounts = _accounts(fields)
    numbers = _numbers(fields)

    def quoted(found: re.Match[str]) -> str:
        return found.group() if found.group()[1:-1] in accounts else "#"

    def number(found: re.Match[str]) -> str:
        said = found.group()
        if said in accounts:
            return said
        return "#" if not body or _PASSING.fullmatch(said) or _value(said) in numbers else said

    # One that is part of another must not cut it in two; within a word it names nothing.
    for value in sorted(own - accounts, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", text)
    return " ".join([*codes, _NUMBER.sub(number, _QUOTED.sub(quoted, text))])


def _accounts(fields: dict[str, Any]) -> set[str]:
    """The account combinations of a body, and the segments of each."""
    lines: list[dict[str, Any]] = fields.get("invoiceLines", [])
    whole = {str(line[name]) for line in lines for name in _ACCOUNTS if line.get(name)}
    return whole | {segment for each in whole for segment in re.findall(r"\w+", each)}


def _numbers(fields: dict[str, Any]) -> set[Decimal | str]:
    """What is a number in a body, or has one in its text; accounts apart."""
    found: set[Decimal | str] = set()
    for name, value in fields.items():
        if name == "invoiceLines":
            for line in value:
                found |= _numbers(line)
        elif name not in _ACCOUNTS:
            text = format(value, "f") if isinstance(value, Decimal) else str(value)
            found.update(_value(each) for each in _NUMBER.findall(text))
    return found


def _value(number: str) -> Decimal | str:
    """An amount's value however it is written (1,100.00 or 1.100,0); itself where it is none."""
    if not set(number) <= set("0123456789.,"):
        return number
    parted = _DECIMALS.fullmatch(number)
    whole, decimals = (parted[1], parted[2]) if parted else (number, "0")
    return Decimal(f"{re.sub('[.,]', '', whole)}.{decimals}")


class RefusedAlike(Exception):
    """Fusion refuses every invoice of these business units with the same words; nothing was stored of any."""

    def __init__(self, stops: "Sequence[UnitStop]", posting_user: str) -> None:
        self.stops = tuple(stops)
        told = "; ".join(
            f"Fusion refuses every invoice of business unit {stop.business_unit} alike ({stop.count} in a row, none "
            f"created between them): {stop.answer[:500]}"
            for stop in self.stops
        )
        reasons = dict.fromkeys(stop.reason or "FUSION_REJECTED(…)" for stop in self.stops)
        retries = " and ".join(f"`mlc invoices retry --parked-for '{reason}'`" for reason in reasons)
        super().__init__(
            f"{told}. No more of them are begun: those not sent stay VALIDATED, and a later run tries one before the "
            f"others. Give {posting_user} the role or data access that is missing, or, where each of them has the same "
            f"fault, do what the text says; then {retries} has the next poll take up again what was parked for it"
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
    trying: bool = False
    """One that goes alone is under way."""
    resting: UnitStop | None = None
    """Another run was refused so a moment ago; what it was told."""

    def add(self, said: str, body: bytes) -> None:
        self.count = self.count + 1 if said == self.alike else 1
        self.alike = said
        if self.count >= MOST_ALIKE:
            self.faults.add(said)
        if body:
            keys = body_keys(body)
            self.suppliers[keys.supplier_number] += 1
            self.dates[keys.invoice_date] += 1

    def met(self, body: bytes | str) -> int:
        """How often the supplier of an invoice was refused, and its day: once each for every one just like it."""
        keys = body_keys(body)
        return self.suppliers[keys.supplier_number] + self.dates[keys.invoice_date]


class AlikeRefusals:
    """One run's knowledge of business units that are refused as a whole."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._units: dict[str, _Unit] = {}
        self._recalled: set[str] = set()
        self._rest = min(dt.timedelta(seconds=inbound.settings.retry.check_every), _LONGEST_REST)
        self._disproved: dict[str, _Unit] = {}
        """Units that looked refused as a whole until one was created: what is like the refused comes last."""
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
        earlier, now = await asyncio.to_thread(self._earlier, unread)
        for unit, rows in earlier.items():
            if not rows or unit in self._created:
                continue
            before = _Unit()
            said = [likeness(row["answer"], row["body"]) for row in rows]
            for words, row in zip(said, rows, strict=True):
                before.add(words, row["body"])
            # This run may have met some already, by what it sent again: the row goes on from there.
            known = self._units.setdefault(unit, before)
            known.faults |= before.faults
            if before.faults and now - max(row["ended_at"] for row in rows) < self._rest:
                told = next(row for words, row in reversed([*zip(said, rows, strict=True)]) if words in before.faults)
                known.resting = UnitStop(unit, max(before.count, MOST_ALIKE), told["reason"] or "", told["answer"])

    def _earlier(self, units: Sequence[str]) -> tuple[dict[str, list[Row]], dt.datetime]:
        with self._inbound.ledger.reading() as reading:
            return {
                unit: recovery.refused_since_creation(reading, self._inbound.pod, unit, at_most=_RECALLED)
                for unit in units
            }, reading.now

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
            known.trying, known.closed = False, True
            known.stop = UnitStop(unit, max(known.count, MOST_ALIKE), reason_of(refusal), answer)
        elif known.trying:
            # For something of its own: another one may be tried.
            known.trying, self._reopened = False, True
        return True

    def created(self, unit: str) -> None:
        """Fusion created one: whatever it refused before, it does not refuse everything."""
        self._created[unit] = self.answered()
        known = self._units.pop(unit, None)
        if known is not None and known.faults:
            self._reopened = True
            self._disproved[unit] = known

    def trying(self, unit: str) -> None:
        """One of a suspected unit is sent beside other work: no other of it until ``tried``."""
        self._units[unit].trying = True

    def tried(self, unit: str) -> None:
        """Its answer is here. What was neither created nor refused tells nothing: no other follows in this run."""
        known = self._units.get(unit)
        if known is not None and known.trying:
            known.trying, known.closed = False, True

    def wait(self, unit: str) -> None:
        """What became of the one that was tried is not known yet: nothing follows it in this run."""
        self._units.setdefault(unit, _Unit()).closed = True

    def rest(self, unit: str) -> None:
        """All that could be tried is like what was refused a moment ago: it is told, and nothing is sent."""
        known = self._units[unit]
        known.closed, known.stop = True, known.stop or known.resting

    def resting(self) -> list[str]:
        """Suspected units of which another run was refused one a moment ago, and this run none yet."""
        return [
            unit for unit, known in self._units.items()
            if known.resting is not None and not (known.closed or known.trying)
        ]  # fmt: skip

    def suspected(self, unit: str) -> bool:
        """True while nothing was created since so many were refused alike: one goes alone, before the others."""
        known = self._units.get(unit)
        return known is not None and bool(known.faults)

    def closed(self, unit: str) -> bool:
        """True when nothing more of the business unit is begun in this run."""
        known = self._units.get(unit)
        return known is not None and known.closed

    def waits(self, unit: str) -> bool:
        """True while nothing of the business unit is begun: it is closed, or one is tried alone."""
        known = self._units.get(unit)
        return known is not None and (known.closed or known.trying)

    def anything_waits(self) -> bool:
        return any(known.closed or known.trying for known in self._units.values())

    def reopened(self) -> bool:
        """True, once, when a business unit that was passed over may go on."""
        reopened, self._reopened = self._reopened, False
        return reopened

    def met(self, unit: str, body: bytes | str) -> int:
        """What an invoice of a suspected unit has in common with what was refused, perhaps with cause."""
        return self._units[unit].met(body)

    def worth_trying(self, unit: str, body: bytes | str) -> bool:
        """Whether one of a suspected unit may be sent now; while it rests, only what tells more than the last one.

        Refused for so many suppliers and days, it is not them: without that end an outage would be tried again by each
        of its windows for each of its suppliers.
        """
        known, keys = self._units[unit], body_keys(body)
        if known.resting is None:
            return True
        return (not known.suppliers[keys.supplier_number] and len(known.suppliers) < MOST_ALIKE) or (
            not known.dates[keys.invoice_date] and len(known.dates) < MOST_ALIKE
        )

    def closeness(self, unit: str, body: bytes | str) -> int:
        """Of a unit that is not refused as a whole after all: 2 for what is like most that was refused, else 1 or 0."""
        known = self._disproved.get(unit)
        if known is None:
            return 0
        met, refused = known.met(body), known.suppliers.total()
        return LAST_TURN if met > refused else int(2 * met > refused)

    def stopped(self) -> UnitsStopped | None:
        """What ends the run, when its other business units are done."""
        stops = [known.stop for _, known in sorted(self._units.items()) if known.closed and known.stop is not None]
        return UnitsStopped(RefusedAlike(stops, self._inbound.settings.fusion.posting_user)) if stops else None

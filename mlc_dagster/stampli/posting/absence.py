"""Is an invoice in Fusion? "Not there" counts only when the same answer shows an invoice that is known to be there.

A wrong query dialect, or lost data access, answers 200 with zero rows: taken as absence, it would post everything
twice. The invoice known to be there is the business unit's control row.
"""

import datetime as dt
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.halves import may_be
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import (
    Control,
    Found,
    any_invoice,
    find_by_amount,
    find_by_group,
    find_by_number,
    find_by_supplier,
    observe,
)
from mlc_dagster.fusion.q import is_plain
from mlc_dagster.ledger import control_rows
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.stampli.identity import number_key


class DataAccessLost(Expected):
    """Fusion no longer shows invoices that it showed before: absence cannot be proven, so nothing may be posted."""

    kind = FailureKind.REMOTE

    def __init__(self, business_unit: str) -> None:
        self.business_unit = business_unit
        super().__init__(
            f"Fusion shows no invoice of business unit {business_unit!r} any more, though there were some: check the "
            "data access of the posting user. Nothing is posted while it cannot be proven that an invoice is not there"
        )


class Presence(Enum):
    ABSENT = auto()
    """Proven: the answer showed the control row and not the invoice."""
    PRESENT = auto()
    OTHER_BUSINESS_UNIT = auto()
    """The supplier's number is used in another business unit, and absent in this one (proven)."""
    NOTHING_VISIBLE = auto()
    """No invoice of the business unit is visible at all: absence cannot be proven."""
    UNPROVEN = auto()
    """There were invoices before and none is shown now: data access, or the query, is not what it was."""


@dataclass(frozen=True)
class Sought:
    """An invoice looked for; ``key`` is the caller's."""

    key: int
    business_unit: str
    supplier_number: str
    number: str
    invoice_date: dt.date
    exact: bool = False
    """Two people said that a number of which not every character can be read is another one."""


@dataclass(frozen=True)
class Finding:
    presence: Presence
    records: tuple[InvoiceRecord, ...] = ()
    """All that carry the number: where Fusion lets a number repeat per site, ours may not be the only one.

    Behind them those that may carry it, since not all of theirs can be read.
    """

    @property
    def record(self) -> InvoiceRecord | None:
        return self.records[0] if self.records else None


class AbsenceProver:
    """Looks invoices up in bulk, with a control row per business unit kept in the ledger."""

    def __init__(self, ledger: Ledger, client: FusionClient, pod: str) -> None:
        self._ledger = ledger
        self._client = client
        self._pod = pod

    async def look_up(self, sought: Sequence[Sought]) -> dict[int, Finding]:
        """Findings by the caller's key; raises FusionError when Fusion cannot be read."""
        findings: dict[int, Finding] = {}
        for unit in dict.fromkeys(each.business_unit for each in sought):
            part = [each for each in sought if each.business_unit == unit]
            findings |= await self._look_up_in(unit, part)
        return findings

    async def look_up_amount(self, sought: Sought, amount: Decimal) -> Finding:
        """All invoices of the same business unit, date and amount, whatever they are called.

        Raises:
            FusionError: Fusion cannot be read.
        """
        control, known_before = await self._control(sought.business_unit)
        found = await find_by_amount(self._client, sought.invoice_date, amount, control)
        return self._of_unit(sought, found, lost=known_before or control is not None)

    async def look_up_group(self, sought: Sought, invoice_group: str) -> Finding:
        """All invoices of the same business unit in a group, whatever became of number, supplier, date and amount.

        Raises:
            BusinessRefusal: this Fusion takes no question by group.
            FusionError: Fusion cannot be read.
        """
        control, known_before = await self._control(sought.business_unit)
        found = await find_by_group(self._client, invoice_group, control)
        return self._of_unit(sought, found, lost=known_before or control is not None)

    @staticmethod
    def _of_unit(sought: Sought, found: Found, *, lost: bool) -> Finding:
        if not found.control_seen:
            return Finding(Presence.UNPROVEN if lost else Presence.NOTHING_VISIBLE)
        rows = tuple(row for row in found.rows if _named(row.business_unit, sought.business_unit))
        return Finding(Presence.PRESENT if rows else Presence.ABSENT, rows)

    async def _look_up_in(self, unit: str, sought: Sequence[Sought]) -> dict[int, Finding]:
        control, known_before = await self._control(unit)
        answers = await self._ask(sought, control)
        if control is not None and not all(found.control_seen for found in answers.values()):
            # The control row itself may have been deleted or purged: one more try with another. The old one is kept
            # where there is no other, or a business unit we no longer see would pass for one without invoices.
            known_before = True
            control = await self._another(unit)
            answers = await self._ask(sought, control)
        missing = Presence.UNPROVEN if known_before or control is not None else Presence.NOTHING_VISIBLE
        return {each.key: _judge(each, answers[each.key], missing) for each in sought}

    async def _control(self, unit: str) -> tuple[Control | None, bool]:
        """(control row, whether one was known already)."""
        with self._ledger.reading() as reading:
            kept = control_rows.control_for(reading, self._pod, unit)
        if kept is not None:
            return Control(*kept), True
        control = await self._another(unit)
        return control, control is None and await self._ours_vanished(unit)

    async def _ours_vanished(self, unit: str) -> bool:
        """We created invoices in the business unit, and Fusion shows none of them: it is no new business unit."""
        with self._ledger.reading() as reading:
            created = control_rows.created_in(reading, self._pod, unit)
        return bool(created) and not await observe(self._client, created)

    async def shows_any(self, unit: str) -> bool:
        """Whether an invoice of the business unit is visible now; the one found becomes its control row."""
        return await self._another(unit) is not None

    async def _another(self, unit: str) -> Control | None:
        record = await any_invoice(self._client, unit)
        if record is None:
            return None
        self.keep(unit, record)
        return Control(record.invoice_id, record.number)

    def keep(self, unit: str, record: InvoiceRecord) -> None:
        """Remember an invoice that was just read as the business unit's control row."""
        if not is_plain(record.number):
            return
        with self._ledger.transaction() as transaction:
            control_rows.keep_control(
                transaction, self._pod, unit, fusion_invoice_id=record.invoice_id, number=record.number
            )

    async def _ask(self, sought: Sequence[Sought], control: Control | None) -> dict[int, Found]:
        plain = [each for each in sought if is_plain(each.number)]
        answers: dict[int, Found] = {}
        if plain:
            found = await find_by_number(self._client, _spellings(plain), control)
            answers = {each.key: found for each in plain}
        for each in sought:
            if each.key not in answers:
                answers[each.key] = await find_by_supplier(
                    self._client, each.supplier_number, each.invoice_date, control
                )
        return answers


async def require_visible(
    ledger: Ledger, client: FusionClient, pod: str, rows: Iterable[Row], records: Mapping[int, InvoiceRecord]
) -> None:
    """An invoice that Fusion does not show is gone only while others of its business unit are shown.

    Args:
        ledger: keeps the control rows.
        client: asked for another invoice where none of a business unit came back.
        pod: the Fusion environment.
        rows: invoices that were read, with ``business_unit`` and ``fusion_invoice_id``.
        records: what came back, by InvoiceId.

    Raises:
        DataAccessLost: neither the invoice nor any other of its business unit is shown.
    """
    missing = {row["business_unit"] for row in rows if row["fusion_invoice_id"] not in records}
    prover = AbsenceProver(ledger, client, pod)
    for unit in sorted(missing - {record.business_unit for record in records.values()}):
        if not await prover.shows_any(unit):
            raise DataAccessLost(unit)


def _spellings(sought: Iterable[Sought]) -> list[str]:
    """The numbers as they are and in capitals: Fusion compares a question's values to the letter."""
    return sorted({spelling for each in sought for spelling in (each.number, each.number.upper())})


def _judge(sought: Sought, found: Found, missing: Presence) -> Finding:
    key = number_key(sought.number)
    same = sorted(_same_number(sought, found.rows), key=lambda row: number_key(row.number) != key)
    here = [row for row in same if _named(row.business_unit, sought.business_unit)]
    if here:
        return Finding(Presence.PRESENT, tuple(here))
    if not found.control_seen:
        return Finding(missing)
    return Finding(Presence.OTHER_BUSINESS_UNIT, tuple(same)) if same else Finding(Presence.ABSENT)


def _same_number(sought: Sought, rows: Iterable[InvoiceRecord]) -> Iterable[InvoiceRecord]:
    """Rows with the number and supplier; a row that does not name its supplier's number counts as his."""
    key = number_key(sought.number)
    for row in rows:
        same = number_key(row.number) == key
        if not same and not sought.exact:
            same = may_be(_letters(row.number), _letters(sought.number))
        if same and _named(row.supplier_number, sought.supplier_number):
            yield row


def _letters(number: str) -> str:
    """As ``number_key``, but each character stays one: one that cannot be read stands for one of them."""
    composed = unicodedata.normalize("NFC", number.strip())
    return "".join(folded if len(folded := each.casefold()) == 1 else each for each in composed)


def _named(text: str | None, sought: str) -> bool:
    """Whether a row's text is, or may be, the one that is sought: one that does not tell is not absent."""
    return text is None or may_be(text, sought)

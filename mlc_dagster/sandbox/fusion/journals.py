"""The general ledger's desk: journal batches are entered, posted and changed.

Debits need not equal credits here, as an import into Fusion may leave a batch in error: whoever reads must check.
Rounding and signs follow Fusion: accounted amounts are entered times rate, the rest of the rounding on one line.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from mlc_dagster.sandbox.fusion.ledger_resources import JOURNAL_BATCHES, JOURNAL_HEADERS, JOURNAL_LINES
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.state import Moment, State, exact, fitting, timestamp
from mlc_dagster.sandbox.seed import US_LEDGER, BusinessUnit, period_name

STAT = "STAT"
CLERK = "GL.CLERK"
POSTED, UNPOSTED = "P", "U"
_MEANINGS = {POSTED: "Posted", UNPOSTED: "Unposted", "S": "Selected for posting", "I": "In process"}

Line = Sequence[Any] | Mapping[str, Any]
"""(combination, debit, credit[, description]), or account, dr, cr, description, accounted_dr, accounted_cr,
stat_amount by name. Amounts as Decimal, int or text."""


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One journal of a batch; what is None is the batch's, the ledger's, or derived."""

    lines: Sequence[Line]
    name: str | None = None
    ledger: str | None = None
    currency: str | None = None
    category: str | None = None
    description: str | None = None
    effective_date: str | None = None
    rate: Decimal | int | str | None = None
    rate_type: str | None = None
    external_reference: str | None = None


@dataclass(frozen=True)
class _Stamp:
    """Who wrote a row, and when."""

    user: str
    moment: str

    def values(self) -> dict[str, Any]:
        return {
            "CreatedBy": self.user,
            "CreationDate": self.moment,
            "LastUpdatedBy": self.user,
            "LastUpdateDate": self.moment,
        }


def _total(rows: Iterable[Row], name: str) -> Decimal:
    return sum((row.values.get(name) or Decimal(0) for row in rows), Decimal(0))


def running_totals(lines: list[Row]) -> dict[str, Decimal]:
    """Entered and accounted sums of a journal's lines, as its RunningTotal attributes."""
    pairs = (("RunningTotal", "Entered"), ("RunningTotalAccounted", "Accounted"))
    return {f"{total}{side}": _total(lines, f"{part}{side}") for total, part in pairs for side in ("Dr", "Cr")}


def _line_values(line: Line) -> dict[str, Any]:
    if isinstance(line, Mapping):
        known = {"account", "dr", "cr", "description", "accounted_dr", "accounted_cr", "stat_amount"}
        unknown = sorted(set(line) - known)
        if unknown:
            msg = f"a journal line has no {', '.join(unknown)}"
            raise ValueError(msg)
        return dict(line)
    return dict(zip(("account", "dr", "cr", "description"), line, strict=False))


def _settle_rounding(lines: list[Row]) -> None:
    """Puts what rounding left between the accounted sides on the largest line of the smaller one."""
    if _total(lines, "EnteredDr") != _total(lines, "EnteredCr"):
        return
    rest = _total(lines, "AccountedDr") - _total(lines, "AccountedCr")
    name = "AccountedCr" if rest > 0 else "AccountedDr"
    side = [line for line in lines if line.values.get(name) is not None]
    if rest and side:
        max(side, key=lambda line: line.values[name]).values[name] += abs(rest)


class JournalDesk(State):
    """What accountants, and the import of subledgers, do to journals."""

    def add_journal_batch(
        self,
        name: str,
        lines: Sequence[Line] = (),
        *,
        last_update_date: Moment | None = None,
        **batch: Any,
    ) -> int:
        """Enters a batch; gives its JeBatchId.

        Args:
            name: BatchName.
            lines: of the batch's only journal; leave out when ``journals`` are given.
            last_update_date: with one in the past the batch becomes visible late, as after a long transaction.
            **batch: as ``build_journal_batch`` takes them.

        Raises:
            ValueError: an unknown ledger, a float, an attribute that does not exist.
        """
        with self.lock:
            moment = last_update_date if last_update_date is not None else self.clock()
            row = self.build_journal_batch(self._last_number + 1, name=name, lines=lines, moment=moment, **batch)
            self._seen(row)
            self.tables["journalBatches"].add(row)
            self.keep("journal", row, JOURNAL_BATCHES)
            return int(row.key)

    def build_journal_batch(
        self,
        number: int,
        *,
        name: str,
        moment: Moment,
        lines: Sequence[Line] = (),
        journals: Sequence[JournalEntry | Mapping[str, Any]] | None = None,
        journal_name: str | None = None,
        period: str | None = None,
        ledger: str = US_LEDGER,
        currency: str | None = None,
        source: str = "Manual",
        category: str = "Adjustment",
        status: str = POSTED,
        effective_date: str | None = None,
        rate: Decimal | int | str | None = None,
        rate_type: str | None = None,
        description: str | None = None,
        created_by: str = CLERK,
        from_subledger: bool = False,
    ) -> Row:
        """The row of a batch, not stored; ids count up from ``number``, batch first, then journal by journal."""
        stamp = _Stamp(created_by, timestamp(moment))
        day = effective_date or stamp.moment[:10]
        period = period or period_name(dt.date.fromisoformat(day))
        if journals is None:
            journals = [JournalEntry(lines=lines, name=journal_name, rate=rate, rate_type=rate_type)]
        entries = [entry if isinstance(entry, JournalEntry) else JournalEntry(**entry) for entry in journals]
        batch = Row(number, {})
        headers: list[Row] = []
        for entry in entries:
            unit = self.unit_of(entry.ledger or ledger)
            money = entry.currency or currency or unit.currency
            shown = {
                "JournalName": entry.name or f"{period} {entry.category or category} {money}",
                "JournalDescription": entry.description,
                "LedgerName": unit.ledger,
                "LedgerCurrencyCode": unit.currency,
                "LegalEntityName": unit.legal_entity,
                "PeriodName": period,
                "DefaultEffectiveDate": entry.effective_date or day,
                "UserJeCategoryName": entry.category or category,
                "ExternalReference": entry.external_reference,
                **self._rate(unit, money, entry, entry.effective_date or day),
                **stamp.values(),
            }
            header = Row(number + 1, shown | ({"JeFromSlaFlagMeaning": "Yes"} if from_subledger else {}))
            header.children["journalLines"] = self._lines(header, entry.lines, unit, stamp)
            number += 1 + len(entry.lines)
            header.values.update(running_totals(header.children["journalLines"]))
            headers.append(header)
        batch.values = {
            "JeBatchId": batch.key,
            "BatchName": name,
            "BatchDescription": description,
            "DefaultPeriodName": period,
            "Status": status,
            "StatusMeaning": _MEANINGS.get(status, "Error"),
            "PostedDate": stamp.moment[:10] if status == POSTED else None,
            "ChartOfAccountsName": chart_of(self.unit_of(ledger)),
            "UserJeSourceName": source,
            **stamp.values(),
        }
        batch.children["journalHeaders"] = headers
        self.sum_up(batch)
        return batch

    def journal_batch(self, batch_id: int) -> Row:
        """The batch's row. Raises LookupError."""
        return self.row_of("journalBatches", batch_id)

    def post_journal_batch(self, batch_id: int) -> None:
        """Posts: status, posting date and update date of batch and journals; the lines stay as they are."""
        with self.lock:
            batch = self.journal_batch(batch_id)
            changes = {"Status": POSTED, "StatusMeaning": _MEANINGS[POSTED], "PostedDate": self.now()[:10]}
            self._changed(batch, None, changes, touch=True)
            for header in batch.children["journalHeaders"]:
                header.values |= {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
                header.version += 1
            self.keep("journal", batch, JOURNAL_BATCHES)

    def change_journal_line(
        self,
        batch_id: int,
        line: int,
        values: Mapping[str, Any],
        *,
        journal: str | None = None,
        touch_parent: bool = True,
    ) -> None:
        """Changes a line; an entered amount brings its accounted one with it.

        Args:
            batch_id: JeBatchId.
            line: JeLineNumber.
            values: under Fusion's attribute names.
            journal: JournalName; the batch's first journal when None.
            touch_parent: whether journal and batch get a new LastUpdateDate too. Their totals follow either way.

        Raises:
            LookupError: no such batch, journal or line.
            ValueError: an attribute that does not exist, or a float.
        """
        with self.lock:
            batch = self.journal_batch(batch_id)
            header = _journal(batch, journal)
            rows = header.children["journalLines"]
            row = next((row for row in rows if row.values["JeLineNumber"] == line), None)
            if row is None:
                msg = f"journal {header.values['JournalName']!r} of batch {batch_id} has no line {line}"
                raise LookupError(msg)
            changes = fitting(JOURNAL_LINES, values)
            unit = self.unit_of(header.values["LedgerName"])
            for side in ("Dr", "Cr"):
                if f"Entered{side}" in changes and f"Accounted{side}" not in changes:
                    entered = changes[f"Entered{side}"]
                    changes[f"Accounted{side}"] = self._accounted(entered, header, unit)
            row.values |= changes | {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
            row.version += 1
            header.values |= running_totals(rows)
            self._changed(batch, header, {}, touch=touch_parent)
            self.keep("journal", batch, JOURNAL_BATCHES)

    def change_journal_header(
        self,
        batch_id: int,
        values: Mapping[str, Any],
        *,
        journal: str | None = None,
        touch_parent: bool = True,
    ) -> None:
        """Changes attributes of a journal; ``touch_parent`` is about the batch. Raises LookupError, ValueError."""
        with self.lock:
            batch = self.journal_batch(batch_id)
            header = _journal(batch, journal)
            header.values |= fitting(JOURNAL_HEADERS, values)
            header.values |= {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
            header.version += 1
            self._changed(batch, None, {}, touch=touch_parent)
            self.keep("journal", batch, JOURNAL_BATCHES)

    def unit_of(self, ledger: str) -> BusinessUnit:
        for unit in self.units.values():
            if unit.ledger == ledger:
                return unit
        msg = f"no ledger {ledger!r}"
        raise ValueError(msg)

    def _rate(self, unit: BusinessUnit, money: str, entry: JournalEntry, day: str) -> dict[str, Any]:
        foreign = money not in {unit.currency, STAT}
        rate = exact(entry.rate) if foreign else Decimal(1)
        if rate is None:
            msg = f"a journal in {money} of a ledger in {unit.currency} needs a rate"
            raise ValueError(msg)
        return {
            "CurrencyCode": money,
            "CurrencyConversionDate": day,
            "CurrencyConversionRate": rate,
            "UserCurrencyConversionType": entry.rate_type or "User",
        }

    def _accounted(self, entered: Decimal | None, header: Row, unit: BusinessUnit) -> Decimal | None:
        money = header.values["CurrencyCode"]
        if entered is None or money in {unit.currency, STAT}:
            return entered
        places = Decimal(1).scaleb(-self.seed.currencies[unit.currency])
        return (entered * header.values["CurrencyConversionRate"]).quantize(places, ROUND_HALF_UP)

    def _lines(self, header: Row, lines: Sequence[Line], unit: BusinessUnit, stamp: _Stamp) -> list[Row]:
        money = {
            name: header.values[name]
            for name in (
                "CurrencyCode",
                "CurrencyConversionDate",
                "CurrencyConversionRate",
                "UserCurrencyConversionType",
            )
        }
        rows: list[Row] = []
        derived = True
        for place, line in enumerate(lines, start=1):
            given = _line_values(line)
            debit, credit = exact(given.get("dr")), exact(given.get("cr"))
            accounted = exact(given.get("accounted_dr")), exact(given.get("accounted_cr"))
            derived = derived and accounted == (None, None)
            values = {
                "JeLineNumber": place,
                "AccountCombination": given["account"],
                "ChartOfAccountsName": chart_of(unit),
                "EnteredDr": debit,
                "EnteredCr": credit,
                "AccountedDr": self._accounted(debit, header, unit) if accounted[0] is None else accounted[0],
                "AccountedCr": self._accounted(credit, header, unit) if accounted[1] is None else accounted[1],
                "StatAmount": exact(given.get("stat_amount")),
                "Description": given.get("description"),
                **money,
                **stamp.values(),
            }
            rows.append(Row(int(header.key) + place, values))
        if derived:
            _settle_rounding(rows)
        return rows

    def sum_up(self, batch: Row) -> None:
        headers = batch.children["journalHeaders"]
        batch.values |= {name: _total(headers, name) for name in running_totals([])}

    def _changed(self, batch: Row, header: Row | None, changes: dict[str, Any], *, touch: bool) -> None:
        self.sum_up(batch)
        if not touch:
            return
        stamp = {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
        if header is not None:
            header.values |= stamp
            header.version += 1
        self.tables["journalBatches"].change(batch, changes | stamp)


def chart_of(unit: BusinessUnit) -> str:
    """ChartOfAccountsName of the unit's ledger."""
    return f"{unit.name[:3]} Chart of Accounts"


def _journal(batch: Row, name: str | None) -> Row:
    for header in batch.children["journalHeaders"]:
        if name is None or header.values["JournalName"] == name:
            return header
    msg = f"batch {batch.key} has no journal {name!r}"
    raise LookupError(msg)

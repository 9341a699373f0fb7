"""821: a journal, by mutual agreement; X12 has no set of its own for it. The layout keeps account segments apart.

One ENT per journal line, with the natural account (ACT), amounts (FIR) and an FA2 for each segment of its account.
FIR03 is the accounted amount in the ledger's currency (CUR), FIR11 and FIR12 currency and amount as entered; FIR09 says
debit or credit.
"""

import hashlib
from collections.abc import Iterable
from decimal import Decimal

from mlc_dagster.exports.balance import STATISTICAL, check_balance
from mlc_dagster.exports.writing import Change, DocumentHeld, Version
from mlc_dagster.exports.x12.accounts import Accounts, split
from mlc_dagster.exports.x12.headings import ZERO, Headings, Pen
from mlc_dagster.fusion.journal_lines import JournalLine
from mlc_dagster.fusion.records import Journal
from mlc_dagster.settings.fusion import ChartSettings

MOST_LINES = 999_999
"""ENT01 has six digits."""

_PURPOSES = {Change.NEW: "00", Change.CHANGE: "05", Change.CANCEL: "01"}


class JournalDocument:
    """Writes the segments between ST and SE."""

    order = ("B2A", "DTM", "TRN", "N1", "ENT", "ACT", "CUR", "FIR", "REF", "MSG", "FA1", "FA2")
    checks = (
        "debits equal credits in every currency, entered and accounted",
        "every account has the segments of its chart",
        f"no more than {MOST_LINES} lines",
    )

    def __init__(self, pen: Pen, accounts: Accounts) -> None:
        self._pen = pen
        self._rules = rules = pen.rules
        self._accounts = accounts
        self._headings = Headings(pen, "journal", currency="ledger_currency")
        self._b2a = pen.shape("B2A", {"purpose": "change"})
        self._period = pen.shape(
            "DTM", {"date": "journal.effective_date"}, constants={"qualifier": rules.period_end}, settable=False
        )
        self._trace = pen.shape("TRN", {"number": "journal.record_id"}, constants={"type": "1"})
        self._entry = pen.shape("ENT", {"number": "line.line_number"})
        self._account = pen.shape("ACT", {"account": "line.account_combination"})
        self._amounts = pen.shape(
            "FIR",
            {
                "amount": "line.accounted_dr or accounted_cr",
                "date": "journal.effective_date",
                "side": "line.accounted_dr or accounted_cr",
                "currency": "line.currency",
                "entered": "line.entered_dr or entered_cr",
            },
            constants={"qualifier": "ZZ", "code": rules.transaction_code},
        )
        self._number = pen.shape("REF", {"number": "line.line_number"}, constants={"qualifier": "LI"}, settable=False)
        self._text = pen.shape("MSG", {"text": "line.description"}, only_with="text")
        with_accounts = rules.accounts != "none"
        self._fa1 = pen.shape("FA1", {}, constants={"agency": "ZZ"}, shown=with_accounts)
        self._fa2 = pen.shape(
            "FA2", {"code": "segment_codes", "value": "line.account_combination"}, shown=with_accounts
        )

    def segments(self, version: Version) -> tuple[list[str], dict[str, Decimal]]:
        """Segments and exact totals. Raises DocumentHeld."""
        journal = version.read.content
        if not isinstance(journal, Journal):
            raise DocumentHeld("WRONG_SOURCE", f"an 821 carries journals, not {version.read.source}")
        if version.change is Change.CANCEL and self._rules.on_cancel == "hold":
            raise DocumentHeld("CANCELED", "the journal is gone from Fusion; tell the partner, or set on_cancel: send")
        if not 1 <= len(journal.lines) <= MOST_LINES:
            raise DocumentHeld(
                "NO_LINES" if not journal.lines else "OVERFLOW",
                f"the journal has {len(journal.lines)} lines, an 821 takes 1 to {MOST_LINES}",
                field="journal.lines",
                target="ENT",
            )
        if journal.effective_date is None:
            raise DocumentHeld(
                "FIELD_MISSING",
                "the journal has no effective date, which an 821 gives as its period's",
                field="journal.effective_date",
                target="DTM02 date",
            )
        totals = check_balance(journal)
        chart = self._accounts.of_ledger(journal.ledger)
        scope = (journal,)
        out = [
            self._b2a(scope, _PURPOSES[version.change]),
            self._period(scope, journal.effective_date),
            *self._headings.dates(scope),
            self._trace(scope, trace_number(journal)),
            *self._headings.parties(scope),
            *self._headings.references(scope, 0),
        ]
        for count, line in enumerate(journal.lines, 1):
            out += self._line(journal, line, count, chart)
        return out, dict(totals)

    def _line(self, journal: Journal, line: JournalLine, count: int, chart: ChartSettings) -> Iterable[str]:
        if not line.account_combination:
            raise DocumentHeld(
                "FIELD_MISSING",
                f"line {line.line_number} has no account combination",
                field="line.account_combination",
                target="ACT01 account",
            )
        scope = (journal, line)
        parts = split(chart, line.account_combination, "line.account_combination")
        yield self._entry(scope, count)
        yield self._account.again(scope, dict(parts)[chart.natural_account])
        yield from self._headings.currency(scope, journal.ledger_currency)
        side, accounted, currency, entered = self._sided(journal, line)
        yield self._amounts(scope, accounted, journal.effective_date, side, currency, entered)
        yield self._number.again(scope, str(line.line_number))
        yield from self._headings.references(scope, 1)
        if line.description:
            for piece in self._pen.pieces(line.description, 264):
                text = self._text(scope, piece)
                if text:
                    yield text
        whole = self._rules.account_qualifier
        if self._rules.accounts == "segments":
            yield self._fa1.again(())
            for name, value in parts:
                yield self._fa2.again((), self._rules.segment_codes.get(name, whole), value)
        elif self._rules.accounts == "whole":
            yield self._fa1.again(())
            yield self._fa2.again((), whole, line.account_combination)

    def _sided(self, journal: Journal, line: JournalLine) -> tuple[str, Decimal, str, Decimal]:
        """D or C, accounted amount, entered currency and amount."""
        currency = line.currency or journal.currency
        if currency is None or STATISTICAL in (currency, journal.currency):
            raise DocumentHeld(
                "STATISTICAL" if currency else "FIELD_MISSING",
                f"line {line.line_number}: currency {currency!r} is none that an 821 can name",
                field="line.currency",
                target="FIR11 currency",
            )
        accounted_dr, accounted_cr = line.accounted_dr, line.accounted_cr
        if accounted_dr is None and accounted_cr is None and currency == journal.ledger_currency:
            accounted_dr, accounted_cr = line.entered_dr, line.entered_cr
        entered_dr, entered_cr = line.entered_dr or ZERO, line.entered_cr or ZERO
        if accounted_dr is None and accounted_cr is None:
            raise DocumentHeld(
                "FIELD_MISSING",
                f"line {line.line_number} has no accounted amount",
                field="line.accounted_dr",
                target="FIR03 amount",
            )
        accounted_dr, accounted_cr = accounted_dr or ZERO, accounted_cr or ZERO
        if (accounted_dr or entered_dr) and (accounted_cr or entered_cr):
            raise DocumentHeld(
                "BOTH_SIDES",
                f"line {line.line_number} has a debit and a credit; FIR09 names one side",
                field="line.accounted_dr",
                target="FIR09 side",
            )
        is_credit = bool(accounted_cr or entered_cr)
        accounted, entered = (accounted_cr, entered_cr) if is_credit else (accounted_dr, entered_dr)
        if min(accounted, entered) < 0 and self._rules.negative_amounts == "flip":
            if max(accounted, entered) > 0:
                raise DocumentHeld(
                    "SIGN",
                    f"line {line.line_number}: {accounted} accounted and {entered} entered have different signs",
                    field="line.accounted_dr",
                    target="FIR09 side",
                )
            self._pen.tally.add("flipped_amounts")
            is_credit, accounted, entered = not is_credit, accounted.copy_abs(), entered.copy_abs()
        return "C" if is_credit else "D", accounted, currency, entered


def trace_number(journal: Journal) -> str:
    """TRN02: the batch's id and eight digits of the record id's SHA-256; equal in all versions of the journal."""
    return f"{journal.batch_id}-{hashlib.sha256(journal.record_id.encode()).hexdigest()[:8].upper()}"

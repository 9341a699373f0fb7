"""Lines of an invoice in Fusion's words: their account combinations, judged, and the rounding line.

Belongs here: one line and what Fusion's chart says to its account. Does not: building combinations (``accounts``), the
invoice around the lines (``mapping``).
"""

import datetime as dt
from decimal import Decimal

from mlc_dagster.settings import ChartSettings, CompanySettings
from mlc_dagster.stampli.checks import unbalanced
from mlc_dagster.stampli.crosswalks import Crosswalks
from mlc_dagster.stampli.model import Invoice, InvoiceLine
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation import reference_shapes as lookups
from mlc_dagster.stampli.validation.accounts import AccountBuilder, Combination, own_balancing_values, template_of
from mlc_dagster.stampli.validation.reference_shapes import References

BodyValue = str | int | Decimal | dt.date | None

_LINE_TYPES = {"ITEM": "Item", "TAX": "Tax", "FREIGHT": "Freight", "MISC": "Miscellaneous"}
_EXPENSE = "E"


class LineMapper:
    """Lines of one invoice: their combinations, looked up once each, and what is wrong with them."""

    def __init__(
        self,
        invoice: Invoice,
        company: CompanySettings,
        chart: ChartSettings,
        references: References,
        crosswalks: Crosswalks,
        on: dt.date | None,
    ) -> None:
        self._invoice = invoice
        self._company = company
        self._chart = chart
        self._references = references
        # Without an accounting date the invoice is parked anyway; its accounts are judged by its own date.
        self._on = on or invoice.invoice_date
        self._builder = AccountBuilder(company, chart, crosswalks, invoice.invoice_date)
        self._own = own_balancing_values(company, chart)
        self._used = {segment.name for segment in template_of(company, chart)}
        self._unused: set[str] = set()
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def line(self, line: InvoiceLine) -> dict[str, BodyValue]:
        """The line in Fusion's words; meaningless when it left problems."""
        # The checks refused lines without an account; an empty one can only be told again.
        place = f"gl_account of line {line.number}"
        combination = self._account(line.gl_account or "", line, place) if line.gl_account else None
        if line.gl_account is None:
            self.problems.append(problem("FIELD_MISSING", field=place))
        accrual = None
        if line.amort_account is not None:
            accrual = self._account(line.amort_account, line, f"amort_account of line {line.number}")
        self._warn_unused(line)
        return {
            "LineNumber": line.number,
            "LineType": self._line_type(line),
            "LineAmount": line.amount,
            "Description": line.description,
            "DistributionCombination": combination,
            "TaxClassification": line.tax_code if self._company.tax_mode == "fusion_calculates" else None,
            "MultiperiodAccountingStartDate": line.amort_start,
            "MultiperiodAccountingEndDate": line.amort_end,
            "MultiperiodAccountingAccrualAccount": accrual,
        }

    def rounding_line(self) -> tuple[dict[str, BodyValue], ...]:
        """The line that takes a difference within the tolerance; nothing when there is none."""
        gap = unbalanced(self._invoice, self._company)
        account = self._company.rounding_account
        if not gap or abs(gap) > self._company.tolerance or account is None:
            return ()
        return (
            {
                "LineNumber": max((line.number for line in self._invoice.lines), default=0) + 1,
                "LineType": "Miscellaneous",
                "LineAmount": gap,
                "Description": "Rounding",
                "DistributionCombination": self._account(account, None, "rounding_account"),
            },
        )

    def _line_type(self, line: InvoiceLine) -> str:
        if line.line_type == "TAX" and self._company.tax_mode == "item_line":
            return "Item"
        return _LINE_TYPES[line.line_type]

    def _account(self, code: str, line: InvoiceLine | None, field: str) -> str | None:
        asked, problems = self._builder.combination(code, line, field)
        if asked is not None:
            problems += self._judge(asked, code, field)
        self.problems += problems
        return None if asked is None else self._chart.delimiter.join(asked.segments)

    def _judge(self, asked: Combination, code: str, field: str) -> list[Problem]:
        text = self._chart.delimiter.join(asked.segments)
        shown = text if code in (text, asked.segments[self._position]) else f"{code} → {text}"
        found = self._foreign(asked, shown, field) + self._cost_center(asked, field)
        known = self._references.combination(self._company.chart, asked.segments)
        if known is None:
            if self._company.unknown_combination == "try":
                self.warnings.append(problem("ACCOUNT_NOT_LISTED", field=field, value=shown))
                return found
            remedy = (
                "Fusion has no such combination: create it, code the line differently or set unknown_combination: try."
            )
            return [*found, problem("ACCOUNT_INVALID", field=field, value=shown, remedy=remedy)]
        if why := _not_postable(known, self._on):
            remedy = f"The combination {why}: change it in Fusion or code the line differently."
            found.append(problem("ACCOUNT_INVALID", field=field, value=shown, remedy=remedy))
        if asked.cost_center_defaulted and self._company.require_cost_center and known.account_type == _EXPENSE:
            remedy = f"{code} is an expense account and needs a cost centre; code it in Stampli."
            place = field.replace("gl_account", "dim_cost_center")
            found.append(problem("COST_CENTER_MISSING", field=place, remedy=remedy))
        return found

    @property
    def _position(self) -> int:
        return self._chart.segments.index(self._chart.natural_account)

    def _foreign(self, asked: Combination, shown: str, field: str) -> list[Problem]:
        value = asked.segments[self._chart.segments.index(self._chart.balancing_segment)]
        if self._company.intercompany or not self._own or value in self._own:
            return []
        remedy = (
            f"{self._chart.balancing_segment} {value} is not {' or '.join(self._own)}: correct the coding, or declare "
            "balancing_values or intercompany for the company."
        )
        return [problem("INTERCOMPANY_NOT_DECLARED", field=field, value=shown, remedy=remedy)]

    def _cost_center(self, asked: Combination, field: str) -> list[Problem]:
        """The value set's verdict on a cost centre that the line names, where the chart has one to ask."""
        value = asked.cost_center
        if value is None or self._chart.cost_center_value_set is None:
            return []
        known = self._references.cost_center(self._company.chart, value)
        why = f"is not in {self._chart.cost_center_value_set}" if known is None else _not_usable(known, self._on)
        if why is None:
            return []
        remedy = f"Cost centre {value} {why}: enable it in Fusion or code the line differently."
        place = field.replace("gl_account", "dim_cost_center")
        return [problem("COST_CENTER_INVALID", field=place, value=value, remedy=remedy)]

    def _warn_unused(self, line: InvoiceLine) -> None:
        for name in sorted(line.dimensions.keys() - self._used - self._unused):
            if name == "cost_center" and self._chart.cost_center is not None:
                continue
            self._unused.add(name)
            self.warnings.append(problem("DIM_UNKNOWN", field=f"dim_{name}", value=line.dimensions[name]))


def _outside(start: dt.date | None, end: dt.date | None, on: dt.date) -> str | None:
    if start is not None and on < start:
        return f"is valid from {start}, after the accounting date {on}"
    if end is not None and on > end:
        return f"was valid until {end}, before the accounting date {on}"
    return None


def _not_postable(known: lookups.Combination, on: dt.date) -> str | None:
    if not known.enabled:
        return "is disabled"
    if known.summary:
        return "is a summary account"
    if not known.detail_posting:
        return "does not allow detail posting"
    return _outside(known.start, known.end, on)


def _not_usable(known: lookups.SegmentValue, on: dt.date) -> str | None:
    if not known.enabled:
        return "is disabled"
    if known.summary:
        return "is a summary value"
    return _outside(known.start, known.end, on)

"""From a checked invoice to what Fusion is asked to create.

Belongs here: everything that takes settings, crosswalks and reference data together. Does not: reading reference data
(``needed`` says what to read), the rules that need none (``checks``), JSON (``body``).
Every problem of an invoice is reported, not only the first.
"""

import datetime as dt
from decimal import Decimal

import msgspec

from mlc_dagster.settings import ChartSettings, CompanySettings
from mlc_dagster.stampli.checks import MEMOS, NUMBER_LENGTH
from mlc_dagster.stampli.crosswalks import Crosswalks
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.accounts import natural_account, translate
from mlc_dagster.stampli.validation.line_mapping import BodyValue, LineMapper
from mlc_dagster.stampli.validation.periods import accounting_date, period_problems
from mlc_dagster.stampli.validation.reference_shapes import References
from mlc_dagster.stampli.validation.sites import Choice, choose, vendor_target

_INVOICE_TYPES = {
    "STANDARD": "Standard",
    "CREDIT_MEMO": "Credit memo",
    "DEBIT_MEMO": "Debit memo",
    "PREPAYMENT": "Prepayment",
}
_USER_RATE = "user"


class Mapping(msgspec.Struct, frozen=True):
    """One invoice in Fusion's words; goes to ``body.render_body``."""

    supplier_id: int
    supplier_number: str
    supplier_name: str
    site_name: str
    fusion_number: str
    business_unit: str
    accounting_date: dt.date
    currency: str
    amount: Decimal
    header: dict[str, BodyValue]
    """Attributes of the invoice by Fusion's names, without InvoiceGroup and lines; None is left out."""
    lines: tuple[dict[str, BodyValue], ...]
    crosswalk_version: str
    warnings: tuple[Problem, ...] = ()


class Needed(msgspec.Struct, frozen=True):
    """Keys whose reference data must be read before invoices are mapped; unite with ``|``."""

    supplier_numbers: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    """Values of the natural account segment."""
    cost_centers: frozenset[str] = frozenset()

    def __or__(self, other: "Needed") -> "Needed":
        # Most invoices of a day need what those before them needed.
        if (
            other.supplier_numbers <= self.supplier_numbers
            and other.accounts <= self.accounts
            and other.cost_centers <= self.cost_centers
        ):
            return self
        return Needed(
            self.supplier_numbers | other.supplier_numbers,
            self.accounts | other.accounts,
            self.cost_centers | other.cost_centers,
        )


def needed(invoice: Invoice, company: CompanySettings, chart: ChartSettings, crosswalks: Crosswalks) -> Needed:
    """What ``map_invoice`` will ask for."""
    on = invoice.invoice_date
    target = vendor_target(invoice, crosswalks)
    codes = {code for line in invoice.lines for code in (line.gl_account, line.amort_account) if code is not None}
    named = [translate(crosswalks.accounts, code, on) for code in sorted(codes)]
    if company.rounding_account is not None:
        named.append(company.rounding_account)
    accounts = {natural_account(account, chart) for account in named if account is not None}
    centers = {line.dimensions["cost_center"] for line in invoice.lines if "cost_center" in line.dimensions}
    cost_centers = {translate(crosswalks.cost_centers, code, on) for code in centers}
    return Needed(
        frozenset() if target is None else frozenset({target.fusion}),
        frozenset(account for account in accounts if account is not None),
        frozenset(value for value in cost_centers if value is not None),
    )


def map_invoice(
    invoice: Invoice,
    *,
    company: CompanySettings,
    chart: ChartSettings,
    ledger_currency: str,
    references: References,
    crosswalks: Crosswalks,
    today: dt.date,
    number_reused: bool = False,
) -> Mapping | list[Problem]:
    """The invoice in Fusion's words, or everything that stands against it.

    Args:
        invoice: one that ``checks.check_invoice`` found nothing wrong with.
        company: settings of its company.
        chart: the company's chart of accounts.
        ledger_currency: currency of the company's ledger.
        references: what ``needed`` asked for, read before.
        crosswalks: rows are chosen by the invoice date, so that a later attempt maps alike.
        today: local date of the legal entity.
        number_reused: a memo whose number an invoice of the supplier has.

    Raises:
        TemplateFault: the account template does not fit the chart.
    """
    choice, problems, warnings = choose(
        invoice, business_unit=company.business_unit, references=references, crosswalks=crosswalks, today=today
    )
    number = _number(invoice, company, number_reused=number_reused, problems=problems)
    on = accounting_date(invoice, company, today)
    if isinstance(on, Problem):
        problems.append(on)
    else:
        problems += period_problems(on, ledger=company.ledger, references=references, today=today)
    rate = _rate(invoice, company, ledger_currency, problems, warnings)
    accounts = LineMapper(invoice, company, chart, references, crosswalks, on if isinstance(on, dt.date) else None)
    lines = tuple(accounts.line(line) for line in invoice.lines)
    lines += accounts.rounding_line()
    problems += accounts.problems
    warnings += accounts.warnings
    if problems or choice is None or isinstance(on, Problem):
        return problems
    return Mapping(
        supplier_id=choice.supplier.supplier_id,
        supplier_number=choice.supplier.number,
        supplier_name=choice.supplier.name,
        site_name=choice.site.name,
        fusion_number=number,
        business_unit=company.business_unit,
        accounting_date=on,
        currency=invoice.currency,
        amount=invoice.amount,
        header=_header(invoice, company, choice, number, on) | rate,
        lines=lines,
        crosswalk_version=crosswalks.version,
        warnings=tuple(warnings),
    )


def _number(invoice: Invoice, company: CompanySettings, *, number_reused: bool, problems: list[Problem]) -> str:
    if not number_reused or invoice.invoice_type not in MEMOS:
        return invoice.number
    if company.memo_suffix is None:
        problems.append(problem("MEMO_NUMBER_REUSED", field="invoice_number", value=invoice.number))
        return invoice.number
    number = invoice.number + company.memo_suffix
    if len(number) > NUMBER_LENGTH:
        remedy = f"With memo_suffix it has {len(number)} characters, Fusion takes {NUMBER_LENGTH}."
        problems.append(problem("LENGTH", field="invoice_number", value=number, remedy=remedy))
    return number


def _header(
    invoice: Invoice, company: CompanySettings, choice: Choice, number: str, on: dt.date
) -> dict[str, BodyValue]:
    return {
        "InvoiceNumber": number,
        "InvoiceCurrency": invoice.currency,
        "InvoiceAmount": invoice.amount,
        "InvoiceDate": invoice.invoice_date,
        "BusinessUnit": company.business_unit,
        "Supplier": choice.supplier.name,
        "SupplierNumber": choice.supplier.number,
        "SupplierSite": choice.site.name,
        "InvoiceType": _INVOICE_TYPES[invoice.invoice_type],
        "InvoiceSource": company.invoice_source,
        "LegalEntity": company.legal_entity,
        "AccountingDate": on,
        "Description": invoice.description,
        "InvoiceReceivedDate": invoice.received_date,
        "PaymentTerms": invoice.payment_terms or company.payment_terms,
        "PaymentMethod": invoice.payment_method,
        "PayGroup": invoice.pay_group,
    }


def _rate(
    invoice: Invoice,
    company: CompanySettings,
    ledger_currency: str,
    problems: list[Problem],
    warnings: list[Problem],
) -> dict[str, BodyValue]:
    """Conversion attributes; none for an invoice in the ledger's currency."""
    if invoice.currency == ledger_currency:
        return {}
    rate_type = invoice.exchange_rate_type or company.conversion_rate_type
    if rate_type is None:
        remedy = (
            f"The ledger is kept in {ledger_currency}: give a rate type in Stampli or conversion_rate_type for the "
            "company."
        )
        problems.append(problem("RATE_MISSING", field="exchange_rate_type", value=invoice.currency, remedy=remedy))
        return {}
    attributes: dict[str, BodyValue] = {
        "ConversionRateType": rate_type,
        "ConversionDate": invoice.exchange_rate_date or invoice.invoice_date,
    }
    if rate_type.casefold() == _USER_RATE:
        if invoice.exchange_rate is None or invoice.exchange_rate <= 0:
            remedy = f"Rate type {rate_type} takes its rate from the file; give one above zero in Stampli."
            value = None if invoice.exchange_rate is None else str(invoice.exchange_rate)
            problems.append(problem("RATE_MISSING", field="exchange_rate", value=value, remedy=remedy))
            return {}
        return attributes | {"ConversionRate": invoice.exchange_rate}
    if invoice.exchange_rate is not None:
        warnings.append(problem("RATE_IGNORED", field="exchange_rate", value=f"{invoice.exchange_rate:f}"))
    return attributes

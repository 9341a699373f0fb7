"""Checks that need nothing but the invoice and its company's settings.

Belongs here: what is wrong with an invoice whatever Fusion knows. Does not: text of cells (``assembly`` refused those
before), suppliers, accounts, periods and rates (``mapping``). Each rule is one function that yields what it finds.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from pathlib import PurePosixPath

from mlc_dagster.money import decimals, difference, minor_units, total
from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.model import Invoice, InvoiceLine, fixed_point
from mlc_dagster.stampli.reasons import Problem, problem

NUMBER_LENGTH = 50
DESCRIPTION_LENGTH = 240
"""What Fusion takes for InvoiceNumber, and for Description of invoice and line."""

MEMOS = frozenset({"CREDIT_MEMO", "DEBIT_MEMO"})
INVOICE_TYPES = frozenset({"STANDARD", "PREPAYMENT"}) | MEMOS
LINE_TYPES = frozenset({"ITEM", "TAX", "FREIGHT", "MISC"})
POSTABLE = "APPROVED"
VOID = "VOID"


def check_invoice(invoice: Invoice, company: CompanySettings) -> list[Problem]:
    """Everything that parks the invoice; empty when nothing does.

    A VOID invoice is not checked: nothing of it is posted.
    """
    if invoice.status == VOID or _plainly_right(invoice, company):
        return []
    return all_problems(invoice, company)


def all_problems(invoice: Invoice, company: CompanySettings) -> list[Problem]:
    """What each rule says, whatever the invoice's status."""
    return [
        *_approved(invoice),
        *_types(invoice, company),
        *_currency(invoice),
        *_lengths(invoice),
        *_line_numbers(invoice),
        *_signs(invoice),
        *_purchase_orders(invoice),
        *_accounts_given(invoice),
        *_amortisation(invoice),
        *_tax(invoice, company),
        *_freight(invoice),
        *_amounts(invoice, company),
        *_document(invoice),
    ]


def _plainly_right(invoice: Invoice, company: CompanySettings) -> bool:
    """Whether no rule can find anything: one look, which is all that most invoices need. False when in doubt.

    What is a fault, and how it is told, is said by the rules alone; here may be refused what they let pass.
    """
    unit, memo = _minor_unit(invoice.currency), invoice.invoice_type in MEMOS
    if (
        unit is None
        or not (memo or invoice.invoice_type == "STANDARD")
        or invoice.approved_by is None
        or invoice.approved_at is None
        or invoice.status != POSTABLE
        or not invoice.amount.same_quantum(unit)
        or (invoice.amount >= 0 if memo else invoice.amount < 0)
        or len(invoice.number) > NUMBER_LENGTH
        or not invoice.number.strip()
        or (invoice.description is not None and len(invoice.description) > DESCRIPTION_LENGTH)
    ):
        return False
    last = 0
    taxed = invoice.tax_amount is not None or invoice.freight_amount is not None
    for line in invoice.lines:
        if (
            line.number <= last
            or line.gl_account is None
            or not line.amount.same_quantum(unit)
            or (memo and line.amount > 0)
            or (line.description is not None and len(line.description) > DESCRIPTION_LENGTH)
            or line.po_number is not None
            or line.po_line is not None
            or line.po_schedule is not None
            or line.receipt_number is not None
            or line.amort_start is not None
            or line.amort_end is not None
        ):
            return False
        last = line.number
        if line.line_type != "ITEM":
            if line.line_type not in LINE_TYPES:
                return False
            taxed = True
    if last == 0 or unbalanced(invoice, company):
        return False
    # Rules about what few invoices have are asked themselves.
    rest: list[Iterable[Problem]] = []
    if taxed:
        rest += [_currency(invoice), _tax(invoice, company), _freight(invoice)]
    if invoice.document_file is not None:
        rest.append(_document(invoice))
    return not rest or not any(chain.from_iterable(rest))


@lru_cache(maxsize=512)
def _minor_unit(currency: str) -> Decimal | None:
    units = minor_units(currency)
    return None if units is None else Decimal(1).scaleb(-units)


def warn_about(invoice: Invoice) -> list[Problem]:
    """What people should know although it parks nothing."""
    found: list[Problem] = []
    for line in invoice.lines:
        if line.quantity is None or line.unit_price is None:
            continue
        priced = line.quantity * line.unit_price
        # Half a minor unit is what rounding of the product may cost.
        allowed = Decimal(5).scaleb(-1 - (minor_units(invoice.currency) or 0))
        if abs(difference(priced, line.amount)) > allowed:
            value = (
                f"{fixed_point(line.quantity)} × {fixed_point(line.unit_price)} is {fixed_point(priced)}, "
                f"the line says {fixed_point(line.amount)}"
            )
            found.append(problem("QUANTITY_DIFFERS", field=_of(line, "line_amount"), value=value))
    return found


def unbalanced(invoice: Invoice, company: CompanySettings) -> Decimal:
    """Header minus lines, in units of the invoice's currency; tax that Fusion will add counts as a line."""
    parts = [line.amount for line in invoice.lines]
    if company.tax_mode == "fusion_calculates":
        parts.append(invoice.tax_amount or Decimal(0))
    return difference(invoice.amount, total(parts))


def _of(line: InvoiceLine, column: str) -> str:
    return f"{column} of line {line.number}"


def _approved(invoice: Invoice) -> Iterator[Problem]:
    if invoice.status != POSTABLE:
        yield problem("NOT_APPROVED", field="status", value=invoice.status)
    if invoice.approved_by is None:
        yield problem("NOT_APPROVED", field="approved_by", value="empty")
    if invoice.approved_at is None:
        yield problem("NOT_APPROVED", field="approved_at", value="empty")


def _types(invoice: Invoice, company: CompanySettings) -> Iterator[Problem]:
    if invoice.invoice_type not in INVOICE_TYPES:
        remedy = f"Write one of {', '.join(sorted(INVOICE_TYPES))}."
        yield problem("FIELD_INVALID", field="invoice_type", value=invoice.invoice_type, remedy=remedy)
    if invoice.invoice_type == "PREPAYMENT" and not company.prepayments:
        yield problem("PREPAYMENT_NOT_ALLOWED", field="invoice_type", value=invoice.invoice_type)
    if not invoice.lines:
        yield problem("FIELD_MISSING", field="line_number", value="the invoice has no lines")
    for line in invoice.lines:
        if line.line_type not in LINE_TYPES:
            remedy = f"Write one of {', '.join(sorted(LINE_TYPES))}."
            yield problem("FIELD_INVALID", field=_of(line, "line_type"), value=line.line_type, remedy=remedy)


def _money(invoice: Invoice) -> Iterator[tuple[InvoiceLine | None, str, Decimal]]:
    yield None, "invoice_amount", invoice.amount
    if invoice.tax_amount is not None:
        yield None, "tax_amount", invoice.tax_amount
    if invoice.freight_amount is not None:
        yield None, "freight_amount", invoice.freight_amount
    for line in invoice.lines:
        yield line, "line_amount", line.amount


def _currency(invoice: Invoice) -> Iterator[Problem]:
    units = minor_units(invoice.currency)
    if units is None:
        yield problem("CURRENCY_INVALID", field="currency", value=invoice.currency)
        return
    for line, column, amount in _money(invoice):
        if decimals(amount) > units:
            name = column if line is None else _of(line, column)
            remedy = f"it has {decimals(amount)} decimals, {invoice.currency} has {units}; amounts are never rounded"
            yield problem("FIELD_INVALID", field=name, value=fixed_point(amount), remedy=remedy)


def _lengths(invoice: Invoice) -> Iterator[Problem]:
    if len(invoice.number) > NUMBER_LENGTH:
        yield _too_long("invoice_number", invoice.number, NUMBER_LENGTH)
    if invoice.description is not None and len(invoice.description) > DESCRIPTION_LENGTH:
        yield _too_long("description", invoice.description, DESCRIPTION_LENGTH)
    for line in invoice.lines:
        if line.description is not None and len(line.description) > DESCRIPTION_LENGTH:
            yield _too_long(_of(line, "line_description"), line.description, DESCRIPTION_LENGTH)
    if not invoice.number.strip():
        yield problem("FIELD_MISSING", field="invoice_number")


def _too_long(name: str, text: str, limit: int) -> Problem:
    remedy = f"it has {len(text)} characters, Fusion takes {limit}: shorten it in Stampli and export it again"
    return problem("LENGTH", field=name, value=text, remedy=remedy)


def _line_numbers(invoice: Invoice) -> Iterator[Problem]:
    seen: set[int] = set()
    told: set[int] = set()
    for line in invoice.lines:
        if line.number < 1:
            yield problem("FIELD_INVALID", field="line_number", value=str(line.number), remedy="Number lines from 1.")
        if line.number in seen and line.number not in told:
            told.add(line.number)
            yield problem("LINE_DUPLICATE", field="line_number", value=str(line.number))
        seen.add(line.number)


def _signs(invoice: Invoice) -> Iterator[Problem]:
    if invoice.invoice_type in MEMOS:
        if invoice.amount >= 0:
            yield problem("MEMO_SIGN", field="invoice_amount", value=fixed_point(invoice.amount))
        for line in invoice.lines:
            if line.amount > 0:
                yield problem("MEMO_SIGN", field=_of(line, "line_amount"), value=fixed_point(line.amount))
    elif invoice.amount < 0:
        yield problem("MEMO_SIGN", field="invoice_amount", value=fixed_point(invoice.amount))


def _purchase_orders(invoice: Invoice) -> Iterator[Problem]:
    for line in invoice.lines:
        if matched := _purchase_order(line):
            yield problem("PO_NOT_SUPPORTED", field=_of(line, matched[0]), value=matched[1])


def _purchase_order(line: InvoiceLine) -> tuple[str, str] | None:
    for name, value in (
        ("po_number", line.po_number),
        ("po_line", line.po_line),
        ("po_schedule", line.po_schedule),
        ("receipt_number", line.receipt_number),
    ):
        if value is not None:
            return name, value
    return None


def _accounts_given(invoice: Invoice) -> Iterator[Problem]:
    for line in invoice.lines:
        if line.gl_account is None and _purchase_order(line) is None:
            yield problem("FIELD_MISSING", field=_of(line, "gl_account"))


def _amortisation(invoice: Invoice) -> Iterator[Problem]:
    for line in invoice.lines:
        if (line.amort_start is None) != (line.amort_end is None):
            missing = "amort_start" if line.amort_start is None else "amort_end"
            yield problem("FIELD_MISSING", field=_of(line, missing))
        elif line.amort_start is not None and line.amort_end is not None and line.amort_start > line.amort_end:
            value = f"{line.amort_start} is after {line.amort_end}"
            yield problem("FIELD_INVALID", field=_of(line, "amort_start"), value=value)


def _sum_of(invoice: Invoice, line_type: str) -> Decimal | None:
    """Total of the lines of one type; None when there is no such line."""
    amounts = [line.amount for line in invoice.lines if line.line_type == line_type]
    return total(amounts) if amounts else None


def _tax(invoice: Invoice, company: CompanySettings) -> Iterator[Problem]:
    stated, lines = invoice.tax_amount, _sum_of(invoice, "TAX")
    if company.tax_mode == "fusion_calculates":
        if lines is not None:
            value = f"{fixed_point(lines)} in tax lines"
            remedy = (
                "Fusion calculates the tax of this company and would add it a second time; export it without tax lines."
            )
            yield problem("TAX_CONFLICT", field="line_type", value=value, remedy=remedy)
        return
    if stated is not None and lines is not None and stated != lines:
        value = f"{fixed_point(stated)}, tax lines {fixed_point(lines)}, difference {_difference(stated, lines)}"
        yield problem("TAX_CONFLICT", field="tax_amount", value=value)
    if company.tax_mode == "tax_line" and lines is None and stated:
        remedy = "The company posts tax as lines and the invoice has no tax line; add it in Stampli."
        yield problem("TAX_CONFLICT", field="tax_amount", value=fixed_point(stated), remedy=remedy)


def _freight(invoice: Invoice) -> Iterator[Problem]:
    stated, lines = invoice.freight_amount, _sum_of(invoice, "FREIGHT")
    if stated is not None and lines is not None and stated != lines:
        value = f"{fixed_point(stated)}, freight lines {fixed_point(lines)}, difference {_difference(stated, lines)}"
        yield problem("AMOUNT_MISMATCH", field="freight_amount", value=value)


def _amounts(invoice: Invoice, company: CompanySettings) -> Iterator[Problem]:
    gap = unbalanced(invoice, company)
    if abs(gap) > company.tolerance:
        lines = fixed_point(difference(invoice.amount, gap))
        value = f"{fixed_point(invoice.amount)}, lines {lines}, difference {fixed_point(gap)}"
        yield problem("AMOUNT_MISMATCH", field="invoice_amount", value=value)


def _difference(one: Decimal, other: Decimal) -> str:
    return fixed_point(difference(one, other))


def _document(invoice: Invoice) -> Iterator[Problem]:
    name = invoice.document_file
    if name is None:
        return
    parts: Iterable[str] = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\", "~")) or ".." in parts or ":" in name:
        # The document is fetched from the folder of the export; a path out of it is an attack or a mistake.
        remedy = "Give the document's name relative to the folder of the export, without '..'."
        yield problem("FIELD_INVALID", field="document_file", value=name, remedy=remedy)

"""810: a Payables invoice as an X12 invoice.

Belongs here: which field goes where, lines without quantity as charges, tax, the memo's sign, and the arithmetic that
must come out: lines, tax and charges are the total, or the document waits.
"""

from collections.abc import Sequence
from decimal import Decimal

from mlc_dagster.exports.balance import NO_CURRENCY
from mlc_dagster.exports.writing import Change, DocumentHeld, Version
from mlc_dagster.exports.x12.accounts import Accounts, split
from mlc_dagster.exports.x12.elements import EXACT, is_scale_two, plain_number
from mlc_dagster.exports.x12.headings import ONE, ZERO, Headings, Pen, extended, two_places
from mlc_dagster.exports.x12.sources import translated
from mlc_dagster.fusion.records import Invoice, InvoiceLine

MOST_LINES = 200_000
MOST_TAXES = 10
MOST_CHARGES = 25

_TYPES = {"standard": "DI", "credit memo": "CR", "debit memo": "DR"}
_MEMOS = ("credit memo", "debit memo")
_FREIGHT = "D240"
_OTHER_CHARGE = "ZZZZ"
_PURPOSES = {Change.NEW: None, Change.CHANGE: "05", Change.CANCEL: "01"}


class _Sums:
    """What the lines came to."""

    __slots__ = ("charges", "lines", "quantities", "taxes", "total")

    def __init__(self) -> None:
        self.lines = 0
        self.total = ZERO
        self.quantities: list[Decimal] = []
        self.taxes: dict[tuple[str, Decimal | None], Decimal] = {}
        self.charges: list[tuple[InvoiceLine, Decimal]] = []


class InvoiceDocument:
    """Writes the segments between ST and SE."""

    order = (
        "BIG", "CUR", "REF", "N1", "ITD", "DTM", "IT1", "PID", "FA1", "FA2", "TDS", "TXI", "AMT", "SAC", "CTT",
    )  # fmt: skip
    checks = (
        "quantity times price is the line's amount, in the currency's minor units",
        "lines, tax and charges come to the invoice's amount, TDS01",
        f"no more than {MOST_LINES} lines, {MOST_TAXES} taxes, {MOST_CHARGES} charges",
    )

    def __init__(self, pen: Pen, accounts: Accounts) -> None:
        self._pen = pen
        self._rules = pen.rules
        self._ignored = frozenset(pen.rules.ignored_line_types)
        self._accounts = accounts
        self._headings = headings = Headings(pen, "invoice", due="installment.due_date")
        self._big = pen.shape(
            "BIG",
            {
                "issued": "invoice.invoice_date",
                "number": "invoice.number",
                "order_number": "invoice.purchase_order",
                "type": "invoice.kind",
                "purpose": "change",
            },
        )
        self._lines = headings.line_shapes(
            "IT1",
            {
                "line": "line.number",
                "quantity": "line.quantity",
                "unit": "line.uom",
                "price": "line.unit_price",
            },
        )
        self._description = pen.shape(
            "PID", {"description": "line.description"}, constants={"kind": "F"}, only_with="description"
        )
        self._tax = pen.shape(
            "TXI",
            {"type": "line.tax_classification, else tax_type", "amount": "line.amount", "percent": "line.tax_rate"},
        )
        self._charge = pen.shape(
            "SAC",
            {
                "indicator": "line.amount",
                "code": "line.kind",
                "amount": "line.amount",
                "description": "line.description",
            },
        )
        with_accounts = pen.rules.accounts != "none"
        self._fa1 = pen.shape("FA1", {}, constants={"agency": "ZZ"}, shown=with_accounts)
        self._fa2 = pen.shape("FA2", {"code": "segment_codes", "value": "line.combination"}, shown=with_accounts)
        self._total = pen.shape("TDS", {"total": "invoice.amount"})
        self._amount = pen.shape(
            "AMT", {"amount": "invoice.amount"}, constants={"qualifier": "TT"}, shown=pen.style.amount_scale == "amt"
        )

    def segments(self, version: Version) -> tuple[list[str], dict[str, Decimal]]:
        """Segments and exact totals. Raises DocumentHeld."""
        invoice = version.read.content
        if not isinstance(invoice, Invoice):
            raise DocumentHeld("WRONG_SOURCE", f"an 810 carries invoices, not {version.read.source}")
        if version.change is Change.CANCEL and self._rules.on_cancel == "hold":
            raise DocumentHeld(
                "CANCELED",
                "the invoice was canceled, which an 810 does not say by custom; tell the partner,"
                " or set on_cancel: send (BIG08 is then 01)",
                field="invoice.canceled",
            )
        if invoice.amount is None:
            raise DocumentHeld(
                "FIELD_MISSING", "the invoice has no amount", field="invoice.amount", target="TDS01 total"
            )
        kind, sign = self._kind_and_sign(invoice)
        scope = (invoice,)
        headings = self._headings
        out = [
            self._big(
                scope,
                invoice.invoice_date,
                invoice.number,
                invoice.purchase_order,
                kind,
                _PURPOSES[version.change],
            )
        ]
        out += headings.currency(scope, invoice.currency)
        out += headings.references(scope, 0)
        out += headings.parties(scope)
        due = invoice.installments[0].due_date if len(invoice.installments) == 1 else None
        out += headings.terms(scope, invoice.payment_terms, due)
        out += headings.dates(scope)
        sums = _Sums()
        for line in invoice.lines:
            if line.kind in self._ignored:
                self._pen.tally.add("ignored_lines")
            else:
                self._add_line(invoice, line, sign, sums, out)
        self._check_total(invoice, sums, sign)
        self._totals(invoice, sums, out)
        return out, {f"amount {invoice.currency or NO_CURRENCY}": invoice.amount}

    def _kind_and_sign(self, invoice: Invoice) -> tuple[str | None, int]:
        """BIG07, and -1 where a memo's negative amounts go as positive ones."""
        word = (invoice.kind or "Standard").lower()
        crosswalk = self._pen.layout.crosswalks.get("invoice_types")
        if crosswalk is not None:
            code = translated(crosswalk, invoice.kind or "Standard", "invoice.kind")
        elif word in _TYPES:
            code = _TYPES[word]
        else:
            raise DocumentHeld(
                "CODE_UNKNOWN",
                f"invoice type {invoice.kind!r} has no BIG07 code; give the layout a crosswalk invoice_types",
                field="invoice.kind",
                target="BIG07 type",
            )
        if self._rules.credit_sign == "negative" or (invoice.amount or ZERO) >= 0:
            return code, 1
        if word not in _MEMOS:
            raise DocumentHeld(
                "SIGN",
                f"a negative {invoice.kind!r} would look like a positive one under credit_sign: positive",
                field="invoice.amount",
                target="TDS01 total",
            )
        return code, -1

    def _add_line(self, invoice: Invoice, line: InvoiceLine, sign: int, sums: _Sums, out: list[str]) -> None:
        if line.amount is None:
            raise DocumentHeld("FIELD_MISSING", f"line {line.number} has no amount", field="line.amount")
        amount = line.amount if sign > 0 else line.amount.copy_negate()
        sums.total = EXACT.add(sums.total, amount)
        if (line.kind or "").lower() == "tax":
            key = (self._tax_type(line), line.tax_rate)
            sums.taxes[key] = EXACT.add(sums.taxes.get(key, ZERO), amount)
            return
        quantity, price, unit = line.quantity, line.unit_price, line.uom
        if quantity is None or price is None or not unit:
            exact_in_sac = is_scale_two(amount) or self._pen.style.amount_scale == "hold"
            if self._rules.amount_only == "sac" and exact_in_sac:
                sums.charges.append((line, amount))
                return
            quantity, price, unit = ONE, amount, self._rules.amount_unit
        else:
            unit = self._pen.unit(unit, "line.uom")
            quantity = quantity if sign > 0 else quantity.copy_negate()
            if EXACT.multiply(quantity, price) != amount and extended(quantity, price, invoice.currency) != amount:
                raise DocumentHeld(
                    "TOTALS",
                    f"line {line.number}: quantity {quantity} times price {price} is not the amount {amount}",
                    field="line.amount",
                    target="IT102 quantity",
                )
        if price.is_signed():
            quantity, price = quantity.copy_negate(), price.copy_abs()
        sums.lines += 1
        sums.quantities.append(quantity)
        scope = (invoice, line)
        ids = self._headings.ids(scope)
        out.append(self._lines[len(ids) // 2](scope, str(line.number), quantity, unit, price, *ids))
        if line.description:
            if self._pen.splits:
                out += filter(
                    None, [self._description(scope, piece) for piece in self._pen.pieces(line.description, 80)]
                )
            elif text := self._description(scope, line.description):
                out.append(text)
        out += self._headings.references(scope, 1)
        if self._rules.accounts != "none":
            out += self._line_account(line)

    def _tax_type(self, line: InvoiceLine) -> str:
        if line.tax_classification and "tax" in self._pen.layout.crosswalks:
            return translated(self._pen.layout.crosswalks["tax"], line.tax_classification, "line.tax_classification")
        return self._rules.tax_type

    def _line_account(self, line: InvoiceLine) -> Sequence[str]:
        """FA1 and FA2: the line's own account, or its only distribution's."""
        combination = line.combination
        if not combination and len(line.distributions) == 1:
            combination = line.distributions[0].combination
        if not combination:
            return ()
        whole = self._rules.account_qualifier
        if self._rules.accounts == "whole":
            return self._fa1.again(()), self._fa2.again((), whole, combination)
        parts = split(self._accounts.usual(), combination, "line.combination")
        codes = self._rules.segment_codes
        return [self._fa1.again(()), *(self._fa2.again((), codes.get(name, whole), value) for name, value in parts)]

    def _check_total(self, invoice: Invoice, sums: _Sums, sign: int) -> None:
        amount = invoice.amount or ZERO
        total = amount if sign > 0 else amount.copy_negate()
        if sums.total != total:
            raise DocumentHeld(
                "TOTALS",
                f"lines, tax and charges come to {plain_number(sums.total)}, the invoice to {plain_number(total)};"
                " line types that are not part of the amount are named as ignored_line_types",
                field="invoice.amount",
                target="TDS01 total",
            )

    def _totals(self, invoice: Invoice, sums: _Sums, out: list[str]) -> None:
        scope = (invoice,)
        total, exact = two_places(sums.total, self._pen)
        out.append(self._total(scope, total))
        if sums.lines > MOST_LINES:
            raise DocumentHeld("OVERFLOW", f"{sums.lines} lines, an 810 takes {MOST_LINES}", field="invoice.lines")
        if len(sums.taxes) > MOST_TAXES:
            raise DocumentHeld(
                "OVERFLOW",
                f"{len(sums.taxes)} different taxes, the 810 takes {MOST_TAXES}",
                field="line.tax_classification",
                target="TXI",
            )
        out += [self._tax(scope, code, amount, rate) for (code, rate), amount in sums.taxes.items()]
        if exact is not None:
            out.append(self._amount(scope, exact))
        if len(sums.charges) > MOST_CHARGES:
            raise DocumentHeld(
                "OVERFLOW",
                f"{len(sums.charges)} lines without quantity and price, the 810 takes {MOST_CHARGES} charges;"
                " set amount_only: one to send them as lines",
                field="line.quantity",
                target="SAC",
            )
        for line, amount in sums.charges:
            code = self._charge_code(line)
            indicator = "A" if amount < 0 else "C"
            out.append(self._charge(scope, indicator, code, amount.copy_abs(), line.description))
        out.append(self._headings.count(sums.lines, sums.quantities))

    def _charge_code(self, line: InvoiceLine) -> str:
        crosswalk = self._pen.layout.crosswalks.get("charges")
        if crosswalk is not None:
            return translated(crosswalk, line.kind or "", "line.kind")
        return _FREIGHT if (line.kind or "").lower() == "freight" else _OTHER_CHARGE

"""What an invoice must fulfil to be created, and what Fusion fills in by itself.

No check of the header against its lines and no check of the number's look: Fusion does neither here. Validation,
tax, cancelling and accounting come later and live in ``invoice_actions``.
"""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mlc_dagster.sandbox.fusion import catalogue
from mlc_dagster.sandbox.fusion.attachments import build_attachment
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.payload import Payload
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.seed import DELIMITER, PAYMENT_TERMS, SEGMENTS, BusinessUnit

TYPES = ("Standard", "Credit memo", "Debit memo", "Prepayment", "Payment request")
LINE_TYPES = ("Item", "Freight", "Miscellaneous", "Tax")
DERIVED = (
    "PaymentTerms",
    "InvoiceType",
    "PaymentMethod",
    "ValidationStatus",
    "ApprovalStatus",
    "PaidStatus",
    "AccountingStatus",
    "CanceledFlag",
    "AmountPaid",
    "DocumentCategory",
    "VoucherNumber",
)
"""Attributes that are null in the answer to a POST although the invoice has them."""

READ_ONLY = frozenset(
    {
        "InvoiceId",
        "ValidationStatus",
        "ApprovalStatus",
        "PaidStatus",
        "AccountingStatus",
        "CanceledFlag",
        "CanceledDate",
        "CanceledBy",
        "AmountPaid",
        "BaseAmount",
        "VoucherNumber",
        "CreatedBy",
        "CreationDate",
        "LastUpdatedBy",
        "LastUpdateDate",
        "LastUpdateLogin",
    }
)
_LENGTHS = {"InvoiceNumber": 50, "Description": 240, "InvoiceGroup": 80, "PayGroup": 30}


class Draft:
    """One POST body on its way to become an invoice; collects every fault before anything is stored."""

    def __init__(self, world: World, document: Mapping[str, Any], user: str) -> None:
        self.world = world
        self.user = user
        self.faults: list[Detail] = []
        self.header = Payload(catalogue.INVOICES, document, "/invoices", self.faults)
        self.lines: list[Payload] = []
        self.distributions: dict[int, list[Payload]] = {}
        if "invoiceInstallments" in self.header.children:
            self.header.fault(
                "invoiceInstallments", "Installments follow from the payment terms. (JBO-27008)", "JBO-27008"
            )
        for index, entry in enumerate(self.header.children.get("invoiceLines", [])):
            path = f"/invoices/invoiceLines/{index}"
            line = Payload(catalogue.LINES, entry, path, self.faults)
            self.lines.append(line)
            self.distributions[index] = [
                Payload(catalogue.DISTRIBUTIONS, part, f"{path}/invoiceDistributions", self.faults)
                for part in line.children.get("invoiceDistributions", [])
            ]

    def check(self) -> Row:
        """The finished row, not stored yet. Raises ``Refusal`` 400 with every fault found."""
        header = self.header
        for name in READ_ONLY & set(header.values):
            header.fault(name, f"Attribute {name} is read-only. (JBO-27008)", "JBO-27008")
        header.require(
            ("InvoiceNumber", "InvoiceCurrency", "InvoiceAmount", "InvoiceDate", "BusinessUnit", "SupplierSite")
        )
        if header.get("Supplier") is None and header.get("SupplierNumber") is None:
            header.require(("Supplier",))
        header.longest(_LENGTHS)
        self._check_lines_shape()
        self._stop_on_faults()
        unit = self._business_unit()
        supplier, site = self._supplier(unit)
        self._check_choices()
        self._check_amounts()
        accounting_date = header.get("AccountingDate") or header.get("InvoiceDate")
        if unit is not None:
            self._check_period(unit, accounting_date, header)
            self._check_accounts(unit, accounting_date)
        if supplier is not None and unit is not None and site is not None:
            self._check_duplicate(supplier, unit)
        self._stop_on_faults()
        if unit is None or supplier is None or site is None:
            raise Refusal(400, Detail("The invoice is not complete."))
        return self._build(unit, supplier, site, accounting_date)

    def _stop_on_faults(self) -> None:
        if self.faults:
            raise Refusal(400, *self.faults)

    def _check_lines_shape(self) -> None:
        seen: set[int] = set()
        for place, line in enumerate(self.lines, start=1):
            line.require(("LineAmount",), "AP-810879")
            line.longest({"Description": 240})
            number = line.values.setdefault("LineNumber", place)
            if number in seen or number < 1:
                line.fault("LineNumber", f"Line number {number} is not unique and positive. (AP-810880)", "AP-810880")
            seen.add(number)
            line_type = line.values.setdefault("LineType", "Item")
            if line_type not in LINE_TYPES:
                line.fault("LineType", f"The line type {line_type} is not valid. (AP-810881)", "AP-810881")

    def _business_unit(self) -> BusinessUnit | None:
        name = self.header.get("BusinessUnit")
        unit = self.world.units.get(name)
        if unit is None:
            text = f"The business unit {name} does not exist or you have no access to it. (AP-810101)"
            self.header.fault("BusinessUnit", text, "AP-810101")
        return unit

    def _supplier(self, unit: BusinessUnit | None) -> tuple[Row | None, Row | None]:
        name, number = self.header.get("Supplier"), self.header.get("SupplierNumber")
        row = self.world.supplier(number=number) if number is not None else self.world.supplier(name=name)
        if row is None or (name is not None and row.values["Supplier"] != name):
            attribute = "SupplierNumber" if row is None and number is not None else "Supplier"
            self.header.fault(attribute, "You must provide a valid supplier. (AP-810202)", "AP-810202")
            return None, None
        today = self.world.clock().date().isoformat()
        if _ended(row, today):
            self.header.fault("Supplier", "The supplier is not active. (AP-810203)", "AP-810203")
            return row, None
        if unit is None:
            return row, None
        wanted = self.header.get("SupplierSite")
        for site in row.children.get("sites", []):
            if site.values["SupplierSite"] == wanted:
                assigned = any(
                    assignment.get("ClientBU") == unit.name and not _ended(assignment, today)
                    for assignment in site.children.get("assignments", [])
                )
                if site.get("SitePurposePayFlag") and assigned and not _ended(site, today):
                    return row, site
        text = f"The supplier site {wanted} is not an active pay site of the business unit. (AP-810204)"
        self.header.fault("SupplierSite", text, "AP-810204")
        return row, None

    def _check_choices(self) -> None:
        header, seed = self.header, self.world.seed
        for name in ("InvoiceCurrency", "PaymentCurrency"):
            if header.get(name) is not None and header.get(name) not in seed.currencies:
                header.fault(name, f"The currency {header.get(name)} is not valid. (AP-810301)", "AP-810301")
        for name, known in (
            ("InvoiceType", TYPES),
            ("InvoiceSource", seed.invoice_sources),
            ("PaymentTerms", PAYMENT_TERMS),
            ("LegalEntity", tuple(unit.legal_entity for unit in self.world.units.values())),
        ):
            value = header.get(name)
            if value is not None and value not in known:
                header.fault(name, f"The value {value} of {name} is not valid. (AP-810302)", "AP-810302")

    def _check_amounts(self) -> None:
        header = self.header
        decimals = self.world.seed.currencies.get(header.get("InvoiceCurrency"), 2)
        for payload, name in [(header, "InvoiceAmount"), *((line, "LineAmount") for line in self.lines)]:
            if _decimals(payload.get(name)) > decimals:
                text = f"The amount {payload.get(name)} has more decimals than the currency allows. (AP-810303)"
                payload.fault(name, text, "AP-810303")
        amount = header.get("InvoiceAmount")
        kind = header.get("InvoiceType") or "Standard"
        negative = kind in {"Credit memo", "Debit memo"}
        if (negative and amount > 0) or (not negative and amount < 0):
            text = f"The amount {amount} does not fit the invoice type {kind}. (AP-810304)"
            header.fault("InvoiceAmount", text, "AP-810304")
        if header.get("ConversionRateType") == "User" and header.get("ConversionRate") is None:
            header.fault("ConversionRate", "You must enter a conversion rate. (AP-810305)", "AP-810305")

    def _check_period(self, unit: BusinessUnit, day: str, payload: Payload) -> None:
        if self.world.period_status(unit.ledger_id, 200, day) not in {"O", "F"}:
            text = f"The accounting date {day} is not in an open or future enterable period. (AP-810401)"
            payload.fault("AccountingDate", text, "AP-810401")

    def _check_accounts(self, unit: BusinessUnit, accounting_date: str) -> None:
        for index, line in enumerate(self.lines):
            day = line.get("AccountingDate") or accounting_date
            if line.get("AccountingDate") is not None:
                self._check_period(unit, day, line)
            for payload in (line, *self.distributions[index]):
                code = payload.get("DistributionCombination")
                if code is not None and not self._postable(unit, code, day):
                    text = f"The account combination {code} is not valid. (AP-810501)"
                    payload.fault("DistributionCombination", text, "AP-810501")

    def _postable(self, unit: BusinessUnit, code: str, day: str) -> bool:
        row = self.world.combinations.get((unit.chart, code))
        if row is None:
            return self.world.policies.dynamic_insertion and self._insert_combination(unit, code)
        flags = {
            name: row.get(name, catalogue.COMBINATIONS.attributes[name].default)
            for name in ("EnabledFlag", "DetailPostingAllowedFlag", "SummaryFlag", "StartDateActive", "EndDateActive")
        }
        return (
            flags["EnabledFlag"] == "Y"
            and flags["DetailPostingAllowedFlag"] == "Y"
            and flags["SummaryFlag"] == "N"
            and (flags["StartDateActive"] or day) <= day <= (flags["EndDateActive"] or day)
        )

    def _insert_combination(self, unit: BusinessUnit, code: str) -> bool:
        values = code.split(DELIMITER)
        if len(values) != len(SEGMENTS):
            return False
        table = self.world.tables["accountCombinationsLOV"]
        chart = [row for row in table if row.values["_CHART_OF_ACCOUNTS_ID"] == unit.chart]
        letter = next((row.values["AccountType"] for row in chart if row.values["account"] == values[2]), None)
        known = all(
            any(row.values[name] == value for row in chart) for name, value in zip(SEGMENTS, values, strict=True)
        )
        if letter is None or not known:
            return False
        number = self.world.next_number()
        row = Row(
            number,
            {
                "_CODE_COMBINATION_ID": number,
                "_CHART_OF_ACCOUNTS_ID": unit.chart,
                "AccountType": letter,
                **dict(zip(SEGMENTS, values, strict=True)),
            },
        )
        table.add(row)
        self.world.index_combination(row)
        return True

    def _check_duplicate(self, supplier: Row, unit: BusinessUnit) -> None:
        number = self.header.get("InvoiceNumber")
        site = self.header.get("SupplierSite")
        key = self.world.duplicate_key(supplier.values["SupplierNumber"], number, unit.name, site)
        if key in self.world.numbers:
            code = self.world.policies.duplicate_code
            text = f"This invoice number already exists. You must provide a unique invoice number. ({code})"
            self.header.fault("InvoiceNumber", text, code)

    def _build(self, unit: BusinessUnit, supplier: Row, site: Row, accounting_date: str) -> Row:
        world, now = self.world, self.world.now()
        invoice_id = world.next_number()
        given = self.header.values
        amount: Decimal = given["InvoiceAmount"]
        terms = site.get("PaymentTerms") or "Net 30"
        who = {"CreatedBy": self.user, "CreationDate": now, "LastUpdatedBy": self.user, "LastUpdateDate": now}
        values: dict[str, Any] = {
            "InvoiceId": invoice_id,
            "PaymentCurrency": given["InvoiceCurrency"],
            "InvoiceType": "Standard",
            "InvoiceSource": "Manual invoice entry",
            "PayGroup": "Standard",
            "PaymentTerms": terms,
            "TermsDate": given["InvoiceDate"],
            "PaymentMethodCode": "CHECK",
            "PaymentMethod": "Check",
            "LegalEntity": unit.legal_entity,
            "LiabilityDistribution": DELIMITER.join((unit.entity, "0000", "22100", "000", "000", "000")),
            "ValidationStatus": "Not validated",
            "ApprovalStatus": "Required" if world.policies.approval_required else "Not required",
            "PaidStatus": "Unpaid",
            "AccountingStatus": "Unaccounted",
            "CanceledFlag": False,
            "AmountPaid": Decimal(0),
            "DocumentCategory": "STD INV",
            "VoucherNumber": str(invoice_id % 10_000_000),
            **given,
            "AccountingDate": accounting_date,
            "Supplier": supplier.values["Supplier"],
            "SupplierNumber": supplier.values["SupplierNumber"],
            "ProcurementBU": site.get("ProcurementBU"),
            "Party": supplier.values["Supplier"],
            "PartySite": site.get("SupplierAddressName"),
            **who,
            "LastUpdateLogin": f"{invoice_id % 0xFFFFFF:X}",
        }
        rate = given.get("ConversionRate")
        if values["InvoiceCurrency"] != unit.currency and rate is not None:
            values["BaseAmount"] = round(amount * rate, 2)
        row = Row(invoice_id, values)
        row.children["invoiceLines"] = [
            self._line(index, line, accounting_date, who) for index, line in enumerate(self.lines)
        ]
        row.children["invoiceInstallments"] = [_installment(world, values, who)]
        row.children["attachments"] = [
            build_attachment(world, entry, self.user) for entry in self.header.children.get("attachments", [])
        ]
        return row

    def _line(self, index: int, payload: Payload, accounting_date: str, who: Mapping[str, Any]) -> Row:
        values = {"AccountingDate": accounting_date} | payload.values | dict(who)
        line = Row(self.world.next_number(), values)
        given = [dict(part.values) for part in self.distributions[index]]
        if not given and values.get("DistributionCombination"):
            given = [{}]
        line.children["invoiceDistributions"] = [
            distribution(self.world, values, part, place) for place, part in enumerate(given, start=1)
        ]
        return line


def distribution(world: World, line: Mapping[str, Any], given: Mapping[str, Any], place: int) -> Row:
    """A distribution of a line: what was given, else the whole line on its own account."""
    number = world.next_number()
    values = {
        "DistributionLineNumber": place,
        "DistributionLineType": line["LineType"],
        "DistributionAmount": line["LineAmount"],
        "DistributionCombination": line.get("DistributionCombination"),
        "AccountingDate": line["AccountingDate"],
        **given,
        "InvoiceDistributionId": number,
        "CreatedBy": line["CreatedBy"],
        "CreationDate": line["CreationDate"],
        "LastUpdateDate": line["CreationDate"],
    }
    return Row(number, values)


def _installment(world: World, invoice: Mapping[str, Any], who: Mapping[str, Any]) -> Row:
    """The one installment of an invoice, due as its terms say: ``Net 30`` thirty days after the terms date."""
    days = int("".join(filter(str.isdigit, invoice["PaymentTerms"].rpartition(" ")[2])) or 0)
    due = dt.date.fromisoformat(invoice["TermsDate"]) + dt.timedelta(days=days)
    values = {
        "InstallmentNumber": 1,
        "UnpaidAmount": invoice["InvoiceAmount"],
        "DueDate": due.isoformat(),
        "GrossAmount": invoice["InvoiceAmount"],
        "PaymentMethod": invoice["PaymentMethod"],
        "PaymentMethodCode": invoice["PaymentMethodCode"],
        "RemitToAddressName": invoice["PartySite"],
        "RemitToSupplier": invoice["Supplier"],
        **who,
    }
    return Row(world.next_number(), values)


def _decimals(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _ended(row: Row, today: str) -> bool:
    """Whether a supplier, site or assignment is inactive today."""
    end = row.get("InactiveDate")
    return row.get("Status") == "INACTIVE" or (end is not None and end <= today)


def create_invoice(world: World, document: Mapping[str, Any], user: str) -> Row:
    """Checks and stores an invoice. Raises ``Refusal`` 400; nothing is stored then."""
    with world.lock:
        row = Draft(world, document, user).check()
        world.store_invoice(row)
        return row


def as_created(world: World, row: Row) -> Row:
    """The row as the answer to its POST shows it: derived attributes still null."""
    if not world.policies.null_statuses_on_create:
        return row
    shown = Row(row.key, row.values | dict.fromkeys(DERIVED))
    shown.children = row.children
    return shown

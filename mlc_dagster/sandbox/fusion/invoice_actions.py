"""What happens to an invoice after its creation: tax, validation with its holds, cancelling, accounting, changes."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from mlc_dagster.sandbox.fusion import catalogue
from mlc_dagster.sandbox.fusion.accounting import transfer
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.invoice_rules import READ_ONLY, distribution
from mlc_dagster.sandbox.fusion.payload import Payload
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.seed import DELIMITER

TAX_SOURCE = "Tax"
_PARAMETERS = {
    "validateInvoice": ("InvoiceNumber", "BusinessUnit", "Supplier", "ProcessAction"),
    "calculateTax": ("InvoiceNumber", "BusinessUnit", "Supplier"),
    "cancelInvoice": ("InvoiceNumber", "BusinessUnit", "Supplier"),
}
_REQUIRED = {
    "validateInvoice": ("InvoiceNumber", "BusinessUnit", "Supplier", "ProcessAction"),
    "calculateTax": ("InvoiceNumber", "Supplier"),
    "cancelInvoice": ("InvoiceNumber", "BusinessUnit", "Supplier"),
}
_TITLES = {"validateInvoice": "Validate Invoice", "calculateTax": "Calculate Tax", "cancelInvoice": "Cancel Invoice"}


def run_action(world: World, action: str, document: Mapping[str, Any], user: str) -> str:
    """Runs a collection action; gives its result text. Raises ``Refusal`` 400 or 404."""
    if action not in _PARAMETERS:
        raise Refusal(404, Detail(f"The action {action} does not exist."))
    for name in document:
        if name not in _PARAMETERS[action]:
            raise Refusal(400, Detail(f'Invalid attribute "{name}" in the payload.', None, f"/invoices/{name}"))
    missing = [name for name in _REQUIRED[action] if not isinstance(document.get(name), str)]
    if missing:
        texts = (f"You must provide a value for the parameter {name}." for name in missing)
        raise Refusal(400, *(Detail(text, "JBO-27014") for text in texts))
    if document.get("ProcessAction", "Validate") != "Validate":
        raise Refusal(400, Detail(f"The process action {document['ProcessAction']} is not valid."))
    with world.lock:
        row = _named(world, document)
        steps: dict[str, Callable[[World, Row, str], None]] = {
            "validateInvoice": validate,
            "calculateTax": calculate_tax,
            "cancelInvoice": cancel,
        }
        steps[action](world, row, user)
    return f"The current action {_TITLES[action]} has completed successfully."


def _named(world: World, document: Mapping[str, Any]) -> Row:
    for row in world.tables["invoices"].lookup("InvoiceNumber", [document["InvoiceNumber"]]):
        unit = document.get("BusinessUnit", row.values["BusinessUnit"])
        if row.values["Supplier"] == document["Supplier"] and row.values["BusinessUnit"] == unit:
            return row
    text = "The invoice does not exist. Verify number, business unit and supplier. (AP-810700)"
    raise Refusal(400, Detail(text, "AP-810700", "/invoices"))


def _change(world: World, row: Row, user: str, values: Mapping[str, Any]) -> None:
    stamp = {"LastUpdatedBy": user, "LastUpdateDate": world.now()}
    world.tables["invoices"].change(row, {**values, **stamp})
    world.keep_invoice(row)


def _refuse_canceled(row: Row) -> None:
    if row.get("CanceledFlag"):
        raise Refusal(400, Detail("The invoice is canceled. (AP-810701)", "AP-810701", "/invoices"))


def calculate_tax(world: World, row: Row, user: str) -> None:
    """Replaces the generated Tax line where this Fusion calculates tax; the header amount stays."""
    _refuse_canceled(row)
    rate = world.policies.tax_rate
    if rate is None:
        return
    lines = [line for line in row.children["invoiceLines"] if line.get("LineSource") != TAX_SOURCE]
    base = sum((line.values["LineAmount"] for line in lines if line.get("LineType") == "Item"), Decimal(0))
    decimals = world.seed.currencies[row.values["InvoiceCurrency"]]
    values = {
        "LineNumber": max((line.values["LineNumber"] for line in lines), default=0) + 1,
        "LineType": "Tax",
        "LineAmount": round(base * rate, decimals),
        "LineSource": TAX_SOURCE,
        "TaxRate": rate * 100,
        "AccountingDate": row.values["AccountingDate"],
        "DistributionCombination": _tax_account(world, row),
        "CreatedBy": user,
        "CreationDate": world.now(),
        "LastUpdatedBy": user,
        "LastUpdateDate": world.now(),
    }
    tax = Row(world.next_number(), values)
    tax.children["invoiceDistributions"] = [distribution(world, values, {}, 1)]
    row.children["invoiceLines"] = [*lines, tax]
    _change(world, row, user, {})


def _tax_account(world: World, row: Row) -> str:
    entity = world.units[row.values["BusinessUnit"]].entity
    return DELIMITER.join((entity, "0000", "22200", "000", "000", "000"))


def validate(world: World, row: Row, user: str) -> None:
    """Places and releases holds. The caller is told of success in either case, as Fusion does."""
    _refuse_canceled(row)
    found = _reasons_to_hold(world, row)
    table = world.tables["invoiceHolds"]
    open_holds = [hold for hold in holds_of(world, row) if hold.get("ReleaseName") is None]
    now = world.now()
    for hold in open_holds:
        if hold.values["HoldName"] not in found:
            released = {"ReleaseName": "Variance corrected", "ReleaseReason": "System released", "ReleaseDate": now}
            table.change(hold, released | {"LastUpdateDate": now})
            world.keep_hold(hold)
    standing = {hold.values["HoldName"] for hold in open_holds}
    for name in [name for name in found if name not in standing]:
        number = world.next_number()
        hold = Row(
            number,
            {
                "HoldId": number,
                "InvoiceId": row.key,
                "InvoiceNumber": row.values["InvoiceNumber"],
                "BusinessUnit": row.values["BusinessUnit"],
                "Supplier": row.values["Supplier"],
                "Party": row.values["Supplier"],
                "HoldName": name,
                "HoldReason": found[name],
                "HoldDate": now,
                "CreationDate": now,
                "LastUpdateDate": now,
            },
        )
        table.add(hold)
        world.keep_hold(hold)
    _change(world, row, user, {"ValidationStatus": "Needs revalidation" if found else "Validated"})


def _reasons_to_hold(world: World, row: Row) -> dict[str, str]:
    lines = row.children.get("invoiceLines", [])
    found: dict[str, str] = {}
    if sum((line.values["LineAmount"] for line in lines), Decimal(0)) != row.values["InvoiceAmount"]:
        found["Line Variance"] = "Total of invoice lines does not equal invoice amount"
    for line in lines:
        parts = line.children.get("invoiceDistributions", [])
        if sum((part.values["DistributionAmount"] for part in parts), Decimal(0)) != line.values["LineAmount"]:
            found["Distribution Variance"] = "Total of distributions does not equal line amount"
    foreign = row.values["InvoiceCurrency"] != world.units[row.values["BusinessUnit"]].currency
    if foreign and row.get("ConversionRate") is None and row.get("ConversionRateType") is None:
        found["No Rate"] = "Invoice requires a conversion rate"
    return found


def holds_of(world: World, row: Row) -> list[Row]:
    """Holds of an invoice, released ones included."""
    holds = world.tables["invoiceHolds"].lookup("InvoiceNumber", [row.values["InvoiceNumber"]])
    return [hold for hold in holds if hold.get("InvoiceId") == row.key]


def cancel(world: World, row: Row, user: str) -> None:
    """Cancels: amounts become zero, the number stays taken."""
    _refuse_canceled(row)
    now = world.now()
    canceled = {"CanceledFlag": True, "LastUpdateDate": now}
    for line in row.children.get("invoiceLines", []):
        line.values |= {"StoredAmount": line.values["LineAmount"], "LineAmount": Decimal(0)} | canceled
        for part in line.children.get("invoiceDistributions", []):
            part.values |= {"DistributionAmount": Decimal(0)} | canceled
    for installment in row.children.get("invoiceInstallments", []):
        installment.values |= {"GrossAmount": Decimal(0), "UnpaidAmount": Decimal(0), "LastUpdateDate": now}
    changes = {
        "StoredAmount": row.values["InvoiceAmount"],
        "InvoiceAmount": Decimal(0),
        "CanceledFlag": True,
        "CanceledBy": user,
        "CanceledDate": world.clock().date().isoformat(),
        "ValidationStatus": "Canceled",
    }
    _change(world, row, user, changes)


def change_invoice(world: World, row: Row, document: Mapping[str, Any], user: str) -> Row:
    """PATCH: sets header attributes that may change, without defaulting others again. Raises ``Refusal`` 400."""
    faults: list[Detail] = []
    payload = Payload(catalogue.INVOICES, document, "/invoices", faults)
    fixed = READ_ONLY | {"InvoiceNumber", "Supplier", "SupplierNumber", "BusinessUnit", "AccountingDate"}
    for name in [*(fixed & set(payload.values)), *payload.children]:
        payload.fault(name, f"Attribute {name} cannot be updated. (JBO-27008)", "JBO-27008")
    if faults:
        raise Refusal(400, *faults)
    with world.lock:
        _refuse_canceled(row)
        _change(world, row, user, payload.values)
    return row


def create_accounting(world: World, ledger_id: int | None = None) -> int:
    """The Create Accounting job: accounts every validated invoice of a ledger, or of all; gives their number."""
    accounted: list[Row] = []
    with world.lock:
        for row in world.tables["invoices"]:
            unit = world.units[row.values["BusinessUnit"]]
            due = row.get("ValidationStatus") == "Validated" and row.get("AccountingStatus") == "Unaccounted"
            if not due or ledger_id not in {None, unit.ledger_id}:
                continue
            for line in row.children.get("invoiceLines", []):
                for part in line.children.get("invoiceDistributions", []):
                    part.values |= {"AccountingStatus": "Accounted", "LastUpdateDate": world.now()}
            _change(world, row, "SYSTEM", {"AccountingStatus": "Accounted"})
            accounted.append(row)
        if world.policies.journals_from_accounting:
            transfer(world, accounted)
    return len(accounted)

"""One invoice on one page: its life, its attempts in Fusion and every audit event, as data and as text."""

import datetime as dt
import json
from typing import Any

import sqlalchemy as sa
import typer

from mlc_dagster.cli.output import add_rows, age, console, file_name, minor_money, money, state_text, table, when
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.invoice_views import history
from mlc_dagster.ledger.retention import erasures
from mlc_dagster.ledger.retention import told as erasure_text
from mlc_dagster.ledger.retention_items import Kind
from mlc_dagster.ledger.schema import fusion_observation
from mlc_dagster.ledger.windows import window_key
from mlc_dagster.money import amount_of
from mlc_dagster.stampli.reasons import Problem, UnknownReason, reason
from mlc_dagster.visible import visible

_INVOICE = (
    "id", "company_id", "number", "vendor_id", "state", "reason", "currency", "amount_text", "parked_at", "cured_at",
    "released_reasons", "business_unit", "supplier_id", "supplier_number", "fusion_number", "fusion_invoice_id",
    "differences", "after_create_done", "attachment_done", "mapped_with", "created_at", "changed_at",
)  # fmt: skip
_APPEARANCE = (
    "path",
    "version",
    "rows",
    "generation",
    "revision",
    "approved_at",
    "outcome",
    "reason",
    "digest",
    "readable",
)
_ATTEMPT = (
    "attempt", "phase", "invoice_group", "body_sha256", "created_at", "ended_at", "not_before", "absences",
    "http_status", "answer", "fusion_invoice_id",
)  # fmt: skip


def sheet(reading: Transaction, row: Row) -> dict[str, Any]:
    """Everything the ledger holds of an invoice; ``row`` is its row in the table ``invoice``."""
    found = history(reading, row["id"])
    observed = reading.row(sa.select(fusion_observation).where(fusion_observation.c.invoice_pk == row["id"]))
    minor = row["amount_minor"]
    contents = erasures(reading, Kind.INVOICE, [each["id"] for each in found["occurrences"]])
    bodies = erasures(reading, Kind.REQUEST, [each["id"] for each in found["submissions"]])
    return {name: row[name] for name in _INVOICE} | {
        "stampli_id": row["source_key"],
        "window": window_key(row["window_start"]),
        "amount": None if minor is None or row["currency"] is None else amount_of(minor, row["currency"]),
        "problems": [told(problem) for problem in row["problems"] or []],
        "owner": owner_of(row["reason"]),
        "in_fusion": None if observed is None else {k: v for k, v in observed.items() if k != "invoice_pk"},
        "appearances": [
            {name: each[name] for name in _APPEARANCE}
            | {"window": window_key(each["window_start"]), "erased": _erased(contents, each)}
            for each in found["occurrences"]
        ],
        "attempts": [
            {name: each[name] for name in _ATTEMPT}
            | {"body": each["body"].decode("utf-8") or None, "erased": _erased(bodies, each)}
            for each in found["submissions"]
        ],
        "events": [{name: each[name] for name in ("id", "at", "actor", "kind", "detail")} for each in found["events"]],
    }


def told(problem: dict[str, Any]) -> dict[str, Any]:
    """A stored problem with its sentence for people."""
    return problem | {"text": sentence(problem)}


def sentence(problem: dict[str, Any]) -> str:
    """A stored problem as one sentence: title, place, value, remedy."""
    try:
        return Problem(**problem).text
    except UnknownReason:
        # Parked by a newer version of the product; what it stored is still told.
        return f"{problem['reason']}: {problem.get('remedy', '')}"


def difference_texts(differences: dict[str, list[Any]] | None) -> list[str]:
    """What Fusion holds otherwise than it was sent, one sentence per field."""
    return [f"{field}: sent {sent}, Fusion has {found}" for field, (sent, found) in (differences or {}).items()]


def owner_of(code: str | None) -> str | None:
    """Who cures this reason, in words; None without a reason."""
    if code is None:
        return None
    try:
        return reason(code).owner.replace("_", " ")
    except UnknownReason:
        return None


def print_sheet(each: dict[str, Any], now: dt.datetime) -> None:
    """The page for people."""
    screen = console()
    amount = money(each["amount"], each["currency"]) if each["amount"] is not None else None
    facts: list[tuple[str, Any]] = [
        ("ID", each["id"]),
        ("Company, Stampli id", f"{each['company_id']}, {each['stampli_id']}"),
        ("Vendor", each["vendor_id"]),
        ("Amount", amount or minor_money(None, each["currency"], each["amount_text"])),
        ("State", state_text(each["state"])),
        ("Home window (UTC)", each["window"]),
        ("Business unit", each["business_unit"]),
        ("Supplier in Fusion", _joined(each["supplier_number"], each["supplier_id"])),
        ("Invoice in Fusion", _joined(each["fusion_number"], each["fusion_invoice_id"])),
        ("Released", ", ".join(each["released_reasons"] or [])),
    ]
    if each["in_fusion"]:
        names = ("validation_status", "approval_status", "accounting_status", "paid_status")
        statuses = ", ".join(each["in_fusion"][name] for name in names if each["in_fusion"][name])
        facts.append(("Fusion says", f"{statuses} (seen {when(each['in_fusion']['observed_at'])})"))
    made = table("Invoice", each["number"])
    screen.print(add_rows(made, [(name, value) for name, value in facts if value not in (None, "")]))
    if each["reason"]:
        waits = f", for {age(each['parked_at'], now)}" if each["parked_at"] else ""
        typer.echo(f"{each['reason']}: {each['owner'] or 'somebody'} decides{waits}")
        for problem in each["problems"]:
            typer.echo(f"  - {visible(problem['text'])}")
    for difference in difference_texts(each["differences"]):
        typer.echo(f"  - {visible(str(difference))}")
    rows = [
        (f"{file_name(seen['path'])} v{seen['version']}", ", ".join(map(str, seen["rows"][:8])), seen["revision"],
         when(seen["approved_at"]), seen["outcome"], seen["reason"], f"{seen['window']} g{seen['generation']}")
        for seen in each["appearances"]
    ]  # fmt: skip
    columns = ("Seen in", "Rows", "Revision", "Approved (UTC)", "Outcome", "Reason", "Window (UTC)")
    screen.print(add_rows(table(*columns), rows))
    if each["attempts"]:
        rows = [
            (made["attempt"], made["phase"], made["invoice_group"], when(made["created_at"]), when(made["ended_at"]),
             made["http_status"], made["fusion_invoice_id"], made["answer"])
            for made in each["attempts"]
        ]  # fmt: skip
        columns = ("Attempt", "Phase", "Invoice group", "Intent (UTC)", "Ended (UTC)", "HTTP", "Fusion id", "Answer")
        screen.print(add_rows(table(*columns), rows))
    for what, rows_of in (("Appearance", each["appearances"]), ("Body of attempt", each["attempts"])):
        for number, shown in enumerate(rows_of, 1):
            if shown["erased"]:
                typer.echo(f"{what} {shown.get('attempt', number)}: {shown['erased']}; its hash stays on record.")
    events = [
        (when(event["at"]), event["kind"], event["actor"], json.dumps(event["detail"], ensure_ascii=False)[:240])
        for event in each["events"]
    ]
    screen.print(add_rows(table("When (UTC)", "Event", "Who", "Detail"), events))


def _erased(found: dict[str, Row], row: Row) -> str | None:
    """When and by which rule the retention rules have erased its content."""
    erased = found.get(str(row["id"]))
    return None if erased is None else erasure_text(erased)


def _joined(*values: Any) -> str:
    return ", ".join(str(value) for value in values if value is not None)

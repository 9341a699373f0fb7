"""``mlc invoices``: what the ledger holds of each invoice, and the two things a person may say about a parked one."""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace, operator
from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.files import named
from mlc_dagster.cli.invoice_sheet import print_sheet, sheet
from mlc_dagster.cli.output import add_rows, console, file_name, minor_money, print_json, state_text, table
from mlc_dagster.ledger import invoice_views
from mlc_dagster.ledger.database import Row, Transaction

app = typer.Typer(no_args_is_help=True, help="Invoices: list, show, release, retry.")

RELEASABLE = ("DUP_NORMALISED", "DUP_OTHER_BU")
"""Holds that two people may lift: the number only looks like another's, or is another business unit's."""


@app.command("list")
def list_invoices(
    ctx: typer.Context,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    number: Annotated[str | None, typer.Option("--number", help="Invoice number, or Stampli's id.")] = None,
    window: Annotated[str | None, typer.Option("--window", help="Poll window, such as 2026-12-01-08:15 (UTC).")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, oldest first.")] = 500,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Invoices with their state and Fusion's last known statuses."""
    from mlc_dagster.ledger.states import InvoiceState

    states = [named(InvoiceState, text, "--state") for text in state or []]
    start = None if window is None else parse_window(window)
    with open_workplace(ctx, config).ledger() as ledger, ledger.reading() as reading:
        rows = invoice_views.list_invoices(reading, states=states, number=number, window_start=start, limit=limit)
    if as_json:
        print_json({"invoices": [summary(row) for row in rows]})
        return
    if not rows:
        typer.echo("No such invoices.")
        return
    lines = [
        (
            row["id"],
            row["number"],
            row["vendor_id"],
            minor_money(row["amount_minor"], row["currency"], row["amount_text"]),
            state_text(row["state"]),
            row["reason"] or "",
            row["fusion_invoice_id"] or "",
            fusion_statuses(row),
            file_name(row["file_path"]),
        )
        for row in rows
    ]
    columns = ("ID", "Number", "Vendor", "Amount", "State", "Reason", "Fusion id", "In Fusion", "File")
    console().print(add_rows(table(*columns, right=("ID", "Amount")), lines))


@app.command("show")
def show(
    ctx: typer.Context,
    invoice: Annotated[str, typer.Argument(help="ID of `mlc invoices list`, invoice number, or Stampli's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything the ledger holds of an invoice: appearances, attempts, Fusion's statuses, problems, audit events."""
    with open_workplace(ctx, config).ledger() as ledger, ledger.reading() as reading:
        sheets = [sheet(reading, row) for row in find(reading, invoice)]
        now = reading.now
    if as_json:
        print_json({"invoices": sheets})
        return
    for each in sheets:
        print_sheet(each, now)


@app.command("release")
def release(
    ctx: typer.Context,
    invoice: Annotated[str, typer.Argument(help="ID, number or Stampli's id.")],
    reason: Annotated[str, typer.Option("--reason", help="The hold to lift: DUP_NORMALISED or DUP_OTHER_BU.")],
    by: Annotated[str, typer.Option("--by", help="Who asks for it.")],
    approved_by: Annotated[str, typer.Option("--approved-by", help="Who else approves it.")],
    why: Annotated[str, typer.Option("--why", help="Why it is not a duplicate.")],
    config: ConfigOption = None,
) -> None:
    """Lift a duplicate hold: two different people, with a reason, on record. The next poll posts the invoice."""
    from mlc_dagster.ledger.states import InvoiceState, move

    if reason not in RELEASABLE:
        raise CommandError(
            f"--reason {reason}: only {' and '.join(RELEASABLE)} can be released; others need their cause cured"
        )
    for name, value in (("--by", by), ("--approved-by", approved_by), ("--why", why)):
        if not value.strip():
            raise CommandError(f"{name}: is empty; it goes on record")
    if by.strip().casefold() == approved_by.strip().casefold():
        raise CommandError(f"--approved-by {approved_by}: a release takes two different people")
    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        row = find_one(transaction, invoice)
        if row["state"] != InvoiceState.PARKED or row["reason"] != reason:
            now_is = row["state"] + (f" ({row['reason']})" if row["reason"] else "")
            raise CommandError(
                f"invoice {row['number']} (ID {row['id']}) is {now_is}, not PARKED ({reason}); nothing was changed"
            )
        before = list(row["released_reasons"] or [])
        released = [*before, reason]
        moved = move(
            transaction,
            row["id"],
            InvoiceState.RECEIVED,
            expected=(InvoiceState.PARKED,),
            event="invoice.released",
            detail={
                "released": reason,
                "by": by.strip(),
                "approved_by": approved_by.strip(),
                "why": why.strip(),
                "before": {"state": row["state"], "reason": row["reason"], "released_reasons": before},
                "after": {"state": str(InvoiceState.RECEIVED), "released_reasons": released},
                "problems": row["problems"],
            },
            released_reasons=released,
        )
        if not moved:
            raise CommandError(f"invoice {row['number']}: changed meanwhile; look at it again with `mlc invoices show`")
    typer.echo(f"Invoice {row['number']} (ID {row['id']}) released from {reason}: the next poll judges and posts it.")


@app.command("retry")
def retry(
    ctx: typer.Context,
    invoice: Annotated[str, typer.Argument(help="ID, number or Stampli's id.")],
    config: ConfigOption = None,
) -> None:
    """Have a parked invoice judged again by the next poll, because its cause is believed to be gone."""
    from mlc_dagster.ledger.invoices import mark_cured
    from mlc_dagster.ledger.recovery import reopen
    from mlc_dagster.ledger.states import InvoiceState

    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        row = find_one(transaction, invoice)
        if row["state"] != InvoiceState.PARKED:
            raise CommandError(
                f"invoice {row['number']} (ID {row['id']}) is {row['state']}, not PARKED; nothing was changed"
            )
        if row["reason"] == "SUBMIT_UNKNOWN":
            # Judged again, it would be mapped and sent as if nothing had been sent before.
            reopen(transaction, row["id"], by=ledger.actor)
            typer.echo(f"Invoice {row['number']} (ID {row['id']}): the next poll looks for it in Fusion again.")
            return
        mark_cured(transaction, row["id"], {"how": "mlc invoices retry", "by": ledger.actor, "reason": row["reason"]})
    typer.echo(f"Invoice {row['number']} (ID {row['id']}), parked for {row['reason']}: the next poll judges it again.")


def parse_window(text: str) -> dt.datetime:
    """Start of the window that ``text`` names.

    Raises:
        CommandError: it is no window's name.
    """
    from mlc_dagster.ledger.windows import window_start

    try:
        return window_start(text)
    except ValueError:
        raise CommandError(
            f"--window {text}: is not a poll window; write its start in UTC, such as 2026-12-01-08:15"
        ) from None


def find(reading: Transaction, text: str) -> list[Row]:
    """Invoices with this number or Stampli id, else the one with this ID.

    Raises:
        CommandError: there is none.
    """
    import sqlalchemy as sa

    from mlc_dagster.ledger.schema import invoice

    rows = reading.rows(
        sa.select(invoice)
        .where(sa.or_(invoice.c.number == text, invoice.c.source_key == text, invoice.c.fusion_number == text))
        .order_by(invoice.c.id)
    )
    if text.isdigit() and len(text) < 19:
        rows += [
            row
            for row in reading.rows(sa.select(invoice).where(invoice.c.id == int(text)))
            if row["id"] not in {found["id"] for found in rows}
        ]
    if not rows:
        raise CommandError(
            f"invoice {text}: the ledger has none with this ID, number or Stampli id; see `mlc invoices list`"
        )
    return rows


def find_one(reading: Transaction, text: str) -> Row:
    """The one invoice that ``text`` names.

    Raises:
        CommandError: none, or several.
    """
    rows = find(reading, text)
    if len(rows) > 1:
        told = ", ".join(
            f"{row['id']} ({row['company_id']}, vendor {row['vendor_id']}, {row['state']})" for row in rows
        )
        raise CommandError(f"invoice {text}: names {len(rows)} invoices; give the ID of one: {told}")
    return rows[0]


def fusion_statuses(row: Mapping[str, Any]) -> str:
    """Fusion's last known statuses in short."""
    names = ("validation_status", "approval_status", "accounting_status", "paid_status")
    told = ", ".join(row[name] for name in names if row[name])
    return told + (f", on hold: {', '.join(row['holds'])}" if row["holds"] else "")


def summary(row: Row) -> dict[str, Any]:
    """An invoice of a listing as JSON shows it."""
    from mlc_dagster.ledger.windows import window_key
    from mlc_dagster.stampli.reading import amount_of

    names = (
        "id",
        "company_id",
        "number",
        "vendor_id",
        "state",
        "reason",
        "currency",
        "amount_text",
        "parked_at",
        "business_unit",
    )
    more = (
        "supplier_id",
        "supplier_number",
        "fusion_invoice_id",
        "file_path",
        "file_rows",
        "observed_at",
        "created_at",
    )
    statuses = ("validation_status", "approval_status", "accounting_status", "paid_status", "holds")
    minor = row["amount_minor"]
    return {name: row[name] for name in (*names, *more)} | {
        "stampli_id": row["source_key"],
        "window": window_key(row["window_start"]),
        "amount": None if minor is None or row["currency"] is None else amount_of(minor, row["currency"]),
        "problems": row["problems"] or [],
        "differences": row["differences"] or [],
        "in_fusion": {name: row[name] for name in statuses},
    }

"""``mlc invoices``: what the ledger holds of each invoice, and what people may decide about a parked one."""

import datetime as dt
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, one_person, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace, operator
from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.files import named
from mlc_dagster.cli.invoice_sheet import print_sheet, sheet
from mlc_dagster.cli.output import add_rows, console, file_name, minor_money, print_json, state_text, table
from mlc_dagster.ledger import invoice_views
from mlc_dagster.ledger.database import Row, Transaction

if TYPE_CHECKING:
    from mlc_dagster.stampli.inbound import Inbound

app = typer.Typer(no_args_is_help=True, help="Invoices: list, show, retry, release, mark-posted, repost, abandon.")

RETRY_REASON = "its cause is believed to be gone"
"""What goes on record of a retry without a reason: the same checks judge, whatever it says."""

InvoiceArgument = Annotated[str, typer.Argument(help="ID, number or Stampli's id.")]


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
    hold: Annotated[
        str, typer.Option("--hold", help="The hold to lift, as `mlc invoices list` shows it, such as DUP_NORMALISED.")
    ],
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    invoice: Annotated[str | None, typer.Argument(help="ID, number or Stampli's id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are parked for this hold now.")] = False,
    config: ConfigOption = None,
) -> None:
    """Lift a hold on a parked invoice. Takes two people; the next poll judges it again and passes over this hold."""
    from mlc_dagster.ledger.releases import NotReleasable, release_all, release_hold

    approval = two_people(by, approved_by, reason)
    if (invoice is None) != every:
        raise CommandError("mlc invoices release: name one invoice, or say --all; nothing was changed")
    if invoice is None:
        with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
            try:
                count = release_all(transaction, hold, approval)
            except NotReleasable as refused:
                raise CommandError(f"{refused}; nothing was changed") from None
        if not count:
            raise CommandError(f"--all --hold {hold}: no invoice is parked for this and not released already")
        typer.echo(f"{count} invoices released from {hold}: the next poll judges and posts them.")
        return
    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        row = find_one(transaction, invoice)
        try:
            release_hold(transaction, row["id"], hold, approval)
        except NotReleasable as refused:
            raise CommandError(f"{refused}; nothing was changed") from None
    typer.echo(f"Invoice {row['number']} (ID {row['id']}) released from {hold}: the next poll judges and posts it.")


@app.command("retry")
def retry(
    ctx: typer.Context,
    invoice: Annotated[str | None, typer.Argument(help="ID, number or Stampli's id.")] = None,
    parked_for: Annotated[
        str | None,
        typer.Option("--parked-for", help="All parked for this, in full, such as FUSION_REJECTED(AP-810101)."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes on record.")] = RETRY_REASON,
    config: ConfigOption = None,
) -> None:
    """Have a parked invoice judged again by the next poll, because its cause is believed to be gone.

    With --parked-for all invoices that are parked for the same, as by a role that was taken away.
    """
    from mlc_dagster.ledger.releases import NotParked, judge_again, judge_all_again

    # Nothing is decided here, the same checks judge: who runs the command is enough.
    decision = one_person(operator(), reason)
    if (invoice is None) == (parked_for is None):
        raise CommandError("mlc invoices retry: name one invoice, or --parked-for a reason; nothing was changed")
    if parked_for is not None:
        with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
            count = judge_all_again(transaction, parked_for, by=decision.by, reason=decision.reason)
        if not count:
            raise CommandError(
                f"--parked-for {parked_for}: no invoice is parked for this and not judged again already; "
                "`mlc exceptions` shows the reasons in full"
            )
        typer.echo(f"{count} invoices parked for {parked_for}: the next poll takes them up again.")
        return
    assert invoice is not None  # noqa: S101 - one of the two is given
    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        row = find_one(transaction, invoice)
        try:
            judge_again(transaction, row["id"], by=decision.by, reason=decision.reason)
        except NotParked:
            raise CommandError(
                f"invoice {row['number']} (ID {row['id']}) is {row['state']}, not PARKED; nothing was changed"
            ) from None
    if row["reason"] == "SUBMIT_UNKNOWN":
        typer.echo(f"Invoice {row['number']} (ID {row['id']}): the next poll looks for it in Fusion again.")
    else:
        typer.echo(
            f"Invoice {row['number']} (ID {row['id']}), parked for {row['reason']}: the next poll judges it again."
        )


@app.command("mark-posted")
def mark_posted(
    ctx: typer.Context,
    invoice: InvoiceArgument,
    fusion_id: Annotated[int, typer.Option("--fusion-id", help="InvoiceId in Fusion.", min=1)],
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Say which invoice of Fusion one of unknown outcome became. Takes two people; refused where the two differ."""
    from mlc_dagster.ledger.states import InvoiceState
    from mlc_dagster.stampli import overriding

    approval = two_people(by, approved_by, reason)
    with _deciding(ctx, config, invoice) as (inbound, row):
        marked = overriding.mark_posted(inbound, row["id"], fusion_id, approval)
    named = f"Invoice {row['number']} (ID {row['id']}) is InvoiceId {fusion_id}"
    if marked.state is InvoiceState.CREATED:
        typer.echo(f"{named}: the next poll reads it back and compares every line.")
        return
    told = "; ".join(f"{name} is {found or 'empty'}" for name, (_, found) in marked.foreign.items())
    typer.echo(f"{named}, entered by somebody else ({told}): ALREADY_IN_FUSION, never acted on.")


@app.command("repost")
def repost(
    ctx: typer.Context,
    invoice: InvoiceArgument,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Allow one more attempt at an invoice of unknown outcome, or one gone from Fusion. Takes two people.

    Refused while Fusion shows it, under whatever number, or keeps its number because it was cancelled.
    """
    from mlc_dagster.stampli import overriding

    approval = two_people(by, approved_by, reason)
    with _deciding(ctx, config, invoice) as (inbound, row):
        overriding.allow_repost(inbound, row["id"], approval)
    typer.echo(
        f"Invoice {row['number']} (ID {row['id']}) may be sent once more: the next poll sends the same bytes, after it "
        "has proven twice that Fusion does not have it."
    )


@app.command("abandon")
def abandon(
    ctx: typer.Context,
    invoice: InvoiceArgument,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Give a parked invoice up: it is never posted. Takes two people; refused while Fusion shows it."""
    from mlc_dagster.stampli import overriding

    approval = two_people(by, approved_by, reason)
    with _deciding(ctx, config, invoice) as (inbound, row):
        overriding.abandon(inbound, row["id"], approval)
    typer.echo(f"Invoice {row['number']} (ID {row['id']}) is given up: REJECTED (ABANDONED), never posted.")


@contextmanager
def _deciding(ctx: typer.Context, config: Path | None, invoice: str) -> "Generator[tuple[Inbound, Row]]":
    """The wiring and the one invoice that is decided about; what forbids the decision becomes one line."""
    from mlc_dagster.ledger.unsettled import HeldByAnother, NotUnsettled
    from mlc_dagster.stampli.overriding import OverrideRefused

    with open_workplace(ctx, config).inbound(actor=operator()) as inbound:
        with inbound.ledger.reading() as reading:
            row = find_one(reading, invoice)
        try:
            yield inbound, row
        except (NotUnsettled, HeldByAnother, OverrideRefused) as refused:
            raise CommandError(str(refused)) from None


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
    from mlc_dagster.money import amount_of

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

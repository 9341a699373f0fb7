"""``mlc exceptions``: everything that needs a person, with owner, age, amount and what to do; nothing else."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace
from mlc_dagster.cli.output import add_rows, age, console, file_name, minor_money, print_json, state_text, table
from mlc_dagster.ledger.database import Transaction

_ALL = 1_000_000_000


def exceptions(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Parked, unknown, differing, missing and voided invoices, rows set aside, versions that wait, files not read."""
    with open_workplace(ctx, config).ledger() as ledger, ledger.reading() as reading:
        found = list(collect(reading))
        now = reading.now
    if as_json:
        print_json({"exceptions": found})
        return
    if not found:
        typer.echo("Nothing needs a person.")
        return
    rows = [
        (
            each["id"],
            each["what"],
            each["amount_text"],
            state_text(each["state"]),
            each["reason"],
            each["owner"],
            age(each["since"], now),
            each["to_do"],
        )
        for each in found
    ]
    columns = ("ID", "Invoice or row", "Amount", "State", "Reason", "Owner", "Age", "What to do")
    console().print(add_rows(table(*columns, right=("ID", "Amount", "Age")), rows))
    typer.echo(f"{len(found)} in all. One in full: `mlc invoices show ID`.")


def collect(reading: Transaction) -> Iterator[dict[str, Any]]:
    """Every exception: invoices first, then appearances, then rows and files; oldest first in each."""
    yield from _invoices(reading)
    yield from _appearances(reading)
    yield from _rows(reading)
    yield from _files(reading)


def _entry(
    *, kind: str, state: str, what: str, reason: str | None, since: Any, to_do: str, amount: str = "",
    invoice_id: int | None = None, file: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    from mlc_dagster.cli.invoice_sheet import owner_of

    return {
        "kind": kind,
        "id": invoice_id,
        "what": what,
        "state": state,
        "reason": reason,
        "owner": owner_of(reason) or "integration engineer",
        "since": since,
        "amount_text": amount,
        "file": file,
        "to_do": to_do,
    }


def remedy_of(code: str | None) -> str:
    """What the catalogue says to do about a reason."""
    from mlc_dagster.stampli.reasons import UnknownReason, reason

    try:
        return reason(code or "").remedy
    except UnknownReason:
        return "See `mlc invoices show`."


def _invoices(reading: Transaction) -> Iterator[dict[str, Any]]:
    from mlc_dagster.cli.invoice_sheet import difference_texts, sentence
    from mlc_dagster.ledger.invoice_views import list_invoices
    from mlc_dagster.ledger.states import InvoiceState as S

    for row in list_invoices(reading, states=list(S), limit=_ALL):
        state = S(row["state"])
        # Of one that is gone: from what people entered in its place.
        differs = state in (S.CREATED, S.ALREADY_IN_FUSION, S.MISSING_IN_FUSION) and bool(row["differences"])
        if not differs and state not in (S.PARKED, S.UNKNOWN, S.MISSING_IN_FUSION, S.VOIDED_IN_FUSION):
            continue
        code = row["reason"] or {S.UNKNOWN: "SUBMIT_UNKNOWN", S.CREATED: "READ_BACK_DIFFERS"}.get(state, str(state))
        told = [sentence(problem) for problem in row["problems"] or []]
        if differs:
            told += ["Fusion holds it otherwise: " + "; ".join(difference_texts(row["differences"])) + "."]
        if state is S.UNKNOWN:
            told = ["Nothing: it is looked up in Fusion before anything is sent again."]
        yield _entry(
            kind="invoice",
            invoice_id=row["id"],
            what=row["number"],
            state=str(state),
            reason=code,
            since=row["parked_at"] or row["changed_at"],
            amount=minor_money(row["amount_minor"], row["currency"], row["amount_text"]),
            file=file_name(row["file_path"]),
            to_do=" ".join(told) or remedy_of(code),
        )


def _appearances(reading: Transaction) -> Iterator[dict[str, Any]]:
    """A further version of an invoice that waits for an outcome, or for a person because Fusion has the former one."""
    from mlc_dagster.ledger.schema import invoice_occurrence, source_file

    statement = (
        sa.select(invoice_occurrence, source_file.c.path, source_file.c.received_at)
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .where(invoice_occurrence.c.outcome.in_(["WAITING", "PARKED"]))
        .order_by(invoice_occurrence.c.id)
    )
    for row in reading.rows(statement):
        waits = row["outcome"] == "WAITING"
        yield _entry(
            kind="appearance",
            invoice_id=row["invoice_pk"],
            what=f"{row['number']} again",
            state=row["outcome"],
            reason=None if waits else row["reason"],
            since=row["received_at"],
            amount=minor_money(row["amount_minor"], row["currency"], row["amount_text"]),
            file=file_name(row["path"]),
            to_do=f"Nothing: {row['reason']}." if waits else remedy_of(row["reason"]),
        )


def _rows(reading: Transaction) -> Iterator[dict[str, Any]]:
    """Rows that could not be given to an invoice; of the others the invoice itself says what is to be done."""
    from mlc_dagster.ledger.schema import invoice, quarantined_row, source_file

    known = sa.exists().where(
        invoice.c.company_id == quarantined_row.c.company_id, invoice.c.source_key == quarantined_row.c.source_id
    )
    statement = (
        sa.select(quarantined_row, source_file.c.path, source_file.c.received_at)
        .join(source_file, source_file.c.id == quarantined_row.c.file_id)
        .where(~known)
        .order_by(quarantined_row.c.file_id, quarantined_row.c.line)
    )
    for row in reading.rows(statement):
        named = f" of invoice {row['source_id']}" if row["source_id"] else ""
        yield _entry(
            kind="row",
            what=f"row {row['line']}{named} in {file_name(row['path'])}",
            state="QUARANTINED",
            reason=row["reason"],
            since=row["received_at"],
            file=file_name(row["path"]),
            to_do=row["text"],
        )


def _files(reading: Transaction) -> Iterator[dict[str, Any]]:
    from mlc_dagster.ledger.files import FileState, list_files
    from mlc_dagster.ledger.retries import stranded_files
    from mlc_dagster.stampli.inbound import FEED

    for row in stranded_files(reading, FEED):
        yield _entry(
            kind="file",
            what=file_name(row["path"]),
            state=row["state"],
            reason=None,
            since=row["received_at"] or row["assigned_at"],
            file=file_name(row["path"]),
            to_do="Nobody has read it, and no run is going to: the next poll asks for one. See that there is a poll.",
        )
    for row in reversed(list_files(reading, states=[FileState.REJECTED], limit=_ALL)):
        code, _, text = (row["reason"] or "").partition(": ")
        yield _entry(
            kind="file",
            what=file_name(row["path"]),
            state=row["state"],
            reason=code or None,
            since=row["received_at"] or row["assigned_at"],
            file=file_name(row["path"]),
            to_do=text,
        )

"""``mlc retention``: what the retention rules come to, erasing by them, and legal holds.

What belongs here: options, and the words for what was found. What does not: what may be erased, and how (``ledger``).
"""

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, one_person, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import add_rows, console, print_json, table, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_dagster.ledger.database import Ledger, Row
    from mlc_dagster.ledger.retention import KindPlan, Rules

app = typer.Typer(no_args_is_help=True, help="What is kept for how long; erasing what is due; legal holds.")
hold_app = typer.Typer(no_args_is_help=True, help="Legal holds: what they name is not erased.")
app.add_typer(hold_app, name="hold")


@app.command("plan")
def plan(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What `mlc retention run` would erase now, and what it would keep though its period is over, with the reason."""
    workplace = open_workplace(ctx, config)
    with workplace.ledger() as ledger:
        _show_plan(ledger, _rules(workplace), as_json=as_json)


@app.command("run")
def run(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go, as `plan` does.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what was kept as long as mlc.yaml says and nothing needs; the audit trail keeps hash, size and name."""
    from mlc_dagster.ledger import retention
    from mlc_dagster.ledger.archive import LocalArchive

    workplace = open_workplace(ctx, config)
    rules = _rules(workplace)
    with workplace.ledger(actor=operator()) as ledger:
        if dry_run:
            _show_plan(ledger, rules, as_json=as_json)
            return
        done = retention.run(ledger, LocalArchive(workplace.settings.data_path / "archive"), rules)
    if as_json:
        items = {str(kind): {"count": each.count, "bytes": each.bytes} for kind, each in done.items.items()}
        print_json({"erased": items, "files_removed": done.files_removed, "files_in_use": done.files_in_use})
        return
    for kind, each in done.items.items():
        typer.echo(f"{kind}: {each.count} erased, {each.bytes:,} bytes.")
    if not done.items:
        typer.echo("Nothing is erased: every kind is kept for ever (retention: in mlc.yaml).")
    typer.echo(f"{done.files_removed} files removed from the archive.")
    if done.files_in_use:
        typer.echo(f"{done.files_in_use} were stored again within the last day; a later run removes them.")


@hold_app.command("add")
def hold_add(
    ctx: typer.Context,
    by: ByOption,
    reason: ReasonOption,
    company: Annotated[str | None, typer.Option(help="Company's id in Stampli's files.")] = None,
    supplier: Annotated[str | None, typer.Option(help="Vendor's id in Stampli, or number or id in Fusion.")] = None,
    invoice: Annotated[str | None, typer.Option(help="Invoice number, or its id in Stampli or here.")] = None,
    file: Annotated[str | None, typer.Option(help="Name, path or SHA-256 of a file received or exported.")] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="First day, such as 2026-10-01, or a moment (UTC).")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Day or moment (UTC) no longer part of it.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what is named, whatever its age. Several criteria narrow each other; what is unclear is kept."""
    from mlc_dagster.ledger.holds import HoldTerms, place_hold

    decision = one_person(by, reason)
    terms = HoldTerms(company, supplier, invoice, file, _moment(begin, "--from"), _moment(end, "--to"))
    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        number = place_hold(transaction, terms, decision)
    if as_json:
        print_json({"hold": number})
    else:
        typer.echo(f"Hold {number} stands; releasing it takes two people: mlc retention hold release {number}")


@hold_app.command("list")
def hold_list(
    ctx: typer.Context,
    released: Annotated[bool, typer.Option("--all", help="Also those that were released.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Legal holds that stand."""
    from mlc_dagster.ledger.holds import list_holds

    with open_workplace(ctx, config).ledger() as ledger, ledger.reading() as reading:
        rows = list_holds(reading, released=released)
    if as_json:
        print_json({"holds": [dict(row) for row in rows]})
    elif not rows:
        typer.echo("No legal hold.")
    else:
        columns = ("Hold", "What", "By", "Reason", "Since (UTC)", "Released (UTC)")
        lines = [
            (row["id"], _named(row), row["placed_by"], row["reason"], when(row["placed_at"]), when(row["released_at"]))
            for row in rows
        ]
        console().print(add_rows(table(*columns), lines))


@hold_app.command("release")
def hold_release(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The hold's number.")],
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """End a hold: what it names may be erased again once its period is over."""
    from mlc_dagster.ledger.holds import release_hold

    approval = two_people(by, approved_by, reason)
    with open_workplace(ctx, config).ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
        release_hold(transaction, number, approval)
    typer.echo(f"Hold {number} is released.")


def _rules(workplace: Workplace) -> "Rules":
    from mlc_dagster.ledger.retention import Rules

    return Rules.of(workplace.settings)


def _show_plan(ledger: "Ledger", rules: "Rules", *, as_json: bool) -> None:
    from mlc_dagster.ledger import retention

    found = retention.plan(ledger, rules)
    if as_json:
        print_json({"plan": [_document(each) for each in found]})
        return
    columns = ("Content", "Kept for", "Goes", "Bytes", "Stays though it is older", "Erased before")
    console().print(add_rows(table(*columns, right=("Goes", "Bytes", "Erased before")), _lines(found)))


def _lines(found: "Sequence[KindPlan]") -> list[tuple[Any, ...]]:
    return [
        (
            str(each.kind),
            each.period,
            each.goes.count,
            f"{each.goes.bytes:,}",
            "; ".join(f"{amount.count}: {reason}" for reason, amount in each.kept.items()),
            each.erased_before.count,
        )
        for each in found
    ]


def _document(each: "KindPlan") -> dict[str, Any]:
    return {
        "content": str(each.kind),
        "period": each.period,
        "goes": vars(each.goes),
        "kept": {reason: vars(amount) for reason, amount in each.kept.items()},
        "erased_before": vars(each.erased_before),
    }


def _named(row: "Row") -> str:
    said = [f"{name} {row[name]}" for name in ("company", "supplier", "invoice", "file") if row[name] is not None]
    if row["begins"] is not None:
        said.append(f"from {when(row['begins'])}")
    if row["ends"] is not None:
        said.append(f"to {when(row['ends'])}")
    return ", ".join(said)


def _moment(text: str | None, option: str) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"{option} {text}: is not a date; write one such as 2026-10-01", Exit.CONFIGURATION
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)

"""``mlc profile``: which profiles there are, what a file is, and what a profile makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, config_path, open_workplace
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import add_rows, console, money, print_json, table, totals_text, when
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.settings import StampliSettings
    from mlc_dagster.stampli.model import Invoice
    from mlc_dagster.stampli.parsing.profile import Profile
    from mlc_dagster.stampli.parsing.sniffing import Sniffed
    from mlc_dagster.stampli.profile_check import Deviation, Examined, Fit

app = typer.Typer(no_args_is_help=True, help="Profiles of Stampli's files: list, show, check.")

_DELIMITERS = {",": "comma", ";": "semicolon", "|": "pipe", "\t": "tab"}


@app.command("list")
def list_profiles(as_json: JsonOption = False) -> None:
    """Profiles that come with the product; each is a YAML file to copy and change."""
    from mlc_dagster.stampli.parsing.profile import load_profile, shipped_profiles

    profiles = [load_profile(name) for name in shipped_profiles()]
    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "version": each.version,
            "rows": each.rows.model,
            "end": each.file.end.rule,
            "sha256": each.digest,
            "description": each.description,
        }
        for each in profiles
    ]
    if as_json:
        print_json({"profiles": found})
        return
    names = ("name", "version", "rows", "end", "description")
    made = table("Name", "Version", "Rows", "Whole when", "Description")
    console().print(add_rows(made, [tuple(each[name] for name in names) for each in found]))
    typer.echo("To copy one: mlc profile show NAME > mine.yaml")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="Name of a profile of the product.")]) -> None:
    """Print a profile of the product as YAML."""
    from importlib.resources import files

    from mlc_dagster.stampli.parsing.profile import shipped_profiles

    if name not in shipped_profiles():
        raise CommandError(f"{name}: no such profile; there are {', '.join(shipped_profiles())}")
    place = files("mlc_dagster.stampli") / "profiles" / f"{name}.yaml"
    typer.echo(place.read_text(encoding="utf-8"), nl=False)


@app.command("check")
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="An export; of a delivery its manifest, with its files beside it.")],
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="Name of one of the product's, or a YAML file; else that of mlc.yaml; else the one that fits best.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Deviations told one by one.")] = 200,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a file is, what a profile makes of its values, and every place where it deviates. Nothing is stored.

    With an mlc.yaml its profile is taken, and each invoice judged under its own company's settings. Needs none: then
    told is what no company's settings would accept. A number used twice and lines that do not add up are deviations;
    what crosswalks and Fusion know (suppliers, accounts, periods) is judged when the file is read.

    Ends with 0 when the file is as the profile says, with 1 when it deviates or fits no profile.
    """
    from mlc_dagster.stampli.parsing.profile import ProfileError, load_profile, shipped_profiles
    from mlc_dagster.stampli.parsing.sniffing import sniff
    from mlc_dagster.stampli.profile_check import examine, fits

    stampli = _configured(ctx, config)
    named = profile or (stampli and stampli.profile)
    try:
        candidates = [load_profile(named)] if named else [load_profile(name) for name in shipped_profiles()]
    except ProfileError as error:
        raise CommandError(str(error)) from None
    try:
        seen = sniff(file)
        ranked = fits(file, candidates)
        chosen = ranked[0].profile if named or ranked[0].refusal is None else None
        companies = stampli and stampli.companies
        examined = examine(file, chosen, limit=limit, companies=companies) if chosen is not None else None
    except OSError as error:
        raise CommandError(f"{file}: cannot be read: {error.strerror or error}") from None
    if as_json:
        print_json(_document(file, seen, ranked, chosen, examined))
    else:
        _print(file, seen, ranked, chosen, examined, configured=stampli is not None)
    if examined is None or examined.deviations:
        raise typer.Exit(Exit.ATTENTION)


def _configured(ctx: typer.Context, config: Path | None) -> "StampliSettings | None":
    """``stampli:`` of mlc.yaml, with its profile found; None where there is none, unless one was named."""
    from mlc_dagster.stampli.wiring import profile_name

    try:
        config_path(ctx, config)
    except CommandError:
        return None
    settings = open_workplace(ctx, config).settings
    stampli = settings.stampli
    return stampli and stampli.model_copy(update={"profile": profile_name(settings, stampli.profile)})


def _facts(seen: "Sniffed") -> list[tuple[str, str]]:
    ends = ", ".join(f"{count} {name}" for name, count in seen.line_ends.items()) or "none"
    facts = [
        ("size", f"{seen.size} bytes" + (f", packed by {seen.packed}" if seen.packed != "none" else "")),
        ("content", seen.kind),
        ("encoding", seen.encoding + (", with a byte order mark" if seen.bom else ", no byte order mark")),
        ("line ends", ends + ("" if seen.final_line_end else "; the last line has none")),
    ]
    if seen.odd_byte is not None:
        facts.append(("not UTF-8", seen.odd_byte))
    if seen.nul_bytes:
        facts.append(("NUL bytes", str(seen.nul_bytes)))
    if seen.damaged is not None:
        facts.append(("damaged", seen.damaged))
    if seen.kind == "delimited":
        facts.append(("delimiter", _DELIMITERS.get(seen.delimiter or "", "none found")))
        facts.append((f"first row ({len(seen.columns)} cells)", ", ".join(seen.columns[:60])))
    return facts


def _print(
    file: Path,
    seen: "Sniffed",
    ranked: Sequence["Fit"],
    chosen: "Profile | None",
    examined: "Examined | None",
    *,
    configured: bool,
) -> None:
    typer.echo(visible(file.name))
    console().print(add_rows(table("", ""), _facts(seen)))
    if chosen is None or examined is None:
        typer.echo("It fits no profile of the product:")
        for fit in ranked:
            typer.echo(visible(f"  {fit.profile.name}: {fit.refusal}"))
        typer.echo("Copy one with `mlc profile show NAME > mine.yaml`, change it, and name it with --profile")
        return
    typer.echo(f"Profile {chosen.name} version {chosen.version}: {visible(chosen.description)}")
    typer.echo(
        f"{examined.rows} rows: {examined.lines} in {examined.invoices} invoices, {examined.set_aside} set aside."
    )
    _print_values(examined, "their company cannot take" if configured else "no company could take")
    for warning in examined.warnings:
        typer.echo(visible(f"note: {warning}"))
    for remark in examined.remarks:
        typer.echo(visible(f"note: {remark.place}: {remark.text}"))
    if examined.remarked > len(examined.remarks):
        typer.echo(f"note: and {examined.remarked - len(examined.remarks)} more that park nothing")
    if not examined.deviations:
        rest = "crosswalks" if configured else "a company's settings"
        typer.echo(f"No deviations. What depends on {rest} or on Fusion is judged when the file is read.")
        return
    made = table("Place", "Reason", "What", title="Deviations")
    console().print(add_rows(made, [(each.place, each.reason, each.text) for each in examined.deviations]))
    counts = ", ".join(f"{count} {reason}" for reason, count in examined.reasons.most_common())
    typer.echo(f"{examined.reasons.total()} deviations: {counts}")
    if examined.not_told:
        typer.echo(f"and {examined.not_told} more of them; --limit shows them")


def _print_values(examined: "Examined", not_taken: str) -> None:
    values = examined.values
    readable = examined.invoices - examined.unbuilt
    typer.echo(
        f"{readable} invoices can be read{': ' if values.totals else ''}{totals_text(values.totals)}"
        + (f"; {examined.deviating} of them {not_taken} as they are" if examined.deviating else "")
    )
    if values.first_date is None:
        return
    counts = "; ".join(
        ", ".join(f"{count} {value}" for value, count in counted.most_common()) for counted in values.counted.values()
    )
    typer.echo(visible(f"Dated {values.first_date} to {values.last_date}; {counts}"))
    columns = ("Invoice", "Id", "Vendor", "Type", "Date", "Due", "Posting date", "Approved (UTC)", "Lines", "Amount")
    made = table(*columns, title="The first invoices as they are read", right=("Lines", "Amount"))
    rows = [
        (
            each.number, each.source_id, f"{each.vendor_id} {each.vendor_name}", each.invoice_type, each.invoice_date,
            each.due_date, each.posting_date, when(each.approved_at), len(each.lines),
            money(each.amount, each.currency),
        )
        for each in values.samples
    ]  # fmt: skip
    console().print(add_rows(made, rows))


def _document(
    file: Path, seen: "Sniffed", ranked: Sequence["Fit"], chosen: "Profile | None", examined: "Examined | None"
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": file.name,
        "seen": {
            "bytes": seen.size, "packed": seen.packed, "content": seen.kind, "encoding": seen.encoding,
            "byte_order_mark": seen.bom, "not_utf8": seen.odd_byte, "nul_bytes": seen.nul_bytes,
            "line_ends": seen.line_ends, "final_line_end": seen.final_line_end, "delimiter": seen.delimiter,
            "columns": seen.columns, "damaged": seen.damaged,
        },
        "profiles": [
            {"name": fit.profile.name, "name_matches": fit.name_matches, "refusal": fit.refusal} for fit in ranked
        ],
        "profile": chosen and {"name": chosen.name, "version": chosen.version, "sha256": chosen.digest},
    }  # fmt: skip
    if examined is not None:
        values = examined.values
        document["result"] = {
            "rows": examined.rows, "rows_in_invoices": examined.lines, "rows_set_aside": examined.set_aside,
            "invoices": examined.invoices, "invoices_readable": examined.invoices - examined.unbuilt,
            "invoices_deviating": examined.deviating,
            "totals": dict(values.totals), "first_date": values.first_date, "last_date": values.last_date,
            "counted": {name: dict(counts) for name, counts in values.counted.items()},
            "first_invoices": [_invoice_document(each) for each in values.samples],
            "warnings": examined.warnings, "remarks": [_told(each) for each in examined.remarks],
            "remarked": examined.remarked,
            "reasons": dict(examined.reasons), "not_told": examined.not_told,
            "deviations": [_told(each) for each in examined.deviations],
        }  # fmt: skip
    return document


def _told(deviation: "Deviation") -> dict[str, Any]:
    return {
        "place": deviation.place, "reason": deviation.reason, "text": deviation.text, "row": deviation.row,
        "column": deviation.column,
    }  # fmt: skip


def _invoice_document(invoice: "Invoice") -> dict[str, Any]:
    """An invoice as it was read: money as text, dates in ISO form."""
    return {
        name: getattr(invoice, name)
        for name in (
            "company_id", "source_id", "number", "invoice_type", "status", "vendor_id", "vendor_name", "invoice_date",
            "due_date", "posting_date", "received_date", "approved_at", "currency", "amount",
        )
    } | {"lines": len(invoice.lines)}  # fmt: skip

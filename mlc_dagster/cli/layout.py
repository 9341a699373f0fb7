"""``mlc layout``: which layouts there are, whether one can be used, and what it makes of records before any is sent."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, config_path, open_workplace
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import add_rows, console, print_json, table
from mlc_dagster.settings import ChartSettings, ExportSettings
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.exports.layouts.loading import Layout
    from mlc_dagster.exports.layouts.preview import Preview
    from mlc_dagster.fusion.records import Read
    from mlc_dagster.ledger.archive import LocalArchive
    from mlc_dagster.ledger.database import Row, Transaction

app = typer.Typer(no_args_is_help=True, help="Layouts of files for partners: list, check, preview.")

_STAND_IN: dict[str, Any] = {
    "sftp": {"host": "localhost", "username": "preview", "password": "env:UNUSED", "host_key": "SHA256:unused"},
    "partner": {"sender": "ZZ:SENDER", "receiver": "ZZ:RECEIVER"},
}
"""What a feed needs beside its layout, where no feed is named; none of it is used but the ids of the interchange."""


@app.command("list")
def list_layouts(as_json: JsonOption = False) -> None:
    """Layouts that come with the product; each is a YAML file to copy and change."""
    from importlib.resources import files

    from mlc_dagster.exports.layouts.loading import load_layout, shipped_layouts

    found: list[dict[str, str]] = []
    for name in shipped_layouts():
        layout = load_layout(name, root=Path())
        place = files("mlc_dagster.exports.layouts") / "shipped" / f"{name}.yaml"
        identity = layout.identity
        found.append(
            {
                "name": name,
                "format": layout.format,
                "source": layout.source,
                "version": identity.version,
                "sha256": identity.sha256,
                "about": _about(place.read_text(encoding="utf-8")),
                "path": str(place),
            }
        )
    if as_json:
        print_json({"layouts": found})
        return
    names = ("name", "format", "source", "version", "about")
    rows = [tuple(each[name] for name in names) for each in found]
    console().print(add_rows(table("Name", "Format", "Source", "Version", "About"), rows))
    typer.echo(f"To copy one: {Path(found[0]['path']).parent}")


def _about(text: str) -> str:
    """The first sentence of the comment that a layout begins with."""
    comment = " ".join(line.removeprefix("#").strip() for line in takewhile(_is_comment, text.splitlines()))
    return comment.partition(". ")[0].rstrip(".")


def _is_comment(line: str) -> bool:
    return line.startswith("#")


@app.command("check")
def check(
    file: Annotated[str, typer.Argument(help="YAML file of a layout, or the name of one of the product's own.")],
    as_json: JsonOption = False,
) -> None:
    """Read a layout and its crosswalks as a run does, and make a writer of it; every fault is one line."""
    from mlc_dagster.exports.layouts.errors import LayoutError
    from mlc_dagster.exports.layouts.loading import load_layout, open_writer
    from mlc_dagster.exports.layouts.samples import SAMPLE_CHART

    try:
        layout = load_layout(_named(file, Path.cwd()), root=Path.cwd())
        open_writer(layout, _stand_in(layout, [SAMPLE_CHART]), {"SAMPLE": SAMPLE_CHART})
    except LayoutError as error:
        if as_json:
            print_json({"file": file, "problems": error.problems})
        else:
            for problem in error.problems:
                typer.echo(f"mlc: {error.source_file}: {problem}", err=True)
        raise typer.Exit(Exit.CONFIGURATION) from None
    identity = layout.identity
    if as_json:
        print_json(
            {
                "file": file,
                "name": identity.name,
                "version": identity.version,
                "sha256": identity.sha256,
                "format": layout.format,
                "source": layout.source,
                "problems": [],
            }
        )
        return
    typer.echo(
        f"{file} can be used: {identity.name} version {identity.version}, {layout.format} of {layout.source}, "
        f"SHA-256 {identity.sha256}"
    )


@app.command("preview")
def preview(
    ctx: typer.Context,
    layout: Annotated[str, typer.Argument(help="YAML file of a layout, or the name of one of the product's own.")],
    record: Annotated[
        list[str] | None, typer.Option("--record", help="Id of a record that was read; may be repeated.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option("--feed", help="As this feed of mlc.yaml would write it: partner, charts, name.")
    ] = None,
    extract: Annotated[
        str, typer.Option("--extract", help="Records of this extract: latest, or its number in the ledger.")
    ] = "latest",
    sample: Annotated[bool, typer.Option("--sample", help="Built-in records; works before anything was read.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many records of an extract.")] = 5,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The file that a layout makes of records, with every column's source and every check. Nothing is sent or kept.

    Exit code 1: a record would be held.
    """
    from mlc_dagster.exports.layouts.loading import load_layout
    from mlc_dagster.exports.layouts.preview import preview as render
    from mlc_dagster.exports.layouts.samples import SAMPLE_CHART, sample_reads

    if sample and record:
        raise CommandError("--record names a record that was read; --sample uses built-in ones: give one of the two")
    workplace = _workplace(ctx, config, needed=not sample or feed is not None)
    charts: Mapping[str, ChartSettings] = {} if workplace is None else workplace.settings.fusion.charts
    if not charts:
        charts = {"SAMPLE": SAMPLE_CHART}
    root = Path.cwd() if workplace is None else workplace.settings.root
    read = load_layout(_named(layout, root), root=root)
    settings = _stand_in(read, list(charts.values())) if feed is None else _feed(workplace, feed, read)
    if sample:
        reads = sample_reads(read.source, charts)
    else:
        assert workplace is not None  # noqa: S101 - asked for above
        reads = _named_records(workplace, read.source, record) if record else []
        # What the feed does not send is no example of its files.
        reads = reads or _of_extract(workplace, read.source, extract, limit, None if feed is None else settings)
    made = render(read, settings, reads, charts)
    if as_json:
        print_json(_document(read, reads, made))
    else:
        _print(read, made)
    if made.problems:
        raise typer.Exit(Exit.ATTENTION)


def _document(layout: "Layout", reads: "Sequence[Read]", made: "Preview") -> dict[str, Any]:
    identity = layout.identity
    return {
        "layout": {
            "name": identity.name,
            "version": identity.version,
            "sha256": identity.sha256,
            "format": layout.format,
            "source": layout.source,
        },
        "records": [each.record_id for each in reads],
        "text": made.text,
        "content_base64": base64.b64encode(made.content).decode("ascii"),
        "bytes": len(made.content),
        "sha256": hashlib.sha256(made.content).hexdigest(),
        "mapping": made.mapping,
        "checks": made.checks,
        "problems": made.problems,
    }


def _print(layout: "Layout", made: "Preview") -> None:
    text = made.text
    if layout.format == "x12" and text.startswith("ISA") and "\n" not in text:
        # Byte 106 ends the first segment and every other; a line each is for the eye only.
        text = text.replace(text[105], f"{text[105]}\n")
    typer.echo(visible(text.replace("\r\n", "\n").rstrip("\n"), lines=True))
    typer.echo("")
    for line in made.mapping:
        typer.echo(f"  {line}")
    for line in made.checks:
        typer.echo(f"ok: {line}")
    for line in made.problems:
        typer.echo(f"mlc: {line}", err=True)
    typer.echo(f"{len(made.content)} bytes. Nothing was sent; sequence and control numbers are samples.")


def _workplace(ctx: typer.Context, config: Path | None, *, needed: bool) -> Workplace | None:
    """The workplace; None where there is no mlc.yaml and none is needed."""
    if not needed:
        try:
            config_path(ctx, config)
        except CommandError:
            return None
    return open_workplace(ctx, config)


def _named(layout: str, root: Path) -> str:
    """A bare name is one of the product's own; a path is looked for here first, then beside mlc.yaml."""
    if "/" not in layout and not layout.endswith((".yaml", ".yml")):
        return layout
    here = Path(layout).resolve()
    return str(here if here.exists() else (root / layout).resolve())


def _stand_in(layout: "Layout", charts: Sequence[ChartSettings]) -> ExportSettings:
    ledgers = [ledger for chart in charts for ledger in chart.ledgers]
    return ExportSettings.model_validate(
        {"name": "preview", "source": layout.source, "layout": layout.identity.name, "ledgers": ledgers, **_STAND_IN}
    )


def _feed(workplace: Workplace | None, name: str, layout: "Layout") -> ExportSettings:
    entries = {} if workplace is None else {entry.name: entry for entry in workplace.settings.exports}
    if name not in entries:
        raise CommandError(f"feed {name}: is not in mlc.yaml; there are: {', '.join(entries) or 'none'}")
    if entries[name].source != layout.source:
        raise CommandError(
            f"feed {name}: gets {entries[name].source}, and the layout is of {layout.source}; take another of the two"
        )
    return entries[name]


def _named_records(workplace: Workplace, source: str, record_ids: Sequence[str]) -> "list[Read]":
    """Records as they were last read; raises CommandError for one that never was."""
    from mlc_dagster.exports.extract_file import find_stored
    from mlc_dagster.ledger import extracts

    archive = _archive(workplace)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        found = extracts.latest_readings(reading, source, record_ids)
        rows = {key: extracts.extract_row(reading, key) for key in {entry.extract_id for entry in found.values()}}
    reads: dict[str, Read] = {}
    for number, row in rows.items():
        if row is not None:
            stored = find_stored(archive.path(row["sha256"]), record_ids)
            reads |= {key: each.read(source) for key, each in stored.items() if found[key].extract_id == number}
    for record_id in record_ids:
        if record_id not in reads:
            raise CommandError(
                f"--record {record_id}: was not read of {source} yet; an id is as `mlc exports show --records` lists "
                "it. --sample shows the layout with built-in records"
            )
    return [reads[record_id] for record_id in record_ids]


def _of_extract(
    workplace: Workplace, source: str, number: str, limit: int, feed: ExportSettings | None
) -> "list[Read]":
    """The first records of an extract, those of the feed only where one is named.

    Raises:
        CommandError: nothing was read of the source, no such extract, or nothing of the feed in it.
    """
    from mlc_dagster.exports.extract_file import iter_reads
    from mlc_dagster.exports.recognition import Selection

    with workplace.ledger() as ledger, ledger.reading() as reading:
        row = _extract(reading, source, number)
    records = iter_reads(_archive(workplace).path(row["sha256"]), source)
    if feed is not None:
        selection = Selection.of(feed, workplace.settings.poll.start)
        records = (read for read in records if selection.takes(read, None))
    reads = list(islice(records, limit))
    if not reads:
        raise CommandError(f"extract {row['id']} has no record that feed {feed.name if feed else ''} sends; name one")
    return reads


def _archive(workplace: Workplace) -> "LocalArchive":
    from mlc_dagster.ledger.archive import LocalArchive

    return LocalArchive(workplace.settings.data_path / "archive")


def _extract(reading: "Transaction", source: str, number: str) -> "Row":
    import sqlalchemy as sa

    from mlc_dagster.ledger.schema_outbound import extract

    statement = sa.select(extract).where(extract.c.source == source)
    if number == "latest":
        statement = statement.where(extract.c.records > 0).order_by(extract.c.id.desc()).limit(1)
    elif number.isdigit() and len(number) < 19:
        statement = statement.where(extract.c.id == int(number))
    else:
        raise CommandError(f"--extract {number}: write latest, or the number of an extract")
    row = reading.row(statement)
    if row is None:
        missing = f"nothing was read of {source} yet" if number == "latest" else f"{source} have no extract {number}"
        raise CommandError(f"{missing}; `mlc run outbound` reads, and --sample shows the layout with built-in records")
    return row

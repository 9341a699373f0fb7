"""``mlc init`` and ``mlc config``: a starter mlc.yaml, and whether one can be used.

What belongs here: loading everything that mlc.yaml names, without connecting to anything.
"""

import datetime as dt
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, config_path
from mlc_dagster.cli.errors import CommandError, Exit, explain
from mlc_dagster.cli.output import add_rows, console, print_json, table
from mlc_dagster.settings import ExportSettings, Settings, secret_references
from mlc_dagster.settings_file import load_settings
from mlc_dagster.vault import SecretError, SecretResolver

DURATION = r"^\d+(\.\d+)? *(ms|s|m|h|d)?$"

_BOUNDS = {"minimum": "minimum", "exclusiveMinimum": "exclusiveMinimum", "gt": "exclusiveMinimum"}
"""Only durations are numbers with a lower bound; pydantic leaves ``gt`` as it is where a validator stands before it."""

app = typer.Typer(no_args_is_help=True, help="Check mlc.yaml; print its JSON schema.")


def starter() -> str:
    """The commented mlc.yaml that ``mlc init`` writes."""
    return (files("mlc_dagster.cli") / "starter.yaml").read_text(encoding="utf-8")


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("mlc.yaml"),
) -> None:
    """Write a commented starter mlc.yaml; an existing file is never overwritten."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(starter())
    except FileExistsError:
        raise CommandError(
            f"{path}: exists already and is not overwritten; name another file or move it away"
        ) from None
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror}") from None
    typer.echo(f"{path} written. Change the lines that end in `# yours`, then run `mlc config check`.")


@app.command("check")
def check(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Parse mlc.yaml, load profile and crosswalks, resolve the secret references (without printing them)."""
    from mlc_dagster.doctor.configuration import warnings as expiring

    path = config_path(ctx, config)
    settings = load_settings(path)
    faults = list(_faults(settings))
    now = dt.datetime.now(dt.UTC)
    warnings = list(expiring(settings, now.date()))
    configured = _summary(settings, path, now)
    if as_json:
        print_json(configured | {"faults": faults, "warnings": warnings})
    else:
        add_rows(made := table("Setting", "Value"), configured.items())
        console().print(made)
        for fault in faults:
            typer.echo(f"mlc: {path}: {fault}", err=True)
        for warning in warnings:
            typer.echo(f"mlc: {path}: warning: {warning}", err=True)
        if not faults:
            typer.echo(f"{path} can be used. Nothing was connected to.")
    if faults:
        raise typer.Exit(Exit.CONFIGURATION)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of mlc.yaml, for editors and linters."""
    document = _as_written(Settings.model_json_schema())
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mlc.yaml", **document})


def _as_written(node: Any) -> Any:
    """The schema of what people write: durations such as 15m and plain dates are read as well."""
    if isinstance(node, list):
        return [_as_written(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "number" and (bounds := _BOUNDS.keys() & node):
        rest = {key: value for key, value in node.items() if key not in ("type", *_BOUNDS)}
        number = {"type": "number"} | {_BOUNDS[bound]: node[bound] for bound in bounds}
        return rest | {"anyOf": [number, {"type": "string", "pattern": DURATION}]}
    if node.get("format") == "date-time":
        rest = {key: value for key, value in node.items() if key not in ("type", "format")}
        return rest | {"anyOf": [{"type": "string", "format": form} for form in ("date", "date-time")]}
    return {key: _as_written(inner) for key, inner in node.items()}


def _faults(settings: Settings) -> Iterator[str]:
    """Everything that parsing alone does not find, one line each."""
    from mlc_dagster.doctor.configuration import checks

    secrets = SecretResolver.of(settings, os.environ)
    values: dict[str, str] = {}
    for key, reference in secret_references(settings).items():
        try:
            values[key] = secrets.resolve(reference)
        except SecretError as error:
            yield f"{key}: {error}"
    for key, load in checks(settings, secrets, values):
        try:
            load()
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            yield from (f"{key}: {line}" for line in explained[1])


def _summary(settings: Settings, path: Path, now: dt.datetime) -> dict[str, str]:
    configured = {
        "file": str(path.resolve()),
        "Fusion": f"{settings.fusion.base_url} as {settings.fusion.posting_user}",
        "poll": f"{settings.poll.cron} from {settings.poll.start:%Y-%m-%d %H:%M} UTC",
        "data folder": str(settings.data_path),
        "ledger": _ledger(settings),
    }
    if settings.stampli is not None:
        sftp = settings.stampli.sftp
        configured["Stampli folder"] = f"sftp://{sftp.username}@{sftp.host}:{sftp.port} {sftp.directory}"
        configured["file profile"] = settings.stampli.profile
        configured |= {
            f"company {company_id}": f"{company.business_unit}, {company.ledger}, source {company.invoice_source}, "
            f"{company.account_template}, after create: {company.after_create}"
            for company_id, company in settings.stampli.companies.items()
        }
    for entry in settings.exports:
        sftp, layout = entry.sftp, entry.layout
        schedule = entry.schedule if isinstance(entry.schedule, str) else f"calendar {entry.schedule.calendar}"
        configured[f"feed {entry.name}"] = (
            f"{entry.source} as {layout} to sftp://{sftp.username}@{sftp.host}:{sftp.port} {sftp.directory}, {schedule}"
            f"{_next(settings, entry, now)}"
        )
    # A reference names a place, never a value.
    return configured | {f"secret {key}": reference for key, reference in secret_references(settings).items()}


def _next(settings: Settings, entry: ExportSettings, now: dt.datetime) -> str:
    from mlc_dagster.exports.calendar import CalendarError, next_tick
    from mlc_dagster.exports.cron import CronError

    try:
        tick = next_tick(entry.schedule, now=now, root=settings.root)
    except (CalendarError, CronError):
        return ""
    return "" if tick is None else f", next at {tick:%Y-%m-%d %H:%M} UTC"


def _ledger(settings: Settings) -> str:
    if settings.ledger.url_secret is not None:
        return f"address from {settings.ledger.url_secret}"
    if settings.ledger.url is None:
        return f"sqlite:///{settings.data_path / 'ledger.sqlite'}"
    from sqlalchemy import make_url

    return make_url(settings.ledger.url).render_as_string(hide_password=True)

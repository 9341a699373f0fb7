"""A file for a partner on one page: what ``mlc exports show`` prints, and what JSON says of a file."""

import datetime as dt
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.output import add_rows, age, cell, console, state_text, table
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.settings import AcknowledgementSettings, Settings

REMEDIES = {
    "UNBALANCED": "Correct the journal in Fusion: debits must equal credits in each currency.",
    "KEY_TOO_LONG": "Shorten the value in Fusion, or choose the layout's option that moves long keys to REF.",
    "AMOUNT_SCALE": "Correct the amount in Fusion, or choose the layout's option for amounts of three decimals.",
    "OVERFLOW": "Shorten the value in Fusion, or widen the field in the layout, with the partner.",
    "ENCODING": "Replace the character in Fusion, or choose another encoding or error policy in the layout.",
    "CODE_UNKNOWN": "Add the code to the layout's crosswalk.",
    "FIELD_MISSING": "Fill in the field in Fusion, or make it optional in the layout.",
    "CHART_UNKNOWN": "Add the ledger's chart of accounts under fusion.charts in mlc.yaml.",
    "ACCOUNT_SEGMENTS": "Compare the account with the segments of its chart under fusion.charts in mlc.yaml.",
    "CURRENCY_UNKNOWN": "Correct the currency in Fusion; it is not in the list of ISO 4217.",
    "TOTALS": "Correct the amounts in Fusion: lines and header do not add up.",
    "NO_LINES": "Nothing can be written of a document without lines; complete it in Fusion.",
    "STATISTICAL": "Statistical journals have no place in this layout; choose journals of amounts, or another layout.",
}
"""What to do about a reason for which a document is held."""


def find_file(reading: Transaction, text: str) -> Row:
    """The file with this ID or name.

    Raises:
        CommandError: none, or several.
    """
    from mlc_dagster.ledger.schema_outbound import exported_file

    rows = reading.rows(sa.select(exported_file).where(exported_file.c.name == text).order_by(exported_file.c.id))
    if not rows and text.isdigit() and len(text) < 19:
        rows = reading.rows(sa.select(exported_file).where(exported_file.c.id == int(text)))
    if not rows:
        raise CommandError(f"file {text}: the ledger has none with this ID or name; see `mlc exports list`")
    if len(rows) > 1:
        told = ", ".join(f"{row['id']} (feed {row['feed']}, {row['state']})" for row in rows)
        raise CommandError(f"file {text}: names {len(rows)} files; give the ID of one: {told}")
    return rows[0]


def place_of(settings: Settings, row: Row) -> Path:
    """Where its bytes are: in the outbox under its own name while it waits, else in the archive by hash."""
    waiting = settings.data_path / "outbox" / row["feed"] / row["name"]
    if waiting.exists():
        return waiting
    return settings.data_path / "archive" / row["sha256"][:2] / row["sha256"][2:]


def acknowledged(reading: Transaction, settings: Settings, rows: Collection[Row]) -> dict[int, str]:
    """What the partner has said of each file."""
    from mlc_dagster.ledger.acknowledgements import statuses

    within = {
        entry.name: dt.timedelta(seconds=entry.acknowledgement.expected_within)
        for entry in settings.exports
        if isinstance(entry.acknowledgement, AcknowledgementSettings)
    }
    return {key: str(status) for key, status in statuses(reading, rows, reading.now, within).items()}


def document(settings: Settings, row: Row) -> dict[str, Any]:
    """A file as JSON shows it."""
    names = (
        "id", "feed", "sequence", "name", "directory", "state", "reason", "sha256", "bytes", "documents", "rows",
        "totals", "counts", "layout", "layout_version", "layout_sha256", "partner", "controls", "companions",
        "window_start", "window_end", "created_at", "ended_at", "resent_at", "attempts", "last_error",
    )  # fmt: skip
    server = {
        "size": row["server_size"],
        "mtime": None if row["server_mtime"] is None else dt.datetime.fromtimestamp(row["server_mtime"], dt.UTC),
        "verified_by": row["verified_by"],
        "host_key": row["server_key"],
    }
    return {name: row[name] for name in names} | {"path": place_of(settings, row), "server": server}


def unreadable(row: Row) -> dict[str, Any]:
    """A document that cannot be read from Fusion, as JSON shows it."""
    return {name: row[name] for name in ("source", "fusion_id", "first_seen", "last_seen", "attempts", "text")}


def print_unreadable(rows: Collection[Row], now: dt.datetime) -> None:
    """Those that cannot be read, for people; nothing when there are none."""
    if rows:
        made = table("Source", "Fusion ID", "For", "Attempts", "What is wrong", title="Cannot be read from Fusion")
        lines = [
            (row["source"], row["fusion_id"], age(row["first_seen"], now), row["attempts"], row["text"]) for row in rows
        ]
        console().print(add_rows(made, lines))


def sheet(reading: Transaction, settings: Settings, row: Row, *, records: bool) -> dict[str, Any]:
    """Everything the ledger holds of a file."""
    from mlc_dagster.ledger import acknowledgements, control_numbers, exported
    from mlc_dagster.ledger.archive import ArchiveDamaged, LocalArchive, PayloadErased
    from mlc_dagster.ledger.schema import audit_event

    try:
        LocalArchive(settings.data_path / "archive").path(row["sha256"])
        archived = "verified"
    except PayloadErased as gone:
        archived = f"ERASED: {gone.told}"
    except ArchiveDamaged as damage:
        archived = str(damage)
    numbers = control_numbers.numbers_of(reading, row["id"])
    answers = acknowledgements.of_files(reading, [row["id"]]).get(row["id"], [])
    events = reading.rows(
        sa.select(audit_event).where(audit_event.c.subject == f"export:{row['id']}").order_by(audit_event.c.id)
    )
    page = document(settings, row) | {
        "archived_bytes": archived,
        "numbers": [{name: each[name] for name in ("level", "number", "state", "reason")} for each in numbers],
        "acknowledgement": acknowledged(reading, settings, [row])[row["id"]],
        "answers": [
            {
                name: each[name]
                for name in ("path", "group_code", "group_control", "set_control", "code", "text", "received_at")
            }
            for each in answers
        ],
        "events": [{name: event[name] for name in ("at", "actor", "kind", "detail")} for event in events],
    }
    if records:
        names = (
            "position", "record_id", "version", "change", "state", "set_control", "content_sha256", "last_update_date",
            "read_at",
        )  # fmt: skip
        page["records"] = [{name: each[name] for name in names} for each in exported.file_records(reading, row["id"])]
    return page


def _totals(totals: dict[str, str]) -> str:
    """``entered_dr 1,250.00 USD``: names end with their currency."""
    told: list[str] = []
    for name, text in sorted(totals.items()):
        what, _, currency = name.rpartition(" ")
        told.append(f"{what} {Decimal(text):,f} {currency}".strip())
    return "; ".join(told)


def print_sheet(page: dict[str, Any]) -> None:
    """The page for people."""
    screen = console()
    server = page["server"]
    controls = "; ".join(
        f"{level} {', '.join(str(number) for number in taken)}" for level, taken in sorted(page["controls"].items())
    )
    seen = [
        f"{server['size']} bytes" if server["size"] is not None else "",
        f"modified {cell(server['mtime'])}" if server["mtime"] is not None else "",
        f"verified by {server['verified_by']}" if server["verified_by"] else "",
    ]
    lines: list[tuple[str, Any]] = [
        ("State", state_text(page["state"])),
        ("Why", page["reason"]),
        ("Feed", f"{page['feed']}, file {page['sequence']}"),
        ("Directory", page["directory"]),
        ("Bytes at", f"{page['path']} ({page['archived_bytes']})"),
        ("SHA-256", page["sha256"]),
        ("Bytes", page["bytes"]),
        ("Documents", f"{page['documents']} in {page['rows']} rows"),
        ("Totals", _totals(page["totals"])),
        ("Replaced", ", ".join(f"{count} {what}" for what, count in sorted(page["counts"].items()) if count)),
        ("Layout", f"{page['layout']} version {page['layout_version']}, SHA-256 {page['layout_sha256']}"),
        ("Partner", page["partner"]),
        ("Control numbers", controls),
        ("Beside it", "; ".join(f"{each['name']} ({each.get('step') or 'PENDING'})" for each in page["companions"])),
        ("Window (UTC)", f"{cell(page['window_start'])} to {cell(page['window_end'])}"),
        ("Made (UTC)", page["created_at"]),
        ("Ended (UTC)", page["ended_at"]),
        ("Sent again (UTC)", page["resent_at"]),
        ("On the server", ", ".join(part for part in seen if part)),
        ("Host key", server["host_key"]),
        ("Attempts", page["attempts"]),
        ("Last error", page["last_error"]),
        ("Acknowledgement", None if page["acknowledgement"] == "none" else page["acknowledgement"]),
    ]
    made = table(f"{page['name']}, {page['id']}", "")
    screen.print(add_rows(made, [(name, value) for name, value in lines if value not in (None, "")]))
    _print_part(
        screen,
        "Records",
        page.get("records", []),
        ("position", "record_id", "version", "change", "set_control", "state"),
    )
    _print_part(
        screen,
        "Answers",
        page["answers"],
        ("received_at", "group_code", "group_control", "set_control", "code", "text"),
    )
    void = [each for each in page["numbers"] if each["state"] != "USED"]
    _print_part(screen, "Numbers not used", void, ("level", "number", "state", "reason"))
    _print_part(screen, "Events", page["events"], ("at", "kind", "actor"))


def _print_part(screen: Any, title: str, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    if rows:
        made = table(*(name.replace("_", " ").capitalize() for name in names), title=title)
        screen.print(add_rows(made, [tuple(row[name] for name in names) for row in rows]))

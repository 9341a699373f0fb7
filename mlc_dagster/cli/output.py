"""How the command speaks: calm tables for people, JSON for programs, every amount with its currency."""

import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlc_dagster.visible import visible, visible_json

_WIDE = 180
"""Columns of output that goes into a file or a pipe, where nothing tells how wide it may be."""

GOOD_STATES = frozenset({"CONFIRMED", "CREATED", "READ", "DUPLICATE", "SAME_BYTES", "BASELINE", "PART"})
BAD_STATES = frozenset({"PARKED", "UNKNOWN", "MISSING_IN_FUSION", "VOIDED_IN_FUSION", "REJECTED"})


def console() -> Console:
    """Standard output as it is now: a terminal with its width, or a wide page without colours."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_json(document: Any) -> None:
    """One JSON document; money and times as text."""
    typer.echo(visible_json(json.dumps(document, default=_plain, indent=2, ensure_ascii=False)))


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """An empty table; the columns in ``right`` are aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def state_text(state: str) -> Text:
    """A state in its colour: green is done, red needs somebody."""
    style = "green" if state in GOOD_STATES else "red" if state in BAD_STATES else "yellow"
    return Text(visible(state), style=style)


def cell(value: Any) -> str | Text:
    """A value as a table shows it; what came from outside is never read as markup nor acted upon by the terminal."""
    if value is None:
        return ""
    if isinstance(value, Text):
        return value
    if isinstance(value, dt.datetime):
        return Text(when(value))
    return Text(visible(str(value), lines=True))


def add_rows(made: Table, rows: Iterable[Sequence[Any]]) -> Table:
    """``made`` with these rows."""
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def when(moment: dt.datetime | None) -> str:
    """A moment for people, in UTC."""
    return "" if moment is None else f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def money(amount: Decimal, currency: str) -> str:
    """``1,082.50 USD``."""
    return f"{amount:,f} {currency}"


def minor_money(minor: int | None, currency: str | None, text: str | None = None) -> str:
    """An amount of the ledger with its currency; the text that was read where it could not be understood."""
    from mlc_dagster.money import amount_of

    if minor is not None and currency is not None:
        return money(amount_of(minor, currency), currency)
    return " ".join(part for part in (text, currency) if part)


def totals_text(totals: Mapping[str, Decimal]) -> str:
    """Totals per currency on one line; never added up over currencies."""
    return ", ".join(money(amount, currency) for currency, amount in sorted(totals.items()))


def age(since: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago: ``3 d``, ``5 h``, ``12 min``."""
    if since is None:
        return ""
    seconds = max(0.0, (now - since).total_seconds())
    if seconds >= 86400:
        return f"{int(seconds // 86400)} d"
    return f"{int(seconds // 3600)} h" if seconds >= 3600 else f"{int(seconds // 60)} min"


def file_name(path: str) -> str:
    """The last part of a path on the server."""
    return path.rpartition("/")[2]

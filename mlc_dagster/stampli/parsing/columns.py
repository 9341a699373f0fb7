"""Header row of a file to a reading plan: which position fills which field, and how its cells are converted.

Belongs here: what a header row must hold (missing, duplicate, forbidden, unknown columns). Does not: the rows below it.
"""

import difflib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mlc_dagster.stampli.parsing.cells import Convert, code_converter, converter
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import LINE_FIELDS, Column, Profile, column_name
from mlc_dagster.stampli.parsing.rows import Fault
from mlc_dagster.stampli.parsing.unpacking import kind_of
from mlc_dagster.stampli.reasons import shown

MONEY = frozenset({"amount", "tax_amount", "freight_amount", "line_amount"})
"""Fields whose decimals are those of the currency."""

NOT_IN_MODEL = frozenset({"company_name", "invoice_id"})
"""Fields of the invoice's rows that its canonical form leaves out, or has under another name."""

_NAME_LENGTH = 240

LINE_ARGUMENTS = (
    "line_number", "line_type", "line_amount", "line_description", "quantity", "unit_price", "uom", "gl_account",
    "dimensions", "po_number", "po_line", "po_schedule", "receipt_number", "tax_code", "tax_rate", "amort_start",
    "amort_end", "amort_account", "custom",
)  # fmt: skip
"""Canonical fields of a line in the order in which InvoiceLine takes them."""


class Slot(NamedTuple):
    """One column of the file that is used."""

    position: int
    column: str
    """Its name in the file, lower case: what a person looks for."""
    field: str
    """Canonical field; for dimensions and custom values the rest of the name."""
    target: str
    """``field``, ``dimensions`` or ``custom``."""
    required: bool
    limit: int
    """Characters that a cell may have."""
    money: bool
    number: bool
    """A number other than money."""
    trusting: Convert | None
    """Converts cells known to be printable; None: the cell is the value."""
    careful: Convert | None


class Header(msgspec.Struct, frozen=True):
    """The columns of one file, matched with its profile."""

    width: int
    key: tuple[int, ...]
    """Positions of the key's cells, company first."""
    header: tuple[Slot, ...]
    """Columns of the invoice."""
    line: tuple[Slot, ...]
    forbidden: tuple[tuple[int, str], ...]
    unnamed: tuple[int, ...]
    warnings: tuple[str, ...]


def read_header(cells: list[str] | Fault | None, profile: Profile, file_name: str) -> Header:
    """The reading plan of a file.

    Args:
        cells: of its first row; None when there is none.
        profile: what the file should look like.
        file_name: for the error text.

    Raises:
        FileRejected: FILE_SCHEMA, naming file, column and remedy.
    """
    if cells is None:
        raise FileRejected("FILE_SCHEMA", f"{file_name}: is empty; a header row is expected, send the file again")
    if isinstance(cells, Fault):
        raise FileRejected(
            "FILE_SCHEMA", f"{file_name}: the header row {cells.text}; {_not_text_hint(cells.raw, profile)}"
        )
    if len(cells) > profile.text.max_columns:
        most = profile.text.max_columns
        remedy = "correct the export, or raise max_columns in the profile"
        raise FileRejected("FILE_SCHEMA", f"{file_name}: has {len(cells)} columns, {most} are allowed; {remedy}")
    names = [column_name(cell) for cell in cells]
    _refuse_duplicates(names, profile, file_name)
    declared = {alias: (name, column) for name, column in profile.columns.items() for alias in (name, *column.aliases)}
    _refuse_missing(names, declared, profile, file_name)
    header: list[Slot] = []
    line: list[Slot] = []
    forbidden: list[tuple[int, str]] = []
    unknown: list[str] = []
    for position, name in enumerate(names):
        prefix = next((prefix for prefix in profile.prefixes if name.startswith(prefix) and name != prefix), None)
        if not name:
            continue
        if name in declared:
            column = declared[name][1]
            (line if column.field in LINE_FIELDS else header).append(_slot(position, name, column, profile))
        elif profile.forbidden.matches(name):
            _refuse_unreadable(name, file_name)
            forbidden.append((position, name))
        elif prefix is not None:
            _refuse_unreadable(name, file_name)
            rules = profile.prefixes[prefix]
            slot = Slot(
                position,
                name,
                name.removeprefix(prefix),
                rules.target,
                required=False,
                limit=rules.max_length,
                money=False,
                number=False,
                trusting=code_converter(printable=True),
                careful=code_converter(printable=False),
            )
            (line if rules.level == "line" else header).append(slot)
        else:
            unknown.append(name)
    if unknown and profile.unknown_columns == "refuse":
        remedy = "add them to the profile or take them out of the export"
        raise FileRejected("FILE_SCHEMA", f"{file_name}: unknown columns {', '.join(map(repr, unknown))}; {remedy}")
    positions = {slot.field: slot.position for slot in header if slot.target == "field"}
    return Header(
        width=len(names),
        key=tuple(positions[field] for field in profile.rows.key),
        header=tuple(header),
        line=tuple(line),
        forbidden=tuple(forbidden),
        unnamed=tuple(position for position, name in enumerate(names) if not name),
        warnings=tuple(
            f"column {name!r} is not in profile {profile.name}; its values are not used" for name in unknown
        ),
    )


def repeated_columns(names: Sequence[str], profile: Profile) -> int:
    """How many columns from the left hold all that is the invoice's and nothing of its lines; 0 when they are mixed."""
    declared = {alias: column for name, column in profile.columns.items() for alias in (name, *column.aliases)}
    of_line: list[int] = []
    of_invoice: list[int] = []
    for position, name in enumerate(map(column_name, names)):
        if name in declared:
            (of_line if declared[name].field in LINE_FIELDS else of_invoice).append(position)
        elif rules := next((each for prefix, each in profile.prefixes.items() if name.startswith(prefix)), None):
            (of_line if rules.level == "line" else of_invoice).append(position)
    first = min(of_line, default=0)
    return first if max(of_invoice, default=0) < first else 0


def _slot(position: int, name: str, column: Column, profile: Profile) -> Slot:
    return Slot(
        position,
        name,
        column.field,
        "field",
        required=column.required == "value",
        limit=column.max_length or sys.maxsize,
        money=column.field in MONEY,
        number=column.type == "decimal" and column.field not in MONEY,
        trusting=converter(column, profile.values, printable=True),
        careful=converter(column, profile.values, printable=False),
    )


def _refuse_unreadable(name: str, file_name: str) -> None:
    # What a column is called is stored with its values and shown to people; declared names are the profile's own.
    if len(name) > _NAME_LENGTH or not name.isprintable():
        remedy = f"use at most {_NAME_LENGTH} visible characters"
        raise FileRejected("FILE_SCHEMA", f"{file_name}: a column is named '{shown(name)}'; {remedy}")


def _refuse_duplicates(names: list[str], profile: Profile, file_name: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        text = f"{file_name}: column {', '.join(map(repr, twice))} appears more than once; keep one of them"
        raise FileRejected("FILE_SCHEMA", text)
    for name, column in profile.columns.items():
        same = [alias for alias in (name, *column.aliases) if alias in names]
        if len(same) > 1:
            text = f"{file_name}: columns {', '.join(map(repr, same))} mean the same; keep one of them"
            raise FileRejected("FILE_SCHEMA", text)


def _refuse_missing(
    names: list[str], declared: dict[str, tuple[str, Column]], profile: Profile, file_name: str
) -> None:
    present = {declared[name][0] for name in names if name in declared}
    missing = [name for name, column in profile.columns.items() if column.required and name not in present]
    if not missing:
        return
    strangers = [name for name in names if name and name not in declared]
    hints = [
        f"{name!r} (found {near[0]!r})" if (near := difflib.get_close_matches(name, strangers, n=1)) else repr(name)
        for name in missing
    ]
    remedy = "correct the export, or name the column in the profile's aliases"
    if len(names) == 1:
        other = next((mark for mark in ";\t|," if mark != profile.text.delimiter and mark in names[0]), None)
        if other is not None:
            remedy = f"the cells seem to be separated by {other!r}, the profile says {profile.text.delimiter!r}"
    raise FileRejected("FILE_SCHEMA", f"{file_name}: column {', '.join(hints)} is missing; {remedy}")


def _not_text_hint(raw: bytes, profile: Profile) -> str:
    if (packed := kind_of(raw)) != "none":
        return f"it is packed: set compression: {packed} (or auto) in the profile"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw.count(b"\0") * 3 > len(raw):
        return f"it looks like UTF-16, the profile says {profile.text.encoding}: export it as {profile.text.encoding}"
    return f"a text file in {profile.text.encoding} is expected: correct the export or the profile"

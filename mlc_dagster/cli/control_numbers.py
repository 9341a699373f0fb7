"""What ``mlc exports numbers`` shows and does: control numbers per partner and level."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
import typer

from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.output import add_rows, console, table
from mlc_dagster.ledger import control_numbers as ledger_numbers
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema_outbound import control_number, exported_file

LEVELS = ("interchange", "group")


def numbers_of(reading: Transaction, partner: str | None) -> dict[str, Any]:
    """Counters, numbers that were voided or left out, and gaps."""
    of_partner = control_number.c.partner == partner if partner is not None else sa.true()
    latest = (
        sa.select(
            control_number.c.partner, control_number.c.level, sa.func.max(control_number.c.serial).label("serial")
        )
        .where(of_partner)
        .group_by(control_number.c.partner, control_number.c.level)
        .subquery()
    )
    same = [control_number.c[name] == latest.c[name] for name in ("partner", "level", "serial")]
    counters = reading.rows(
        sa.select(control_number, exported_file.c.name.label("file"))
        .join(latest, sa.and_(*same))
        .join(exported_file, exported_file.c.id == control_number.c.file_id, isouter=True)
        .order_by(control_number.c.partner, control_number.c.level)
    )
    unused = reading.rows(
        sa.select(control_number, exported_file.c.name.label("file"))
        .join(exported_file, exported_file.c.id == control_number.c.file_id, isouter=True)
        .where(of_partner, control_number.c.state != "USED")
        .order_by(control_number.c.partner, control_number.c.level, control_number.c.serial)
    )
    names = ("partner", "level", "number", "state", "reason", "file", "taken_at")
    return {
        "counters": [
            {
                "partner": row["partner"],
                "level": row["level"],
                "last": row["number"],
                "next": ledger_numbers.number_of(row["serial"] + 1),
                "taken_at": row["taken_at"],
                "file": row["file"],
            }
            for row in counters
        ],
        "not_used": [{name: row[name] for name in names} for row in unused],
        "gaps": ledger_numbers.gaps(reading, partner),
    }


def print_numbers(found: dict[str, Any]) -> None:
    """The same for people."""
    if not found["counters"]:
        typer.echo("No control numbers yet.")
        return
    screen = console()
    rows = [tuple(each.values()) for each in found["counters"]]
    columns = ("Partner", "Level", "Last", "Next", "Taken (UTC)", "In file")
    screen.print(add_rows(table(*columns, right=("Last", "Next")), rows))
    if found["not_used"]:
        rows = [tuple(each.values()) for each in found["not_used"]]
        columns = ("Partner", "Level", "Number", "State", "Reason", "File", "When (UTC)")
        screen.print(add_rows(table(*columns, title="Not used, with a reason", right=("Number",)), rows))
    for gap in found["gaps"]:
        typer.echo(f"gap: {gap}", err=True)
    if not found["gaps"]:
        typer.echo("No gap: every number is in a file, void or left out on record.")


def jump_ahead(writing: Transaction, partner: str, known: Collection[str], count: int, approval: Approval) -> None:
    """Leave out the next ``count`` numbers of every level of a partner.

    Raises:
        CommandError: no such partner.
        LedgerError: ``count`` is no positive number.
    """
    counted = {row["partner"] for row in writing.rows(sa.select(control_number.c.partner).distinct())}
    if partner not in counted | set(known):
        there = ", ".join(sorted(counted | set(known))) or "none"
        raise CommandError(f"--partner {partner}: is neither in mlc.yaml nor in the ledger; there are: {there}")
    for level in LEVELS:
        ledger_numbers.jump(writing, partner, level, count, approval)

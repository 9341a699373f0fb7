"""Numbers that plot and bounded tables, as Dagster metadata.

One event per window and asset: counts, totals and at most fifty rows of what a person would look at. Everything else
is in the ledger (`mlc invoices list`). A float stands beside its exact text and is for plotting alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from mlc_dagster.visible import markdown, visible

MOST_ROWS = 50

Cell = str | int | float | None


def table(columns: Sequence[dg.TableColumn], rows: Iterable[Sequence[Any]]) -> dg.TableMetadataValue:
    """A table of at most ``MOST_ROWS`` rows; values that Dagster's tables cannot hold become text."""
    names = [column.name for column in columns]
    records: list[dg.TableRecord] = []
    for row in rows:
        if len(records) == MOST_ROWS:
            break
        records.append(dg.TableRecord({name: _cell(value) for name, value in zip(names, row, strict=True)}))
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=list(columns)))


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Decimal):
        return format(value, "f")
    return visible(str(value), lines=True)


def money(name: str, totals: Mapping[str, Decimal]) -> dict[str, Any]:
    """``name`` as exact text over all currencies, and ``name_usd`` … as numbers that plot."""
    exact = ", ".join(f"{format(total, ',f')} {currency}" for currency, total in sorted(totals.items())) or "none"
    return {name: exact, **{f"{name}_{currency.lower()}": float(total) for currency, total in sorted(totals.items())}}


def reasons_text(counts: Mapping[str, int]) -> str:
    """``2 VENDOR_NOT_FOUND, 1 PERIOD_CLOSED``; the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {reason}" for reason, count in ordered)


def summary(title: str, lines: Iterable[str]) -> dg.MarkdownMetadataValue:
    """A headline and what a person should know, as Markdown; names and texts of others are shown, never obeyed."""
    return dg.MetadataValue.md("\n".join([f"**{markdown(title)}**", "", *(f"- {markdown(line)}" for line in lines)]))

"""How the demonstration looks: one heading per step, one table, every amount with its currency."""

import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlc_dagster.cli.demo.accounts import FileAccount, Side
from mlc_dagster.cli.demo.books import FeedBooks, Figures
from mlc_dagster.cli.output import money, totals_text
from mlc_dagster.money import decimals, minor_units

_PAGE = 140
"""Columns of output that goes into a file or a pipe."""


class Screen:
    """Standard output of the demonstration; silent when JSON was asked for."""

    def __init__(self, *, silent: bool) -> None:
        self._console = Console(
            file=sys.stdout, highlight=False, quiet=silent, width=None if sys.stdout.isatty() else _PAGE
        )
        self._step = 0

    def heading(self, text: str) -> None:
        """The next step."""
        self._step += 1
        self._console.print()
        self._console.print(Text(f"{self._step}. {text}", style="bold"))

    def say(self, text: str, *, style: str = "") -> None:
        """A sentence, wrapped to the page."""
        self._console.print(Text(text, style=style), new_line_start=False)

    def command(self, text: str) -> None:
        """The command that a user would type for this step."""
        self._console.print(Text(f"$ {text}", style="cyan"))

    def quote(self, text: str) -> None:
        """What the command answered."""
        self._console.print(Text(text, style="dim"))

    @contextmanager
    def working(self, text: str) -> Generator[None]:
        """A sign of life on a terminal while something takes seconds."""
        if sys.stdout.isatty():
            with self._console.status(text):
                yield
        else:
            yield

    def files(self, accounts: Iterable[FileAccount]) -> None:
        """The table: file, invoices, posted, duplicate, parked and why; a narrow terminal gets fewer columns."""
        listed = list(accounts)
        wide, roomy = self._console.width >= 110, self._console.width >= 96
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
        made.add_column("File", footer=f"{len(listed)} files", no_wrap=True)
        if wide:
            made.add_column("What is in it", ratio=5)
        for name in ("Invoices", "Posted", "Duplicate", "Parked"):
            total = sum(getattr(each, name.lower()) for each in listed)
            made.add_column(name, footer=str(total), justify="right", no_wrap=True)
        if roomy:
            made.add_column("Amount posted", justify="right", no_wrap=True)
        made.add_column("Why", ratio=8, overflow="fold")
        for each in listed:
            numbers = [each.invoices, each.posted, each.duplicate, each.parked]
            cells = [Text(f"…{each.name[-10:]}")]
            cells += [Text(each.title)] if wide else []
            cells += [Text(str(number) if number else "") for number in numbers]
            cells += [Text(totals_text(each.totals))] if roomy else []
            attention = each.parked or each.state in ("WAITING", "REJECTED")
            made.add_row(*cells, Text("; ".join(each.why), style="yellow" if attention else ""))
        self._console.print(made)

    def compare(self, sides: Mapping[str, Side]) -> None:
        """The sides next to each other, per currency."""
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        made.add_column("")
        for name in sides:
            made.add_column(name, justify="right")
        made.add_row("invoices", *(str(side.count) for side in sides.values()))
        for currency in sorted({currency for side in sides.values() for currency in side.totals}):
            made.add_row(currency, *(money(side.totals.get(currency, Decimal(0)), currency) for side in sides.values()))
        self._console.print(made)

    def deliveries(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """What one outbound poll delivered; nothing when that was nothing."""
        listed = list(rows)
        if not listed:
            return
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        made.add_column("Delivered", overflow="fold")
        for name in ("Documents", "Lines", "Bytes"):
            made.add_column(name, justify="right", no_wrap=True)
        made.add_column("SHA-256", no_wrap=True)
        for row in listed:
            numbers = (str(row["documents"]), str(row["rows"]), f"{row['bytes']:,}")
            made.add_row(Text(row["name"]), *numbers, Text(f"{row['sha256'][:12]}…"))
        self._console.print(made)

    def excerpt(self, name: str, lines: Iterable[str]) -> None:
        """The beginning of a file, cut at the page's edge, never wrapped."""
        self._console.print(Text(f"   {name}", style="bold"))
        for line in lines:
            self._console.print(Text(f"     {line}", style="dim"), no_wrap=True, overflow="ellipsis")

    def feed(self, books: FeedBooks) -> None:
        """One feed's sides next to each other; the column of what is held only where something is."""
        sides = {name: side for name, side in books.sides().items() if name != "held" or side.told}
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        made.add_column(books.title, width=36)
        for name in sides:
            made.add_column(name, justify="right", width=18)
        made.add_row("documents", *(f"{side.told.total()}" for side in sides.values()))
        for figure in sorted({figure for side in sides.values() for figure in side.figures}, key=_figure_order):
            made.add_row(
                figure.rpartition(" ")[0] or figure, *(_figure(side.figures, figure) for side in sides.values())
            )
        self._console.print(made)


def _figure_order(figure: str) -> tuple[bool, bool, str, str]:
    """Counts first, then what was entered before what was accounted, by currency, debits first."""
    what, _, currency = figure.rpartition(" ")
    return bool(what), what.startswith("accounted"), currency if what else figure, what.replace("debit", "a")


def _figure(figures: Figures, name: str) -> str:
    """An amount with its currency, a count without one; nothing where the side has none."""
    what, _, currency = name.rpartition(" ")
    value = figures.get(name)
    if value is None:
        return ""
    if not what:
        return f"{value:,f}"
    # Each side writes zeros at the end as it likes; an amount with more decimals than its currency shows them all.
    places = max(decimals(value.normalize()), minor_units(currency) or 0)
    return money(value.quantize(Decimal(1).scaleb(-places)), currency)

"""Our side of the journal cases, one per process: reading alone, and reading, extract, recognition and CSV file.

Run as ``python -m bench.ours read|csv URL …``; the result is one line of JSON. Nothing here is shortened: the second
case goes through the ledger, the archive and the file builder as ``mlc run outbound`` does, up to the upload.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from bench import journal_books as books_of
from bench.configuration import FEED, LAYOUT, SECRET, settings_for
from bench.journal_books import Books, Totals
from bench.measuring import Stopwatch, WrongResult, require_equal, tell
from mlc_dagster.exports.building import build_files
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.reading import read_source
from mlc_dagster.exports.rest import rest_extraction
from mlc_dagster.exports.wiring import connect_outbound
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.records import Journal, Read
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.opening import open_settings_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver


class Tally:
    """What was read, to be compared with what there was."""

    def __init__(self) -> None:
        self.lines = 0
        self.sums = dict.fromkeys(Totals._fields, Decimal(0))

    def add(self, read: Read) -> None:
        """Counts the lines of one journal and adds up its amounts."""
        if not isinstance(read.content, Journal):
            raise WrongResult(f"{read.record_id} is a {type(read.content).__name__}, not a journal")
        self.lines += len(read.content.lines)
        for name in Totals._fields:
            amounts: Sequence[Decimal | None] = read.content.lines.column(name)
            self.sums[name] += sum([amount for amount in amounts if amount is not None], Decimal(0))

    def compare(self, books: Books) -> None:
        """Raises WrongResult unless every line came once and all four sums agree to the cent."""
        require_equal("lines", self.lines, books.lines)
        require_equal("sums", Totals(**self.sums), books.totals)


def read(url: str, lines: int, in_flight: int) -> None:
    """Reads the window, typed and whole, and keeps nothing."""
    tally = Tally()

    async def work(watch: Stopwatch, settings: Settings) -> None:
        async with FusionClient(settings.fusion, FusionCredentials("bench")) as client:
            extraction = rest_extraction(client, "journals", settings)
            async for reads in extraction.changed(books_of.WINDOW_START, books_of.WINDOW_END):
                with watch.aside():
                    for one in reads:
                        tally.add(one)

    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(url, Path(folder), layout=LAYOUT, in_flight=in_flight)
        watch = Stopwatch()
        asyncio.run(work(watch, settings))
        told = watch.stop()
    tally.compare(Books.of_lines(lines))
    tell(lines=tally.lines, **told)


def csv_file(url: str, in_flight: int, folder: Path, layout: str) -> None:
    """Reads the window into an extract and builds the feed's file; it lies in the archive, waiting for its upload."""
    settings = settings_for(url, folder, layout=layout, in_flight=in_flight)
    secrets = SecretResolver({SECRET: "bench"}, folder)
    ledger = open_settings_ledger(settings, secrets)
    outbound = connect_outbound(settings, secrets, ledger)
    owner = process_name(os.getpid())
    watch = Stopwatch()
    report = read_source(outbound, "journals", until=books_of.WINDOW_END, owner=owner, run_id="bench")
    read_alone = watch.stop()
    with hold_feed(ledger, FEED, "journals", owner=owner) as held:
        build_files(outbound, outbound.feeds[FEED], held, until=books_of.WINDOW_END, now=ledger.now())
    told = watch.stop()
    with ledger.reading() as reading:
        files = exported.pending_files(reading, FEED)
    require_equal("files", len(files), 1)
    tell(
        lines=report.lines,
        requests=report.requests,
        read_cpu=read_alone["cpu"],
        file=str(outbound.archive.path(files[0]["sha256"])),
        **told,
    )


def main() -> None:
    """Command line of our side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=["read", "csv"])
    parser.add_argument("url")
    parser.add_argument("--lines", type=int, required=True)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the ledger and the archive go; for csv")
    parser.add_argument("--layout", default=LAYOUT)
    chosen = parser.parse_args()
    if chosen.case == "read":
        read(chosen.url, chosen.lines, chosen.in_flight)
    else:
        csv_file(chosen.url, chosen.in_flight, chosen.folder, chosen.layout)


if __name__ == "__main__":
    main()

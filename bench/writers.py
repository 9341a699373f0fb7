"""Writing alone, one case per process: X12 810, fixed width, and the f-string loop that fixed width is compared with.

Run as ``python -m bench.writers x12|fixed|fixed-loop --documents N`` (invoices, or journal lines); the result is one
line of JSON. Documents are in memory before the clock starts; the file is written to disk.
"""

import argparse
import datetime as dt
import gc
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import journal_books as books_of
from bench.configuration import settings_for
from bench.documents import invoices, journals
from bench.fixed_loop import fixed_records, rows_of
from bench.journal_books import Books
from bench.measuring import Stopwatch, require_equal, tell
from mlc_dagster.exports.layouts.loading import load_layout, open_writer
from mlc_dagster.exports.staging import Staging
from mlc_dagster.exports.writing import Frame, Version, Writer
from mlc_dagster.fusion.records import Journal
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.settings import ExportSettings
from mlc_dagster.settings.exports import PartnerSettings

Document = TypeVar("Document")

LAYOUTS = Path(__file__).parent / "layouts"
FIXED_LAYOUT = str(LAYOUTS / "journal_fixed.yaml")
X12_LAYOUT = "x12_invoices_810"


def writer_for(layout: str, source: str) -> Writer:
    """The product's writer, opened as the wiring does."""
    settings = settings_for("http://127.0.0.1:1", LAYOUTS, layout=layout, in_flight=1)
    base = settings.exports[0].model_dump()
    partner = PartnerSettings(sender="ZZ:MLCBENCH", receiver="01:123456789")
    feed = ExportSettings.model_validate({**base, "source": source, "layout": layout, "partner": partner.model_dump()})
    return open_writer(load_layout(layout, root=LAYOUTS), feed, settings.fusion.charts)


def write_file(writer: Writer, versions: Sequence[Version], folder: Path) -> tuple[Path, int]:
    """Renders and assembles all documents into one file; its path, and how many rows or segments the bodies have."""
    staging = Staging(folder, writer, None)
    for version in versions:
        file, group, rendered = staging.render(version)
        file.add(group, rendered)
    (staged,) = staging.finish(empty_file=False)
    levels = writer.levels(staged.groups)
    frame = Frame(
        feed="bench",
        sequence=1,
        created_at=dt.datetime(2026, 11, 3, tzinfo=dt.UTC),
        window_start=books_of.WINDOW_START,
        window_end=books_of.WINDOW_END,
        controls={level: list(range(1, count + 1)) for level, count in levels.items()},
    )
    path, _ = staged.assemble(frame, LocalArchive(folder))
    return path, staged.rows


def in_memory(versions: Iterable[Document]) -> list[Document]:
    """All documents at once. A run holds one at a time: the collector shall not walk through all of them again."""
    documents = list(versions)
    gc.collect()
    gc.freeze()
    return documents


def decoded(versions: Iterable[Version]) -> Iterator[Version]:
    """Journals whose columns are values already, as the loop's lines are: what is measured is writing."""
    for version in versions:
        if isinstance(journal := version.read.content, Journal):
            for column in msgspec.structs.fields(journal.lines):
                journal.lines.column(column.name)
        yield version


def x12(count: int, folder: Path) -> dict[str, object]:
    """Invoices as 810."""
    documents = in_memory(invoices(count))
    writer = writer_for(X12_LAYOUT, "invoices")
    watch = Stopwatch()
    path, segments = write_file(writer, documents, folder)
    told = watch.stop()
    content = path.read_bytes()
    require_equal("transaction sets", content.count(b"ST*810*"), count)
    require_equal("item segments", content.count(b"IT1*"), 3 * count)
    return {"segments": segments, "bytes": len(content), **told}


def fixed(lines: int, folder: Path) -> dict[str, object]:
    """Journal lines as fixed width."""
    books = Books.of_lines(lines)
    documents = in_memory(decoded(journals(books)))
    writer = writer_for(FIXED_LAYOUT, "journals")
    watch = Stopwatch()
    path, rows = write_file(writer, documents, folder)
    told = watch.stop()
    require_equal("rows", rows, books.lines)
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **told}


def fixed_loop(lines: int, folder: Path) -> dict[str, object]:
    """The same by a loop."""
    documents = in_memory(rows_of(journals(Books.of_lines(lines))))
    path = folder / "file"
    watch = Stopwatch()
    with path.open("wb") as stream:
        stream.writelines(fixed_records(documents))
    told = watch.stop()
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **told}


CASES = {"x12": x12, "fixed": fixed, "fixed-loop": fixed_loop}


def main() -> None:
    """Command line of the writers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--documents", type=int, required=True)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlc-bench-") as folder:
        tell(**CASES[chosen.case](chosen.documents, Path(folder)))


if __name__ == "__main__":
    main()

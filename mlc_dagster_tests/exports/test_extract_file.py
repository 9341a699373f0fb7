"""The extract's file: what was read, byte for byte, and cheap to go through again."""

from pathlib import Path

import msgspec
import pytest

from mlc_dagster.exports.extract_file import (
    ExtractDamaged,
    ExtractWriter,
    find_stored,
    fusion_id_of,
    iter_reads,
    iter_stored,
)
from mlc_dagster.fusion.records import InvoiceStatus, Read, SupplierPlace, SupplierRecord, canonical, digest
from mlc_dagster_tests.exports.workshop import invoice, journal, order

SUPPLIER = Read(
    source="suppliers",
    record_id="9",
    fusion_id=9,
    content=SupplierRecord(supplier_id=9, name="Acme", sites=(SupplierPlace(site_id=1, pays=True),)),
)


def write(path: Path, *reads: Read) -> tuple[int, int]:
    with ExtractWriter(path) as writer:
        for read in reads:
            writer.add(read)
    return writer.records, writer.lines


@pytest.mark.parametrize(
    "read",
    [
        journal(1, "1234567890123456789.000001"),
        msgspec.structs.replace(invoice(1, "0.10"), status=InvoiceStatus(validation="Validated")),
        order(1, "-5", text="two\nlines, “quoted”"),
        SUPPLIER,
    ],
    ids=lambda read: read.source,
)
def test_what_was_written_is_read(tmp_path: Path, read: Read) -> None:
    """Every source, exact to the last decimal."""
    path = tmp_path / "extract"
    write(path, read)
    assert list(iter_reads(path, read.source)) == [read]
    [stored] = iter_stored(path)
    assert stored.canonical == canonical(read.content)
    assert stored.sha256 == digest(canonical(read.content))
    assert fusion_id_of(read.content) == read.fusion_id


def test_records_and_lines_are_counted(tmp_path: Path) -> None:
    """The run's report and the completeness check use them."""
    assert write(tmp_path / "extract", journal(1, "5"), journal(2, "5")) == (2, 4)


def test_of_a_record_that_came_twice_the_later_stays(tmp_path: Path) -> None:
    """Updated while it was being paged: one version of it, the last, is in the extract."""
    path = tmp_path / "extract"
    assert write(path, invoice(1, "1"), invoice(2, "2"), invoice(1, "3"), invoice(2, "2"), invoice(1, "1")) == (2, 0)
    assert list(iter_reads(path, "invoices")) == [invoice(2, "2"), invoice(1, "1")]


def test_an_extract_of_nothing_is_an_empty_file(tmp_path: Path) -> None:
    """A window without changes is a fact, too."""
    assert write(tmp_path / "extract") == (0, 0)
    assert (tmp_path / "extract").read_bytes() == b""


@pytest.mark.parametrize(
    ("before", "after", "text"), [(b'"12"', b'"13"', "does not have its hash"), (b'"sha256"', b'"sha', "line 2")]
)
def test_a_damaged_line_is_named(tmp_path: Path, before: bytes, after: bytes, text: str) -> None:
    """A changed digit must not reach a partner."""
    path = tmp_path / "extract"
    write(path, invoice(1, "1"), invoice(2, "12"))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(before, after))
    with pytest.raises(ExtractDamaged, match=text):
        list(iter_reads(path, "invoices"))


def test_records_are_found_by_id(tmp_path: Path) -> None:
    """For what was given up and is sent again."""
    path = tmp_path / "extract"
    write(path, invoice(1, "1"), invoice(2, "2"), invoice(3, "3"))
    found = find_stored(path, ["2", "7"])
    assert [stored.read("invoices") for stored in found.values()] == [invoice(2, "2")]


def test_a_read_that_fails_leaves_its_error(tmp_path: Path) -> None:
    """Fusion went away in the middle: the error is the reader's, not the file's."""

    def broken_off() -> None:
        with ExtractWriter(tmp_path / "extract") as writer:
            writer.add(invoice(1, "1"))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken_off()
    # What was written before is closed, and nobody's.
    assert [stored.record_id for stored in iter_stored(tmp_path / "extract")] == ["1"]

"""An extract whose bytes changed on our disk: found before anything that was made of it is committed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.extract_file import ExtractDamaged
from mlc_dagster.ledger import extracts, feeds
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster_tests.exports.workshop import FEED, Workshop, invoice


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", actor="test")
    yield opened
    opened.close()


@pytest.fixture
def bench(ledger: Ledger, tmp_path: Path) -> Workshop:
    return Workshop.open(ledger, tmp_path / "bench")


def stored(bench: Workshop, key: int) -> Path:
    """The archive's file of an extract, open for damage."""
    with bench.ledger.reading() as reading:
        row = extracts.extract_row(reading, key)
    assert row is not None
    path = bench.archive.path(row["sha256"])
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (b'"12.5"', b'"92.5"', "line 2: .* does not have its hash"),
        (b'"InvoiceAmount":"12.5"', b'"InvoiceAmount":"12,5"', "line 2: .* does not have its hash"),
        (b'"InvoiceAmount":"12.5"', b'"InvoiceAmount":"12.5', "line 2"),
        (b'"fusion_id":2', b'"fusion_id":3', "what stands beside the contents"),
        (b'"fusion_id":2', b'"fusion_id":true', "line 2"),
    ],
)
def test_nothing_is_made_of_a_damaged_extract(bench: Workshop, before: bytes, after: bytes, named: str) -> None:
    """A wrong digit is an amount like any other; the whole extract waits, and the line is named."""
    path = stored(bench, bench.read(invoice(1, "7"), invoice(2, "12.5"), invoice(3, "9")))
    whole = path.read_bytes()
    assert before in whole
    path.write_bytes(whole.replace(before, after))
    with pytest.raises(ExtractDamaged, match=named):
        bench.build()
    assert (bench.files(), bench.rows()) == ([], [])
    with bench.ledger.reading() as reading:
        assert feeds.feed_row(reading, FEED)["extract_id"] == 0
    path.write_bytes(whole)
    assert bench.build().new == 3


def test_lines_that_are_gone_are_missed(bench: Workshop) -> None:
    """What is left of it is whole, line by line."""
    path = stored(bench, bench.read(invoice(1, "7"), invoice(2, "12.5")))
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(ExtractDamaged):
        bench.build()
    assert bench.files() == []


def test_an_extract_that_is_gone_is_missed(bench: Workshop) -> None:
    """Restored without its archive, the ledger must not take it for an empty one."""
    stored(bench, bench.read(invoice(1, "7"))).unlink()
    with pytest.raises(ArchiveDamaged, match="is missing"):
        bench.build()
    assert bench.files() == []

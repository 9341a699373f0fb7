"""Reading a source into extracts: windows by Fusion's clock, each read once, late rows found, nothing kept half."""

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.extract_file import iter_reads
from mlc_dagster.exports.reading import ExtractKind, WindowNotOver
from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.ledger import extracts
from mlc_dagster.ledger.schema_outbound import extract
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    with partner_rehearsal(tmp_path) as running:
        yield running


def post(remote: PartnerRehearsal, name: str, amount: str = "100.00", **more: object) -> int:
    """A posted journal batch; its JeBatchId."""
    return remote.world.add_journal_batch(name, lines=[(DEBIT, amount, None), (CREDIT, None, amount)], **more)


def read_names(remote: PartnerRehearsal) -> list[list[str]]:
    """Batch names of each extract, in the order of reading."""
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(extract).order_by(extract.c.id))
    archive = remote.outbound.archive
    return [
        sorted(str(read.content.batch_name) for read in iter_reads(archive.path(row["sha256"]), "journals"))  # type: ignore[union-attr]
        for row in rows
    ]


def test_a_window_that_is_not_over_is_refused(remote: PartnerRehearsal) -> None:
    """What is still changing cannot be read completely; the refusal says whose clock decides."""
    end = remote.later()
    with pytest.raises(WindowNotOver, match=r"not over.*Fusion's clock says.*outbound\.lag"):
        remote.read("journals", until=end + dt.timedelta(minutes=15))
    assert read_names(remote) == []


def test_our_own_clock_closes_nothing(remote: PartnerRehearsal) -> None:
    """Our clock is a day ahead of Fusion's here; by it, every window of yesterday would be over."""
    post(remote, "A")
    start = remote.later(1)
    report = remote.read("journals", until=start)
    assert report.extracts == []
    with pytest.raises(WindowNotOver):
        remote.read("journals", until=start + dt.timedelta(hours=6))


def test_missed_windows_are_one_read(remote: PartnerRehearsal) -> None:
    """After a night of downtime the first run catches up in one go, not window by window."""
    post(remote, "A")
    remote.later(500)
    post(remote, "B")
    remote.later(30)
    report = remote.read("journals")
    assert [made.kind for made in report.extracts] == [ExtractKind.WINDOWS]
    assert read_names(remote) == [["A", "B"]]


def test_what_was_read_is_not_read_again(remote: PartnerRehearsal) -> None:
    """A second feed of the same source, or the same window by hand, shares the extract."""
    post(remote, "A")
    end = remote.later()
    remote.read("journals")
    again = remote.read("journals", until=end)
    assert again.extracts == []
    assert again.requests <= 2


def test_windows_follow_each_other_without_a_gap(remote: PartnerRehearsal) -> None:
    """Each read begins where the last one ended, however long ago that was."""
    for minutes in (20, 45, 90):
        remote.later(minutes)
        remote.read("journals")
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(extract).order_by(extract.c.id))
    assert all(before["window_end"] == after["window_start"] for before, after in itertools.pairwise(rows))
    assert len(rows) == 3


def test_a_read_that_breaks_off_keeps_nothing(remote: PartnerRehearsal) -> None:
    """Half of what changed must never pass for all of it; the next read begins where this one did."""
    post(remote, "A")
    remote.later()
    # The first question is answered, the one about changed lines is not.
    remote.fusion.faults.add("status", path="*journalBatches*", status=400, skip=2)
    with pytest.raises(FusionError):
        remote.read("journals")
    assert read_names(remote) == []
    assert not list(remote.outbound.scratch.iterdir())
    remote.fusion.faults.clear()
    remote.read("journals")
    assert read_names(remote) == [["A"]]


def test_the_overlap_finds_rows_that_became_visible_late(remote: PartnerRehearsal) -> None:
    """A long transaction commits with the LastUpdateDate of its beginning; minutes late is the ordinary case."""
    end = remote.later()
    remote.read("journals")
    post(remote, "late", last_update_date=end - dt.timedelta(minutes=10))
    remote.later()
    remote.read("journals")
    assert ["late"] in read_names(remote)


def test_looking_back_finds_rows_later_than_the_overlap(remote: PartnerRehearsal) -> None:
    """Once a day two days are read again; what is known is not kept a second time."""
    post(remote, "A")
    end = remote.later(600)
    remote.read("journals")
    post(remote, "very late", last_update_date=end - dt.timedelta(hours=5))
    remote.later()
    remote.read("journals")
    assert ["very late"] not in read_names(remote)
    remote.later(24 * 60)
    report = remote.read("journals")
    assert ExtractKind.LOOK_BACK in [made.kind for made in report.extracts]
    assert ["very late"] in read_names(remote)


def test_looking_back_is_due_once_a_day(remote: PartnerRehearsal) -> None:
    """Every poll would read two days again otherwise."""
    remote.later()
    remote.read("journals")
    remote.later(24 * 60 + 30)
    first = remote.read("journals")
    remote.later()
    second = remote.read("journals")
    assert ExtractKind.LOOK_BACK in [made.kind for made in first.extracts]
    assert ExtractKind.LOOK_BACK not in [made.kind for made in second.extracts]


def test_the_sweep_fetches_what_no_read_has_shown(remote: PartnerRehearsal) -> None:
    """Ids are compared over a week: the last net under everything else."""
    post(remote, "A")
    end = remote.later(60 * 24 * 4)
    remote.read("journals")
    post(remote, "lost", last_update_date=end - dt.timedelta(days=3, hours=12))
    remote.later()
    report = remote.read("journals", sweep=True)
    assert report.missed == 1
    assert read_names(remote)[-1] == ["lost"]


def test_the_sweep_finds_nothing_where_nothing_is_missing(remote: PartnerRehearsal) -> None:
    """A sweep that always finds something would send everything again every day."""
    post(remote, "A")
    remote.later()
    remote.read("journals")
    remote.later()
    # What lies before the source's beginning is not missing either.
    assert remote.read("journals", sweep=True).missed == 0


def test_every_extract_is_on_record_with_its_clock_and_its_bytes(remote: PartnerRehearsal) -> None:
    """An auditor asks what was read, when by Fusion's clock, and whether the bytes are still those."""
    post(remote, "A")
    remote.later()
    remote.read("journals")
    with remote.ledger.reading() as reading:
        row = extracts.first_extract(reading, "journals")
    assert row is not None
    assert (row["records"], row["lines"]) == (1, 2)
    assert abs(row["read_at"] - remote.world.clock()) < dt.timedelta(seconds=30)
    assert remote.outbound.archive.path(row["sha256"]).stat().st_size == row["bytes"]

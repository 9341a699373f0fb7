"""Building a feed's files out of what was read: one extract at a time, in the order of reading, one commit for each.

Then what needs no reading: held records are tried again, given-up ones go again. Until a commit there are only scratch
files and archive entries that nobody names; after it the files are PENDING, whatever happens to this process.
"""

import datetime as dt
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mlc_dagster.exports.batch import Batch, Built
from mlc_dagster.exports.extract_file import (
    ExtractDamaged,
    StoredRead,
    damage_of,
    find_stored,
    fusion_id_of,
    iter_whole,
)
from mlc_dagster.exports.holding import HeldFeed
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.rebasing import check_projection
from mlc_dagster.exports.recognition import Origin
from mlc_dagster.fusion.records import content_of
from mlc_dagster.ledger import extracts, feeds
from mlc_dagster.ledger.archive import PayloadErased
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.exported import RecordState
from mlc_dagster.ledger.known_versions import leftovers

__all__ = ["Built", "ExtractErased", "build_files"]

_AT_ONCE = 500
"""Records that the ledger is asked about at once."""
_BYTES_AT_ONCE = 8 * 1024 * 1024
"""Of their contents: one journal of 100,000 lines has 30 MB."""


class ExtractErased(PayloadErased):
    """A feed needs an extract that the retention rules have erased; nothing of it was built."""

    def __init__(self, feed: str, extract: Row, gone: PayloadErased) -> None:
        super().__init__(gone.sha256, gone.told)
        self.feed = feed
        self.extract_id = int(extract["id"])
        end = f"{extract['window_end']:%Y-%m-%d %H:%M}"
        # The archive's own text names a hash; whoever reads this has a feed before them.
        text = (
            f"feed {feed} needs extract {self.extract_id} of {extract['source']}, which was {gone.told}. What was sent "
            f"of it stays sent. A new feed begins after it with start: {end} in mlc.yaml; what Fusion still shows is "
            "read once more with --look-back"
        )
        self.args = (text,)


def build_files(
    outbound: Outbound,
    feed: Feed,
    held: HeldFeed,
    *,
    until: dt.datetime | None,
    now: dt.datetime,
    replay: Sequence[int] = (),
) -> Built:
    """Put everything that was read and not built yet into files.

    Args:
        outbound: the wiring.
        feed: what to build.
        held: the run's hold on the feed.
        until: end of the last window wanted, UTC; None for everything that was read.
        now: UTC; stands in the files.
        replay: extracts that are looked through again, by id.

    Raises:
        FeedLost: another run took the feed; what was committed before stays.
        ProjectionChanged: the records' projection is not the one that the feed's hashes were taken with.
        FileNameUnusable: the template does not give a usable name.
        ExtractDamaged, ArchiveDamaged: an extract's bytes are not what they were.
        ExtractErased: they were erased by the retention rules.
    """
    check_projection(outbound.ledger, feed.name, feed.source)
    with outbound.ledger.reading() as reading:
        position = int(feeds.feed_row(reading, feed.name)["extract_id"])
        # What the feed has not reached yet comes in its turn.
        again = [extracts.extract_row(reading, key) for key in sorted(set(replay)) if key <= position]
        fresh = extracts.extracts_after(reading, feed.source, position, until=until)
    building = _Building(outbound, feed, held, now)
    for extract in again:
        if extract is not None and extract["source"] == feed.source:
            building.replay_extract(extract)
    for extract in fresh:
        building.take_extract(extract)
    building.take_leftovers()
    return building.built


class _Building:
    """One call of ``build_files``."""

    def __init__(self, outbound: Outbound, feed: Feed, held: HeldFeed, now: dt.datetime) -> None:
        self._outbound = outbound
        self._feed = feed
        self._held = held
        self._now = now
        self.built = Built()

    def take_extract(self, extract: Row) -> None:
        """What the feed has not seen yet; its position moves even when nothing of it is sent."""
        if self._ended_before_start(extract):
            return
        with self._batch(extract["window_start"], extract["window_end"]) as batch:
            self._take_all(batch, extract)
            empty_file = self._feed.writer.empty_file and extract["kind"] == "WINDOWS"
            batch.commit(extract["id"], extract["window_end"], empty_file=empty_file)

    def _ended_before_start(self, extract: Row) -> bool:
        """Of an erased extract from before the feed's beginning nothing would be sent: it is passed, on record."""
        start = self._feed.settings.start or self._outbound.settings.poll.start
        if extract["window_end"] > start:
            return False
        try:
            self._outbound.archive.path(extract["sha256"])
        except PayloadErased as gone:
            with self._batch(extract["window_start"], extract["window_end"]) as batch:
                batch.commit(extract["id"], extract["window_end"], empty_file=False)
            with self._outbound.ledger.transaction() as transaction:
                transaction.audit(
                    "export.erased_extract_passed", f"feed:{self._feed.name}", extract=extract["id"], why=gone.told,
                    start=start.isoformat(),
                )  # fmt: skip
            return True
        return False

    def replay_extract(self, extract: Row) -> None:
        """An extract of a window that somebody started by hand: what is missing of it is sent, nothing overtakes."""
        with self._batch(extract["window_start"], extract["window_end"]) as batch:
            self._take_all(batch, extract, replaying=True)
            batch.commit(None, None, empty_file=False)

    def take_leftovers(self) -> None:
        """Try again what is held and what was given up: neither need ever be read again."""
        with self._outbound.ledger.reading() as reading:
            rows = [row for row in leftovers(reading, self._feed.name) if row["record_id"] not in self.built.tried]
            until: dt.datetime = feeds.feed_row(reading, self._feed.name)["delivered_until"] or self._now
        if not rows:
            return
        with self._batch(until, until) as batch:
            for chunk in _bounded(self._read_again(rows)):
                batch.take(chunk)
            batch.commit(None, None, empty_file=False)

    def _take_all(self, batch: Batch, extract: Row, *, replaying: bool = False) -> None:
        """The extract's readings; its bytes are proven only after the last of them, so nothing is committed before."""
        origin = Origin(extract["id"], extract["read_at"])
        path = self._path(extract, self._outbound.archive.unverified)
        try:
            for chunk in _bounded((stored, origin) for stored in iter_whole(path, extract["sha256"])):
                batch.take(chunk, replaying=replaying)
        except msgspec.DecodeError as error:
            raise damage_of(path) from error

    def _read_again(self, rows: Sequence[Row]) -> Iterator[tuple[StoredRead, Origin]]:
        elsewhere: dict[int, list[Row]] = {}
        for row in rows:
            if row["state"] == RecordState.HELD and row["content"] is not None:
                yield _held_read(self._feed.source, row), Origin(row["extract_id"], row["read_at"])
            else:
                elsewhere.setdefault(row["extract_id"], []).append(row)
        for extract_id, wanted in sorted(elsewhere.items()):
            with self._outbound.ledger.reading() as reading:
                extract = extracts.extract_row(reading, extract_id)
            assert extract is not None  # noqa: S101 - versions are made of extracts in the ledger
            path = self._path(extract, self._outbound.archive.path)
            found = find_stored(path, {row["record_id"] for row in wanted})
            for row in wanted:
                if row["record_id"] not in found:
                    raise ExtractDamaged(path, 0, f"record {row['record_id']} of feed {self._feed.name} is not in it")
                yield found[row["record_id"]], Origin(extract_id, row["read_at"])

    def _path(self, extract: Row, path_of: Callable[[str], Path]) -> Path:
        try:
            return path_of(extract["sha256"])
        except PayloadErased as gone:
            raise ExtractErased(self._feed.name, extract, gone) from None

    @contextmanager
    def _batch(self, start: dt.datetime, end: dt.datetime) -> Generator[Batch]:
        scratch = self._outbound.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        # A feed's name has no dot, so no other feed's begins like this.
        prefix = f"build-{self._feed.name}."
        for left in scratch.glob(f"{prefix}*"):
            # We hold the feed: what lies there is of a run that was killed.
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=scratch) as folder:
            yield Batch(self._outbound, self._feed, self._held, self.built, Path(folder), start, end, self._now)


def _bounded(reads: Iterable[tuple[StoredRead, Origin]]) -> Iterator[list[tuple[StoredRead, Origin]]]:
    chunk: list[tuple[StoredRead, Origin]] = []
    size = 0
    for stored, origin in reads:
        chunk.append((stored, origin))
        size += len(memoryview(stored.content))
        if len(chunk) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _held_read(source: str, row: Row) -> StoredRead:
    reading: dict[str, Any] = row["reading"] or {}
    content = bytes(row["content"])
    return StoredRead(
        record_id=row["record_id"],
        fusion_id=fusion_id_of(content_of(source, content)),
        sha256=row["content_sha256"],
        last_update_date=row["last_update_date"],
        creation_date=msgspec.convert(reading.get("creation_date"), dt.datetime | None),
        status=reading.get("status"),
        content=msgspec.Raw(content),
    )

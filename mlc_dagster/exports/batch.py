"""What goes into a feed's files in one commit: readings in, versions rendered, files frozen.

Recognising is ``recognition``'s, documents on disk are ``staging``'s, names and numbers are ``assembling``'s; here they
meet the ledger.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mlc_dagster.exports.assembling import Assembler
from mlc_dagster.exports.extract_file import StoredRead
from mlc_dagster.exports.holding import HeldFeed
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.recognition import KEPT_SOURCES, Decision, Origin, Outcome, Selection, recognise
from mlc_dagster.exports.staging import Staging
from mlc_dagster.exports.writing import Change, DocumentHeld, Version
from mlc_dagster.fusion.records import Read, content_of
from mlc_dagster.ledger import extracts, versions
from mlc_dagster.ledger.control_numbers import NumbersMoved
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.feeds import FeedLost
from mlc_dagster.ledger.known_versions import Known, Latest, contents, latest_versions
from mlc_dagster.ledger.versions import Flag, HeldVersion, NewVersion, SequenceMoved

_TRIES = 20


@dataclass
class Built:
    """What building did, by number of records, over all extracts that it took."""

    new: int = 0
    change: int = 0
    cancel: int = 0
    unchanged: int = 0
    stale: int = 0
    filtered: int = 0
    never_sent: int = 0
    """Canceled before they were ever sent."""
    held: int = 0
    """Held now for the first time, or for another reason than before."""
    still_held: int = 0
    changed_posted: int = 0
    """Journals that were posted when they were sent, and changed since."""
    files: int = 0
    file_ids: list[int] = field(default_factory=list[int])
    held_documents: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Everything that was tried and is held: record id, reason code, text."""
    tried: set[str] = field(default_factory=set[str], repr=False)
    """Records of ``held_documents``: not tried twice in one call."""

    def count(self, decision: Decision) -> None:
        """Count a reading that is not sent."""
        name = str(decision.outcome).lower()
        setattr(self, name, getattr(self, name) + 1)


class Batch:
    """The readings of one commit."""

    def __init__(
        self,
        outbound: Outbound,
        feed: Feed,
        held: HeldFeed,
        built: Built,
        folder: Path,
        start: dt.datetime,
        end: dt.datetime,
        now: dt.datetime,
    ) -> None:
        self._ledger = outbound.ledger
        self._feed = feed
        self._hold = held
        self._built = built
        self._selection = Selection.of(feed.settings, outbound.settings.poll.start)
        self._staging = Staging(folder, feed.writer, feed.settings.max_documents)
        self._assembler = Assembler(outbound, feed, start, end, now)
        self._held: list[HeldVersion] = []
        self._superseded: list[int] = []
        self._flags: list[Flag] = []

    def take(self, chunk: Sequence[tuple[StoredRead, Origin]], *, replaying: bool = False) -> None:
        """Recognise and render some hundred readings, each of another record."""
        record_ids = [stored.record_id for stored, _ in chunk]
        with self._ledger.reading() as reading:
            latest = latest_versions(reading, self._feed.name, record_ids)
            newest = extracts.latest_readings(reading, self._feed.source, record_ids) if replaying else {}
            previous = self._previous(reading, chunk, latest)
        # One at a time: of a hundred thousand lines only those of one journal are in memory decoded.
        for stored, origin in chunk:
            known = latest.get(stored.record_id)
            decision = recognise(stored, origin, known, self._selection, newest.get(stored.record_id))
            self._superseded += decision.superseded
            if decision.outcome is not Outcome.SEND or decision.read is None:
                self._built.count(decision)
                continue
            self._send(stored, origin, decision, decision.read, previous, known.newest if known else None)

    def _previous(
        self, reading: Transaction, chunk: Sequence[tuple[StoredRead, Origin]], latest: Mapping[str, Latest]
    ) -> dict[int, bytes]:
        """Contents that the partner has of records that differ now."""
        if self._feed.source not in KEPT_SOURCES:
            return {}
        wanted = [
            known.delivered.id
            for stored, _ in chunk
            if (known := latest.get(stored.record_id)) is not None
            and known.delivered is not None
            and known.delivered.content_sha256 != stored.sha256
        ]
        return contents(reading, wanted)

    def _send(
        self,
        stored: StoredRead,
        origin: Origin,
        decision: Decision,
        read: Read,
        previous: dict[int, bytes],
        newest: Known | None,
    ) -> None:
        before = previous.get(decision.delivered.id) if decision.delivered is not None else None
        version = Version(
            read=read,
            number=decision.number,
            change=decision.change,
            previous=None if before is None else content_of(self._feed.source, before),
        )
        if decision.changed_posted and decision.delivered is not None:
            self._built.changed_posted += 1
            said = {"version": decision.number, "sent": decision.delivered.content_sha256, "now": stored.sha256}
            self._flags.append(Flag("export.posted_journal_changed", stored.record_id, said))
        try:
            file, group, rendered = self._staging.render(version)
        except DocumentHeld as reason:
            self._keep_back(stored, origin, decision, reason, newest)
            return
        position = file.add(group, rendered)
        file.enter(
            NewVersion(
                record_id=stored.record_id,
                version=decision.number,
                change=str(decision.change),
                content_sha256=stored.sha256,
                content=stored.canonical if self._feed.source in KEPT_SOURCES else None,
                standing=decision.standing,
                extract_id=origin.extract_id,
                read_at=origin.read_at,
                last_update_date=stored.last_update_date,
                position=position,
                set_control=rendered.set_control,
                bytes=len(rendered.body),
                sha256=hashlib.sha256(rendered.body).hexdigest(),
                row_id=decision.row_id,
            )
        )
        match decision.change:
            case Change.NEW:
                self._built.new += 1
            case Change.CHANGE:
                self._built.change += 1
            case Change.CANCEL:
                self._built.cancel += 1

    def _keep_back(
        self, stored: StoredRead, origin: Origin, decision: Decision, held: DocumentHeld, newest: Known | None
    ) -> None:
        self._built.tried.add(stored.record_id)
        self._built.held_documents.append((stored.record_id, held.reason, held.text))
        again = newest if decision.row_id is not None else None
        if again is not None and (again.reason, again.text) == (held.reason, held.text):
            self._built.still_held += 1
            return
        self._built.held += 1
        reading: dict[str, Any] = {"creation_date": msgspec.to_builtins(stored.creation_date)}
        if stored.status is not None:
            reading["status"] = stored.status
        self._held.append(
            HeldVersion(
                record_id=stored.record_id,
                version=decision.number,
                change=str(decision.change),
                reason=held.reason,
                text=held.text,
                content_sha256=stored.sha256,
                content=stored.canonical,
                standing=decision.standing,
                reading=reading,
                extract_id=origin.extract_id,
                read_at=origin.read_at,
                last_update_date=stored.last_update_date,
                row_id=decision.row_id,
            )
        )

    def commit(self, extract_id: int | None, delivered_until: dt.datetime | None, *, empty_file: bool) -> None:
        """Freeze it; assembled again when somebody took the control numbers meanwhile.

        Raises:
            FeedLost: another run took the feed.
            NumbersMoved: the partner's numbers moved again and again.
        """
        files = self._staging.finish(empty_file=empty_file)
        if not (files or self._held or self._superseded or self._flags) and extract_id is None:
            return
        for attempt in range(1, _TRIES + 1):
            if not self._hold.still_ours():
                raise FeedLost(self._feed.name)
            assembled = self._assembler.assemble(files)
            try:
                with self._ledger.transaction() as transaction:
                    keys = versions.commit_files(
                        transaction,
                        self._feed.name,
                        assembled,
                        self._held,
                        extract_id,
                        delivered_until,
                        fence=self._hold.fence,
                        superseded=self._superseded,
                        flags=self._flags,
                    )
                break
            except (NumbersMoved, SequenceMoved):
                if attempt == _TRIES:
                    raise
        else:
            raise AssertionError("unreachable")
        self._built.files += len(keys)
        self._built.file_ids += keys

"""What a person asks for once more: the identical bytes of a file under the same name.

What belongs here: what may be sent again, and what must be looked at first. What does not: files that wait by
themselves (``delivery``). Nothing here makes new bytes, names or numbers.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Any, cast

from mlc_dagster.exports.connecting import Connection
from mlc_dagster.exports.delivery import Delivered, Outcome, deliver_pending
from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.faults import DeliveryStopped, LeaseLost, NameTaken, ResendRefused
from mlc_dagster.exports.guarding import guard_feed
from mlc_dagster.exports.holding import HeldFeed, hold_feed
from mlc_dagster.exports.journals import Unrecorded
from mlc_dagster.exports.leftovers import Noted, forgotten
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.placing import Conditions, Ending, Item, Placed, Placement
from mlc_dagster.ledger import exported, resends
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.archive import ArchiveDamaged, PayloadErased
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.exported import DELIVERED_STATES, WAITING_STATES, FileState
from mlc_dagster.ledger.leftovers import end_leftovers, note_leftovers
from mlc_dagster.ledger.process import process_name
from mlc_dagster.sftp import PermissionRefused, SftpError


def resend(
    outbound: Outbound,
    feed: Feed,
    file_id: int,
    *,
    actor: str,
    reason: str,
    again: bool = False,
    approved_by: str | None = None,
) -> Delivered:
    """Sends a file's frozen bytes again, under the same name, with its companions.

    A file that still waits is delivered with those before it. A delivered one is sent when the server no longer has it;
    as long as it lies there unchanged nothing is done unless ``again`` is True, which replaces it. One of unknown
    outcome is settled: as arrived when it lies there whole, otherwise it is delivered; ``again`` clears away the part
    that lies there.

    Args:
        outbound: the wiring.
        feed: the feed; its lease is taken for the time of the call.
        file_id: number of the file.
        actor: who asks for it.
        reason: why, for the auditor.
        again: even though it lies there.
        approved_by: who agrees, another person: needed with ``again``, and for a file of unknown outcome, which the
            partner may have.

    Raises:
        NotApproved: it takes two people, and there is one, or no reason that can go on record.
        ResendRefused: there is no such file of this feed, it was abandoned or erased, or no reason is given.
        FeedBusy: a run is delivering the feed.
        PlaceChanged, LedgerIsOlder: a person says first what was sent, and to whom; nothing was sent.
    """
    with outbound.ledger.reading() as reading:
        file = exported.file_row(reading, file_id)
    if file is None or file["feed"] != feed.name:
        raise ResendRefused(
            file_id, "?", f"feed {feed.name} has no such file; `mlc exports list` shows those there are"
        )
    if not reason.strip() or not actor.strip():
        raise ResendRefused(file_id, file["name"], "say who asks for it, and why")
    if file["state"] == FileState.ABANDONED:
        raise ResendRefused(file_id, file["name"], "it was abandoned; its records went into a later file")
    for sha256 in (file["sha256"], *(companion["sha256"] for companion in file["companions"])):
        try:
            outbound.archive.path(sha256)
        except PayloadErased as gone:
            raise ResendRefused(file_id, file["name"], f"it was {gone.told}; its bytes are gone for good") from None
        except ArchiveDamaged:
            continue  # Told where it is sent, and on record.
    if again or approved_by is not None or file["state"] == FileState.UNKNOWN:
        Approval(by=actor, approved_by=approved_by or "", reason=reason)
    with hold_feed(outbound.ledger, feed.name, feed.source, owner=f"{process_name(os.getpid())}|resend") as held:
        guard_feed(outbound, feed)
        return _Resend(outbound, feed, file, actor, approved_by, reason, again, held).run()


@dataclass
class _Resend:
    outbound: Outbound
    feed: Feed
    file: Row
    actor: str
    approved_by: str | None
    reason: str
    again: bool
    held: HeldFeed
    begun: bool = False
    """On record; from then on something of the file may be removed or written."""
    sent: list[str] = field(default_factory=list[str])

    def run(self) -> Delivered:
        if self.file["state"] in WAITING_STATES:
            return self._deliver()
        name, file_id = str(self.file["name"]), int(self.file["id"])
        try:
            with Connection(self.feed.open_session, self.feed.settings.sftp.poll_deadline) as connection:
                if self.file["state"] in DELIVERED_STATES:
                    return self._send_all(connection)
                arrived = self._lies_there_whole(connection)
        except (SftpError, LeaseLost, ArchiveDamaged) as cause:
            self._end(fault=f"{type(cause).__name__}: {cause}", server_key=None)
            transient = not isinstance(cause, ArchiveDamaged) and cause.transient
            stopped = DeliveryStopped(self.feed.name, name, cause, transient=transient)
            return Delivered(file_id, name, Outcome.STOPPED, 1, 0.0, str(cause), alert=True, stopped=stopped)
        with self.outbound.ledger.transaction() as transaction:
            exported.settle_unknown(
                transaction, file_id, arrived=arrived, by=self.actor, approved_by=self.approved_by or "",
                reason=self.reason,
            )  # fmt: skip
        if arrived and not self.file["companions"]:
            text = "it lies there whole, so it counts as sent; nothing was sent"
            return Delivered(file_id, name, Outcome.SENT, 0, 0.0, text)
        return self._deliver()

    def _deliver(self) -> Delivered:
        delivered = deliver_pending(self.outbound, self.feed, still_ours=self.held.still_ours)
        return next(entry for entry in delivered if entry.file_id == self.file["id"])

    def _lies_there_whole(self, connection: Connection) -> bool:
        """Of a file of unknown outcome. A part of it is cleared away when that was asked for."""
        item = self._item(self.file["name"], self.file["bytes"], self.file["sha256"])
        found = connection.session().stat(item.path)
        if found is None:
            return False
        if self._same(connection, item, found.size):
            return True
        if not self.again:
            raise NameTaken(item.path, item.sha256)
        self._begin(item)
        connection.session().remove(item.path)
        self._end(fault=None, server_key=connection.server_key)
        return False

    def _send_all(self, connection: Connection) -> Delivered:
        """The file, then its companions, each unless it lies there and ``again`` was not asked for."""
        began = time.monotonic()
        companions = cast("list[dict[str, Any]]", self.file["companions"])
        notes: list[str] = []
        outcome = Outcome.SENT
        fault: str | None = None
        for part in (dict(self.file), *companions):
            item = self._item(part["name"], part["bytes"], part["sha256"])
            placed = self._send(connection, item)
            if placed is None:
                notes.append(f"{item.name} lies there unchanged, so it was not sent; ask for it again to replace it")
                continue
            self.sent.append(item.name)
            notes.append(f"{item.name} sent again" if not placed.text else f"{item.name}: {placed.text}")
            if placed.ending is not Ending.ARRIVED:
                outcome = Outcome(placed.ending)
                fault = f"{outcome}: {placed.text}"
                break
        self._end(fault=fault, server_key=connection.server_key)
        seconds = time.monotonic() - began
        alert = outcome is not Outcome.SENT
        return Delivered(
            self.file["id"], self.file["name"], outcome, int(bool(self.sent)), seconds, "; ".join(notes), alert
        )

    def _send(self, connection: Connection, item: Item) -> Placed | None:
        """None when it lies there unchanged and stays."""
        found = connection.session().stat(item.path)
        if found is not None:
            if not self._same(connection, item, found.size):
                raise NameTaken(item.path, item.sha256)
            if not self.again:
                return None
            self._begin(item)
            connection.session().remove(item.path)
        self._begin(item)
        conditions = Conditions(self.feed.settings.upload, self.held.still_ours)
        # Should this process die, its half is known for ours: the next delivery removes it, or the next resend.
        stale = forgotten(DeliveryJournal(self.outbound, self.feed.name), self.file["sequence"], item.name)
        written: list[tuple[int, str]] = []
        steps = Noted(Unrecorded(), lambda path: written.append(self._waits(path)))
        placed = Placement(item, steps, connection, conditions, stale=stale).place()
        if written:
            with self.outbound.ledger.transaction() as transaction:
                end_leftovers(transaction, self.feed.name, written, removed=[])
        return placed

    def _waits(self, path: str) -> tuple[int, str]:
        """Nothing but the journal and this knows of a temporary file of a resend: it has no row in the ledger."""
        sequence = int(self.file["sequence"])
        # Entered by the guard.
        DeliveryJournal(self.outbound, self.feed.name).temporary(sequence, path)
        with self.outbound.ledger.transaction() as transaction:
            note_leftovers(transaction, self.feed.name, sequence, [path])
        return sequence, path

    def _item(self, name: str, size: int, sha256: str) -> Item:
        return Item(name, self.file["directory"], size, sha256, self.outbound.archive.path(sha256))

    def _same(self, connection: Connection, item: Item, size: int | None) -> bool:
        if size not in (None, item.size):
            return False
        try:
            return connection.session().sha256(item.path) == item.sha256
        except PermissionRefused:
            # May write and list, not read.
            return size is not None

    def _begin(self, item: Item) -> None:
        """Before anything that cannot be taken back."""
        if not self.held.still_ours():
            raise LeaseLost(self.file["name"])
        if self.begun:
            return
        with self.outbound.ledger.transaction() as transaction:
            resends.note_resend_begun(
                transaction, self.file, by=self.actor, approved_by=self.approved_by, reason=self.reason, name=item.name
            )
        self.begun = True

    def _end(self, *, fault: str | None, server_key: str | None) -> None:
        """How it ended; nothing where nothing was begun."""
        if not self.begun:
            return
        with self.outbound.ledger.transaction() as transaction:
            resends.note_resend_ended(
                transaction, self.file, by=self.actor, approved_by=self.approved_by, reason=self.reason,
                sent=self.sent, fault=fault, server_key=server_key,
            )  # fmt: skip
        self.begun = False

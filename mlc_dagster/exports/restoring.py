"""After the ledger was restored from a backup: what was sent since is read from the delivery journal and entered again.

The partner's server is looked at first, file by file; where it speaks against the journal, a person asks the partner.
What a file counts as, and on what that rests, is ``restore_evidence``'s. Nothing is sent here; the next run sends what
is really new.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from mlc_dagster.exports.delivery_journal import DeliveryJournal, journalled_feeds
from mlc_dagster.exports.extract_file import find_stored
from mlc_dagster.exports.guarding import Ahead, files_ahead, identify, restarts_ahead
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.leftovers import Leftover, settle_leftovers
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.recognition import KEPT_SOURCES
from mlc_dagster.exports.restart_journal import EnteredRestart, RestartJournal
from mlc_dagster.exports.restore_evidence import Conclusion, Seen, conclude, look
from mlc_dagster.ledger import control_numbers, exported, sent_files
from mlc_dagster.ledger.adopting import Adoption, Contents, adopt_file
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.beginning import begin_anew
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.exported import OPEN_STATES, FileState
from mlc_dagster.ledger.identity import take_ledger_id
from mlc_dagster.ledger.leftovers import note_leftovers
from mlc_dagster.ledger.places import Place, pin_place
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.restarts import Restart, enter_restart


@dataclass(frozen=True)
class Readopted:
    """One file that the ledger knows again."""

    feed: str
    sequence: int
    name: str
    state: FileState
    seen: str
    """What lies on the server."""
    rests_on: str
    """What makes it count as that."""
    journal_alone: bool = False
    """It counts as delivered, and the server does not show it."""


@dataclass(frozen=True)
class BegunAgain:
    """A restart of a feed that the ledger had forgotten."""

    feed: str
    restart: Restart
    records: int
    """So many counted as delivered and do no more."""
    waits_for: tuple[str, ...] = ()
    """Files before it that are not settled: until they are, nothing after them is entered, and nothing is sent."""


@dataclass
class Restored:
    """What was entered again, and how many control numbers are left out."""

    files: list[Readopted] = field(default_factory=list[Readopted])
    restarts: list[BegunAgain] = field(default_factory=list[BegunAgain])
    leftovers: list[Leftover] = field(default_factory=list[Leftover])
    left_out: int = 0


def after_restore(
    outbound: Outbound,
    approval: Approval,
    *,
    feed: str | None = None,
    same_installation: bool = False,
    ask_partner: bool = False,
) -> Restored:
    """Bring the ledger to what was sent and said, by the journal and the partners' servers.

    A file whose end is in the journal, or that the server shows whole, counts as sent; another is UNKNOWN, for a person
    to ask the partner. So is one of which journal and server disagree. That a file does not lie there says nothing
    against its end in the journal, for partners take files, unless the ledger has it as begun and not ended: of such a
    file two people say whether it arrived. Restarts are entered between the files where they were said. May be called
    again after a fault: what is entered stays.

    Args:
        outbound: the wiring; feeds that are looked at must be in it.
        approval: who restored the ledger, who agrees, and why: what is entered here counts as delivered.
        feed: only this one; all that have a journal when absent.
        same_installation: the ledger takes the place of the one that the journal was written beside.
        ask_partner: no file counts as delivered that its server does not show whole, whatever the journal says.

    Raises:
        SftpError: a server cannot be asked; nothing was entered for its feed.
        LedgerError: the ledger has gone on since it was restored, or the journal is another installation's.
        FeedBusy: a run is delivering the feed.
        OSError: our disk refused; ask again.
    """
    done = Restored()
    there = journalled_feeds(outbound)
    names = there if feed is None else [feed]
    if same_installation:
        _take_id(outbound, [name for name in names if name in there], approval)
    identity = identify(outbound)
    for name in names:
        source = _source_of_ahead(outbound, name, identity)
        if source is None:
            continue
        with hold_feed(outbound.ledger, name, source, owner=f"{process_name(os.getpid())}|after-restore"):
            # Only now: whoever held the feed until now may have entered some of it.
            found = list(files_ahead(outbound, name, identity))
            begun = restarts_ahead(outbound, name, identity)
            # What is missing between the numbers of one feed may be another's, as long as that one is ahead.
            partners = {ahead.entry.file["partner"] for ahead in found}
            elsewhere = (ahead for other in there if other != name for ahead in files_ahead(outbound, other, identity))
            others = any(ahead.entry.file["partner"] in partners for ahead in elsewhere)
            how = _Feed(outbound, name, approval, done, explain_holes=not others, ask_partner=ask_partner)
            how.enter(found, begun)
    return done


def _source_of_ahead(outbound: Outbound, name: str, identity: str) -> str | None:
    """What the feed's records are of; None where the journal knows nothing more of the feed than the ledger."""
    for entered in restarts_ahead(outbound, name, identity):
        return entered.source
    return next((ahead.entry.source for ahead in files_ahead(outbound, name, identity)), None)


def _take_id(outbound: Outbound, names: Sequence[str], approval: Approval) -> None:
    found = {entered.ledger for name in names for entered in RestartJournal(outbound, name).entered()[-1:]}
    journals = [DeliveryJournal(outbound, name) for name in names]
    found |= {journal.entry(last).ledger for journal in journals if (last := journal.last())}
    if len(found) > 1:
        msg = "the delivery journals below data_dir are of several ledgers; name one feed with --feed"
        raise LedgerError(msg)
    with outbound.ledger.transaction() as transaction:
        for identity in found:
            take_ledger_id(transaction, identity, approval)


@dataclass(frozen=True)
class _Feed:
    """One feed that is brought up; the caller holds it."""

    outbound: Outbound
    name: str
    approval: Approval
    done: Restored
    explain_holes: bool
    ask_partner: bool

    def enter(self, found: Sequence[Ahead], begun: Sequence[EnteredRestart]) -> None:
        """Files and restarts in the order in which they happened; stops before a restart that must wait."""
        left = max((entered.restart.sequence for entered in begun if entered.restart.elsewhere), default=0)
        seen = look(self.outbound, self.name, [ahead.entry for ahead in found], elsewhere=range(left + 1))
        waiting = list(zip(found, seen, strict=True))
        for entered in begun:
            while waiting and waiting[0][0].entry.sequence <= entered.restart.sequence:
                self._adopt(*waiting.pop(0), found)
            if not self._begin_again(entered):
                return
        for ahead, on_server in waiting:
            self._adopt(ahead, on_server, found)

    def _adopt(self, ahead: Ahead, on_server: Seen, found: Sequence[Ahead]) -> None:
        entry = ahead.entry
        concluded = conclude(ahead, on_server, ask_partner=self.ask_partner)
        with self.outbound.ledger.transaction() as transaction:
            file_id = adopt_file(
                transaction, _adoption(ahead, on_server, concluded), entry.records(), self.approval,
                archived=lambda sha256: self.outbound.archive.stat(sha256) is not None,
                contents=_contents_of(self.outbound) if entry.source in KEPT_SOURCES else None,
            )  # fmt: skip
            if on_server.left:
                note_leftovers(transaction, self.name, entry.sequence, on_server.left)
            if ahead is found[-1]:
                # With the last file: after it nothing is ahead, and nobody would come back for this.
                self._finish(transaction, found)
        with self.outbound.ledger.reading() as reading:
            file = sent_files.file_of(reading, file_id)
        if concluded.state is FileState.UNKNOWN:
            # Until the journal has it too, it is ahead.
            DeliveryJournal(self.outbound, self.name).end(file)
        self._settle_leftovers(file, on_server)
        alone = concluded.evidence["by"] == "journal" and concluded.state is not FileState.ABANDONED
        self.done.files.append(
            Readopted(
                self.name, entry.sequence, str(entry.file["name"]), concluded.state, on_server.text,
                concluded.rests_on, alone,
            )
        )  # fmt: skip

    def _settle_leftovers(self, file: Row, seen: Seen) -> None:
        feed = self.outbound.feeds.get(self.name)
        if seen.left and feed is not None:
            self.done.leftovers += settle_leftovers(self.outbound, feed.open_session, self.name, file, seen.left)

    def _finish(self, transaction: Transaction, found: Sequence[Ahead]) -> None:
        before = max(
            (each.entry.sequence for each in found if each.row is not None), default=found[0].entry.sequence - 1
        )
        self.approval.record(
            transaction, "export.restored", f"feed:{self.name}", before={"sequence": before},
            after={"sequence": found[-1].entry.sequence}, files=[each.entry.sequence for each in found],
            journal_is_enough=not self.ask_partner,
        )  # fmt: skip
        if not self.explain_holes:
            return
        partners = {str(each.entry.file["partner"]) for each in found if each.entry.file["partner"]}
        reason = f"taken before the ledger was restored, by files that were not sent ({self.approval.reason})"
        for partner in sorted(partners):
            self.done.left_out += control_numbers.leave_out_missing(transaction, partner, reason)

    def _begin_again(self, entered: EnteredRestart) -> bool:
        """What was delivered up to here counts as delivered no more; False where files before it must be settled."""
        restart = entered.restart
        with self.outbound.ledger.transaction() as transaction:
            unsettled = exported.list_files(transaction, self.name, OPEN_STATES, limit=1000)
            names = tuple(str(file["name"]) for file in reversed(unsettled))
            count = 0
            if not names:
                count = begin_anew(
                    transaction, self.name, entered.source, self.approval,
                    before=dict(restart.before), after=dict(restart.after),
                )  # fmt: skip
                pin_place(transaction, self.name, Place(**restart.after))
                enter_restart(transaction, self.name, restart)
                self.approval.record(
                    transaction, "export.restart_restored", f"feed:{self.name}",
                    before={"restarts": restart.number - 1}, after={"restarts": restart.number},
                    restart=asdict(restart), records=count,
                )  # fmt: skip
        self.done.restarts.append(BegunAgain(self.name, restart, count, names))
        return not names


def _adoption(ahead: Ahead, seen: Seen, concluded: Conclusion) -> Adoption:
    entry = ahead.entry
    attempts = 1 if entry.attempt is None else entry.attempt.number
    return Adoption(
        entry.feed, entry.source, entry.file, entry.serials, entry.extracts, concluded.state, concluded.columns,
        seen.text, concluded.evidence, attempts,
    )  # fmt: skip


def _contents_of(outbound: Outbound) -> Contents:
    """Contents of what was sent, from archived extracts: the partner's next change is told by them."""

    def contents(wanted: Sequence[tuple[str, str]], sha256: str) -> Mapping[str, bytes]:
        if outbound.archive.stat(sha256) is None:
            return {}
        stored = find_stored(outbound.archive.path(sha256), {record_id for record_id, _ in wanted})
        return {
            record_id: stored[record_id].canonical
            for record_id, digest in wanted
            if record_id in stored and stored[record_id].sha256 == digest
        }

    return contents

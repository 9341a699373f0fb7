"""After the ledger was restored from a backup: what was sent since is read from the delivery journal and entered again.

The partner's server is looked at first, file by file; where it speaks against the journal, a person asks the partner.
Nothing is sent here; the next run sends what is really new.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mlc_dagster.exports.delivery_journal import DeliveryJournal, Entry, journalled_feeds
from mlc_dagster.exports.extract_file import find_stored
from mlc_dagster.exports.guarding import Ahead, files_ahead, identify
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.recognition import KEPT_SOURCES
from mlc_dagster.ledger import control_numbers, sent_files
from mlc_dagster.ledger.adopting import Adoption, Contents, adopt_file
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import LedgerError, Transaction
from mlc_dagster.ledger.exported import DELIVERED_STATES, FileState
from mlc_dagster.ledger.identity import take_ledger_id
from mlc_dagster.ledger.process import process_name
from mlc_dagster.sftp import PermissionRefused, SftpSession
from mlc_dagster.sftp.listing import join

_ENDED = (*DELIVERED_STATES, FileState.ABANDONED)
_FROM_END = ("server_size", "server_mtime", "verified_by", "server_key", "reason", "ended_at")


@dataclass(frozen=True)
class Readopted:
    """One file that the ledger knows again."""

    feed: str
    sequence: int
    name: str
    state: FileState
    seen: str
    """What lies on the server."""


@dataclass
class Restored:
    """What was entered again, and how many control numbers are left out."""

    files: list[Readopted] = field(default_factory=list[Readopted])
    left_out: int = 0


@dataclass(frozen=True)
class _Seen:
    """What the server shows of a file and its companions."""

    text: str
    whole: bool = False
    """All of it lies there, with our bytes as far as can be seen."""
    others: bool = False
    """Other bytes lie under one of its names."""
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


def after_restore(
    outbound: Outbound, approval: Approval, *, feed: str | None = None, same_installation: bool = False
) -> Restored:
    """Bring the ledger to what was sent, by the journal and the partners' servers.

    A file whose end is in the journal, or that the server shows whole, counts as sent; another is UNKNOWN, for a person
    to ask the partner. So is one of which journal and server disagree. That a file does not lie there says nothing
    against its end in the journal, for partners take files, unless the ledger has it as begun and not ended: of such a
    file two people say whether it arrived. May be called again after a fault: what is entered stays.

    Args:
        outbound: the wiring; feeds that are looked at must be in it.
        approval: who restored the ledger, who agrees, and why: what is entered here counts as delivered.
        feed: only this one; all that have a journal when absent.
        same_installation: the ledger takes the place of the one that the journal was written beside.

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
        found = list(files_ahead(outbound, name, identity))
        if found:
            # What is missing between the numbers of one feed may be another's, as long as that one is ahead.
            partners = {ahead.entry.file["partner"] for ahead in found}
            elsewhere = (ahead for other in there if other != name for ahead in files_ahead(outbound, other, identity))
            others = any(ahead.entry.file["partner"] in partners for ahead in elsewhere)
            _adopt(outbound, name, found, approval, done, explain_holes=not others)
    return done


def _take_id(outbound: Outbound, names: Sequence[str], approval: Approval) -> None:
    journals = [DeliveryJournal(outbound, name) for name in names]
    found = {journal.entry(last).ledger for journal in journals if (last := journal.last())}
    if len(found) > 1:
        msg = "the delivery journals below data_dir are of several ledgers; name one feed with --feed"
        raise LedgerError(msg)
    with outbound.ledger.transaction() as transaction:
        for identity in found:
            take_ledger_id(transaction, identity, approval)


def _adopt(
    outbound: Outbound, name: str, found: Sequence[Ahead], approval: Approval, done: Restored, *, explain_holes: bool
) -> None:
    source = found[0].entry.source
    last = found[-1].entry
    with hold_feed(outbound.ledger, name, source, owner=f"{process_name(os.getpid())}|after-restore"):
        seen = _look(outbound, name, [ahead.entry for ahead in found])
        for ahead, on_server in zip(found, seen, strict=True):
            entry = ahead.entry
            adoption = _adoption(ahead, on_server)
            with outbound.ledger.transaction() as transaction:
                file_id = adopt_file(
                    transaction, adoption, entry.records(), approval,
                    archived=lambda sha256: outbound.archive.stat(sha256) is not None,
                    contents=_contents_of(outbound) if source in KEPT_SOURCES else None,
                )  # fmt: skip
                if entry is last:
                    # With the last file: after it nothing is ahead, and nobody would come back for this.
                    done.left_out += _finish(transaction, name, found, approval, explain_holes=explain_holes)
            if adoption.state is FileState.UNKNOWN:
                # Until the journal has it too, it is ahead.
                with outbound.ledger.reading() as reading:
                    file = sent_files.file_of(reading, file_id)
                DeliveryJournal(outbound, name).end(file)
            done.files.append(Readopted(name, entry.sequence, str(entry.file["name"]), adoption.state, on_server.text))


def _finish(
    transaction: Transaction, name: str, found: Sequence[Ahead], approval: Approval, *, explain_holes: bool
) -> int:
    before = max((each.entry.sequence for each in found if each.row is not None), default=found[0].entry.sequence - 1)
    approval.record(
        transaction, "export.restored", f"feed:{name}", before={"sequence": before},
        after={"sequence": found[-1].entry.sequence}, files=[each.entry.sequence for each in found],
    )  # fmt: skip
    if not explain_holes:
        return 0
    partners = {str(each.entry.file["partner"]) for each in found if each.entry.file["partner"]}
    reason = f"taken before the ledger was restored, by files that were not sent ({approval.reason})"
    return sum(control_numbers.leave_out_missing(transaction, partner, reason) for partner in sorted(partners))


def _adoption(ahead: Ahead, seen: _Seen) -> Adoption:
    entry = ahead.entry
    if _disagree(ahead, seen):
        state = FileState.UNKNOWN
        text = (
            f"the delivery journal has it as {entry.state}, and on the server: {seen.text}. Ask the partner what "
            "arrived, then settle it"
        )
        columns: dict[str, Any] = {"reason": text, "last_error": text}
    elif entry.end is not None and entry.state in _ENDED:
        state = FileState(entry.end["state"])
        columns = {name: entry.end[name] for name in _FROM_END}
    elif seen.whole:
        state, columns = FileState.SENT, dict(seen.columns)
    else:
        state = FileState.UNKNOWN
        text = (
            f"its upload was begun before the ledger was restored, and its end is not on record; {seen.text}. Ask the "
            "partner what arrived, then settle it"
        )
        columns = {"reason": text, "last_error": text}
    attempts = 1 if entry.attempt is None else entry.attempt.number
    return Adoption(
        entry.feed, entry.source, entry.file, entry.serials, entry.extracts, state, columns, seen.text, attempts
    )


def _disagree(ahead: Ahead, seen: _Seen) -> bool:
    """Whether the end in the journal is not what the server shows."""
    state = ahead.entry.state
    if state not in _ENDED:
        return False
    delivered = state in DELIVERED_STATES
    if ahead.row is not None and ahead.row["attempts"]:
        # Begun and not ended in the ledger: a line in a file is not enough to end it without two people's word.
        return delivered != seen.whole
    return delivered and seen.others


def _look(outbound: Outbound, name: str, entries: Sequence[Entry]) -> list[_Seen]:
    """What the partner's server shows of each; the ledger is not changed before it has answered for all."""
    feed = outbound.feeds.get(name)
    if feed is None:
        return [_Seen("mlc.yaml no longer has the feed, so its server was not asked")] * len(entries)
    with feed.open_session() as session:
        return [_look_at(session, entry.file) for entry in entries]


def _look_at(session: SftpSession, file: Mapping[str, Any]) -> _Seen:
    said: list[str] = []
    whole, others = True, False
    columns: dict[str, Any] = {}
    for part in (file, *cast("Sequence[Mapping[str, Any]]", file["companions"])):
        path = join(str(file["directory"]), str(part["name"]))
        try:
            found = session.stat(path)
        except PermissionRefused:
            said.append(f"{part['name']} cannot be seen")
            whole = False
            continue
        if found is None:
            said.append(f"{part['name']} does not lie there")
            whole = False
            continue
        verified_by = _verified(session, path, found.size, part)
        whole = whole and verified_by is not None
        others = others or verified_by is None
        proof = "with other bytes" if verified_by is None else f"with our bytes by {verified_by}"
        said.append(f"{part['name']} lies there {proof}")
        if part is file:
            columns = {
                "server_size": found.size, "server_mtime": found.mtime, "verified_by": verified_by,
                "server_key": session.server_key,
            }  # fmt: skip
    return _Seen(", ".join(said), whole, others, columns)


def _verified(session: SftpSession, path: str, size: int | None, part: Mapping[str, Any]) -> str | None:
    if size not in (None, part["bytes"]):
        return None
    try:
        return "sha256" if session.sha256(path) == part["sha256"] else None
    except PermissionRefused:
        # May list, not read.
        return None if size is None else "size"


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

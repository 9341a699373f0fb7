"""What speaks for a file that a restored ledger does not know the end of: the partner's server, and the journal.

What belongs here: looking, and what is concluded. What does not: entering it, which is ``restoring``'s. The journal's
word is as good as the ledger's own row was: the run that proved the file's arrival wrote both, one right after the
other. So a file that partners have taken since counts as sent on it; what it says there is told and goes on record.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mlc_dagster.exports.delivery_journal import Entry
from mlc_dagster.exports.guarding import Ahead
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger.exported import DELIVERED_STATES, FileState
from mlc_dagster.sftp import PermissionRefused, SftpSession
from mlc_dagster.sftp.listing import join

_ENDED = (*DELIVERED_STATES, FileState.ABANDONED)
_FROM_END = ("server_size", "server_mtime", "verified_by", "server_key", "reason", "ended_at")
_PROVEN_BY = {
    "sha256": "size and SHA-256 read back at its arrival",
    "size": "its size at its arrival",
    "none": "the server's good answers alone (nothing could be read back)",
    "person": "two people's word at the time",
}


@dataclass(frozen=True)
class Seen:
    """What the server shows of a file and its companions."""

    text: str
    whole: bool = False
    """All of it lies there, with our bytes as far as can be seen."""
    others: bool = False
    """Other bytes lie under one of its names."""
    unnamed: bool = False
    """It lies there whole, under its last temporary name and not under its own."""
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    left: tuple[str, ...] = ()
    """Temporary files that the journal has of it, and that lie there."""


@dataclass(frozen=True)
class Conclusion:
    """What a file counts as, and why."""

    state: FileState
    columns: Mapping[str, Any]
    rests_on: str
    """For people."""
    evidence: Mapping[str, Any]
    """For the audit trail."""


def look(outbound: Outbound, name: str, entries: Sequence[Entry], *, elsewhere: Collection[int] = ()) -> list[Seen]:
    """What the partner's server shows of each; the ledger is not changed before it has answered for all.

    ``elsewhere``: numbers of files that went to a place that the feed has left since.

    Raises:
        SftpError: it cannot be asked.
    """
    feed = outbound.feeds.get(name)
    if feed is None:
        return [Seen("mlc.yaml no longer has the feed, so its server was not asked")] * len(entries)
    left = Seen("it went to the place that the feed has left since, which was not asked")
    if all(entry.sequence in elsewhere for entry in entries):
        return [left] * len(entries)
    with feed.open_session() as session:
        return [left if entry.sequence in elsewhere else _look_at(session, entry) for entry in entries]


def _look_at(session: SftpSession, entry: Entry) -> Seen:
    file = entry.file
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
    unnamed, left = False, tuple(path for path in entry.temporaries() if _lies_there(session, path))
    for path in left:
        complete = _verified(session, path, None, file) is not None
        unnamed = unnamed or (complete and not columns and path == left[-1])
        said.append(f"a temporary file of ours lies there{' with all its bytes' if complete else ''}: {path}")
    return Seen(", ".join(said), whole, others, unnamed, columns, left)


def _lies_there(session: SftpSession, path: str) -> bool:
    try:
        found = session.stat(path)
    except PermissionRefused:
        return False
    return found is not None and found.regular


def _verified(session: SftpSession, path: str, size: int | None, part: Mapping[str, Any]) -> str | None:
    if size not in (None, part["bytes"]):
        return None
    try:
        return "sha256" if session.sha256(path) == part["sha256"] else None
    except PermissionRefused:
        # May list, not read.
        return None if size is None else "size"


def conclude(ahead: Ahead, seen: Seen, *, ask_partner: bool) -> Conclusion:
    """What the file counts as.

    Args:
        ahead: what the journal has of it, and the ledger.
        seen: what the server shows.
        ask_partner: the journal's word is not enough: what the server does not show whole is UNKNOWN.
    """
    entry = ahead.entry
    if against := _against(ahead, seen, ask_partner=ask_partner):
        text = (
            f"the delivery journal has it as {entry.state}, {against}, and on the server: {seen.text}. Ask the partner "
            "what arrived, then settle it"
        )
        return _unknown(text, "nothing yet: journal and server do not agree")
    if entry.end is not None and entry.state in _ENDED:
        columns = {name: entry.end[name] for name in _FROM_END}
        return Conclusion(FileState(entry.end["state"]), columns, _rests_on(entry, seen), _evidence(entry, seen))
    if seen.whole:
        evidence = {"by": "server", **seen.columns}
        return Conclusion(FileState.SENT, dict(seen.columns), "the server, which shows it whole", evidence)
    text = (
        f"its upload was begun before the ledger was restored, and its end is not on record; {seen.text}. Ask the "
        "partner what arrived, then settle it"
    )
    return _unknown(text, "nothing yet: its end is not on record")


def _unknown(text: str, rests_on: str) -> Conclusion:
    return Conclusion(FileState.UNKNOWN, {"reason": text, "last_error": text}, rests_on, {"by": "nobody"})


def _against(ahead: Ahead, seen: Seen, *, ask_partner: bool) -> str | None:
    """What speaks against the end in the journal; None for nothing."""
    entry, state = ahead.entry, ahead.entry.state
    if entry.end is None or state not in _ENDED:
        return None
    delivered = state in DELIVERED_STATES
    if ahead.row is not None and ahead.row["attempts"] and delivered != seen.whole:
        # Begun and not ended in the ledger: a line in a file is not enough to end it without two people's word.
        return "and the ledger has it as begun"
    if not delivered or seen.whole:
        return None
    if seen.others:
        return "with other bytes"
    if seen.unnamed:
        return "as if it had got its name"
    if ask_partner:
        return "which is not to be enough"
    if entry.end["server_size"] not in (None, entry.file["bytes"]):
        return f"with {entry.end['server_size']} of {entry.file['bytes']} bytes at its arrival"
    if state is FileState.SENT and entry.end["verified_by"] not in _PROVEN_BY:
        return "without what proved its arrival"
    return None


def _rests_on(entry: Entry, seen: Seen) -> str:
    end = cast("Mapping[str, Any]", entry.end)
    if entry.state is FileState.ABANDONED:
        return "the delivery journal: given up by two people"
    if seen.whole:
        return "the server, which shows it whole, and the delivery journal"
    if entry.state is FileState.INFERRED:
        return f"the delivery journal alone: concluded, not seen, at {end['ended_at']}"
    return f"the delivery journal alone: {_PROVEN_BY[end['verified_by']]}, {end['ended_at']}"


def _evidence(entry: Entry, seen: Seen) -> dict[str, Any]:
    shown = {"by": "server and journal", **seen.columns} if seen.whole else {"by": "journal"}
    end = cast("Mapping[str, Any]", entry.end)
    return shown | {"journal": {name: end[name] for name in ("state", *_FROM_END) if name != "reason"}}

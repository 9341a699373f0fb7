"""Reads a partner's acknowledgements from their folder and enters what they say of our files.

Files are left where they are; one that was read is not fetched again. What cannot be read is told once and never keeps
the others from being read. What the answers mean for a file is in ``ledger.acknowledgements``.
"""

import datetime as dt
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mlc_dagster.alerts.messages import Refused
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.x12.acknowledgement import Answer997, NotX12, read_997
from mlc_dagster.ledger import acknowledgements as ledger_acks
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.acknowledgements import INTERCHANGE, REFUSALS, Answer, Recorded
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.settings import AcknowledgementSettings
from mlc_dagster.settings.exports import PartnerSettings
from mlc_dagster.sftp import FileChanged, FileTooLarge, FileVanished, PermissionRefused, ServerRefused, SftpSession
from mlc_dagster.sftp.listing import RemoteFile, is_safe_name

MOST_BYTES = 16 * 1024 * 1024
"""An acknowledgement has some bytes per document; what is larger is something else."""
_REFUSED = "FILE_NAME: it is a link, or its name leads out of the folder; it is not read"
_SHA256 = 64
_YOUNG = dt.timedelta(seconds=60)
"""Two versions of a file may bear the same second; and the server's clock is not ours."""


@dataclass
class AckResult:
    """What one look into the folder found; everything in it is new, except ``overdue``."""

    within: dt.timedelta = dt.timedelta()
    files: int = 0
    """Acknowledgements read now for the first time."""
    accepted: int = 0
    """Groups taken by the partner, with or without remarks."""
    refused: list[Refused] = field(default_factory=list[Refused])
    unmatched: list[str] = field(default_factory=list[str])
    """Answers to numbers that we have not sent to this partner, one sentence each."""
    broken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Path and what is wrong; each is told once."""
    overdue: list[Row] = field(default_factory=list[Row])
    """Every delivered file of the feed that is not answered in time, also those told before."""
    newly_overdue: list[tuple[str, dt.datetime]] = field(default_factory=list[tuple[str, dt.datetime]])
    """Name and time of delivery, UTC, of those that nobody was told of."""


def read_acknowledgements(outbound: Outbound, feed: Feed) -> AckResult:
    """Read what is new in the feed's acknowledgement folder.

    Args:
        outbound: the wiring.
        feed: one with ``acknowledgement:`` settings; for others nothing is done.

    Raises:
        SftpError: the server or the folder cannot be reached. Files that had been read are entered all the same.
    """
    settings = feed.settings.acknowledgement
    if not isinstance(settings, AcknowledgementSettings):
        return AckResult()
    result = AckResult(within=dt.timedelta(seconds=settings.expected_within))
    with outbound.ledger.transaction() as transaction:
        ledger_acks.expect_from(transaction, feed.name)
        known = ledger_acks.known_files(transaction, feed.name)
    outbound.scratch.mkdir(parents=True, exist_ok=True)
    try:
        with feed.open_session() as session, TemporaryDirectory(dir=outbound.scratch, prefix="acks-") as folder:
            listing = session.list(settings.directory)
            for entry in listing.others:
                if not is_safe_name(entry.name) or (entry.link and fnmatch.fnmatchcase(entry.name, settings.pattern)):
                    _enter_broken(outbound, feed, entry, f"not read: {entry.printable}", _REFUSED, result)
            for file in listing.files:
                if fnmatch.fnmatchcase(file.name, settings.pattern) and not _unchanged(file, known.get(file.printable)):
                    _read(outbound, feed, session, file, Path(folder) / "acknowledgement", result)
    finally:
        with outbound.ledger.transaction() as transaction:
            result.overdue = ledger_acks.overdue(transaction, feed.name, transaction.now, result.within)
            fresh = ledger_acks.note_overdue(transaction, result.overdue)
        result.newly_overdue = [(file["name"], file["ended_at"]) for file in fresh]
    return result


def _unchanged(file: RemoteFile, known: Row | None) -> bool:
    return known is not None and file.mtime is not None and (file.size, file.mtime) == (known["size"], known["mtime"])


def _read(
    outbound: Outbound, feed: Feed, session: SftpSession, file: RemoteFile, target: Path, result: AckResult
) -> None:
    try:
        download = session.download(file.path, target, expected_size=file.size, max_bytes=MOST_BYTES)
    except (FileVanished, FileChanged):
        return  # Tidied up, or still being written: the next look finds out.
    except (FileTooLarge, PermissionRefused, ServerRefused) as error:
        # Without its bytes it is known by its name; it is tried again, and told once.
        _enter_broken(outbound, feed, file, f"not fetched: {file.printable} {file.size}", str(error), result)
        return
    try:
        answers = _understand(target.read_bytes(), feed.settings.partner)
    except NotX12 as error:
        _enter_broken(outbound, feed, file, download.sha256, str(error), result)
        return
    partner = feed.settings.partner
    with outbound.ledger.transaction() as transaction:
        fresh = not ledger_acks.is_read(transaction, feed.name, download.sha256)
        recorded: list[Recorded] = []
        if fresh:
            recorded = ledger_acks.record(
                transaction,
                feed=feed.name,
                partner=None if partner is None else partner.key,
                path=file.printable,
                sha256=download.sha256,
                answers=answers,
            )
        ledger_acks.note_file(
            transaction,
            feed.name,
            path=file.printable,
            size=file.size,
            mtime=_settled(file, transaction.now),
            sha256=download.sha256,
            problem=None,
        )
        refusals = [_refused(transaction, entry) for entry in _single(recorded)]
    if fresh:
        result.files += 1
        result.accepted += sum(
            entry.file is not None and entry.answer.set_control is None and entry.answer.code not in REFUSALS
            for entry in recorded
        )
        result.refused += refusals
        result.unmatched += [_unmatched(file, entry.answer) for entry in recorded if entry.file is None]


def _enter_broken(
    outbound: Outbound, feed: Feed, file: RemoteFile, sha256: str, problem: str, result: AckResult
) -> None:
    fetched = len(sha256) == _SHA256
    with outbound.ledger.transaction() as transaction:
        told = ledger_acks.is_read(transaction, feed.name, sha256)
        ledger_acks.note_file(
            transaction,
            feed.name,
            path=file.printable,
            size=file.size,
            mtime=_settled(file, transaction.now) if fetched else None,
            sha256=sha256,
            problem=problem,
            told=told,
        )
    if not told:
        result.broken.append((file.printable, problem))


def _settled(file: RemoteFile, now: dt.datetime) -> int | None:
    """The file's time, when it is old enough to tell this version from a later one."""
    if file.mtime is None or now.timestamp() - file.mtime < _YOUNG.total_seconds():
        return None
    return file.mtime


def _understand(content: bytes, partner: PartnerSettings | None) -> list[Answer]:
    """The answers of a file; raises NotX12."""
    return [
        Answer(
            each.group_code or INTERCHANGE,
            each.group_control,
            each.set_control,
            each.code,
            "; ".join(each.errors) or None,
            ours=partner is not None and _is_ours(each, partner),
        )
        for each in read_997(content)
    ]


def _is_ours(answer: Answer997, partner: PartnerSettings) -> bool:
    """Numbers count per partner: another's answer must not be taken for this one's. Qualifiers vary in practice."""
    theirs, ours = partner.receiver.partition(":")[2], partner.sender.partition(":")[2]
    return (answer.sender, answer.receiver) == (theirs.strip(), ours.strip())


def _single(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Refusals, without those of groups whose sets are refused one by one."""
    refused = [entry for entry in recorded if entry.answer.code in REFUSALS and entry.file is not None]
    sets = {entry.answer.group_control for entry in refused if entry.answer.set_control is not None}
    return [
        entry for entry in refused if entry.answer.set_control is not None or entry.answer.group_control not in sets
    ]


def _refused(transaction: Transaction, entry: Recorded) -> Refused:
    answer, file = entry.answer, entry.file
    assert file is not None  # noqa: S101 - asked by _single
    what = (
        f"{answer.group_code} {'interchange' if answer.group_code == INTERCHANGE else 'group'} {answer.group_control}"
    )
    record_id: str | None = None
    if answer.set_control is not None:
        what += f" set {answer.set_control}"
        records = exported.file_records(transaction, file["id"])
        mark = f"{answer.group_code}/{answer.set_control}"
        record_id = next((row["record_id"] for row in records if row["set_control"] == mark), None)
    return Refused(file["name"], what, record_id, answer.code, answer.text or "")


def _unmatched(file: RemoteFile, answer: Answer) -> str:
    if not answer.ours:
        return (
            f"{file.printable}: answers {answer.group_code} {answer.group_control}, but does not come from this "
            "feed's partner to us; compare the ids of its ISA with partner: in mlc.yaml"
        )
    of_set = f" set {answer.set_control}" if answer.set_control is not None else ""
    return (
        f"{file.printable}: answers {answer.group_code} {answer.group_control}{of_set} with {answer.code}; nothing was "
        "sent to this partner under that number"
    )

"""A newer version, of the same size and time, that was met while its predecessor was put away: it must be read.

Belongs here: giving it its name back, so that the next poll reads it, or taking it in from where it lies when the name
is taken. Does not: noticing it (``putting_away``).
"""

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.windows import GenerationKind, ensure_window, open_generation
from mlc_dagster.sftp.download import Download, DownloadRequest
from mlc_dagster.sftp.errors import SftpError, TargetExists
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, Inbound
from mlc_dagster.stampli.intake.gathering import Gathered
from mlc_dagster.stampli.intake.hidden_names import hidden, tag_of
from mlc_dagster.stampli.intake.putting_away import NEWER
from mlc_dagster.stampli.intake.receiving import keep, note_received, whole
from mlc_dagster.stampli.transit import transit_folder


class NotTaken(Exception):
    """The newer version lies under its hidden name and cannot be read from there; a person decides."""

    def __init__(self, path: str, place: str, reason: str) -> None:
        self.path = path
        self.place = place
        self.reason = reason
        super().__init__(
            f"{path}: was replaced twice while it was put away. What came first lies as {place} and is not read: "
            f"{reason}; rename it to a name of its own to have it read, or delete it"
        )


def give_back(inbound: Inbound, session: SftpSession, row: Row, sha256: str) -> str | None:
    """See to it that the bytes that were found instead of the file's own are read.

    Args:
        inbound: the wiring.
        session: over which they were found.
        row: the file that was to be put away; what was found has its hidden name.
        sha256: of what was found.

    Returns:
        A line for people; None where the ledger knows this version already.

    Raises:
        NotTaken: it stays under its hidden name.
        SftpError: the server; the next attempt goes on from the names that it finds.
    """
    path = row["path"]
    place = hidden(path, tag_of(row))
    with inbound.ledger.reading() as reading:
        known = next((v for v in disposal.later_versions(reading, row) if v["sha256"] == sha256), None)
    try:
        # A server that overwrites, against the standard, is asked first whether the name is free.
        session.rename(place, path)
    except TargetExists:
        return _from_where_it_lies(inbound, session, row, place, known)
    with inbound.ledger.transaction() as transaction:
        if known is None:
            disposal.hash_again(transaction, row, sha256)
        disposal.disposed(transaction, row, NEWER)
    if known is not None:
        return None
    return (
        f"{path}: other bytes of the same size and time have taken its place; the next poll reads them as a new version"
    )


def _from_where_it_lies(inbound: Inbound, session: SftpSession, row: Row, place: str, known: Row | None) -> str | None:
    told = None
    if known is None:
        known = _take_in(inbound, session, row, place)
        told = (
            f"{row['path']}: was replaced twice while it was put away; what came first was taken in as version "
            f"{known['version']}, the next poll reads what stands there now"
        )
    if known["disposed_at"] is None:
        # From here on it is that version's to be put away, once it is processed.
        session.rename(place, hidden(row["path"], tag_of(known)))
    else:
        session.remove(place)
    with inbound.ledger.transaction() as transaction:
        disposal.disposed(transaction, row, NEWER)
    return told


def _take_in(inbound: Inbound, session: SftpSession, row: Row, place: str) -> Row:
    """Archive what lies there and give it to the window that is open now; its version."""
    path = row["path"]
    there = session.stat(place)
    if inbound.profile.marker_of is not None:
        raise NotTaken(path, place, "its marker cannot be told from that of the file that has its name now")
    age = None if there is None or there.mtime is None else inbound.ledger.now().timestamp() - there.mtime
    if there is None or (age is not None and age < inbound.stampli.settle_seconds):
        raise NotTaken(path, place, "it has not settled yet, which the next attempt looks at again")
    with transit_folder(inbound.scratch) as folder:
        target = folder / "newer"
        request = DownloadRequest(place, target, there.size, inbound.stampli.max_file_bytes, there.mtime)
        (answer,) = session.download_many([request])
        came = whole(session, inbound.stampli, inbound.profile, path, target, answer)
        if isinstance(came, SftpError):
            raise came
        if isinstance(came, str):
            raise NotTaken(path, place, came)
        seen = Seen(path, there.size, there.mtime)
        sha256 = keep(inbound.archive, inbound.received_journal, seen, target, came, inbound.ledger.now())
        return _enter(inbound, row, place, seen, came, sha256)


def _enter(inbound: Inbound, row: Row, place: str, seen: Seen, came: Download | Gathered, sha256: str) -> Row:
    with inbound.ledger.transaction() as transaction:
        if later := disposal.later_versions(transaction, row):
            # As the latest version it would overtake one that the sender wrote after it.
            raise NotTaken(row["path"], place, f"it is older than version {later[-1]['version']}, which is known")
        window = inbound.settings.poll.window_start(transaction.now)
        ensure_window(transaction, FEED, window, inbound.settings.poll.minutes)
        generation = open_generation(transaction, FEED, window, GenerationKind.FILES)
        ledger_files.assign(transaction, FEED, [seen], window, generation)
        (entered,) = disposal.later_versions(transaction, row)
        note_received(transaction, inbound.profile, entered, came, sha256)
        if not (noted := disposal.later_versions(transaction, row)):
            raise NotTaken(row["path"], place, "the same bytes were read before, as an earlier version")
    return noted[0]

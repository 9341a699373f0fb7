"""Bytes in the archive that no row of the ledger refers to: files that were received and are in no book.

That is so after the ledger was restored from a backup: what was received since has left the sender's folder where
``after_read`` is archive or delete, and nobody reads it again. Finding only; see ``stampli.intake.recovering``.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from mlc_dagster.ledger.archive import Archive, ArchiveDamaged, PayloadErased
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.received_journal import Noted, ReceivedJournal
from mlc_dagster.ledger.schema import source_file
from mlc_dagster.ledger.schema_outbound import exported_file, extract

IN_TRANSIT = dt.timedelta(hours=1)
"""An entry that is younger may belong to a file whose receipt is not committed yet."""
SHOWN = 10
"""Files that are named where people are told of them; the rest is counted."""


@dataclass(frozen=True)
class Stranded:
    """A file that was received and that the ledger does not know."""

    noted: Noted
    bytes: int
    """In the archive."""

    @property
    def told(self) -> str:
        """One line for people."""
        return f"{self.noted.seen.path} (received {self.noted.at:%Y-%m-%d %H:%M} UTC, {self.noted.sha256[:12]})"


@dataclass(frozen=True)
class Unreferred:
    """What no row refers to."""

    files: list[Stranded] = field(default_factory=list[Stranded])
    """Noted in the journal of receipts, the earliest first."""
    lost: list[Noted] = field(default_factory=list[Noted])
    """Noted, and the archive does not have their bytes either."""
    young: list[Noted] = field(default_factory=list[Noted])
    """As ``files``, and may be on their way into the ledger."""
    nameless: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes by SHA-256 of entries that are not noted: of the outbound flow, or from before there was a journal."""


REMEDY = (
    "the ledger was restored from a backup that is older than they are: run `mlc files recover --all` (two people, a "
    "reason), then `mlc run inbound`; or have the files put back into the folder from the partner's archive folder"
)


def find_unreferred(reading: Transaction, archive: Archive, journal: ReceivedJournal) -> Unreferred:
    """Compare archive, journal and ledger; entries that may be on their way into the ledger are left out."""
    before = reading.now - IN_TRANSIT
    # First: what is committed meanwhile is young, and left.
    known = set(referred(reading))
    notes: dict[str, Noted] = {}
    for noted in journal.entries(without=known):
        notes.setdefault(noted.sha256, noted)
    found = Unreferred()
    there = {stored.sha256: stored.size for stored in archive.unreferred(known, unused_since=before)}
    for sha256, size in there.items():
        if sha256 in notes:
            found.files.append(Stranded(notes[sha256], size))
        else:
            found.nameless[sha256] = size
    found.files.sort(key=lambda each: (each.noted.at, each.noted.seen.path))
    for sha256, noted in notes.items():
        if sha256 not in there:
            if archive.stat(sha256) is not None:
                found.young.append(noted)
            elif noted.at < before and not _was_erased(archive, sha256):
                found.lost.append(noted)
    return found


def referred(reading: Transaction) -> Iterator[str]:
    """Hashes of all archive entries that rows refer to, those of erased files among them."""
    for table in (source_file, extract, exported_file):
        for (sha256,) in reading.connection.execute(sa.select(table.c.sha256).where(table.c.sha256.is_not(None))):
            yield sha256
    for (companions,) in reading.connection.execute(sa.select(exported_file.c.companions)):
        for companion in companions:
            yield companion["sha256"]


def _was_erased(archive: Archive, sha256: str) -> bool:
    """Whether its bytes went as the retention rules say."""
    try:
        archive.unverified(sha256)
    except PayloadErased:
        return True
    except ArchiveDamaged:
        return False
    return False


def told(found: Unreferred) -> list[str]:
    """Sentences for people; none where nothing was found that was received."""
    texts: list[str] = []
    if found.files:
        what = "in the archive and in no row of the ledger, so nobody reads them"
        texts.append(_sentence(what, [each.told for each in found.files]))
    if found.lost:
        what = "noted as received, and neither ledger nor archive has them"
        texts.append(_sentence(what, [noted.seen.path for noted in found.lost]))
    return texts


def _sentence(what: str, names: list[str]) -> str:
    more = len(names) - SHOWN
    named = ", ".join([*names[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
    return f"received files, {len(names)} of them, are {what}: {named}"


def told_of_young(found: Unreferred) -> str | None:
    """A sentence where somebody should ask again, at which time."""
    if not found.young:
        return None
    again = max(noted.at for noted in found.young) + IN_TRANSIT
    return (
        f"{len(found.young)} received within the last hour and not in the ledger may be on their way into it: ask "
        f"again after {again:%Y-%m-%d %H:%M} UTC"
    )

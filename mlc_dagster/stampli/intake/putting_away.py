"""One file after the other from its name to the archive folder, or off the server, over one connection.

Belongs here: the moves of a file and of what belongs to it, and finding after a crash how far they came. Does not:
which files, in which order and whose turn it is (``disposing``), and newer bytes met on the way (``newer_versions``).
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.archive import PayloadErased
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.files import FileState
from mlc_dagster.sftp.errors import NoSuchPath, SftpError, TargetExists
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, Inbound
from mlc_dagster.stampli.intake.hidden_names import hidden, split_path, tag_of
from mlc_dagster.stampli.intake.manifest_claims import Claims
from mlc_dagster.stampli.parsing.deliveries import Delivery, Member
from mlc_dagster.stampli.parsing.parsed import FileRejected

GONE = "gone"
NEWER = "left: a newer version is in its place"
_SENT_AGAIN = "left: it was sent again, and its manifest is still to come"


@dataclass(frozen=True)
class OtherBytes:
    """What was hidden is not what was processed: a newer version, of the same size and time, came in that moment."""

    sha256: str


class ManifestUnclear(Exception):
    """A manifest that is still to come may name files of this delivery; nobody knows which."""

    def __init__(self, path: str, unclear: str) -> None:
        self.path = path
        self.unclear = unclear
        super().__init__(
            f"{path} and its files are left: {unclear} and may name some of them. The next attempt looks again; if "
            "nobody is writing that file any more, take it away"
        )


@dataclass
class HiddenDelivery:
    """A manifest under its hidden name, with those of its files that are hidden too."""

    parts: list[str] = field(default_factory=list[str])
    """Names of files that are hidden."""
    told: list[str] = field(default_factory=list[str])
    """What became of the others."""


class PuttingAway:
    """Moves files that are processed."""

    def __init__(self, inbound: Inbound, session: SftpSession) -> None:
        self._session = session
        self._archive = inbound.archive
        self._settings = inbound.stampli
        self._profile = inbound.profile
        self._ledger = inbound.ledger
        self._known: set[tuple[str, int | None, int | None]] | None = None

    def single(self, row: Row) -> str | OtherBytes:
        """Put away a file and its marker; what became of it."""
        path, tag = row["path"], tag_of(row)
        # A member of a delivery is asked for with its manifest.
        kept = row["sha256"] if self._settings.after_read == "delete" else None
        left = self._hide(path, tag, row["sha256"], row["size"], row["mtime"], kept=kept)
        if isinstance(left, OtherBytes):
            return left
        if (marker_of := self._profile.marker_of) is not None:
            marker = marker_of(split_path(path)[1])
            if left == NEWER:
                # What stands there is the newer one's own, unless an earlier attempt took it and broke off.
                if self._session.stat(hidden(split_path(path)[0] + marker, tag)) is not None:
                    self._marker(path, marker, tag)
                return left
            # Before the file itself: while that is under the hidden name, every later attempt comes here again. Also
            # where somebody has removed the file: the marker would say of the next one of that name that it is whole.
            self._marker(path, marker, tag)
        return left or self.finish(path, tag)

    def _marker(self, path: str, marker: str, tag: str) -> None:
        beside = split_path(path)[0] + marker
        place = hidden(beside, tag)
        if self._session.stat(place) is None:
            if self._session.stat(beside) is None:
                return
            self._session.rename(beside, place)
        if self._session.stat(path) is None:
            self.finish(beside, tag)
            return
        # A newer version came since the file was renamed: what was taken may be its marker, and it would wait for it.
        try:
            self._session.rename(place, beside)
        except TargetExists:
            self._session.remove(place)

    def hide_delivery(self, row: Row, claims: Claims) -> HiddenDelivery | OtherBytes | str:
        """Hide a manifest, then its files; or what became of it. It is put away last.

        Until it is put away, every later attempt finds it under its hidden name and goes on from there.
        """
        path, tag = row["path"], tag_of(row)
        try:
            members, sha256 = self.contents(row)
        except PayloadErased as erased:
            return f"left: it was {erased.told}, so nobody knows which files it named"
        if claims.unclear is not None:
            raise ManifestUnclear(path, claims.unclear)
        left = self._hide(path, tag, sha256, row["size"], row["mtime"])
        if left is not None:
            return left
        found = HiddenDelivery()
        for member in members:
            place = split_path(path)[0] + member.name
            # Hidden by an attempt that broke off, it is given back by ``finish_delivery`` if somebody needs it.
            if self._session.stat(hidden(place, tag)) is None:
                if member.name in claims.names:
                    found.told.append(_claimed(member.name))
                    continue
                if self._sent_again(place, place):
                    found.told.append(f"{member.name} {_SENT_AGAIN}")
                    continue
            part = self._hide(place, tag, member.sha256, member.size, None)
            if isinstance(part, OtherBytes) or (part is None and self._sent_again(place, hidden(place, tag))):
                # Its manifest is still to come, and names it.
                self._session.rename(hidden(place, tag), place)
                part = _SENT_AGAIN
            if part is None:
                found.parts.append(member.name)
            else:
                found.told.append(f"{member.name} {part}")
        return found

    def _sent_again(self, place: str, lies_as: str) -> bool:
        """Whether what belongs at ``place`` came, of whatever bytes, after the files that were read."""
        there = self._session.stat(lies_as)
        if self._known is None:
            with self._ledger.reading() as reading:
                self._known = ledger_files.known_files(reading, FEED)
        return there is not None and (place, there.size, there.mtime) not in self._known

    def finish_delivery(self, row: Row, found: HiddenDelivery, claims: Claims) -> str:
        """Put away what is hidden, except files that ``claims``, looked up since, give to another manifest.

        Raises:
            ManifestUnclear: nobody knows which files these are; all have their names back, if they are free.
        """
        path, tag = row["path"], tag_of(row)
        told = list(found.told)
        for name in found.parts:
            place = split_path(path)[0] + name
            if claims.unclear is not None or name in claims.names:
                # Where the name is taken meanwhile, what stands there is what the other manifest means.
                with suppress(TargetExists):
                    self._session.rename(hidden(place, tag), place)
                    told.append(_claimed(name))
                    continue
            if claims.unclear is not None:
                continue
            told.append(f"{name} {self.finish(place, tag)}")
        if claims.unclear is not None:
            # Last: under its hidden name it is found again, whatever breaks before.
            self._session.rename(hidden(path, tag), path)
            raise ManifestUnclear(path, claims.unclear)
        return "; ".join([self.finish(path, tag), *told])

    def contents(self, row: Row) -> tuple[tuple[Member, ...], str]:
        """(the files of the delivery that was processed, SHA-256 of its manifest); no files where it named none."""
        delivery = Delivery(self._archive.path(row["sha256"]), self._profile)
        try:
            members, sha256 = delivery.contents.members, hashlib.sha256(delivery.manifest).hexdigest()
        except FileRejected:
            return (), row["sha256"]
        # Of a delivery that was rejected, whoever corrects the manifest alone needs the files where they are.
        return (() if row["state"] == str(FileState.REJECTED) else members), sha256

    def _hide(
        self, path: str, tag: str, sha256: str, size: int | None, mtime: int | None, *, kept: str | None = None
    ) -> str | OtherBytes | None:
        """Give a file a name of its own; or why it is not touched.

        Raises:
            ArchiveDamaged: the archive has lost ``kept``, so this may be the last copy; the file stays.
        """
        place = hidden(path, tag)
        if self._session.stat(place) is None:
            there = self._session.stat(path)
            if there is None:
                return GONE
            if there.size not in (None, size) or (mtime is not None and there.mtime not in (None, mtime)):
                return NEWER
            self._require(kept)
            try:
                self._session.rename(path, place)
            except NoSuchPath:
                # The sender took it away in this moment.
                if self._session.stat(place) is None and self._session.stat(path) is None:
                    return GONE
                raise
        else:
            self._require(kept)
        found = self._session.sha256(place)
        return None if found == sha256 else OtherBytes(found)

    def _require(self, sha256: str | None) -> None:
        # What was erased as the retention rules say is nobody's to keep.
        if sha256 is not None:
            with suppress(PayloadErased):
                self._archive.path(sha256)

    def finish(self, path: str, tag: str) -> str:
        """Archive or delete a file that has its name of its own.

        Raises:
            TargetExists: another file is in the archive folder under the name that is this file's alone.
        """
        place = hidden(path, tag)
        if self._settings.after_read == "delete":
            self._session.remove(place)
            return "deleted"
        folder, name = split_path(path)
        target = f"{folder}{self._settings.archive_directory}/{name}.{tag}"
        if self._session.stat(target) is not None:
            if self._session.sha256(target) != self._session.sha256(place):
                raise TargetExists(target)
            self._session.remove(place)
            return f"archived before as {target}"
        self._session.rename(place, target)
        return f"archived as {target}"

    def missing_archives(self, rows: list[Row]) -> set[str]:
        """Archive folders that these files need and that are not on the server."""
        missing: set[str] = set()
        for folder in sorted({self.archive_of(row) for row in rows}):
            try:
                if self._session.stat(folder) is None:
                    missing.add(folder)
            except SftpError:
                # A folder that may not be looked at may still be written to; the rename tells.
                continue
        return missing

    def archive_of(self, row: Row) -> str:
        """The folder into which a file is archived."""
        return split_path(row["path"])[0] + self._settings.archive_directory


def _claimed(name: str) -> str:
    return f"{name} left: a manifest that is not processed yet may name it"

"""After the commit: what was processed is archived or deleted on the server, when mlc.yaml says so.

Belongs here: files, with what belongs to them: their marker, or the files that a manifest names. Does not: deciding
that something was processed (``reading``). A file is first renamed to a name of its own, then compared with the bytes
that were processed; after a crash at any point the next attempt goes on from the names that it finds.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.archive import Archive, ArchiveDamaged, PayloadErased
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.disposal import DONE_STATES
from mlc_dagster.ledger.files import FileState
from mlc_dagster.settings import StampliSettings
from mlc_dagster.sftp.download import Download, DownloadRequest
from mlc_dagster.sftp.errors import SftpError, TargetExists
from mlc_dagster.sftp.listing import RemoteFile
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.deliveries import Delivery, Member, read_manifest
from mlc_dagster.stampli.feed import FEED, OpenSession
from mlc_dagster.stampli.file_ends import MAX_MANIFEST
from mlc_dagster.stampli.parsed import FileRejected
from mlc_dagster.stampli.profile import Profile
from mlc_dagster.stampli.profile_files import Manifest

_EARLIER = 200
"""Files of earlier windows that one run tries again: a long list, as of years of ``leave``, must not hold it up."""
_GONE = "gone"
_NEWER = "left: a newer version is in its place"


def dispose_files(
    ledger: Ledger,
    open_session: OpenSession,
    archive: Archive,
    settings: StampliSettings,
    profile: Profile,
    rows: Sequence[Row],
    *,
    scratch: Path,
) -> list[str]:
    """Archive or delete on the server what was processed.

    A file of another size or time is a newer version and is not touched: its writer may not have finished. Another
    hash after the rename means that a newer version arrived in that moment: it goes back to its name and is read at
    the next poll.

    Args:
        rows: rows of ``source_file``; those that are processed and not disposed of are taken.
        scratch: folder for what is looked at meanwhile.

    Returns:
        One line per file that could not be disposed of; they stay where they are and are tried again.
    """
    todo = [row for row in rows if row["state"] in DONE_STATES and row["sha256"] and row["disposed_at"] is None]
    if settings.after_read == "leave" or not todo:
        return []
    problems: list[str] = []
    with open_session() as session:
        if settings.after_read == "archive":
            # Told before any file is renamed: one that cannot be put away stays under its own name.
            todo, problems = _with_archive(session, settings, todo)
        putting_away = _Disposal(session, archive, settings, profile)
        if todo and isinstance(profile.file.end, Manifest):
            try:
                putting_away.claimed = _claimed(ledger, session, profile, todo, scratch)
            except SftpError as error:
                return [*problems, str(error)]
        for row in todo:
            try:
                how = putting_away.of(row)
            except (SftpError, ArchiveDamaged) as error:
                problems.append(f"{row['path']}: {error}" if isinstance(error, ArchiveDamaged) else str(error))
                continue
            with ledger.transaction() as transaction:
                disposal.disposed(transaction, row, how)
    return problems


def dispose_processed(
    ledger: Ledger,
    open_session: OpenSession,
    archive: Archive,
    settings: StampliSettings,
    profile: Profile,
    rows: Sequence[Row],
    *,
    scratch: Path,
) -> list[str]:
    """As ``dispose_files``, and what earlier runs could not put away, the oldest first.

    A file that one of them has renamed and not put away is under a name that nobody but us knows.

    Args:
        rows: this run's rows of ``source_file``.

    Returns:
        One line per file that could not be disposed of; where there are more, how many wait.
    """
    if settings.after_read == "leave":
        return []
    with ledger.reading() as reading:
        earlier = disposal.undisposed_files(reading, FEED, limit=_EARLIER)
    todo = {int(row["id"]): row for row in (*earlier, *rows)}
    problems = dispose_files(ledger, open_session, archive, settings, profile, list(todo.values()), scratch=scratch)
    with ledger.reading() as reading:
        left = disposal.count_undisposed(reading, FEED)
    if left > len(problems):
        problems.insert(0, f"{left} processed files are not put away; every run tries the oldest {_EARLIER} again")
    return problems


def _with_archive(session: SftpSession, settings: StampliSettings, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """(files whose archive folder is there, one line per archive folder that is not)."""
    missing: set[str] = set()
    for folder in sorted({_split(row["path"])[0] + settings.archive_directory for row in rows}):
        try:
            if session.stat(folder) is None:
                missing.add(folder)
        except SftpError:
            # A folder that may not be looked at may still be written to; the rename tells.
            continue
    kept = [row for row in rows if _split(row["path"])[0] + settings.archive_directory not in missing]
    told = [
        f"{folder!r} (archive_directory) is not on the server; create it, or set after_read to leave or delete. "
        "Files processed stay where they are"
        for folder in sorted(missing)
    ]
    return kept, told


def _split(path: str) -> tuple[str, str]:
    """(folder with its slash, or nothing; name)."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


@dataclass(frozen=True)
class _Claims:
    """Files that manifests which are not processed yet name: they are still needed."""

    names: frozenset[str] = frozenset()
    unclear: bool = False
    """One of them cannot be read (yet), so nobody knows which files it names."""

    def __contains__(self, name: str) -> bool:
        return self.unclear or name in self.names


def _claimed(
    ledger: Ledger, session: SftpSession, profile: Profile, rows: Sequence[Row], scratch: Path
) -> dict[str, _Claims]:
    """By folder, what manifests that are still to come name."""
    with ledger.reading() as reading:
        known = ledger_files.known_files(reading, FEED)
        coming = {row["path"] for row in ledger_files.list_files(reading, states=[FileState.ASSIGNED], limit=100_000)}
    ours = {(row["path"], row["size"], row["mtime"]) for row in rows}
    found: dict[str, _Claims] = {}
    for folder in sorted({_split(row["path"])[0] for row in rows}):
        others = [
            remote
            for remote in session.list(folder.rstrip("/") or folder or ".").files
            if profile.matches(remote.name)
            and (remote.path, remote.size, remote.mtime) not in ours
            and (remote.path in coming or (remote.path, remote.size, remote.mtime) not in known)
        ]
        found[folder] = _named_by(session, profile, others, scratch)
    return found


def _named_by(session: SftpSession, profile: Profile, others: Sequence[RemoteFile], scratch: Path) -> _Claims:
    names: set[str] = set()
    unclear = False
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="receiving-") as folder:
        for number, remote in enumerate(others):
            target = Path(folder) / str(number)
            request = DownloadRequest(remote.path, target, remote.size, MAX_MANIFEST, remote.mtime)
            (answer,) = session.download_many([request])
            if not isinstance(answer, Download):
                unclear = True
                continue
            try:
                names.update(member.name for member in read_manifest(target.read_bytes(), remote.name, profile).members)
            except FileRejected:
                unclear = True
    return _Claims(frozenset(names), unclear)


class _Disposal:
    """Puts away one file after the other, over one connection."""

    def __init__(self, session: SftpSession, archive: Archive, settings: StampliSettings, profile: Profile) -> None:
        self._session = session
        self._archive = archive
        self._settings = settings
        self._profile = profile
        self.claimed: dict[str, _Claims] = {}

    def of(self, row: Row) -> str:
        """Put away a file and what belongs to it; what became of it."""
        path: str = row["path"]
        tag = f"{row['sha256'][:12]}.v{row['version']}"
        if isinstance(self._profile.file.end, Manifest):
            return self._delivery(row, path, tag)
        # A member of a delivery is asked for with its manifest.
        kept = row["sha256"] if self._settings.after_read == "delete" else None
        left = self._park(path, tag, row["sha256"], row["size"], row["mtime"], kept=kept)
        if left == _NEWER:
            return left
        if (marker_of := self._profile.marker_of) is not None:
            # Before the file itself: while that is under the hidden name, every later attempt comes here again. Also
            # where somebody has removed the file: the marker would say of the next one of that name that it is whole.
            self._marker(path, marker_of(_split(path)[1]), tag)
        return left or self._finish(path, tag)

    def _marker(self, path: str, marker: str, tag: str) -> None:
        beside = _split(path)[0] + marker
        hidden = _hidden(beside, tag)
        if self._session.stat(hidden) is None:
            if self._session.stat(beside) is None:
                return
            self._session.rename(beside, hidden)
        if self._session.stat(path) is None:
            self._finish(beside, tag)
            return
        # A newer version came since the file was renamed: what was taken may be its marker, and it would wait for it.
        try:
            self._session.rename(hidden, beside)
        except TargetExists:
            self._session.remove(hidden)

    def _delivery(self, row: Row, path: str, tag: str) -> str:
        """The manifest is hidden first and put away last: until then every later attempt comes here again."""
        try:
            members, sha256 = self._contents(row)
        except PayloadErased as erased:
            return f"left: it was {erased.told}, so nobody knows which files it named"
        left = self._park(path, tag, sha256, row["size"], row["mtime"])
        if left is not None:
            return left
        folder = _split(path)[0]
        claims = self.claimed.get(folder, _Claims())
        told: list[str] = []
        for member in members:
            place = folder + member.name
            if member.name in claims:
                told.append(f"{member.name} left: a manifest that is not processed yet may name it")
                continue
            part = self._park(place, tag, member.sha256, member.size, None) or self._finish(place, tag)
            told.append(f"{member.name} {part}")
        return "; ".join([self._finish(path, tag), *told])

    def _contents(self, row: Row) -> tuple[tuple[Member, ...], str]:
        """(the files of the delivery that was processed, SHA-256 of its manifest); no files where it named none."""
        delivery = Delivery(self._archive.path(row["sha256"]), self._profile)
        try:
            return delivery.contents.members, hashlib.sha256(delivery.manifest).hexdigest()
        except FileRejected:
            return (), row["sha256"]

    def _park(
        self, path: str, tag: str, sha256: str, size: int | None, mtime: int | None, *, kept: str | None = None
    ) -> str | None:
        """Give a file a name of its own; or why it is not touched.

        Raises:
            ArchiveDamaged: the archive has lost ``kept``, so this may be the last copy; the file stays.
        """
        hidden = _hidden(path, tag)
        if self._session.stat(hidden) is None:
            there = self._session.stat(path)
            if there is None:
                return _GONE
            if there.size not in (None, size) or (mtime is not None and there.mtime not in (None, mtime)):
                return _NEWER
            self._require(kept)
            self._session.rename(path, hidden)
        else:
            self._require(kept)
        if self._session.sha256(hidden) != sha256:
            self._session.rename(hidden, path)
            return _NEWER
        return None

    def _require(self, sha256: str | None) -> None:
        # What was erased as the retention rules say is nobody's to keep.
        if sha256 is not None:
            with suppress(PayloadErased):
                self._archive.path(sha256)

    def _finish(self, path: str, tag: str) -> str:
        """Archive or delete a file that has its name of its own."""
        hidden = _hidden(path, tag)
        if self._settings.after_read == "delete":
            self._session.remove(hidden)
            return "deleted"
        folder, name = _split(path)
        target = f"{folder}{self._settings.archive_directory}/{name}.{tag}"
        if self._session.stat(target) is not None:
            self._session.remove(hidden)
            return f"archived before as {target}"
        self._session.rename(hidden, target)
        return f"archived as {target}"


def _hidden(path: str, tag: str) -> str:
    """A name no profile matches: it says whose it is, and two versions of one path never meet."""
    folder, name = _split(path)
    return f"{folder}.{name}.{tag}.mlc"

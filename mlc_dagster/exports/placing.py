"""One file onto a partner's server, once: the steps, what each leaves behind, and how to go on from there.

What belongs here: the order of upload, proof, commit and rename, and what is concluded from what lies on the server
after an interruption. What does not: trying again, the order of files, and where the steps are recorded (``Journal``).
"""

import posixpath
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from mlc_dagster.exports.connecting import Connection
from mlc_dagster.exports.faults import BytesDiffer, LeaseLost, NameTaken, RenameRefused, TemporaryDamaged
from mlc_dagster.exports.temporary_names import temporary_of
from mlc_dagster.settings.exports import UploadSettings
from mlc_dagster.sftp import (
    LocalFileError,
    NoSuchPath,
    PermissionRefused,
    Progress,
    RemoteFile,
    ServerRefused,
    SftpError,
    TargetExists,
)
from mlc_dagster.sftp.listing import join


class Step(StrEnum):
    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    RENAMING = "RENAMING"


class Journal(Protocol):
    """Where one file's steps are recorded, durably. Every method raises LeaseLost instead when the feed is lost."""

    @property
    def step(self) -> Step: ...

    @property
    def temporary(self) -> str | None:
        """Remote path of the latest temporary file; None in direct mode."""
        ...

    def uploading(self, temporary: str | None) -> None: ...

    def renaming(self) -> None: ...

    def rename_refused(self, text: str) -> None:
        """It goes another way; its temporary file lies there still and is cleared away first."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """The frozen bytes and the name they get."""

    name: str
    directory: str
    size: int
    sha256: str
    source: Path

    @property
    def path(self) -> str:
        return join(self.directory, self.name)


class Ending(StrEnum):
    ARRIVED = "ARRIVED"
    INFERRED = "INFERRED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Placed:
    """How it ended: what proved the bytes (sha256, size, none), the server's own stat, what a person should know."""

    ending: Ending
    verified_by: str = "none"
    found: RemoteFile | None = None
    text: str = ""
    alert: bool = False


@dataclass(frozen=True)
class Conditions:
    """What holds for all files of a feed."""

    upload: UploadSettings
    still_ours: Callable[[], bool]
    before: Callable[[str], object] = str
    """Called before each step with its name; a test ends the process there."""


class Placement:
    """One file's way onto the server. ``place`` may be called again after an SftpError; it goes on from the journal."""

    def __init__(
        self,
        item: Item,
        journal: Journal,
        connection: Connection,
        conditions: Conditions,
        *,
        stale: Sequence[str] = (),
    ) -> None:
        """``stale``: temporary files of earlier attempts that ``journal`` does not know of; they are removed."""
        self._item = item
        self._journal = journal
        self._connection = connection
        self._upload = conditions.upload
        self._still_ours = conditions.still_ours
        self._before = conditions.before
        self._stale = list(stale)
        self._blind = False
        self._acknowledged = False
        self.open_end = False
        """True after an error in direct mode that leaves open what lies under the file's name."""

    def place(self) -> Placed:
        """Takes all steps that are left.

        Raises:
            SftpError: it did not end; ``transient`` tells whether to try again.
            LeaseLost: another run has the feed.
        """
        journal = self._journal
        if journal.step is Step.RENAMING:
            return self._finish_renaming()
        if journal.step is Step.UPLOADING and journal.temporary is None:
            return self._judge_direct("the run that wrote it ended before it knew the outcome")
        if journal.temporary is not None:
            self._before("remove stale")
            self._remove(journal.temporary)
        while self._stale:
            self._before("remove forgotten")
            self._remove(self._stale[-1])
            self._stale.pop()
        self._before("look")
        found, verified_by = self._examine(self._item.path, exactly=True)
        if found is not None:
            # One that is there before it got its name from us is ours only if its bytes are.
            if verified_by is None:
                raise NameTaken(self._item.path, self._item.sha256)
            return Placed(Ending.ARRIVED, str(verified_by), found, "it was there already, with the same bytes")
        return self._write_directly() if self._upload.mode == "direct" else self._write_under_temporary_name()

    # Temporary name, proof, rename

    def _write_under_temporary_name(self) -> Placed:
        item = self._item
        folder = self._upload.temp_directory if self._upload.mode == "tempdir" else item.directory
        temporary = join(folder or item.directory, temporary_of(item.name))
        self._before("commit uploading")
        self._journal.uploading(temporary)
        self._before("upload")
        try:
            self._send(temporary, Progress())
        except (ServerRefused, LocalFileError):
            # A disk that is full stays so while our half lies there. Otherwise the next attempt clears it away.
            with suppress(SftpError):
                self._remove(temporary)
            raise
        self._before("verify")
        found, verified_by = self._examine(temporary)
        if self._blind:
            verified_by = "none"
        elif found is None:
            self._folders_must_be_there(temporary)
            self._refuse_lost_lease()
            text = (
                "it was taken from the server under its temporary name. Ask the partner whether that counts, then "
                "settle it; a partner that takes files so early needs upload.mode direct"
            )
            return Placed(Ending.UNKNOWN, text=text, alert=True)
        if verified_by is None:
            self._remove(temporary)
            raise self._difference(temporary, found)
        return self._rename(temporary, verified_by)

    def _rename(self, temporary: str, verified_by: str) -> Placed:
        item = self._item
        self._before("commit renaming")
        self._journal.renaming()
        self._before("rename")
        self._refuse_lost_lease()
        try:
            self._connection.session().rename(temporary, item.path, look=not self._blind)
        except TargetExists:
            return self._finish_renaming(renamed=False)
        except NoSuchPath:
            if not self._blind and self._look(temporary) is not None:
                # It is the folder that is missing.
                raise
            return self._finish_renaming(renamed=False)
        except (ServerRefused, PermissionRefused) as error:
            text = error.text if isinstance(error, ServerRefused) else "permission denied"
            if self._upload.mode == "direct" and not self._blind:
                return self._other_way(temporary, text)
            if isinstance(error, PermissionRefused) or "unsupported" in text.lower():
                raise RenameRefused(temporary, text) from error
            raise
        self._before("look after rename")
        return self._seen_afterwards(verified_by)

    def _other_way(self, temporary: str, text: str) -> Placed:
        """Begun when the feed still renamed; since then it was agreed that files are written under their own names.

        In modes that rename it stays where it is instead: a person may give it its name by hand, and a partner may have
        taken it then.
        """
        self._before("look for both names")
        if self._look(self._item.path) is not None or self._look(temporary) is None:
            return self._finish_renaming(renamed=False)
        self._before("commit refused")
        self._journal.rename_refused(f"the server does not rename ({text}); it is written under its own name instead")
        return self.place()

    def _seen_afterwards(self, verified_by: str) -> Placed:
        """The server said yes; from here on nothing makes it undone."""
        try:
            found = self._look(self._item.path)
        except SftpError as error:
            return Placed(Ending.ARRIVED, verified_by, None, f"the server could not be asked afterwards: {error}")
        if found is None:
            return Placed(Ending.ARRIVED, verified_by, None, "" if self._expected_to_go else "it was picked up at once")
        if found.size not in (None, self._item.size):
            text = f"it had {self._item.size} bytes when it got its name and {found.size} right afterwards"
            return Placed(Ending.ARRIVED, verified_by, found, text, alert=True)
        return Placed(Ending.ARRIVED, verified_by, found)

    @property
    def _expected_to_go(self) -> bool:
        return self._upload.picked_up_at_once or self._blind

    def _finish_renaming(self, *, renamed: bool | None = None) -> Placed:
        """From the server alone: has it its name, still its temporary one, or neither?

        ``renamed`` False: a rename was refused just now, so it is not asked for again here.
        """
        item, temporary = self._item, self._journal.temporary
        self._before("look for both names")
        found, verified_by = self._examine(item.path)
        if self._blind:
            return self._rename_blindly(temporary, renamed=renamed)
        if found is not None:
            if verified_by is None:
                raise NameTaken(item.path, item.sha256)
            if temporary is not None:
                # Some servers copy. What stays is ours.
                with suppress(SftpError):
                    self._remove(temporary)
            return Placed(Ending.ARRIVED, verified_by, found)
        if temporary is not None:
            waiting, verified_by = self._examine(temporary)
            if waiting is not None:
                if verified_by is None:
                    raise TemporaryDamaged(temporary)
                return self._rename(temporary, verified_by)
        self._folders_must_be_there(temporary)
        return self._concluded()

    def _rename_blindly(self, temporary: str | None, *, renamed: bool | None) -> Placed:
        if temporary is None or renamed is False:
            return self._concluded()
        return self._rename(temporary, "none")

    def _concluded(self) -> Placed:
        self._refuse_lost_lease()
        text = (
            "it was complete under its temporary name when its renaming was begun, and afterwards it was under neither "
            "name: taken by the partner, as it seems. Ask whether it arrived; `mlc exports resend` sends it again"
        )
        return Placed(Ending.INFERRED, text=text, alert=True)

    def _folders_must_be_there(self, temporary: str | None) -> None:
        """Absence counts only in a folder that is there: a share that is not mounted has no files either."""
        for path in (self._item.path, temporary):
            folder = posixpath.dirname(path or "").rstrip("/")
            if posixpath.basename(folder) not in ("", ".", "..") and self._connection.session().stat(folder) is None:
                raise NoSuchPath(folder, "looking for the folder of a file")

    # Under its own name at once

    def _write_directly(self) -> Placed:
        item = self._item
        self._before("commit uploading")
        self._journal.uploading(None)
        self._before("upload")
        self._refuse_lost_lease()
        progress = Progress()
        try:
            self._send(item.path, progress)
        except (ServerRefused, NoSuchPath, PermissionRefused) as error:
            if not progress.created:
                # A clear "no" to the creation.
                raise
            return self._judge_direct(str(error))
        except TargetExists:
            raise NameTaken(item.path, item.sha256) from None
        except SftpError as error:
            if not progress.asked:
                raise
            return self._judge_direct(str(error))
        self._acknowledged = True
        self._before("look after upload")
        return self._judge_direct("")

    def _judge_direct(self, fault: str) -> Placed:
        """From the server alone: is it whole? Never written again by itself, for the partner may have read it."""
        item = self._item
        # Until this has an answer, an error leaves the outcome open.
        self.open_end = True
        if fault:
            self._connection.drop()
        found, verified_by = self._examine(item.path)
        if found is None and not self._blind:
            self._folders_must_be_there(None)
        self.open_end = False
        self._refuse_lost_lease()
        if found is None and self._acknowledged:
            return Placed(Ending.ARRIVED, text="" if self._expected_to_go else "it was picked up at once")
        if verified_by in ("sha256", "size") or (verified_by == "none" and self._acknowledged):
            return Placed(Ending.ARRIVED, verified_by, found)
        if found is None:
            seen = "nothing can be seen" if self._blind else "nothing lies"
        else:
            seen = "other bytes lie" if found.size in (None, item.size) else f"{found.size} of {item.size} bytes lie"
        text = (
            f"{seen} under its name after an upload whose end is unclear ({fault or 'every answer was good'}). Ask the "
            "partner what arrived, then settle it; it is not sent again by itself"
        )
        return Placed(Ending.UNKNOWN, text=text, found=found, alert=True)

    # What both need

    def _send(self, path: str, progress: Progress) -> None:
        uploaded = self._connection.session().upload(self._item.source, path, progress=progress)
        if uploaded.sha256 != self._item.sha256:
            raise LocalFileError(self._item.source, "its bytes changed while they were sent", doing="read")

    def _look(self, path: str) -> RemoteFile | None:
        try:
            return self._connection.session().stat(path)
        except PermissionRefused:
            if self._upload.verify != "none":
                raise
            self._blind = True
            return None

    def _examine(self, path: str, *, exactly: bool = False) -> tuple[RemoteFile | None, str | None]:
        """What lies under a name, and how its bytes are known to be ours; None when they are others.

        ``exactly``: nothing but the hash speaks for it, whatever its size and ``upload.verify``.
        """
        found = self._look(path)
        if found is None:
            return None, None
        verify, item = self._upload.verify, self._item
        if not found.regular or found.size not in (None, item.size):
            return found, None
        seen = "none" if found.size is None else "size"
        if exactly or (verify == "sha256" and item.size <= self._upload.verify_at_most):
            try:
                same = self._connection.session().sha256(path) == item.sha256
            except PermissionRefused:
                # May write and list, not read.
                return found, None if exactly else seen
            except NoSuchPath:
                # Taken while we looked.
                return None, None
            return found, "sha256" if same else None
        return found, seen

    def _difference(self, path: str, found: RemoteFile | None) -> BytesDiffer:
        size = None if found is None else found.size
        if size not in (None, self._item.size):
            return BytesDiffer(path, f"{self._item.size} bytes", f"{size} bytes")
        return BytesDiffer(path, f"SHA-256 {self._item.sha256}", "other bytes of the same size")

    def _remove(self, path: str) -> None:
        # An account without the right to delete leaves its temporary files to the partner.
        with suppress(NoSuchPath, PermissionRefused):
            self._connection.session().remove(path)

    def _refuse_lost_lease(self) -> None:
        if not self._still_ours():
            raise LeaseLost(self._item.name)

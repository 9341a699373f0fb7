"""A small file put onto a server and taken away again, by the same steps as a delivery.

Its name begins with a dot and ends like an upload under way, which nobody takes for a document. Whatever happens, what
was written is removed.
"""

import datetime as dt
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mlc_dagster.doctor.findings import NotNeeded, Told, Warned, Wrong
from mlc_dagster.doctor.ledger_health import compared
from mlc_dagster.sftp import NoSuchPath, PermissionRefused, Progress, SftpError, SftpSession
from mlc_dagster.sftp.listing import join

_RIGHTS = "ask the server's owner for the rights that deliveries need: create, read back, rename and remove"


class WriteProbe:
    """One probe: created in ``first_folder``, read back, renamed into ``last_folder``, removed."""

    def __init__(
        self, first_folder: str, last_folder: str, *, read_back: Literal["sha256", "size", "none"] = "sha256"
    ) -> None:
        self.first_folder = first_folder
        self.last_folder = last_folder
        self.read_back = read_back
        mark = secrets.token_hex(6)
        self._created = join(first_folder, f".mlc-doctor-{mark}.part")
        self._renamed = join(last_folder, f".mlc-doctor-{mark}.probe.part")
        self._changed: tuple[int, dt.datetime, dt.datetime] | None = None

    def go(self, session: SftpSession) -> Told:
        """Write, read back, rename, remove.

        Raises:
            Wrong: a right is missing, or something of ours could not be removed.
            SftpError: any other fault; nothing of ours is left behind.
        """
        done: list[str] = []
        progress = Progress()
        try:
            self._written(session, progress, done)
        except PermissionRefused as error:
            after = f"after it was {', '.join(done)}" if done else "at the first step"
            raise Wrong(f"{error} {after}", _RIGHTS) from None
        except NoSuchPath as error:
            raise Wrong(str(error), f"create {self.last_folder} on the server, or correct it in mlc.yaml") from None
        finally:
            if progress.asked:
                self._removed(session, done)
        return f"{', '.join(done)} in {self.first_folder}{self._to()}"

    def _to(self) -> str:
        return "" if self.first_folder == self.last_folder else f" and {self.last_folder}"

    def _written(self, session: SftpSession, progress: Progress, done: list[str]) -> None:
        if self.read_back != "none":
            self._must_be_free(session)
        with tempfile.NamedTemporaryFile(prefix="mlc-doctor-") as local:
            local.write(b"mlc doctor: a write probe, removed at once\n")
            local.flush()
            before = dt.datetime.now(dt.UTC)
            sent = session.upload(Path(local.name), self._created, progress=progress)
            after = dt.datetime.now(dt.UTC)
        done.append("created")
        if self.read_back != "none":
            found = session.stat(self._created)
            if found is None or found.size not in (None, sent.bytes):
                raise Wrong("the file just written is not there, or has another size", _RIGHTS)
            if found.mtime is not None:
                self._changed = (found.mtime, before, after)
        if self.read_back == "sha256":
            if session.sha256(self._created) != sent.sha256:
                raise Wrong("the bytes read back are not those that were written", "set upload.mode with the partner")
            done.append("read back")
        session.rename(self._created, self._renamed, look=self.read_back != "none")
        done.append("renamed")

    def _must_be_free(self, session: SftpSession) -> None:
        try:
            session.stat(self._created)
        except PermissionRefused:
            fix = "deliveries look before they write: ask for that right, or set upload.verify: none for an account"
            raise Wrong("the account may not see whether a name is free", f"{fix} that may only write") from None

    def _removed(self, session: SftpSession, done: list[str]) -> None:
        # After a rename whose answer was lost it may lie under either name.
        left: SftpError | None = None
        for path in (self._renamed, self._created):
            try:
                session.remove(path)
                done.append("removed")
            except NoSuchPath:
                continue
            except SftpError as error:
                left = error
        if "removed" not in done and left is not None:
            with suppress(SftpError):
                if session.stat(self._renamed) is None and session.stat(self._created) is None:
                    return
            raise Wrong(
                f"{self._renamed} or {self._created} may be left on the server: {left}",
                "ask the server's owner to remove it and to let the account remove its own files",
            )

    def clock(self) -> Told:
        """The server's clock by the time it gave the probe.

        Raises:
            Wrong: minutes apart from ours.
        """
        if self._changed is None:
            return NotNeeded("the server told no time of the probe")
        mtime, before, after = self._changed
        theirs = dt.datetime.fromtimestamp(mtime, dt.UTC)
        try:
            return compared(theirs, before, after, whose="the server", fine=2.0)
        except Wrong as wrong:
            # Nothing is decided by it: files settle by our clock.
            return Warned(wrong.text, wrong.fix)

    def free_names(self) -> Told:
        """Whether a name that is free is told as such, as a delivery asks before it writes; the probe has asked."""
        if self.read_back == "none":
            return NotNeeded("this account may not look at what it wrote (upload.verify: none)")
        return "a name that is not taken is told as free, and nothing is ever overwritten"

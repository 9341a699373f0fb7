"""Keys of the encrypted store: where they come from, how they are called, and what they seal.

What belongs here: the key file (or MLC_SECRET_KEYS) and sealing one value. What does not: the rows (``store``). Keys
are made by a person's command only; a process that finds none refuses to go on.
"""

# ruff: noqa: PLC0415 - cryptography is imported by whoever uses the store, not by Dagster's definitions.

import base64
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mlc_dagster.vault.errors import SecretError, SecretText
from mlc_dagster.vault.secret_file import read_secret_file

KEYS_VARIABLE: Final = "MLC_SECRET_KEYS"
REFERENCE: Final = "keys of the encrypted store"
"""What errors call them where no single secret is asked for."""

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_HEADER = """\
# Keys of mlc's encrypted store, newest first. Whoever has one can read the secrets; without them nobody can.
# Keep a copy where the backups of the data folder are not.
"""


class Unreadable(Exception):
    """A sealed value cannot be opened: ``reason`` says why, in words that show nothing of it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def new_key() -> str:
    """A key of 32 random bytes, in url-safe base64."""
    return SecretText(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii"))


def key_id(key: str) -> str:
    """First 8 hex digits of the SHA-256 of the key's 32 bytes; tells keys apart and nothing about them."""
    return hashlib.sha256(base64.urlsafe_b64decode(key)).hexdigest()[:8]


class KeyRing:
    """Keys, newest first: the newest seals, all open."""

    def __init__(self, keys: Sequence[str]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self._newest = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])
        self.ids = tuple(key_id(key) for key in keys)

    def __repr__(self) -> str:
        """The ids, no key."""
        return f"KeyRing({', '.join(self.ids)})"

    @property
    def newest(self) -> str:
        """Id of the key that seals."""
        return self.ids[0]

    def seal(self, name: str, value: str, version: str) -> bytes:
        """``value`` encrypted with its name and version, so that it stands for no other secret and no later one."""
        return self._all.encrypt(json.dumps({"name": name, "value": value, "version": version}).encode())

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key sealed it."""
        from cryptography.fernet import InvalidToken

        with suppress(InvalidToken):
            self._newest.decrypt(sealed)
            return True
        return False

    def open(self, name: str, key: str, sealed: bytes, version: str | None) -> str:
        """The value sealed under ``name``.

        Args:
            name: of the secret.
            key: id of the key that is said to have sealed it.
            sealed: what ``seal`` made.
            version: number and time of the last change of this secret; None where none is known.

        Raises:
            Unreadable: the key is not here, or the value was changed, belongs to another name or to an earlier version.
        """
        from cryptography.fernet import InvalidToken

        if key not in self.ids:
            raise Unreadable(f"sealed with key {key}, which is not among the keys ({', '.join(self.ids)})")
        try:
            content: Any = json.loads(self._all.decrypt(sealed))
        except InvalidToken:
            raise Unreadable(f"damaged or changed since key {key} sealed it") from None
        if content["name"] != name:
            raise Unreadable("sealed under another name: rows were exchanged")
        if version is None or content.get("version") != version:
            raise Unreadable("not what the last change sealed: an older value was put back, or the changes were edited")
        return SecretText(content["value"])


class KeySource:
    """Where the keys are: MLC_SECRET_KEYS where that is set, else the key file. Read anew each time."""

    def __init__(self, environ: Mapping[str, str], path: Path) -> None:
        self._environ = environ
        self.path = path

    def __repr__(self) -> str:
        """The place."""
        return f"KeySource({self.place})"

    @property
    def in_environment(self) -> bool:
        """Whether MLC_SECRET_KEYS is what counts."""
        return KEYS_VARIABLE in self._environ

    @property
    def place(self) -> str:
        """What people call it."""
        return KEYS_VARIABLE if self.in_environment else str(self.path)

    def read(self, reference: str = REFERENCE) -> KeyRing:
        """All keys.

        Raises:
            SecretError: there is no key, one is malformed, or the file is open to every user.
        """
        return KeyRing([key for _, key in self._entries(reference, self._text(reference))])

    def create(self, *, note: str) -> str:
        """Make the key file with one new key (mode 0600); its id.

        Raises:
            SecretError: there is one already, MLC_SECRET_KEYS is set, or it cannot be written.
        """
        if self.in_environment:
            raise SecretError(REFERENCE, f"{KEYS_VARIABLE} is set and wins over any file", "unset it, or use its keys")
        key = new_key()
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise SecretError(REFERENCE, f"{self.path} exists", "it is kept; a new key: mlc secrets rotate") from None
        except OSError as error:
            raise _not_written(self.path, error) from None
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{_HEADER}{key}  # {key_id(key)} {note}\n")
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.path.parent)
        return key_id(key)

    def add(self, *, note: str) -> str:
        """Put a new key in front of the others; its id. Only for keys in a file. Raises SecretError."""
        text = self._text(REFERENCE)
        self._entries(REFERENCE, text)
        key = new_key()
        lines = text.splitlines()
        # Below the comment that heads the file.
        first = next((number for number, line in enumerate(lines) if _of_line(line)), len(lines))
        lines.insert(first, f"{key}  # {key_id(key)} {note}")
        self._replace(lines)
        return key_id(key)

    def keep(self, ids: Collection[str]) -> list[str]:
        """Take all keys out of the file but these; the ids of those taken out. Raises SecretError."""
        text = self._text(REFERENCE)
        dropped = {number: key_id(key) for number, key in self._entries(REFERENCE, text) if key_id(key) not in ids}
        if dropped:
            self._replace([line for number, line in enumerate(text.splitlines(), 1) if number not in dropped])
        return list(dropped.values())

    def _text(self, reference: str) -> str:
        if self.in_environment:
            return self._environ[KEYS_VARIABLE].replace(",", "\n")
        remedy = f"make one with `mlc secrets init`, bring the lost file back, or set {KEYS_VARIABLE}"
        return read_secret_file(reference, self.path, absent=f"the encrypted store has no key: {remedy}")

    def _entries(self, reference: str, text: str) -> list[tuple[int, str]]:
        entries = [(number, _of_line(line)) for number, line in enumerate(text.splitlines(), 1)]
        entries = [(number, key) for number, key in entries if key]
        if not entries:
            raise SecretError(
                reference, f"{self.place} holds no key", "make one with `mlc secrets init`, or bring the lost keys back"
            )
        for number, key in entries:
            if not _KEY.fullmatch(key):
                # Not shown: a key that lost one character is nearly a key.
                place = f"{'key' if self.in_environment else 'line'} {number}"
                fault = f"{self.place}: {place} is not 32 bytes in url-safe base64 (44 characters)"
                raise SecretError(reference, fault, "restore it as `mlc secrets init` or `rotate` wrote it")
        return [(number, SecretText(key)) for number, key in entries]

    def _replace(self, lines: Sequence[str]) -> None:
        # The file itself, not a link to it. Readers see the old file or the new one, never half of it.
        target = self.path.resolve()
        try:
            status = target.stat()
            descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:
            raise _not_written(target, error) from None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
                if status.st_gid != os.fstat(stream.fileno()).st_gid:
                    os.fchown(stream.fileno(), -1, status.st_gid)
                stream.write("\n".join(lines) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(target)
        except OSError as error:
            Path(temporary).unlink(missing_ok=True)
            raise _not_written(target, error) from None
        _sync_folder(target.parent)


def _of_line(line: str) -> str:
    return line.partition("#")[0].strip()


def _not_written(path: Path, error: OSError) -> SecretError:
    fault = f"{path} cannot be written ({error.strerror})"
    return SecretError(REFERENCE, fault, "run it as the user who owns the file and its folder")


def _sync_folder(folder: Path) -> None:
    # A name that a crash takes back would take the only key with it.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

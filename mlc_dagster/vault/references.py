"""References to secrets and their resolution: ``env:NAME`` and ``file:/path``.

What belongs here: reading one secret, and saying what is wrong without showing it. What does not: keeping secrets; the
encrypted store behind ``store:`` and ``vault:`` is not part of this version, and its references say so.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LARGEST_SECRET: Final = 64 * 1024
"""Bytes a secret file may hold; a private key is under 4 KiB, so more than this is the wrong file."""

ORCHESTRATOR_FOLDERS: Final = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Docker and Kubernetes mount secrets here, readable for all inside a container that has one user."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretError(Exception):
    """A secret cannot be had. ``reference`` and ``remedy`` are for people; the value is in neither."""

    def __init__(self, reference: str, fault: str, remedy: str) -> None:
        self.reference = reference
        self.fault = fault
        self.remedy = remedy
        super().__init__(f"{reference}: {fault}; {remedy}")


class SecretText(str):
    """A secret as text: usable wherever a str is, but ``repr`` and ``%r`` do not show it.

    Tracebacks with local variables, dataclass and pydantic reprs and debuggers print reprs; that is where secrets leak.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """A mask of fixed length: the length of a secret is a secret too."""
        return "SecretText('**********')"


class SecretResolver:
    """Resolves references and remembers the values, so that a ``RedactingFilter`` can keep them out of logs."""

    def __init__(self, environ: Mapping[str, str], root: Path) -> None:
        self._environ = environ
        self._root = root
        self._references: set[str] = set()
        self._values: set[str] = set()

    def __repr__(self) -> str:
        """The references resolved so far, without their values."""
        return f"SecretResolver({sorted(self._references)})"

    @property
    def values(self) -> frozenset[str]:
        """Every value handed out so far; of a rotated secret the old value too, which others may still hold."""
        return frozenset(self._values)

    def resolve(self, reference: str) -> str:
        """The secret behind ``reference``, read anew at each call so that a rotated secret is picked up.

        Raises:
            SecretError: unknown scheme, unset variable, missing or unsafe file, empty secret, or a scheme of the store.
        """
        scheme, separator, target = reference.partition(":")
        if not separator or not target or scheme not in ("env", "file", "store", "vault"):
            # What stands here may be the secret itself, typed by mistake: it is not repeated.
            raise SecretError(
                "(not shown)", "is not a secret reference", "write env:NAME or file:/path instead of the secret itself"
            )
        if scheme == "env":
            value = self._from_environment(reference, target)
        elif scheme == "file":
            value = _from_file(reference, self._root / target)
        else:
            raise SecretError(
                reference,
                "the encrypted store (vault) is not part of this version",
                "use env:NAME or file:/path until it is",
            )
        if not value:
            raise SecretError(reference, "is empty", "put the secret there")
        secret = SecretText(value)
        self._references.add(reference)
        self._values.add(secret)
        return secret

    def _from_environment(self, reference: str, name: str) -> str:
        if not _ENV_NAME.fullmatch(name):
            raise SecretError("env:(not shown)", "is not the name of a variable", "write env:NAME")
        if name not in self._environ:
            raise SecretError(reference, f"environment variable {name} is not set", "set it where mlc runs")
        return self._environ[name]


def _from_file(reference: str, path: Path) -> str:
    try:
        # Checked and read through one descriptor: the file cannot be exchanged in between. Not blocking, or a pipe
        # that nobody writes to would hold the start-up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SecretError(reference, f"{path} does not exist", "create it, or correct the path") from None
    except OSError as error:
        fault = f"{path} cannot be opened ({error.strerror})"
        raise SecretError(reference, fault, "let the user that runs mlc read it") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(reference, f"{path} is not a file", "name the file that holds the secret")
        _refuse_open_permissions(reference, path, status.st_mode)
        content = os.read(descriptor, LARGEST_SECRET + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_SECRET:
        raise SecretError(reference, f"{path} is over {LARGEST_SECRET} bytes", "name the file that holds only it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # The decoder's own message shows bytes of the secret.
        raise SecretError(reference, f"{path} is not UTF-8 text", "save it as text") from None
    # Editors and `echo` end a file with a newline that is not part of the password; only that one is taken off.
    return text.removesuffix("\n").removesuffix("\r")


def _refuse_open_permissions(reference: str, path: Path, mode: int) -> None:
    mounted = any(path.is_relative_to(folder) for folder in ORCHESTRATOR_FOLDERS)
    exposed = stat.S_IWOTH if mounted else stat.S_IROTH | stat.S_IWOTH
    if mode & exposed:
        raise SecretError(
            reference,
            f"{path} can be read or changed by every user of this machine (mode {stat.S_IMODE(mode):04o})",
            f"run: chmod 600 {path}  (a Kubernetes secret volume: defaultMode: 0400)",
        )

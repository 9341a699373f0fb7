"""Reading a file that holds a secret: only when nobody else can read it too, and only when it is small and text.

What belongs here: what is checked before a byte is believed. What does not: what the text means.
"""

import os
import stat
from pathlib import Path
from typing import Final

from mlc_dagster.vault.errors import SecretError

LARGEST_SECRET: Final = 64 * 1024
"""Bytes a secret may have; a private key is under 4 KiB, so more than this is the wrong file."""

ORCHESTRATOR_FOLDERS: Final = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Docker and Kubernetes mount secrets here, readable for all inside a container that has one user."""


def read_secret_file(reference: str, path: Path, *, absent: str = "create it, or correct the path") -> str:
    """The file's text without its last newline.

    Args:
        reference: what errors call it.
        path: of the file.
        absent: what to do when it is not there.

    Raises:
        SecretError: missing, not a file, open to every user, too large or not UTF-8.
    """
    try:
        # Checked and read through one descriptor: the file cannot be exchanged in between. Not blocking, or a pipe
        # that nobody writes to would hold the start-up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SecretError(reference, f"{path} does not exist", absent) from None
    except OSError as error:
        fault = f"{path} cannot be opened ({error.strerror})"
        raise SecretError(reference, fault, "let the user that runs mlc read it") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(reference, f"{path} is not a file", "name the file that holds the secret")
        refuse_open_permissions(reference, path, status.st_mode)
        content = os.read(descriptor, LARGEST_SECRET + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_SECRET:
        raise SecretError(reference, f"{path} is over {LARGEST_SECRET} bytes", "name the file that holds only it")
    return secret_text(reference, str(path), content)


def secret_text(reference: str, place: str, content: bytes) -> str:
    """``content`` as text without its last newline; raises SecretError when it is not UTF-8."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # The decoder's own message shows bytes of the secret.
        raise SecretError(reference, f"{place} is not UTF-8 text", "save it as text") from None
    # Editors and `echo` end a file with a newline that is not part of the password; only that one is taken off.
    return text.removesuffix("\n").removesuffix("\r")


def refuse_open_permissions(reference: str, path: Path, mode: int) -> None:
    """Raise SecretError when others than the owner may change the file, or others than its group may read it.

    Service accounts read secrets through a group; whoever may write one decides whom the product logs in as.
    """
    mounted = any(path.is_relative_to(folder) for folder in ORCHESTRATOR_FOLDERS)
    exposed = stat.S_IWOTH if mounted else stat.S_IROTH | stat.S_IWOTH
    if mode & exposed:
        fault = "can be read or changed by every user of this machine"
    elif mode & stat.S_IWGRP:
        fault = "can be changed by everybody in its group"
    else:
        return
    raise SecretError(
        reference,
        f"{path} {fault} (mode {stat.S_IMODE(mode):04o})",
        f"run: chmod {'g-w' if mode & stat.S_IWGRP and not mode & exposed else '600'} {path}  "
        "(a Kubernetes secret volume: defaultMode: 0400)",
    )

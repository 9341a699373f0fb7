"""The entries of a remote directory.

What belongs here: which entries are files we may read, and the names under which they are known. What does not: the
packets (``readdir``), and any judgement over age, suffixes or what was seen before.
"""

import posixpath
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import UnsafeName


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One entry. ``path`` and ``name`` keep undecodable bytes by surrogateescape; show ``printable`` to people.

    Attributes:
        path: Directory and name joined by a slash; what every other call takes.
        name: The last component as the server sent it.
        size: Bytes, or None when the server does not tell.
        mtime: Seconds since 1970 UTC by the server's clock, or None. Never a measure of "new".
        regular: True for an ordinary file, also when the server tells no type.
    """

    path: str
    name: str
    size: int | None
    mtime: int | None
    regular: bool

    @property
    def printable(self) -> str:
        r"""The path in plain UTF-8, undecodable bytes as ``\udcXX`` escapes; safe for logs and databases."""
        return self.path.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Listing:
    """``files`` may be read; ``others`` are directories, links, sockets and names that are refused."""

    files: list[RemoteFile] = field(default_factory=list[RemoteFile])
    others: list[RemoteFile] = field(default_factory=list[RemoteFile])


@dataclass(frozen=True, slots=True)
class Attributes:
    """The part of SFTP's ATTRS that matters here; None is what the server left out."""

    size: int | None
    mode: int | None
    mtime: int | None


def is_safe_name(name: str) -> bool:
    """True when the name stays inside its directory."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def wire_path(path: str) -> bytes:
    """The bytes to send for a path.

    Raises:
        UnsafeName: its last component is empty, ``.`` or ``..``, or it holds a NUL.
    """
    if "\0" in path or not is_safe_name(posixpath.basename(path)):
        raise UnsafeName(path)
    return path.encode("utf-8", "surrogateescape")


def join(directory: str, name: str) -> str:
    """Path of an entry, the same one however the directory was written (``out``, ``out/``; ``.`` adds nothing)."""
    # Not posixpath.join: a server's name that begins with a slash must not become a path of its own.
    return name if directory in ("", ".", "./") else f"{directory.rstrip('/')}/{name}"


def remote_file(path: str, attributes: Attributes) -> RemoteFile:
    """An entry from its attributes. No type given counts as an ordinary file: some servers tell none."""
    mode = attributes.mode
    return RemoteFile(
        path=path,
        name=posixpath.basename(path),
        size=attributes.size,
        mtime=attributes.mtime,
        regular=mode is None or stat.S_IFMT(mode) in (0, stat.S_IFREG),
    )


def sort_entries(directory: str, entries: Iterable[tuple[str, Attributes]]) -> Listing:
    """Splits entries into files and others, by name.

    A directory that changes while it is read may show one name twice; the later entry counts.
    """
    latest = {name: attributes for name, attributes in entries if name not in (".", "..")}
    listing = Listing()
    for name, attributes in sorted(latest.items()):
        entry = remote_file(join(directory, name), attributes)
        if is_safe_name(name):
            (listing.files if entry.regular else listing.others).append(entry)
        else:
            listing.others.append(RemoteFile(entry.path, name, entry.size, entry.mtime, regular=False))
    return listing

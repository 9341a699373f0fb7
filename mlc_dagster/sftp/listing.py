"""The entries of a remote directory.

What belongs here: which entries are files we may read, and the names under which they are known. What does not: the
packets (``readdir``), and any judgement over age, suffixes or what was seen before.
"""

import hashlib
import posixpath
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlc_dagster.visible import visible

from .errors import UnsafeName

LONGEST_NAME = 255
"""Bytes of a name; no file system that partners use has longer ones, and databases cannot index them."""
_LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One entry. ``path`` and ``name`` are as the server has them; show and keep ``printable``.

    Attributes:
        path: Directory and name joined by a slash; what every other call takes.
        name: The last component as the server sent it; undecodable bytes by surrogateescape.
        size: Bytes, or None when the server does not tell, or tells nonsense.
        mtime: Seconds since 1970 UTC by the server's clock, or None. Never a measure of "new".
        regular: True for an ordinary file, also when the server tells no type.
        link: True for a symbolic link; links are listed and never followed.
    """

    path: str
    name: str
    size: int | None
    mtime: int | None
    regular: bool
    link: bool = False

    @property
    def printable(self) -> str:
        r"""The path fit for logs, screens and databases: the unseen is written as ``\udcXX`` and the like.

        Equal to ``path`` for every name that people give to files. A name longer than file systems have is cut, and
        told apart by its hash.
        """
        raw = self.name.encode("utf-8", "surrogateescape")
        if len(raw) <= LONGEST_NAME:
            return visible(self.path)
        folder = self.path[: len(self.path) - len(self.name)]
        return visible(f"{folder}{self.name[:100]}… ({len(raw)} bytes, {hashlib.sha256(raw).hexdigest()[:12]})")


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
        size=attributes.size if attributes.size is None or attributes.size <= _LARGEST_SIZE else None,
        mtime=attributes.mtime,
        regular=mode is None or stat.S_IFMT(mode) in (0, stat.S_IFREG),
        link=mode is not None and stat.S_ISLNK(mode),
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
            listing.others.append(RemoteFile(entry.path, name, entry.size, entry.mtime, regular=False, link=entry.link))
    return listing

"""The plain bytes of a file that may be packed (gzip, or a zip with one member), never more than its profile allows.

Belongs here: what counts as packed, the limits, and what is wrong with a packed file. Does not: what the bytes mean
(``rows``). Nothing is unpacked to disk: each pass unpacks as it reads, so names inside an archive name no file here.
"""

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

Compression = Literal["none", "gzip", "zip", "auto"]

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BLOCK = 256 * 1024
_UNSUSPICIOUS = 1024 * 1024
"""Unpacked bytes up to which no ratio is suspicious: a small file of blanks shrinks a thousandfold."""
_MOST_AT_ONCE = 1024 * 1024
"""Bytes that a zip's directory may have: it is read whole, and one member needs some hundred."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1

# What the libraries raise for bytes that are not what they should be. OSError itself is our own disk.
_BROKEN = (
    gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError,
    ValueError, OverflowError, KeyError, IndexError,
)  # fmt: skip


class CompressionFault(Exception):
    """A packed file that is not read: damaged, cut off, of another kind, or larger than allowed when unpacked."""

    def __init__(self, text: str, *, cut_off: bool = False) -> None:
        self.text = text
        self.cut_off = cut_off
        """The file ends too early: it may still be growing."""
        super().__init__(text)


def kind_of(head: bytes) -> Literal["none", "gzip", "zip"]:
    """How a file that begins with these bytes is packed. No text file begins so."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zip" if head.startswith(_ZIP) else "none"


@contextmanager
def open_plain(path: Path, compression: Compression, *, max_bytes: int, max_ratio: int) -> Generator[BinaryIO]:
    """The file's plain bytes from the start, for reading forwards.

    Args:
        path: the file as it came.
        compression: what it must be; ``auto`` tells by its first bytes.
        max_bytes: unpacked bytes allowed.
        max_ratio: unpacked bytes allowed per byte of the file.

    Raises:
        CompressionFault: at the call, or from a read.
        OSError: the file itself cannot be read.
    """
    with path.open("rb") as packed:
        if compression == "none":
            yield packed
            return
        head = packed.read(4)
        packed.seek(0)
        found = kind_of(head)
        if compression not in ("auto", found):
            is_it = f"it looks like {found}" if found != "none" else "it begins like neither gzip nor zip"
            raise CompressionFault(f"is not {compression}; {is_it}", cut_off=len(head) < len(_ZIP[0]))
        if found == "none":
            yield packed
            return
        size = packed.seek(0, io.SEEK_END)
        packed.seek(0)
        allowed = min(max_bytes, max(_UNSUSPICIOUS, size * max_ratio))
        with _stream(packed, found) as stream:
            yield cast("BinaryIO", _Limited(stream, allowed, max_bytes, max_ratio))


def last_bytes(path: Path, compression: Compression, *, count: int, max_bytes: int, max_ratio: int) -> bytes:
    """The last ``count`` plain bytes, after all others were unpacked and their checksum was found right.

    Raises:
        CompressionFault, OSError: see ``open_plain``.
    """
    last = b""
    with open_plain(path, compression, max_bytes=max_bytes, max_ratio=max_ratio) as stream:
        while block := stream.read(_BLOCK):
            last = (last + block)[-count:]
    return last


@contextmanager
def _stream(packed: BinaryIO, kind: str) -> Generator[BinaryIO]:
    if kind == "gzip":
        with gzip.GzipFile(fileobj=packed, mode="rb") as unpacked:
            yield cast("BinaryIO", unpacked)
        return
    with _opened(packed) as archive:
        member = _only_member(archive)
        try:
            stream = archive.open(member)
        except _BROKEN as error:
            raise _damaged(error) from None
        with stream:
            yield cast("BinaryIO", stream)


def _opened(packed: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(cast("BinaryIO", _Cautious(packed)))
    except _BROKEN as error:
        raise _damaged(error, cut_off=_has_no_directory(packed)) from None


def _has_no_directory(packed: BinaryIO) -> bool:
    """Whether the end of a zip is missing, where its directory stands."""
    size = packed.seek(0, io.SEEK_END)
    packed.seek(max(0, size - 66_000))
    return _ZIP[1] not in packed.read(66_000)


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) != 1 or members[0].is_dir():
        raise CompressionFault(f"is a zip with {len(members)} members; exactly one file is expected in it")
    member = members[0]
    if member.flag_bits & _ENCRYPTED:
        raise CompressionFault("is a zip with a password; ask the sender for one without")
    if member.compress_type not in _METHODS:
        raise CompressionFault(f"is packed by zip method {member.compress_type}; deflate is read, and stored files")
    return member


def _damaged(error: BaseException, *, cut_off: bool = False) -> CompressionFault:
    if cut_off or isinstance(error, EOFError):
        return CompressionFault("is packed and cut off; the file may still be growing", cut_off=True)
    return CompressionFault(f"is packed and damaged ({' '.join(str(error).split())[:200]}); send the file again")


class _Limited:
    """Reads forwards up to a number of bytes; the libraries' errors become ``CompressionFault``."""

    def __init__(self, stream: BinaryIO, allowed: int, max_bytes: int, max_ratio: int) -> None:
        self._stream = stream
        self._left = allowed
        self._limit = (
            f"{max_bytes} bytes (max_unpacked_bytes)"
            if allowed == max_bytes
            else f"{max_ratio} times its size (max_ratio)"
        )

    def read(self, size: int) -> bytes:
        try:
            block = self._stream.read(size)
        except _BROKEN as error:
            raise _damaged(error) from None
        self._left -= len(block)
        if self._left < 0:
            raise CompressionFault(
                f"is larger than {self._limit} when unpacked; raise the limit in the profile if this is no bomb"
            )
        return block


class _Cautious:
    """A file that refuses to be read in one large piece, as zipfile reads a directory of any length.

    And one that says itself what is wrong with a place before its start, where the system's own error looks like ours.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell = stream.tell
        self.close = stream.close

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and not 0 <= offset < 2**62:
            raise zipfile.BadZipFile("its directory points outside of the file")
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(_MOST_AT_ONCE + 1 if size < 0 else min(size, _MOST_AT_ONCE + 1))
        if len(block) > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("its directory is larger than one file needs")
        return block

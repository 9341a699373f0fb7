"""Several files that are one delivery: what its manifest says, and the bytes of each file.

Belongs here: reading a manifest, opening its files: beside it, or in the bundle (a zip) in which ``gathering`` keeps a
whole delivery. Does not: fetching them (``gathering``) and the rows in them (``split_rows``).
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from mlc_dagster.stampli.parsing.file_ends import MAX_MANIFEST
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_files import Manifest
from mlc_dagster.stampli.parsing.profile_rows import Part
from mlc_dagster.stampli.parsing.unpacking import kind_of
from mlc_dagster.stampli.reasons import shown

BUNDLED_MANIFEST = "manifest.json"
"""The manifest's name within a bundle; its files keep theirs, in a folder."""
BUNDLED_FILES = "files/"
_MOST_FILES = 100


class _Number(str):
    """A number as the document writes it: not yet a number, and never a float."""

    __slots__ = ()


@dataclass(frozen=True)
class Member:
    """One file as the manifest names it."""

    name: str
    sha256: str
    size: int
    """Bytes."""
    records: str | None
    total: str | None
    """As text, decimal mark as in the files."""


@dataclass(frozen=True)
class Contents:
    """A whole manifest."""

    members: tuple[Member, ...]
    columns: Mapping[str, str]
    """Columns that the files lack, with their text."""


def read_manifest(content: bytes, name: str, profile: Profile) -> Contents:
    """What the manifest says.

    Raises:
        FileRejected: it does not say what the profile declares; the text names the key.
    """
    end = cast("Manifest", profile.file.end)

    def refuse(text: str) -> FileRejected:
        return FileRejected("FILE_SCHEMA", f"{name}: {text}")

    try:
        document: Any = json.loads(content, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):
        raise refuse("the manifest is no JSON document") from None
    entries: Any = cast("dict[str, Any]", document).get(end.files) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(cast("list[Any]", entries)) <= _MOST_FILES:
        raise refuse(f"the manifest has no list {end.files!r} of 1 to {_MOST_FILES} files")
    members = tuple(_member(entry, end, profile.values.decimal_mark, refuse) for entry in cast("list[Any]", entries))
    if len({member.name for member in members}) < len(members):
        raise refuse("the manifest names a file twice")
    columns: dict[str, str] = {}
    for column, key in end.columns.items():
        value: Any = cast("dict[str, Any]", document).get(key)
        if not isinstance(value, str):
            raise refuse(f"the manifest has no text under {key!r} (column {column})")
        columns[column] = value
    return Contents(members, columns)


def _member(entry: Any, end: Manifest, mark: str, refuse: Any) -> Member:
    if not isinstance(entry, dict):
        raise refuse(f"an entry of {end.files!r} is no object")
    found = cast("dict[str, Any]", entry)
    name, digest, size = found.get(end.name), found.get(end.sha256), found.get(end.bytes)
    if not isinstance(name, str) or not _safe(name):
        raise refuse(f"{end.name!r} is {shown(str(name))!r}: write a plain file name")
    if not isinstance(digest, str) or re.fullmatch(r"[0-9a-fA-F]{64}", digest) is None:
        raise refuse(f"{name}: {end.sha256!r} is no SHA-256 in hex")
    if not isinstance(size, str) or re.fullmatch(r"[0-9]{1,15}", size) is None:
        raise refuse(f"{name}: {end.bytes!r} is no number of bytes")
    stated: list[str | None] = []
    for key in (end.records, end.total):
        value = None if key is None else found.get(key)
        if key is not None and not isinstance(value, str):
            raise refuse(f"{name}: {key!r} is missing")
        # A JSON number has a point, a text is written as the files are.
        stated.append(value.replace(".", mark) if isinstance(value, _Number) else value)
    return Member(name, digest.lower(), int(size), stated[0], stated[1])


def _safe(name: str) -> bool:
    return (
        0 < len(name) <= 255
        and name.isprintable()
        and not any(mark in name for mark in "/\\")
        and name.strip(". ") != ""
    )


class Delivery:
    """The files of one manifest, or of one bundle."""

    def __init__(self, path: Path, profile: Profile, name: str | None = None) -> None:
        """Messages call it ``name``, by default as its path does."""
        self._path = path
        self._name = name or path.name
        self._profile = profile
        self._checked: set[str] = set()
        with path.open("rb") as stream:
            self._bundled = kind_of(stream.read(4)) == "zip"

    @cached_property
    def manifest(self) -> bytes:
        """The manifest's bytes; raises FileRejected."""
        if self._bundled:
            with self._opened(BUNDLED_MANIFEST) as stream:
                content = stream.read(MAX_MANIFEST + 1)
        else:
            with self._path.open("rb") as stream:
                content = stream.read(MAX_MANIFEST + 1)
        if len(content) > MAX_MANIFEST:
            raise FileRejected("FILE_SCHEMA", f"{self._name}: is no manifest; one has at most {MAX_MANIFEST} bytes")
        return content

    @cached_property
    def contents(self) -> Contents:
        """What the manifest says; raises FileRejected."""
        return read_manifest(self.manifest, self._name, self._profile)

    def member(self, part: Part) -> Member:
        """The one file that is this part of the delivery.

        Raises:
            FileRejected: none or several are.
        """
        named = [each for each in self.contents.members if re.fullmatch(part.file, each.name)]
        if len(named) != 1:
            raise FileRejected(
                "FILE_SCHEMA", f"{self._name}: names {len(named)} files like {part.file!r}, one is expected"
            )
        return named[0]

    @contextmanager
    def open(self, member: Member) -> Generator[BinaryIO]:
        """Its bytes, which are those that the manifest means.

        Raises:
            FileRejected: it is not there, or is another file.
        """
        if self._bundled:
            # Size and hash were compared before the bundle was made, and the archive compares the bundle's own.
            with self._opened(BUNDLED_FILES + member.name) as stream:
                yield stream
            return
        path = self._path.with_name(member.name)
        if member.name not in self._checked:
            self._compare(path, member)
            self._checked.add(member.name)
        with path.open("rb") as stream:
            yield stream

    def _compare(self, path: Path, member: Member) -> None:
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.tell()
        except FileNotFoundError:
            raise FileRejected("FILE_SCHEMA", f"{member.name}: is named by the manifest and not there") from None
        if (fault := difference(member, size, digest)) is not None:
            raise FileRejected("FILE_SCHEMA", fault)

    @contextmanager
    def _opened(self, name: str) -> Generator[BinaryIO]:
        try:
            with zipfile.ZipFile(self._path) as bundle, bundle.open(name) as stream:
                yield cast("BinaryIO", stream)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise FileRejected("FILE_SCHEMA", f"{self._name}: is no whole bundle: {shown(str(error))}") from None


def difference(member: Member, size: int, sha256: str) -> str | None:
    """How a file of this size and hash is not the one that the manifest means; None when it is."""
    if size != member.size:
        return f"{member.name}: has {size} bytes, the manifest says {member.size}"
    if sha256 != member.sha256:
        return f"{member.name}: has SHA-256 {sha256}, the manifest says {member.sha256}"
    return None

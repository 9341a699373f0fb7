"""Files in the making: rendered documents on disk, by file and group, until the frame is put around them.

Memory holds counts and totals only. Nothing here is numbered or named; ``building`` assembles and commits.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import msgspec

from mlc_dagster.exports.writing import Frame, Part, Rendered, Version, Writer
from mlc_dagster.ledger.archive import Archive, HashingFile
from mlc_dagster.ledger.versions import NewVersion
from mlc_dagster.money import total

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(NewVersion)


@dataclass
class _Group:
    path: Path
    stream: BinaryIO | HashingFile
    documents: int = 0
    rows: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict[str, Decimal])


@dataclass(frozen=True)
class SpooledVersions:
    """The versions of one file, read from disk each time they are asked for."""

    path: Path

    def __iter__(self) -> Iterator[NewVersion]:
        with self.path.open("rb") as stream:
            for line in stream:
                yield _DECODER.decode(line)


class StagedFile:
    """One file's documents."""

    def __init__(self, folder: Path, writer: Writer) -> None:
        folder.mkdir()
        self.folder = folder
        self._writer = writer
        self._assembled: str | None = None
        """SHA-256 of the file when it was assembled last."""
        self._opened: HashingFile | None = None
        """The file itself, where documents can be written into it as they come."""
        opening = writer.opening()
        if opening is not None:
            self._opened = HashingFile(folder / "assembled")
            self._opened.write(opening)
        self.documents = 0
        self.rows = 0
        self.totals: dict[str, Decimal] = {}
        self.counts: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._versions_path = folder / "versions"
        self._versions = self._versions_path.open("wb")

    def next_position(self, group: str) -> int:
        """Position that the next document of a group gets, from 1."""
        known = self._groups.get(group)
        return 1 if known is None else known.documents + 1

    def add(self, group: str, rendered: Rendered) -> int:
        """Take a document in; its position in the file, from 1."""
        staged = self._groups.get(group)
        if staged is None:
            path = self.folder / f"group-{len(self._groups)}"
            staged = self._groups[group] = _Group(path, self._opened or path.open("wb"))
        staged.stream.write(rendered.body)
        staged.documents += 1
        staged.rows += rendered.rows
        add_totals(staged.totals, rendered)
        self.documents += 1
        self.rows += rendered.rows
        add_totals(self.totals, rendered)
        for name, count in rendered.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        return self.documents

    def enter(self, version: NewVersion) -> None:
        """Note the version of the document that was taken in last."""
        self._versions.write(_ENCODER.encode(version))
        self._versions.write(b"\n")

    @property
    def groups(self) -> list[str]:
        return list(self._groups)

    def finish(self) -> None:
        """No more documents: what is on disk can be read."""
        self._versions.close()
        for staged in self._groups.values():
            staged.stream.close()
        if self._opened is not None:
            self._opened.mark()
            self._opened.close()

    def assemble(self, frame: Frame, archive: Archive) -> tuple[Path, str]:
        """The whole file and its SHA-256, in this frame; may be asked for again in another.

        Args:
            frame: what the file carries beside its documents.
            archive: may have taken the file as it was assembled before.
        """
        whole = self.folder / "assembled"
        if self._opened is None:
            with HashingFile(whole) as target:
                self._writer.assemble(self.parts(), frame, target)
        else:
            if self._assembled is not None and not whole.exists():
                shutil.copyfile(archive.path(self._assembled), whole)
            target = self._opened
            target.resume()
            with target:
                self._writer.close(self.parts(), frame, target)
        self._assembled = target.sha256
        return whole, target.sha256

    @property
    def versions(self) -> SpooledVersions:
        return SpooledVersions(self._versions_path)

    def parts(self) -> list[Part]:
        """The groups, in the order in which they first came."""
        return [
            Part(code, staged.path, staged.documents, staged.rows, dict(staged.totals))
            for code, staged in self._groups.items()
        ]


def add_totals(totals: dict[str, Decimal], rendered: Rendered) -> None:
    """Add a document's control totals, exactly."""
    for name, amount in rendered.totals.items():
        totals[name] = total((totals[name], amount)) if name in totals else amount


class Staging:
    """The files that one commit makes, each with at most ``most`` documents."""

    def __init__(self, folder: Path, writer: Writer, most: int | None) -> None:
        self._folder = folder
        self._writer = writer
        self._most = most
        self.files: list[StagedFile] = []

    def render(self, version: Version) -> tuple[StagedFile, str, Rendered]:
        """The document, rendered for the file and group that it goes into. Raises DocumentHeld."""
        group = self._writer.group_of(version)
        file = self._file()
        return file, group, self._writer.render(version, file.next_position(group))

    def _file(self) -> StagedFile:
        full = self._most is not None and self.files and self.files[-1].documents >= self._most
        if not self.files or full:
            self.add_file()
        return self.files[-1]

    def add_file(self) -> StagedFile:
        """A further file; the one before is complete."""
        if self.files:
            self.files[-1].finish()
        self.files.append(StagedFile(self._folder / f"file-{len(self.files)}", self._writer))
        return self.files[-1]

    def finish(self, *, empty_file: bool) -> list[StagedFile]:
        """The files, complete. One without documents is left out, unless an empty file is wanted and it is alone."""
        if not self.files and empty_file:
            self.add_file()
        if self.files:
            self.files[-1].finish()
        kept = [file for file in self.files if file.documents]
        return kept or (self.files[:1] if empty_file else [])

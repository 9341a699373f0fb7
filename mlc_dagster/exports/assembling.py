"""Putting the frame around a file's documents: number, control numbers, name, compression, manifest, archive.

Everything made here may be made again under other numbers until the ledger has committed it; what is left in the
archive of an earlier try is named by nobody.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.exports import companions
from mlc_dagster.exports.naming import FileNameUnusable, NameParts, file_name
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.staging import StagedFile
from mlc_dagster.exports.writing import Frame
from mlc_dagster.ledger import control_numbers, feeds
from mlc_dagster.ledger.archive import file_sha256
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.known_versions import file_named
from mlc_dagster.ledger.versions import NewFile


class PartnerMissing(Expected):
    """The layout needs control numbers, and the feed does not say whose."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, feed: str, layout: str) -> None:
        self.feed = feed
        super().__init__(
            f"exports.{feed}: layout {layout} writes control numbers; add partner: {{sender: ZZ:US, receiver: ZZ:THEM}}"
        )


class Assembler:
    """Assembles the files of one commit."""

    def __init__(self, outbound: Outbound, feed: Feed, start: dt.datetime, end: dt.datetime, now: dt.datetime) -> None:
        self._ledger = outbound.ledger
        self._archive = outbound.archive
        self._feed = feed
        self._start = start
        self._end = end
        self._now = now

    def assemble(self, files: Sequence[StagedFile]) -> list[NewFile]:
        """The files under the numbers that come next, their bytes in the archive.

        Raises:
            FileNameUnusable: the template does not give a usable name, or one that was used.
            PartnerMissing: control numbers are needed, and there is no partner.
        """
        if not files:
            return []
        levels = [dict(self._feed.writer.levels(file.groups)) for file in files]
        with self._ledger.reading() as reading:
            sequence = int(feeds.feed_row(reading, self._feed.name)["sequence"])
            numbers = self._numbers(reading, levels)
        used: set[str] = set()
        assembled: list[NewFile] = []
        for file, needed in zip(files, levels, strict=True):
            sequence += 1
            controls = {level: [numbers[level].pop(0) for _ in range(count)] for level, count in needed.items()}
            new = self._file(file, sequence, controls)
            with self._ledger.reading() as reading:
                known = file_named(reading, self._feed.name, new.name)
            if known is not None or new.name in used:
                raise FileNameUnusable(self._template, f"gives {new.name!r} a second time; add {{sequence:06d}}")
            used.add(new.name)
            assembled.append(new)
        return assembled

    @property
    def _template(self) -> str:
        return self._feed.settings.file_name or self._feed.writer.file_name

    def _numbers(self, reading: Transaction, levels: Sequence[Mapping[str, int]]) -> dict[str, list[int]]:
        needed: dict[str, int] = {}
        for file_levels in levels:
            for level, count in file_levels.items():
                needed[level] = needed.get(level, 0) + count
        if not needed:
            return {}
        partner = self._feed.settings.partner
        if partner is None:
            raise PartnerMissing(self._feed.name, self._feed.writer.identity.name)
        return {level: control_numbers.peek(reading, partner.key, level, count) for level, count in needed.items()}

    def _file(self, file: StagedFile, sequence: int, controls: Mapping[str, Sequence[int]]) -> NewFile:
        identity = self._feed.writer.identity
        frame = Frame(self._feed.name, sequence, self._now, self._start, self._end, controls)
        whole, content_sha256 = file.assemble(frame, self._archive)
        upload = self._feed.settings.upload
        inner = self._name(frame, content_sha256, "")
        name = inner
        if upload.compress != "none":
            name = self._name(frame, content_sha256, companions.COMPRESSED_ENDING[upload.compress])
            packed = file.folder / "packed"
            companions.compress_file(whole, packed, upload.compress, inner)
            whole = packed
        sha256 = content_sha256 if whole.name == "assembled" else file_sha256(whole)
        size = self._archive.take(whole, sha256).size
        partner = self._feed.settings.partner
        return NewFile(
            sequence=sequence,
            name=name,
            directory=self._feed.settings.sftp.directory,
            sha256=sha256,
            bytes=size,
            documents=file.documents,
            rows=file.rows,
            totals=file.totals,
            counts=file.counts,
            layout=identity.name,
            layout_version=identity.version,
            layout_sha256=identity.sha256,
            window_start=self._start,
            window_end=self._end,
            versions=file.versions,
            partner=partner.key if partner is not None and controls else None,
            controls=controls,
            companions=self._companions(file, frame, name, size, sha256),
        )

    def _name(self, frame: Frame, content_sha256: str, ending: str) -> str:
        parts = NameParts(
            feed=frame.feed,
            sequence=frame.sequence,
            created_at=frame.created_at,
            window_start=frame.window_start,
            window_end=frame.window_end,
            sha256=content_sha256,
            extension=self._feed.writer.identity.extension,
        )
        return file_name(self._template, parts, ending=ending)

    def _companions(self, file: StagedFile, frame: Frame, name: str, size: int, sha256: str) -> list[Mapping[str, Any]]:
        """What is written after the file, in this order; the trigger last."""
        upload = self._feed.settings.upload
        made: list[Mapping[str, Any]] = []
        if upload.manifest:
            manifest = companions.manifest(
                name=name,
                size=size,
                sha256=sha256,
                documents=file.documents,
                rows=file.rows,
                totals=file.totals,
                layout=self._feed.writer.identity,
                frame=frame,
            )
            made.append(self._companion(file.folder, "manifest", name, companions.MANIFEST_ENDING, manifest))
        if upload.trigger is not None:
            made.append(self._companion(file.folder, "trigger", name, upload.trigger, companions.TRIGGER))
        return made

    def _companion(self, folder: Path, kind: str, name: str, ending: str, content: bytes) -> Mapping[str, Any]:
        path = folder / kind
        path.write_bytes(content)
        stored = self._archive.take(path, file_sha256(path))
        return {
            "kind": kind,
            "name": companions.companion_name(name, ending),
            "sha256": stored.sha256,
            "bytes": stored.size,
        }

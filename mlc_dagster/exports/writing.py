"""Between building files and the formats: what a writer is given and what it must say.

A writer renders one document at a time into bytes that do not depend on the file's numbers; the frame (header, trailer,
envelopes with their control numbers) is put around the bodies when the file is assembled.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from mlc_dagster.fusion.records import Content, Read


class Change(StrEnum):
    NEW = "NEW"
    CHANGE = "CHANGE"
    CANCEL = "CANCEL"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a record on its way into a file."""

    read: Read
    number: int
    """From 1, per feed and record."""
    change: Change
    previous: Content | None = None
    """What the partner has now, where the source keeps it (purchase orders)."""


class DocumentHeld(Exception):
    """The document cannot be written as the layout demands; it waits for a person, the others go.

    ``reason`` is a code (UNBALANCED, KEY_TOO_LONG, AMOUNT_SCALE, OVERFLOW, ENCODING, CODE_UNKNOWN, FIELD_MISSING …).
    """

    def __init__(self, reason: str, text: str, *, field: str | None = None, target: str | None = None) -> None:
        self.reason = reason
        self.text = text
        self.field = field
        """Source field, such as ``line.description``."""
        self.target = target
        """Column or element, such as ``BIG02 invoice number``."""
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One document as bytes."""

    body: bytes
    rows: int
    """Detail records (CSV, fixed width) or segments (X12)."""
    totals: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Exact control totals, each under a name with its currency: ``entered_dr USD``."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """What was replaced on the way, by what it was: ``newlines``, ``characters``."""
    set_control: str | None = None
    """X12: group code and ST02, such as ``PO/0001``."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bodies of one group (one part with code "" where the format has no groups), in order."""

    group: str
    body: Path
    """Where they lie by themselves; not for a file that began with ``Writer.opening``."""
    documents: int
    rows: int
    totals: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a file carries beside its documents."""

    feed: str
    sequence: int
    created_at: dt.datetime
    """UTC."""
    window_start: dt.datetime
    window_end: dt.datetime
    controls: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    """Control numbers by level: one ``interchange``, one ``group`` per part."""


@dataclass(frozen=True, slots=True)
class LayoutIdentity:
    name: str
    version: str
    sha256: str
    """Of the layout's text and of the crosswalks it names."""
    format: str
    """csv, fixed_width or x12."""
    extension: str
    """With the dot, before compression."""


class ByteSink(Protocol):
    """What a file is written to."""

    def write(self, block: bytes, /) -> int: ...


class Writer(Protocol):
    """A layout made ready for one feed."""

    @property
    def identity(self) -> LayoutIdentity: ...

    @property
    def file_name(self) -> str:
        """Template of file names; see ``naming``."""
        ...

    @property
    def empty_file(self) -> bool:
        """Whether a poll without changes gives a file of header and trailer only."""
        ...

    def group_of(self, version: Version) -> str:
        """The group that the version goes into; "" where the format has none. Raises DocumentHeld."""
        ...

    def render(self, version: Version, position: int) -> Rendered:
        """The document's bytes; ``position`` counts from 1 within its group and file. Raises DocumentHeld."""
        ...

    def levels(self, groups: Sequence[str]) -> Mapping[str, int]:
        """How many control numbers of each level a file with these groups needs."""
        ...

    def opening(self) -> bytes | None:
        """What stands before the bodies, where that is the same whatever the file holds and there are no groups.

        Bodies are then written into the file itself, once, and ``close`` writes the rest; None where it depends.
        """
        ...

    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Write what stands behind the bodies of a file that began with ``opening``."""
        ...

    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Write the whole file: frame and bodies."""
        ...

"""The frame of an interchange: ISA and IEA, GS and GE, ST and SE. Numbers come from outside, counts from the bodies.

ISA has a fixed length: 106 bytes with its terminator, all padding included; readers take the delimiters from it by
position. GS06, GE01, SE01 and IEA01 have no leading zeros, ISA13 has nine digits.
"""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.exports.x12.characters import Characters, Delimiters
from mlc_dagster.exports.x12.segments import Standard
from mlc_dagster.settings.exports import PartnerSettings

ISA_LENGTH = 106
LAST_NUMBER = 999_999_999

ENVELOPE = (
    ("partner.sender", "ISA05, ISA06; GS02 unless partner.group_sender is given"),
    ("partner.receiver", "ISA07, ISA08; GS03 unless partner.group_receiver is given"),
    ("time of writing", "ISA09, ISA10, GS04, GS05 (in time_zone)"),
    ("standard", "ISA12; GS08 with industry"),
    ("interchange control number", "ISA13, IEA02"),
    ("partner.acknowledgement_requested", "ISA14"),
    ("partner.usage", "ISA15"),
    ("delimiters", "ISA11 (from 005010 on), ISA16 and byte 106"),
    ("group control number", "GS06, GE02"),
    ("place in the group", "ST02, SE02"),
    ("counts", "SE01 segments, GE01 sets, IEA01 groups"),
)
"""What fills the envelopes, for people: source and elements."""


class EnvelopeUnusable(Expected, ValueError):
    """The partner's ids or the numbers do not fit an envelope."""

    kind = FailureKind.CONFIGURATION


@dataclass(frozen=True)
class Envelope:
    """One partner's frame in one layout."""

    partner: PartnerSettings
    standard: Standard
    industry: str
    delimiters: Delimiters
    time_zone: str = "UTC"
    group_time: str = "HHMM"

    def __post_init__(self) -> None:
        """Refuse ids that the envelope cannot carry, before any file is made."""
        marks = Characters("extended", self.delimiters.reserved("005010"))
        for key in ("sender", "receiver"):
            value: str = getattr(self.partner, key)
            group: str | None = getattr(self.partner, f"group_{key}")
            qualifier, _, identity = value.partition(":")
            stranger = marks.stranger(qualifier + identity)
            if stranger is not None or identity != identity.strip():
                raise EnvelopeUnusable(f"partner.{key}: {value!r} has {stranger or ' '!r}, which an id cannot have")
            if group is None and len(identity) < 2:
                raise EnvelopeUnusable(
                    f"partner.{key}: {identity!r} is too short for GS (2 to 15 characters); give group_{key}"
                )
            stranger = marks.stranger(group or "")
            if stranger is not None:
                raise EnvelopeUnusable(f"partner.group_{key}: {group!r} has {stranger!r}, which an id cannot have")

    def _local(self, created_at: dt.datetime) -> dt.datetime:
        return created_at.astimezone(ZoneInfo(self.time_zone))

    def _segment(self, *elements: str) -> str:
        return self.delimiters.element.join(elements) + self.delimiters.ending

    def opening(self, number: int, created_at: dt.datetime) -> str:
        """ISA."""
        local = self._local(created_at)
        sender_qualifier, _, sender = self.partner.sender.partition(":")
        receiver_qualifier, _, receiver = self.partner.receiver.partition(":")
        modern = self.standard != "004010"
        text = self._segment(
            "ISA",
            "00",
            " " * 10,
            "00",
            " " * 10,
            sender_qualifier,
            f"{sender:<15}",
            receiver_qualifier,
            f"{receiver:<15}",
            f"{local:%y%m%d}",
            f"{local:%H%M}",
            self.delimiters.repetition if modern else "U",
            "00501" if modern else "00401",
            f"{_checked(number):09d}",
            "1" if self.partner.acknowledgement_requested else "0",
            self.partner.usage,
            self.delimiters.component,
        )
        if len(text) != ISA_LENGTH + len(self.delimiters.line_break):
            raise EnvelopeUnusable(f"ISA has {len(text)} characters instead of {ISA_LENGTH}: {text!r}")
        return text

    def closing(self, number: int, groups: int) -> str:
        """IEA."""
        return self._segment("IEA", str(groups), f"{_checked(number):09d}")

    def group_opening(self, code: str, number: int, created_at: dt.datetime) -> str:
        """GS."""
        local = self._local(created_at)
        return self._segment(
            "GS",
            code,
            self.partner.group_sender or self.partner.sender.partition(":")[2],
            self.partner.group_receiver or self.partner.receiver.partition(":")[2],
            f"{local:%Y%m%d}",
            f"{local:%H%M}" if self.group_time == "HHMM" else f"{local:%H%M%S}",
            str(_checked(number)),
            "X",
            self.standard + self.industry,
        )

    def group_closing(self, number: int, documents: int) -> str:
        """GE."""
        return self._segment("GE", str(documents), str(_checked(number)))

    def document(self, name: str, control: str, segments: list[str]) -> str:
        """ST, the segments, and SE with their count."""
        element, ending = self.delimiters.element, self.delimiters.ending
        return (
            f"ST{element}{name}{element}{control}{ending}{''.join(segments)}"
            f"SE{element}{len(segments) + 2}{element}{control}{ending}"
        )


def _checked(number: int) -> int:
    if not 1 <= number <= LAST_NUMBER:
        raise EnvelopeUnusable(f"control number {number} is not between 1 and {LAST_NUMBER}")
    return number

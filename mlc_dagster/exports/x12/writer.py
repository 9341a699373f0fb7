"""The X12 writer of a feed: documents into transaction sets, sets into groups, groups into one interchange."""

import shutil
from collections.abc import Mapping, Sequence
from decimal import Inexact, InvalidOperation

from mlc_dagster.exports.writing import ByteSink, DocumentHeld, Frame, LayoutIdentity, Part, Rendered, Version
from mlc_dagster.exports.x12.accounts import Accounts
from mlc_dagster.exports.x12.change_860 import ChangeDocument
from mlc_dagster.exports.x12.characters import Tally
from mlc_dagster.exports.x12.envelope import Envelope
from mlc_dagster.exports.x12.headings import Pen
from mlc_dagster.exports.x12.invoice_810 import InvoiceDocument
from mlc_dagster.exports.x12.journal_821 import JournalDocument
from mlc_dagster.exports.x12.layout import GROUPS, X12Layout
from mlc_dagster.exports.x12.order_850 import OrderDocument
from mlc_dagster.exports.x12.shapes import Filled
from mlc_dagster.settings.exports import PartnerSettings
from mlc_dagster.settings.fusion import ChartSettings

_DOCUMENTS = {"810": InvoiceDocument, "850": OrderDocument, "860": ChangeDocument, "821": JournalDocument}

_LAST_DOCUMENT = 999_999_999
"""ST02 has at most nine characters."""


class X12Writer:
    """A layout made ready for one feed; implements ``writing.Writer``. Not safe for use by several threads at once."""

    def __init__(
        self,
        layout: X12Layout,
        identity: LayoutIdentity,
        partner: PartnerSettings,
        charts: Mapping[str, ChartSettings],
    ) -> None:
        """Make ready.

        Raises:
            EnvelopeUnusable: the partner's ids do not fit ISA and GS under the layout's delimiters.
        """
        self._layout = layout
        self._identity = identity
        self._tally = Tally()
        self._envelope = Envelope(
            partner,
            layout.rules.standard,
            layout.rules.industry,
            layout.delimiters,
            layout.rules.time_zone,
            layout.rules.group_time,
        )
        accounts = Accounts(charts, layout.rules.chart)
        self._pens = {name: Pen(layout, self._tally) for name in sorted(set(layout.sets.values()))}
        self._documents = {name: _DOCUMENTS[name](pen, accounts).segments for name, pen in self._pens.items()}

    @property
    def identity(self) -> LayoutIdentity:
        return self._identity

    def filled(self) -> dict[str, list[Filled]]:
        """By transaction set: every element that it may have, in the set's order, and where it comes from."""
        return {name: pen.filled(_DOCUMENTS[name].order) for name, pen in self._pens.items()}

    def checks(self, version: Version) -> tuple[str, tuple[str, ...]]:
        """The set that the version goes as, and what is made sure of before such a document is written."""
        name = self._layout.sets[version.change]
        return name, _DOCUMENTS[name].checks

    @property
    def file_name(self) -> str:
        return self._layout.rules.file_name

    @property
    def empty_file(self) -> bool:
        """Never: an interchange without a group says nothing and would use up a control number."""
        return False

    def group_of(self, version: Version) -> str:
        return GROUPS[self._layout.sets[version.change]]

    def render(self, version: Version, position: int) -> Rendered:
        """ST to SE; ST02 is the position in the group, at least four digits. Raises DocumentHeld."""
        if not 1 <= position <= _LAST_DOCUMENT:
            raise DocumentHeld("OVERFLOW", f"{position} is more documents than a group can number", target="ST02")
        name = self._layout.sets[version.change]
        tally = self._tally
        tally.clear()
        try:
            segments, totals = self._documents[name](version)
        except (Inexact, InvalidOperation):
            # Eighty digits are computed exactly, far more than any element takes.
            text = (
                "a quantity, price or amount has more digits than X12 can carry, or is no number; correct it in Fusion"
            )
            raise DocumentHeld("OVERFLOW", text) from None
        control = f"{position:04d}"
        body = self._envelope.document(name, control, segments)
        return Rendered(
            body=body.encode("ascii"),
            rows=len(segments) + 2,
            totals=totals,
            counts=tally.counts,
            set_control=f"{GROUPS[name]}/{control}",
        )

    def levels(self, groups: Sequence[str]) -> Mapping[str, int]:
        return {"interchange": 1, "group": len(groups)}

    def opening(self) -> bytes | None:
        """Never: the envelope has numbers of its own in every file."""
        return None

    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:  # noqa: ARG002
        """Without ``opening`` there is nothing to close; raises AssertionError."""
        raise AssertionError("an interchange is assembled whole")

    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Write the interchange; the numbers are ``frame.controls``, one group number per part in their order.

        Raises:
            ValueError: another count of numbers than ``levels`` asked for.
        """
        (interchange,) = frame.controls["interchange"]
        numbers = frame.controls["group"]
        envelope = self._envelope
        target.write(envelope.opening(interchange, frame.created_at).encode("ascii"))
        for part, number in zip(parts, numbers, strict=True):
            target.write(envelope.group_opening(part.group, number, frame.created_at).encode("ascii"))
            with part.body.open("rb") as body:
                shutil.copyfileobj(body, target, 1 << 20)
            target.write(envelope.group_closing(number, part.documents).encode("ascii"))
        target.write(envelope.closing(interchange, len(parts)).encode("ascii"))

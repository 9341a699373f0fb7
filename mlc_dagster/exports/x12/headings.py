"""What the transaction sets have in common: parties, references, currency, terms, dates, product ids, notes, totals.

Belongs here: segments that look the same in several sets. Does not: the order of segments in a set.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Tally
from mlc_dagster.exports.x12.elements import EXACT, is_scale_two, plain_number
from mlc_dagster.exports.x12.layout import Reference, X12Layout
from mlc_dagster.exports.x12.segments import PAIRS, segments
from mlc_dagster.exports.x12.shapes import Shape
from mlc_dagster.exports.x12.sources import Scope, as_text, translated
from mlc_dagster.money import minor_units
from mlc_dagster.money import total as sum_of

ZERO = Decimal(0)
ONE = Decimal(1)

_ROUNDING = Context(prec=80)


class Pen:
    """Makes shapes in a layout's standard, delimiters and style; all count in one tally."""

    def __init__(self, layout: X12Layout, tally: Tally) -> None:
        self.layout = layout
        self.rules = layout.rules
        self.tally = tally
        self.style = layout.style
        self.splits = self.style.text_too_long == "split"
        self.delimiters = layout.delimiters
        self._segments = segments(layout.rules.standard)

    def shape(
        self,
        segment: str,
        fields: Mapping[str, str],
        *,
        constants: Mapping[str, str] | None = None,
        only_with: str | None = None,
        settable: bool = True,
    ) -> Shape:
        """A segment writer; ``settable``: the layout's own elements apply."""
        return Shape(
            self._segments[segment],
            fields,
            style=self.style,
            delimiters=self.delimiters,
            tally=self.tally,
            constants=constants,
            overrides=self.layout.overrides.get(segment) if settable else None,
            only_with=only_with,
        )

    def pieces(self, text: str, longest: int) -> Sequence[str]:
        """Free text for a segment that may be repeated: in pieces where the layout splits, else whole."""
        if len(text) <= longest // 3 or not self.splits:
            return (text,)
        text = self.style.characters.repaired(text, self.tally)
        found: list[str] = []
        while len(text) > longest:
            cut = text.rfind(" ", 1, longest + 1)
            cut = longest if cut <= 0 else cut
            found.append(text[:cut].rstrip())
            text = text[cut:].lstrip()
        return [piece for piece in (*found, text) if piece]

    def unit(self, value: str | None, field: str) -> str | None:
        """The partner's unit of measure."""
        return None if not value else translated(self.layout.crosswalks.get("units"), value, field)


class Headings:
    """Segments above and beside the lines."""

    def __init__(self, pen: Pen, root: str) -> None:
        self._pen = pen
        rules = pen.rules
        layout = pen.layout
        self._currency = pen.shape(
            "CUR", {"currency": f"{root}.currency"}, constants={"entity": rules.currency_entity or "BY"}
        )
        self._parties = [
            (
                party,
                pen.shape(
                    "N1",
                    {
                        "name": party.name.name if party.name else "no name",
                        "qualifier": "qualifier",
                        "number": party.number.name if party.number else "no number",
                    },
                    constants={"entity": party.entity},
                ),
            )
            for party in layout.parties
        ]
        self._references = {
            level: [(reference, self._reference(reference)) for reference in references]
            for level, references in ((0, layout.references), (1, layout.line_references))
        }
        self._moved = pen.shape(
            "REF",
            {"number": "moved key", "description": "moved key"},
            constants={"qualifier": rules.account_qualifier},
        )
        self._terms = pen.shape(
            "ITD",
            {
                "type": "crosswalk terms",
                "basis": "crosswalk terms",
                "net_due": f"{root}.due_date",
                "net_days": "crosswalk terms",
                "description": f"{root}.payment_terms",
            },
        )
        self._dates = [
            (dated, pen.shape("DTM", {"date": dated.field.name}, constants={"qualifier": dated.qualifier}))
            for dated in layout.dates
        ]
        self._note_number = pen.shape(
            "N9", {"description": "notes"}, constants={"qualifier": "ZZ", "number": "NOTE"}, settable=False
        )
        self._note = pen.shape("MSG", {"text": f"{root}.description"}, only_with="text")
        self._count = pen.shape("CTT", {"lines": "lines", "hash": "hash_total"})
        self._ids = [(pair.qualifier, pair.field.value) for pair in layout.line_ids]
        self._longest_number = segments(rules.standard)["REF"].element(2).longest

    def _reference(self, reference: Reference) -> Shape:
        described = reference.description.name if reference.description else "description"
        return self._pen.shape(
            "REF",
            {"number": reference.number.name, "description": described},
            constants={"qualifier": reference.qualifier},
        )

    def currency(self, scope: Scope, code: str | None) -> Iterable[str]:
        return (self._currency.again(scope, code),) if code else ()

    def parties(self, scope: Scope) -> Iterable[str]:
        """N1 segments in the layout's order, without those of which nothing is known."""
        for party, shape in self._parties:
            name = party.name.text(scope) if party.name else None
            number = party.number.text(scope) if party.number else None
            if name or number:
                yield shape.again(scope, name, party.qualifier if number else None, number)

    def references(self, scope: Scope, level: int) -> Iterable[str]:
        """REF segments of the document (0) or of a line (1)."""
        if not self._references[level] and not self._pen.tally.moved:
            return ()
        return self._some_references(scope, level)

    def _some_references(self, scope: Scope, level: int) -> Iterable[str]:
        for reference, shape in self._references[level]:
            number = reference.number.text(scope)
            if number:
                description = reference.description.text(scope) if reference.description else None
                yield shape.again(scope, number, description)
        if self._pen.tally.moved:
            yield from self.moved_keys()

    def moved_keys(self) -> Iterable[str]:
        """One REF for each key that was too long for its element: whole, or in pieces where REF02 is short too."""
        longest = self._longest_number
        moved, self._pen.tally.moved = self._pen.tally.moved, []
        for target, key in moved:
            pieces = [key[start : start + longest] for start in range(0, len(key), longest)]
            for count, piece in enumerate(pieces, 1):
                if piece != piece.strip():
                    raise DocumentHeld("KEY_TOO_LONG", f"{target}: {key!r} would be split at a space", target=target)
                part = f" {count} of {len(pieces)}" if len(pieces) > 1 else ""
                yield self._moved((), piece, f"{target.partition(' ')[0]}{part}")

    def terms(self, scope: Scope, terms: str | None, due: Any = None) -> Iterable[str]:
        """ITD: the partner's codes where there is a crosswalk, and Fusion's words."""
        if not terms and due is None:
            return
        codes: list[str | None] = [None, None, None]
        crosswalk = self._pen.layout.crosswalks.get("terms")
        if crosswalk is not None and terms:
            given = translated(crosswalk, terms, "payment_terms").split("/")
            codes = [code or None for code in (*given, "", "")][:3]
        days = codes[2]
        if days is not None and not days.isdigit():
            raise DocumentHeld("CODE_UNKNOWN", f"crosswalk terms: {days!r} is no number of days", target="ITD07")
        yield self._terms.again(scope, codes[0], codes[1], due, int(days) if days else None, terms)

    def dates(self, scope: Scope) -> Iterable[str]:
        for dated, shape in self._dates:
            value = dated.field.value(scope)
            if value is not None:
                yield shape.again(scope, value)

    def note(self, text: str | None) -> list[str]:
        """Free text on the whole document as N9 and MSG; nothing where no character of it can be sent."""
        if not text or not self._pen.rules.notes:
            return []
        messages = [self._note((), piece) for piece in self._pen.pieces(text, 264)]
        return [self._note_number((), None), *messages] if any(messages) else []

    def ids(self, scope: Scope) -> list[str]:
        """Product ids of a line as pairs of qualifier and id, without gaps."""
        found: list[str] = []
        for qualifier, value_of in self._ids:
            value = value_of(scope)
            if value is not None:
                text = value if type(value) is str else as_text(value)
                if text:
                    found += (qualifier, text)
        return found

    def line_shapes(self, segment: str, fields: Mapping[str, str]) -> list[Shape]:
        """Shapes of a line, one per count of product ids from none to all: absent ones cost nothing."""
        shapes = [self._pen.shape(segment, fields)]
        fields = dict(fields)
        for number, pair in enumerate(self._pen.layout.line_ids[:PAIRS], 1):
            fields |= {f"qualifier_{number}": "qualifier", f"id_{number}": pair.field.name}
            shapes.append(self._pen.shape(segment, fields))
        return shapes

    def count(self, lines: int, quantities: Iterable[Decimal]) -> str:
        """CTT: number of lines and, unless the layout leaves it out, the hash total."""
        kind = self._pen.rules.hash_total
        if kind == "none":
            return self._count((), lines, None)
        if kind == "digits":
            quantities = [Decimal(plain_number(quantity).replace(".", "").lstrip("-")) for quantity in quantities]
        total = sum_of(quantities)
        return self._count((), lines, last_digits(total, 10))


def last_digits(total: Decimal, places: int) -> Decimal:
    """A hash total that fits: the leftmost digits go where it is too long, as the element's own rule is."""
    text = plain_number(total)
    if len(text) <= places:
        return total
    surplus = len(text.lstrip("-").replace(".", "")) - places
    if surplus <= 0:
        return total
    whole, point, fraction = text.lstrip("-").partition(".")
    kept = whole[surplus:] if surplus <= len(whole) else ""
    return Decimal(f"{kept or '0'}{point}{fraction}"[-(places + len(point)) :])


def extended(quantity: Decimal, price: Decimal, currency: str | None) -> Decimal:
    """Quantity times price in the currency's minor units, half up, as Fusion computes a line's amount."""
    exact = EXACT.multiply(quantity, price)
    known = minor_units(currency) if currency else None
    places = 2 if known is None else known
    exponent = exact.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -places:
        return exact
    return exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP, context=_ROUNDING)


def two_places(amount: Decimal, pen: Pen) -> tuple[Decimal, Decimal | None]:
    """An amount for an N2 element, and the exact one for AMT where N2 cannot carry it and the layout says so."""
    if pen.style.amount_scale == "hold" or is_scale_two(amount):
        return amount, None
    pen.tally.add("rounded_totals")
    return amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP, context=_ROUNDING), amount

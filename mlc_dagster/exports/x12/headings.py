"""What the transaction sets have in common: parties, references, currency, terms, dates, product ids, notes, totals.

Belongs here: segments that look the same in several sets. Does not: the order of segments in a set.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from operator import attrgetter
from typing import Any

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Tally
from mlc_dagster.exports.x12.elements import EXACT, is_scale_two, plain_number
from mlc_dagster.exports.x12.layout import Party, Reference, X12Layout
from mlc_dagster.exports.x12.segments import PAIRS, segments
from mlc_dagster.exports.x12.shapes import REMEMBERED, Filled, Shape
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
        self._shown: list[Shape] = []

    def shape(
        self,
        segment: str,
        fields: Mapping[str, str],
        *,
        constants: Mapping[str, str] | None = None,
        only_with: str | None = None,
        settable: bool = True,
        shown: bool = True,
    ) -> Shape:
        """A segment writer.

        Args:
            settable: the layout's own elements apply.
            shown: people see it in ``filled``; of several that differ in their last elements only, one is enough.
        """
        made = Shape(
            self._segments[segment],
            fields,
            style=self.style,
            delimiters=self.delimiters,
            tally=self.tally,
            constants=constants,
            overrides=self.layout.overrides.get(segment) if settable else None,
            only_with=only_with,
        )
        if shown:
            self._shown.append(made)
        return made

    def filled(self, order: Sequence[str]) -> list[Filled]:
        """The elements of all segments that are named in ``order``, in that order."""
        shapes = [shape for shape in self._shown if shape.name in order]
        return [
            filled for shape in sorted(shapes, key=lambda each: order.index(each.name)) for filled in shape.filled()
        ]

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

    def __init__(self, pen: Pen, root: str, *, currency: str = "currency", due: str | None = None) -> None:
        """Make ready.

        Args:
            root: first part of the document's paths, such as ``invoice``.
            currency: attribute whose value ``currency`` is given.
            due: field whose value ``terms`` is given as due date; None where the document has none.
        """
        self._pen = pen
        self._has_due = due is not None
        rules = pen.rules
        layout = pen.layout
        self._currency = pen.shape(
            "CUR", {"currency": f"{root}.{currency}"}, constants={"entity": rules.currency_entity or "BY"}
        )
        self._parties = [(party, self._party(party)) for party in layout.parties if party.name or party.number]
        named = [origin for party in layout.parties for origin in (party.name, party.number) if origin is not None]
        self._who = attrgetter(*(origin.attribute or "" for origin in named)) if named else None
        self._known_parties: dict[Any, tuple[str, ...]] = {}
        self._references = {
            level: [(reference, self._reference(reference)) for reference in references]
            for level, references in ((0, layout.references), (1, layout.line_references))
        }
        self._moved = pen.shape(
            "REF",
            {"number": "moved key", "description": "moved key"},
            constants={"qualifier": rules.account_qualifier},
            shown=pen.style.key_too_long == "ref",
        )
        self._terms = pen.shape(
            "ITD",
            {
                "type": "crosswalk terms",
                "basis": "crosswalk terms",
                **({"net_due": due} if due else {}),
                "net_days": "crosswalk terms",
                "description": f"{root}.payment_terms",
            },
        )
        self._dates = [
            (dated, pen.shape("DTM", {"date": dated.field.name}, constants={"qualifier": dated.qualifier}))
            for dated in layout.dates
        ]
        self._note_number = pen.shape(
            "N9",
            {},
            constants={"qualifier": "ZZ", "number": "NOTE"},
            settable=False,
            shown=rules.notes,
        )
        self._note = pen.shape(
            "MSG", {"text": f"{root}.description"}, only_with="text", shown=rules.notes and root == "order"
        )
        self._count = pen.shape("CTT", {"lines": "number of lines", "hash": f"hash_total {rules.hash_total}"})
        self._ids = [(pair.qualifier, pair.field.level, pair.field.reader()) for pair in layout.line_ids]
        self._longest_number = segments(rules.standard)["REF"].element(2).longest

    def _party(self, party: Party) -> Shape:
        fields = {"name": party.name.name} if party.name else {}
        if party.number:
            fields |= {"qualifier": repr(party.qualifier), "number": party.number.name}
        return self._pen.shape("N1", fields, constants={"entity": party.entity})

    def _reference(self, reference: Reference) -> Shape:
        fields = {"number": reference.number.name}
        if reference.description:
            fields["description"] = reference.description.name
        return self._pen.shape("REF", fields, constants={"qualifier": reference.qualifier})

    def currency(self, scope: Scope, code: str | None) -> Iterable[str]:
        return (self._currency.again(scope, code),) if code else ()

    def parties(self, scope: Scope) -> Sequence[str]:
        """N1 segments in the layout's order, without those of which nothing is known."""
        if self._who is None:
            return ()
        # Many documents are between the same parties.
        key = self._who(scope[0])
        known = self._known_parties.get(key)
        if known is None:
            before = self._pen.tally.total
            known = tuple(self._written_parties(scope))
            if before == self._pen.tally.total:
                if len(self._known_parties) >= REMEMBERED:
                    self._known_parties.clear()
                self._known_parties[key] = known
        return known

    def _written_parties(self, scope: Scope) -> Iterable[str]:
        for party, shape in self._parties:
            name = party.name.text(scope) if party.name else None
            number = party.number.text(scope) if party.number else None
            if name or number:
                yield shape(
                    scope,
                    *((name,) if party.name else ()),
                    *((party.qualifier if number else None, number) if party.number else ()),
                )

    def references(self, scope: Scope, level: int) -> Iterable[str]:
        """REF segments of the document (0) or of a line (1)."""
        if not self._references[level] and not self._pen.tally.moved:
            return ()
        return self._some_references(scope, level)

    def _some_references(self, scope: Scope, level: int) -> Iterable[str]:
        for reference, shape in self._references[level]:
            number = reference.number.text(scope)
            if number:
                description = (reference.description.text(scope),) if reference.description else ()
                yield shape.again(scope, number, *description)
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
        values = (codes[0], codes[1], *((due,) if self._has_due else ()), int(days) if days else None, terms)
        if text := self._terms.again(scope, *values):
            yield text

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
        return [self._note_number(()), *messages] if any(messages) else []

    def ids(self, scope: Scope) -> list[str]:
        """Product ids of a line as pairs of qualifier and id, without gaps."""
        found: list[str] = []
        for qualifier, level, value_of in self._ids:
            value = value_of(scope[level])
            if value is not None:
                text = value if type(value) is str else as_text(value)
                if text:
                    found += (qualifier, text)
        return found

    def line_shapes(self, segment: str, fields: Mapping[str, str]) -> list[Shape]:
        """Shapes of a line, one per count of product ids from none to all: absent ones cost nothing."""
        pairs = self._pen.layout.line_ids[:PAIRS]
        shapes = [self._pen.shape(segment, fields, shown=not pairs)]
        fields = dict(fields)
        for number, pair in enumerate(pairs, 1):
            fields |= {f"qualifier_{number}": repr(pair.qualifier), f"id_{number}": pair.field.name}
            shapes.append(self._pen.shape(segment, fields, shown=number == len(pairs)))
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

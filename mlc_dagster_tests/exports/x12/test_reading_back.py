"""All four sets in both versions, read back by pyx12: every value is the one that stands in Fusion's record."""

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_dagster.exports.writing import Change, DocumentHeld
from mlc_dagster.exports.x12.segments import STANDARDS, Standard
from mlc_dagster.fusion.records import (
    Installment,
    Invoice,
    InvoiceLine,
    Journal,
    OrderDistribution,
    OrderLine,
    OrderSchedule,
    PurchaseOrder,
)
from mlc_dagster_tests.exports.x12 import partner as p
from mlc_dagster_tests.exports.x12 import reading_back as back

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
DELIMITERS = [
    {},
    {"element": "|", "component": ":", "segment": "'", "repetition": "!"},
    {"element": "%", "component": "<", "segment": "\\", "repetition": "]"},
]
PLAIN = "ABCXYZabcxyz0189 &'()+,-./:;?=!\"%@[]_{}\\|<>~#$*"
"""The extended character set, usual delimiters included."""
SPELLED = {"é": "e", "Ü": "U", "ß": "ss", "€": "EUR", "–": "-", "中": " ", "\t": " ", "\n": " ", "\u0301": "", "^": " "}

standards = st.sampled_from(STANDARDS)
marks = st.sampled_from(DELIMITERS)
usual_keys = st.text("ABCXYZabc0189-/. ", min_size=1, max_size=22).map(str.rstrip).filter(bool)
keys = st.one_of(usual_keys, usual_keys, usual_keys, st.text(PLAIN, min_size=1, max_size=22))
texts = st.none() | st.text(PLAIN + "".join(SPELLED), max_size=120)
days = st.dates(dt.date(1990, 1, 1), dt.date(2099, 12, 31))
quantities = st.decimals(Decimal("0.001"), Decimal(999_999), places=3).map(lambda value: value.normalize() + 0)
prices = st.decimals(0, Decimal(999_999), places=4)
cents = st.decimals(Decimal("-99999.99"), Decimal("99999.99"), places=2)


def reserved(standard: Standard, delimiters: dict[str, str]) -> str:
    used = {"element": "*", "component": ">", "segment": "~", "repetition": "^"} | delimiters
    return "".join(mark for name, mark in used.items() if standard == "005010" or name != "repetition")


def spelled(text: str | None, forbidden: str, longest: int) -> str | None:
    """A text as it must arrive: delimiters are spaces, letters are spelled, the end is cut; None where nothing is."""
    if text is None:
        return None
    arrived = "".join(" " if character in forbidden else SPELLED.get(character, character) for character in text)
    return arrived.rstrip()[:longest].rstrip() or None


def sendable(key: str | None, forbidden: str) -> bool:
    return key is None or (not set(key) & set(forbidden) and not key.endswith(" "))


def read(sender: p.X12Writer, folder: Path, version: p.Version) -> list[list[str]]:
    """The one set of a file, after every fault that pyx12 can find was looked for."""
    data = p.interchange(sender, folder, [version])
    segments = p.pyx12_reads(data)
    assert back.faults_by_pyx12(segments, segments[0][12]) == []
    (found,) = back.sets(segments)
    return found


def money(quantity: Decimal, price: Decimal) -> Decimal:
    return (quantity * price).quantize(Decimal("0.01"), ROUND_HALF_UP)


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    """Any number of lines, none included, with tax and freight."""
    lines: list[InvoiceLine] = []
    for number in range(1, draw(st.integers(0, 5)) + 1):
        kind = draw(st.sampled_from(["Item", "Item", "Item", "Tax", "Freight"]))
        if kind == "Item":
            quantity, price = draw(quantities), draw(prices)
            lines.append(
                InvoiceLine(
                    number=number,
                    kind=kind,
                    quantity=quantity,
                    unit_price=price,
                    amount=money(quantity, price),
                    uom=draw(st.sampled_from(["Each", "Box of 12"])),
                    item=draw(st.none() | usual_keys | usual_keys | keys),
                    purchase_order=draw(st.none() | usual_keys),
                    description=draw(texts),
                )
            )
        else:
            lines.append(InvoiceLine(number=number, kind=kind, amount=draw(cents), description=draw(texts)))
    due = draw(st.none() | days)
    return Invoice(
        invoice_id=1,
        number=draw(keys),
        business_unit="US1 " + (draw(texts) or "Business Unit"),
        supplier="Supplier " + (draw(texts) or "Co"),
        supplier_number=draw(st.none() | st.text("0123456789", min_size=2, max_size=10)),
        currency=draw(st.sampled_from(["USD", "EUR", "GBP"])),
        amount=sum((line.amount or Decimal(0) for line in lines), Decimal(0)),
        invoice_date=draw(days),
        kind=draw(st.sampled_from(["Standard", "Credit memo", "Debit memo"])),
        payment_terms=draw(texts),
        purchase_order=draw(st.none() | usual_keys),
        lines=tuple(lines),
        installments=(Installment(number=1, due_date=due),) if due else (),
    )


def respelled(facts: back.Facts, forbidden: str, longest: dict[str, int]) -> back.Facts:
    """Facts with their free texts as they must arrive, by the name of the fact."""

    def arrived(name: str, fact: Any) -> Any:
        if name in longest:
            return spelled(fact, forbidden, longest[name])
        if name == "parties":
            return {entity: (spelled(said, forbidden, 60), number) for entity, (said, number) in fact.items()}
        if name == "charges":
            return [(amount, spelled(text, forbidden, 80)) for amount, text in fact]
        return [respelled(line, forbidden, longest) for line in fact] if name == "lines" else fact

    return back.known(**{name: arrived(name, fact) for name, fact in facts.items()})


@SLOW
@given(invoices(), standards, marks)
def test_an_810_says_what_the_invoice_says(
    tmp_path: Path, content: Invoice, standard: Standard, delimiters: dict[str, str]
) -> None:
    """Numbers and keys exactly, texts in letters that can be sent; a key that cannot be sent holds the invoice."""
    sender = p.writer("invoices", standard=standard, delimiters=delimiters)
    forbidden = reserved(standard, delimiters)
    named = [content.number, content.purchase_order]
    named += [key for line in content.lines for key in (line.item, line.purchase_order)]
    if not all(sendable(key, forbidden) for key in named):
        with pytest.raises(DocumentHeld) as caught:
            sender.render(p.version(content), 1)
        assert caught.value.reason == "CHARACTER"
        return
    facts = back.read_810(read(sender, tmp_path, p.version(content)))
    assert facts == respelled(back.facts_of_invoice(content), forbidden, {"text": 80, "terms": 80})


ANY = st.decimals(allow_nan=False, allow_infinity=False)


@SLOW
@given(ANY, ANY, standards)
def test_a_number_of_any_length_arrives_whole_or_not_at_all(
    tmp_path: Path, quantity: Decimal, price: Decimal, standard: Standard
) -> None:
    """Eleven digits where ten fit would be another quantity; nothing is rounded to make it fit."""
    # The record's own amount, as a test computes it, has 28 digits.
    content = p.invoice(p.item(quantity=f"{quantity:f}"[:60], price=f"{price:f}"[:60]))
    try:
        found = read(p.writer("invoices", standard=standard), tmp_path, p.version(content))
    except DocumentHeld as held:
        assert held.reason in ("OVERFLOW", "AMOUNT_SCALE", "TOTALS")  # noqa: PT017  One of both outcomes.
        return
    (line,) = content.lines
    assert line.quantity is not None
    assert line.unit_price is not None
    sign = -1 if line.unit_price < 0 else 1
    facts = back.read_810(found)
    assert (facts["lines"][0]["quantity"], facts["lines"][0]["price"]) == (line.quantity * sign, abs(line.unit_price))
    assert facts["total"] == content.amount


@st.composite
def order_lines(draw: st.DrawFn, number: int) -> OrderLine:
    quantity, price = draw(quantities), draw(prices)
    schedules = [
        OrderSchedule(
            schedule_id=100 * number + count,
            number=count,
            quantity=draw(quantities),
            ship_to_code=draw(st.none() | st.sampled_from(["SEA1", "DEN"])),
            requested_delivery=draw(days),
            promised_delivery=draw(st.none() | days),
            distributions=(
                OrderDistribution(
                    distribution_id=1, number=1, ordered=Decimal(draw(st.integers(0, 10**9))), charge_account="101-20-6"
                ),
            ),
        )
        for count in range(1, draw(st.integers(0, 2)) + 1)
    ]
    return OrderLine(
        line_id=5000 + number,
        number=number,
        quantity=quantity,
        price=price,
        ordered=money(quantity, price),
        uom=draw(st.sampled_from(["Each", "Box of 12"])),
        item=draw(st.none() | usual_keys),
        supplier_item=draw(st.none() | usual_keys),
        description=draw(texts),
        schedules=tuple(schedules),
    )


@st.composite
def orders(draw: st.DrawFn) -> PurchaseOrder:
    return PurchaseOrder(
        header_id=1,
        number=draw(keys),
        revision=draw(st.integers(0, 99)),
        description=draw(texts),
        business_unit="US1 Business Unit",
        supplier="Supplier " + (draw(texts) or "Co"),
        supplier_id=draw(st.none() | st.integers(10, 10**15)),
        ship_to="Seattle",
        buyer=draw(texts),
        currency=draw(st.sampled_from(["USD", "EUR"])),
        order_date=draw(days),
        payment_terms=draw(texts),
        lines=tuple(draw(order_lines(number)) for number in range(1, draw(st.integers(1, 4)) + 1)),
    )


ORDER_TEXTS = {"text": 80, "terms": 80, "note": 264, "buyer": 60}


def keys_of_order(order: PurchaseOrder) -> list[str | None]:
    return [order.number, *(key for line in order.lines for key in (line.item, line.supplier_item))]


@SLOW
@given(orders(), standards, marks)
def test_an_850_says_what_the_order_says(
    tmp_path: Path, content: PurchaseOrder, standard: Standard, delimiters: dict[str, str]
) -> None:
    """Lines with their schedules and accounts, parties, note and total."""
    sender = p.writer("purchase_orders", standard=standard, delimiters=delimiters, accounts="whole")
    forbidden = reserved(standard, delimiters)
    if not all(sendable(key, forbidden) for key in keys_of_order(content)):
        with pytest.raises(DocumentHeld) as caught:
            sender.render(p.version(content), 1)
        assert caught.value.reason == "CHARACTER"
        return
    facts = back.read_850(read(sender, tmp_path, p.version(content)))
    lines = [back.facts_of_order_line(line) for line in content.lines]
    expected = {"purpose": "00"} | back.facts_of_order_head(content, lines)
    assert facts == respelled(expected, forbidden, ORDER_TEXTS)


@SLOW
@given(orders(), standards, st.data())
def test_an_860_says_what_changed_and_the_new_total(
    tmp_path: Path, before: PurchaseOrder, standard: Standard, data: st.DataObject
) -> None:
    """Each line is kept, changed in quantity, or taken out; one is added: the file has exactly those that differ."""
    sender = p.writer("purchase_orders", standard=standard, accounts="whole")
    forbidden = reserved(standard, {})
    if not all(sendable(key, forbidden) for key in keys_of_order(before)):
        return
    lines: list[OrderLine] = []
    expected: list[back.Facts] = []
    removed: list[back.Facts] = []
    for line in before.lines:
        happens = data.draw(st.sampled_from(["kept", "quantity", "removed"]))
        facts = back.facts_of_order_line(line)
        if happens == "removed":
            removed.append(facts | {"change": "DI", "quantity": Decimal(0), "accounts": [], "schedules": []})
            removed[-1].pop("text", None)
            continue
        assert line.quantity is not None
        assert line.price is not None
        more = line.quantity + (1 if happens == "quantity" else 0)
        lines.append(msgspec.structs.replace(line, quantity=more, ordered=money(more, line.price)))
        if happens == "quantity":
            expected.append(back.facts_of_order_line(lines[-1]) | {"change": "QI"})
    new = p.order_line(90, quantity="2", price="3")
    expected.append(back.facts_of_order_line(new) | {"change": "AI"})
    after = msgspec.structs.replace(before, lines=(*lines, new), revision=before.revision + 1)
    version = p.version(after, Change.CHANGE, number=2, previous=before)
    changes = [*expected, *removed]
    found = back.read_860(read(sender, tmp_path, version))
    head = back.facts_of_order_head(after, changes)
    wanted = head | {"purpose": "04", "revision": after.revision, "changed": p.NOON.date()}
    assert found == respelled(wanted, forbidden, ORDER_TEXTS)


@st.composite
def journals(draw: st.DrawFn) -> Journal:
    """Balanced in both currencies; line amounts up to what an element takes."""
    amounts = draw(st.lists(st.decimals(Decimal("0.01"), Decimal(10) ** 13, places=2), min_size=1, max_size=6))
    lines = []
    for count, amount in enumerate(amounts):
        for offset, side in enumerate(("dr", "cr")):
            account = "-".join(draw(st.lists(st.text("0189AB", min_size=1, max_size=8), min_size=3, max_size=3)))
            lines.append(
                p.journal_line(
                    2 * count + offset + 1,
                    dr=str(amount) if side == "dr" else None,
                    cr=str(amount) if side == "cr" else None,
                    **{f"accounted_{side}": amount * 2},
                    currency="EUR",
                    account_combination=account,
                    description=draw(texts),
                )
            )
    return p.journal(
        *lines,
        currency="EUR",
        name="Journal " + (draw(texts) or "1"),
        period=draw(st.sampled_from(["Nov-26", "Adj-26"])),
        category=draw(st.none() | st.sampled_from(["Accrual", "Payroll"])),
        effective_date=draw(days),
    )


@SLOW
@given(journals(), standards, marks)
def test_an_821_says_what_the_journal_says(
    tmp_path: Path, content: Journal, standard: Standard, delimiters: dict[str, str]
) -> None:
    """Sides, both amounts with their currencies, and every segment of every account."""
    sender = p.writer("journals", standard=standard, delimiters=delimiters)
    facts = back.read_821(read(sender, tmp_path, p.version(content)))
    expected = back.facts_of_journal(content)
    assert facts == respelled(expected, reserved(standard, delimiters), {"text": 264, "name": 80})


def test_what_pyx12_knows_is_looked_at() -> None:
    """Its maps have no 810, 850, 860 or 821; of the segments that other sets share with them it knows the elements."""
    known = back.pyx12_elements()
    assert {"REF", "N1", "PER", "CUR", "DTM", "ENT", "IT1", "PID", "AMT", "CTT", "MSG", "TRN"} <= {
        at for at, _ in known
    }
    assert known["N1", 2] == ("AN", 1, 60)
    wrong = [["N1", "SELLER", "x" * 61], ["CTT", "1.5"]]
    assert len(back.faults_by_pyx12(wrong, "00401")) == 3

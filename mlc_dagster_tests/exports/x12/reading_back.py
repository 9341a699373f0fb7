"""What a partner's system makes of a file: documents as plain values, from pyx12's segments alone.

Shares no code with the writer. The same values are taken from Fusion's records beside it, so that both can be compared.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from defusedxml import ElementTree
from pyx12.validation import IsValidDataType

from mlc_dagster.fusion.records import Invoice, InvoiceLine, Journal, OrderLine, OrderSchedule, PurchaseOrder

Segments = list[list[str]]
Facts = dict[str, Any]

UNITS = {"EA": "Each", "BX": "Box of 12"}
KINDS = {"DI": "Standard", "CR": "Credit memo", "DR": "Debit memo"}


def sets(segments: Segments) -> Iterator[Segments]:
    """The segments between each ST and SE."""
    found: Segments = []
    for segment in segments:
        if segment[0] == "ST":
            found = []
        elif segment[0] == "SE":
            yield found
        else:
            found.append(segment)


def at(segment: list[str], position: int) -> str | None:
    return (segment[position] or None) if position < len(segment) else None


def number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def day(text: str | None) -> dt.date | None:
    return None if text is None else dt.datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007


def first(segments: Segments, name: str) -> list[str]:
    return next((segment for segment in segments if segment[0] == name), [name])


def loops(segments: Segments, opening: str, *, until: str) -> list[Segments]:
    """The segments of each loop, the last one up to a segment that is no part of it."""
    found: list[Segments] = []
    for segment in segments:
        if segment[0] == until:
            break
        if segment[0] == opening:
            found.append([])
        if found:
            found[-1].append(segment)
    return found


def above(segments: Segments, *openings: str) -> Segments:
    """The heading: everything before the first loop."""
    for index, segment in enumerate(segments):
        if segment[0] in openings:
            return segments[:index]
    return segments


def parties(segments: Segments) -> dict[str, tuple[str | None, str | None]]:
    return {segment[1]: (at(segment, 2), at(segment, 4)) for segment in segments if segment[0] == "N1"}


def ids(segment: list[str], start: int) -> dict[str, str]:
    return {segment[index]: segment[index + 1] for index in range(start, len(segment), 2)}


def known(**facts: object) -> Facts:
    """The facts that there are."""
    return {name: fact for name, fact in facts.items() if fact is not None}


def read_810(segments: Segments) -> Facts:
    head, big, itd = above(segments, "IT1", "TDS"), first(segments, "BIG"), first(segments, "ITD")
    lines = [
        known(
            number=loop[0][1],
            quantity=number(loop[0][2]),
            unit=UNITS[loop[0][3]],
            price=number(loop[0][4]),
            ids=ids(loop[0], 6),
            text=at(first(loop, "PID"), 5),
        )
        for loop in loops(segments, "IT1", until="TDS")
    ]
    charges = [
        ({"C": 1, "A": -1}[segment[1]] * Decimal(segment[5]) / 100, at(segment, 15))
        for segment in segments
        if segment[0] == "SAC"
    ]
    return known(
        issued=day(big[1]),
        number=big[2],
        order=at(big, 4),
        kind=KINDS[big[7]],
        currency=at(first(head, "CUR"), 2),
        parties=parties(head),
        due=day(at(itd, 6)),
        terms=at(itd, 12),
        lines=lines,
        tax=sum((Decimal(segment[2]) for segment in segments if segment[0] == "TXI"), Decimal(0)),
        charges=charges,
        total=Decimal(first(segments, "TDS")[1]) / 100,
        count=int(first(segments, "CTT")[1]),
        hash=number(at(first(segments, "CTT"), 2)),
    )


def facts_of_invoice(invoice: Invoice) -> Facts:
    """The same of the record; its texts must be such as can be sent as they are."""

    def of(kind: str) -> list[InvoiceLine]:
        return [line for line in invoice.lines if line.kind == kind]

    lines = [
        known(
            number=str(line.number),
            quantity=line.quantity,
            unit=line.uom,
            price=line.unit_price,
            ids=known(BP=line.item, PO=line.purchase_order),
            text=line.description,
        )
        for line in of("Item")
    ]
    return known(
        issued=invoice.invoice_date,
        number=invoice.number,
        order=invoice.purchase_order,
        kind=invoice.kind,
        currency=invoice.currency,
        parties={"SE": (invoice.supplier, invoice.supplier_number), "BT": (invoice.business_unit, None)},
        due=invoice.installments[0].due_date if len(invoice.installments) == 1 else None,
        terms=invoice.payment_terms,
        lines=lines,
        tax=sum((line.amount or Decimal(0) for line in of("Tax")), Decimal(0)),
        charges=[(line.amount, line.description) for line in of("Freight")],
        total=invoice.amount,
        count=len(lines),
        hash=sum((line.quantity or Decimal(0) for line in of("Item")), Decimal(0)),
    )


def schedules(loop: Segments) -> list[Facts]:
    return [
        known(quantity=number(segment[1]), place=at(segment, 4), date=day(segment[6]))
        for segment in loop
        if segment[0] == "SCH"
    ]


def accounts(loop: Segments) -> list[tuple[str, str]]:
    return [(segment[3], segment[2]) for segment in loop if segment[0] == "REF"]


def order_head(segments: Segments, opening: str) -> Facts:
    head = above(segments, opening, "CTT")
    return known(
        currency=at(first(head, "CUR"), 2),
        buyer=at(first(head, "PER"), 2),
        terms=at(first(head, "ITD"), 12),
        note=at(first(head, "MSG"), 1),
        parties=parties(head),
        count=int(first(segments, "CTT")[1]),
        hash=number(first(segments, "CTT")[2]),
        total=number(first(segments, "AMT")[2]),
    )


def read_850(segments: Segments) -> Facts:
    beg = first(segments, "BEG")
    lines = [
        known(
            number=loop[0][1],
            quantity=number(loop[0][2]),
            unit=UNITS[loop[0][3]],
            price=number(loop[0][4]),
            ids=ids(loop[0], 6),
            text=at(first(loop, "PID"), 5),
            accounts=accounts(loop),
            schedules=schedules(loop),
        )
        for loop in loops(segments, "PO1", until="CTT")
    ]
    return known(purpose=beg[1], number=beg[3], date=day(beg[5]), lines=lines) | order_head(segments, "PO1")


def read_860(segments: Segments) -> Facts:
    bch = first(segments, "BCH")
    lines = [
        known(
            number=loop[0][1],
            change=loop[0][2],
            quantity=number(loop[0][3]),
            unit=UNITS[loop[0][5]],
            price=number(loop[0][6]),
            ids=ids(loop[0], 8),
            text=at(first(loop, "PID"), 5),
            accounts=accounts(loop),
            schedules=schedules(loop),
        )
        for loop in loops(segments, "POC", until="CTT")
    ]
    revision = int(at(bch, 5) or 0)
    facts = known(purpose=bch[1], number=bch[3], revision=revision, date=day(bch[6]), changed=day(at(bch, 11)))
    return facts | {"lines": lines} | order_head(segments, "POC")


def facts_of_schedule(schedule: OrderSchedule) -> Facts:
    date = schedule.promised_delivery or schedule.requested_delivery
    return known(quantity=schedule.quantity, place=schedule.ship_to_code, date=date)


def facts_of_order_line(line: OrderLine) -> Facts:
    parts = [
        (f"{schedule.number}-{distribution.number} {label}", text)
        for schedule in line.schedules
        for distribution in schedule.distributions
        for label, text in (("ACCOUNT", distribution.charge_account), ("ORDERED", distribution.ordered))
    ]
    return known(
        number=str(line.number),
        quantity=line.quantity,
        unit=line.uom,
        price=line.price,
        ids=known(VP=line.supplier_item, BP=line.item),
        text=line.description,
        accounts=[(label, f"{text:f}" if isinstance(text, Decimal) else text) for label, text in parts],
        schedules=[facts_of_schedule(schedule) for schedule in line.schedules],
    )


def facts_of_order_head(order: PurchaseOrder, lines: list[Facts]) -> Facts:
    parties = {
        "BY": (order.business_unit, None),
        "SE": (order.supplier, None if order.supplier_id is None else str(order.supplier_id)),
        "BT": (order.bill_to, None),
        "ST": (order.ship_to, None),
    }
    return known(
        number=order.number,
        date=order.order_date,
        currency=order.currency,
        buyer=order.buyer,
        terms=order.payment_terms,
        note=order.description,
        parties={entity: named for entity, named in parties.items() if any(named)},
        count=len(lines),
        hash=sum((line["quantity"] for line in lines), Decimal(0)),
        total=sum((line.ordered or Decimal(0) for line in order.lines), Decimal(0)),
        lines=lines,
    )


def read_821(segments: Segments) -> Facts:
    head = above(segments, "ENT")
    named = {at(segment, 3): segment[2] for segment in head if segment[0] == "REF"}
    ledger, period = named.pop("LEDGER"), named.pop("PERIOD", None)
    source, category = named.pop("SOURCE", None), named.pop("CATEGORY", None)
    [(name, batch)] = named.items()
    lines = []
    for loop in loops(segments, "ENT", until="SE"):
        fir = first(loop, "FIR")
        lines.append(
            known(
                number=int(first(loop, "REF")[2]),
                account=[segment[2] for segment in loop if segment[0] == "FA2"],
                natural=first(loop, "ACT")[1],
                ledger_currency=first(loop, "CUR")[2],
                side=fir[9],
                accounted=number(fir[3]),
                currency=fir[11],
                entered=number(fir[12]),
                text=at(first(loop, "MSG"), 1),
            )
        )
    return known(
        batch=int(batch), name=name, ledger=ledger, period=period, source=source, category=category,
        date=day(first(head, "DTM")[2]), lines=lines,
    )  # fmt: skip


def facts_of_journal(journal: Journal) -> Facts:
    lines = [
        known(
            number=line.line_number,
            account=(line.account_combination or "").split("-"),
            natural=(line.account_combination or "").split("-")[-1],
            ledger_currency=journal.ledger_currency,
            side="D" if line.entered_cr is None else "C",
            accounted=line.accounted_dr if line.entered_cr is None else line.accounted_cr,
            currency=line.currency,
            entered=line.entered_dr if line.entered_cr is None else line.entered_cr,
            text=line.description,
        )
        for line in journal.lines
    ]
    return known(
        batch=journal.batch_id, name=journal.name, ledger=journal.ledger, period=journal.period, source=journal.source,
        category=journal.category, date=journal.effective_date, lines=lines,
    )  # fmt: skip


@cache
def pyx12_elements() -> dict[tuple[str, int], tuple[str, int, int]]:
    """Type and lengths (005010's) of the elements that pyx12's own maps and tables know, by segment and position."""
    maps = files("pyx12.map")
    tables = ElementTree.fromstring((maps / "dataele.xml").read_bytes())
    forms = {
        row.attrib["ele_num"]: (row.attrib["data_type"], int(row.attrib["min_len"]), int(row.attrib["max_len"]))
        for row in tables.iter("data_ele")
    }
    found: dict[tuple[str, int], tuple[str, int, int]] = {}
    for path in maps.iterdir():
        if not path.name.endswith(".xml") or not path.name[:3].isdigit():
            continue
        for element in ElementTree.fromstring(path.read_bytes()).iter("element"):
            place, form = element.get("xid", ""), forms.get(element.findtext("data_ele", ""))
            if form is not None and place[-2:].isdigit():
                found[place[:-2], int(place[-2:])] = form
    return found


def faults_by_pyx12(segments: Segments, version: str) -> list[str]:
    """Values that are not what pyx12 says of their element; ``version`` is ISA12."""
    faults: list[str] = []
    for segment in segments:
        for position, value in enumerate(segment[1:], 1):
            form = pyx12_elements().get((segment[0], position))
            if not value or form is None or segment[0] == "ISA":
                continue
            kind, shortest, longest = form
            digits = value.replace("-", "").replace(".", "") if kind[0] in "NR" else value
            if not shortest <= len(digits) <= longest or not IsValidDataType(value, kind, "E", version):
                faults.append(f"{segment[0]}{position:02d} {value!r} is not {kind} {shortest}/{longest}")
    return faults

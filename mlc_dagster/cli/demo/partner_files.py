"""The partner's eyes: delivered files read from their bytes alone, by nothing that the writers are made of.

CSV by the csv module, fixed width by slicing bytes at the agreed positions, X12 by splitting at the delimiters that its
first 106 bytes name. No layout, no writer and no type of the product is used, so that a fault there shows here.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from mlc_dagster.cli.demo.books import Book

RECORD = 400
"""Bytes of a fixed-width record, without its line end."""
_CENT = Decimal("0.01")
_LEDGER_CURRENCIES = {"US Primary Ledger": "USD"}
"""The fixed-width file is one ledger's; its accounted amounts are in a currency that both ends know."""

Sums = dict[str, Decimal]


def read_csv(files: Iterable[bytes]) -> Book:
    """Journals as CSV: UTF-8, a header row, one row per journal line; the journal's id is in RECORD_ID."""
    documents: dict[str, Sums] = {}
    told: Counter[str] = Counter()
    for content in files:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
        told.update({row["RECORD_ID"] for row in rows})
        for row in rows:
            amounts = {
                f"entered debit {row['CURRENCY']}": row["ENTERED_DR"],
                f"entered credit {row['CURRENCY']}": row["ENTERED_CR"],
                f"accounted debit {row['LEDGER_CURRENCY']}": row["ACCOUNTED_DR"],
                f"accounted credit {row['LEDGER_CURRENCY']}": row["ACCOUNTED_CR"],
            }
            sums = documents.setdefault(row["RECORD_ID"], {})
            _add(sums, "lines", Decimal(1))
            for name, text in amounts.items():
                _add(sums, name, Decimal(text or "0"))
    return Book.of(documents, told)


def read_fixed(files: Iterable[bytes]) -> Book:
    """Journals in records of 400 bytes of Windows-1252: H, one D per line, T; amounts with two implied decimals."""
    documents: dict[str, Sums] = {}
    told: Counter[str] = Counter()
    faults: list[str] = []
    for content in files:
        *records, rest = content.split(b"\r\n")
        if rest or any(len(record) != RECORD for record in records):
            faults.append(f"a fixed-width record is not of {RECORD} bytes and CR LF")
        details = [record for record in records if record[:1] == b"D"]
        if [record[:1] for record in records] != [b"H", *[b"D"] * len(details), b"T"]:
            faults.append("the fixed-width records are not H, D …, T")
        seen: set[str] = set()
        debits = credits_ = Decimal(0)
        for record in details:
            ledger, journal, batch = (_text(record[start:end]) for start, end in ((1, 31), (64, 164), (46, 64)))
            key = f"{int(batch)}/{ledger}/{journal}"
            seen.add(key)
            money, books = _text(record[214:217]), _LEDGER_CURRENCIES[ledger]
            sums = documents.setdefault(key, {})
            _add(sums, "lines", Decimal(1))
            _add(sums, f"entered debit {money}", _implied(record[258:275]))
            _add(sums, f"entered credit {money}", _implied(record[275:292]))
            _add(sums, f"accounted debit {books}", _implied(record[292:309]))
            _add(sums, f"accounted credit {books}", _implied(record[309:326]))
            debits += _implied(record[292:309])
            credits_ += _implied(record[309:326])
        told.update(seen)
        trailer = records[-1]
        counted = (int(trailer[1:10]), int(trailer[10:19]), _implied(trailer[19:37]), _implied(trailer[37:55]))
        if counted != (len(details), len(seen), debits, credits_):
            faults.append(f"the trailer says {counted}, the records {(len(details), len(seen), debits, credits_)}")
    return Book.of(documents, told, faults)


def read_invoices(files: Iterable[bytes]) -> Book:
    """Invoices from 810: number and currency from the heading, the total from TDS in hundredths."""
    documents: dict[str, Sums] = {}
    told: Counter[str] = Counter()
    faults: list[str] = []
    for content in files:
        for code, transaction in _transactions(content, faults):
            if code != "810":
                faults.append(f"{code} among the invoices")
                continue
            number, currency = _one(transaction, "BIG")[2], _one(transaction, "CUR")[2]
            total = Decimal(_one(transaction, "TDS")[1]) * _CENT
            lines = sum((Decimal(line[2]) * Decimal(line[4]) for line in _all(transaction, "IT1")), Decimal(0))
            tax = sum((Decimal(tax[2]) for tax in _all(transaction, "TXI")), Decimal(0))
            charges = sum(
                (Decimal(part[5]) * (-_CENT if part[1] == "A" else _CENT) for part in _all(transaction, "SAC")),
                Decimal(0),
            )
            if lines + tax + charges != total:
                faults.append(f"810 {number}: its parts come to {lines + tax + charges}, its total is {total}")
            told[number] += 1
            documents[number] = {f"total {currency}": total}
    return Book.of(documents, told, faults)


@dataclass
class _Order:
    """A purchase order as the partner has it after what came so far."""

    currency: str
    lines: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict[str, tuple[Decimal, Decimal]])
    """Quantity and price by line number."""
    changes: int = 0
    total: Decimal = Decimal(0)
    """What its latest message says it comes to."""

    def sums(self) -> Sums:
        return {
            "lines": Decimal(len(self.lines)),
            "quantity": sum((quantity for quantity, _ in self.lines.values()), Decimal(0)),
            f"ordered {self.currency}": sum((quantity * price for quantity, price in self.lines.values()), Decimal(0)),
            "changes": Decimal(self.changes),
        }


def read_orders(files: Iterable[bytes]) -> Book:
    """Purchase orders: 850 begins one, each 860 changes what the partner has of it. Files in the order they came."""
    orders: dict[str, _Order] = {}
    told: Counter[str] = Counter()
    faults: list[str] = []
    for content in files:
        for code, transaction in _transactions(content, faults):
            number = _one(transaction, "BEG" if code == "850" else "BCH")[3]
            if code == "850":
                told[number] += 1
                orders[number] = _Order(_one(transaction, "CUR")[2])
            elif number not in orders:
                faults.append(f"860 for {number}, of which there was no 850")
                continue
            order = orders[number]
            for line in _all(transaction, "PO1"):
                order.lines[line[1]] = Decimal(line[2]), Decimal(line[4])
            for line in _all(transaction, "POC"):
                if line[2] == "DI":
                    order.lines.pop(line[1], None)
                else:
                    order.lines[line[1]] = Decimal(line[3]), Decimal(line[6])
            order.changes += code == "860"
            order.total = Decimal(_one(transaction, "AMT")[2])
    documents = {number: order.sums() for number, order in orders.items()}
    for number, order in orders.items():
        come_to = documents[number][f"ordered {order.currency}"]
        if come_to != order.total:
            faults.append(f"order {number}: its lines come to {come_to}, its AMT says {order.total}")
    return Book.of(documents, told, faults)


def segments_of(content: bytes) -> list[list[str]]:
    """The segments of one X12 file, each split into its elements; delimiters as its ISA has them."""
    text = content.decode("ascii")
    return [segment.strip().split(text[3]) for segment in text.split(text[105]) if segment.strip()]


def _transactions(content: bytes, faults: list[str]) -> Iterator[tuple[str, list[list[str]]]]:
    """(850, its segments from ST to SE) of a file; what the envelope counts wrongly goes into ``faults``."""
    sets, groups, begin = 0, 0, 0
    opened: dict[str, str] = {}
    segments = segments_of(content)
    for place, segment in enumerate(segments):
        match segment[0]:
            case "ISA":
                opened["ISA"] = segment[13]
            case "GS":
                opened["GS"], sets = segment[6], 0
            case "ST":
                opened["ST"], begin = segment[2], place
            case "SE":
                sets += 1
                said = (segment[1], segment[2])
                _agree(faults, "SE", said, (str(place - begin + 1), opened["ST"]))
                yield segments[begin][1], segments[begin : place + 1]
            case "GE":
                groups += 1
                _agree(faults, "GE", (segment[1], segment[2]), (str(sets), opened["GS"]))
            case "IEA":
                _agree(faults, "IEA", (segment[1], segment[2]), (str(groups), opened["ISA"]))
            case _:
                pass
    if [segments[0][0], segments[-1][0]] != ["ISA", "IEA"]:
        faults.append("an interchange does not go from ISA to IEA")


def _agree(faults: list[str], segment: str, said: tuple[str, str], counted: tuple[str, str]) -> None:
    if said != counted:
        faults.append(f"{segment} says {said}, the file has {counted}")


def _one(transaction: list[list[str]], name: str) -> list[str]:
    return next(segment for segment in transaction if segment[0] == name)


def _all(transaction: list[list[str]], name: str) -> list[list[str]]:
    return [segment for segment in transaction if segment[0] == name]


def _text(field_: bytes) -> str:
    return field_.decode("cp1252").rstrip(" ")


def _implied(field_: bytes) -> Decimal:
    return Decimal(int(field_)) * _CENT


def _add(sums: Sums, name: str, value: Decimal) -> None:
    sums[name] = sums.get(name, Decimal(0)) + value

"""The demonstration's verdict on what left Fusion: it must be able to say no, and to name what differs."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from mlc_dagster.cli.demo.books import Book, FeedBooks
from mlc_dagster.cli.demo.outbound_accounts import folder_faults
from mlc_dagster.cli.demo.partner_files import read_csv, read_fixed, read_invoices, read_orders
from mlc_dagster.cli.demo.screen import Screen
from mlc_dagster.cli.sandbox_process import SandboxProcess
from mlc_dagster.ledger.database import open_ledger

INVOICES: Mapping[str, Mapping[str, Decimal]] = {
    "INV-1": {"total USD": Decimal("1082.50")},
    "INV-2": {"total JPY": Decimal(140800)},
}
DINARS: Mapping[str, Mapping[str, Decimal]] = {"INV-3": {"total KWD": Decimal("1250.500")}}


def agreeing() -> FeedBooks:
    """Three invoices in Fusion, of which the partner has two and one is held."""
    delivered = Book.of(INVOICES)
    return FeedBooks("invoices", "invoices", Book.of({**INVOICES, **DINARS}), delivered, delivered, Book.of(DINARS))


def test_agreement_is_silent() -> None:
    """The yardstick itself: what is delivered once, or held, is in order."""
    assert agreeing().faults() == []


@pytest.mark.parametrize("side", ["files", "ledger"])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({**INVOICES, "INV-1": {"total USD": Decimal("1082.49")}}, "INV-1: total USD is 1082.50 in Fusion and 1082.49"),
        ({"INV-1": INVOICES["INV-1"]}, "INV-2 is in Fusion and not in"),
        ({**INVOICES, **DINARS}, "INV-3 is in"),
        ({**INVOICES, "INV-2": {"total USD": Decimal(140800)}}, "INV-2: total JPY is 140800 in Fusion and 0"),
    ],
)
def test_a_deviation_of_one_side_is_named(side: str, changed: dict[str, dict[str, Decimal]], named: str) -> None:
    """A cent, a lost document, one that should be held, a wrong currency: each by the document that has it."""
    faults = dataclasses.replace(agreeing(), **{side: Book.of(changed)}).faults()
    assert any(named in fault for fault in faults)


def test_a_document_that_the_partner_got_twice_is_named() -> None:
    """Equal sums can hide one document lost and another one doubled."""
    twice = Book.of(INVOICES, Counter({"INV-1": 2, "INV-2": 1}))
    assert dataclasses.replace(agreeing(), files=twice).faults() == ["invoices: INV-1 is in the files 2 times"]


def test_a_ledger_that_knows_sums_alone_is_compared_by_them() -> None:
    """Control totals of files are all that our ledger keeps of journals and invoices."""
    sums = Book(Counter(INVOICES.keys()), {"total USD": Decimal("1082.51"), "total JPY": Decimal(140800)})
    faults = dataclasses.replace(agreeing(), ledger=sums).faults()
    assert faults == ["invoices: total USD is 1082.50 in Fusion and 1082.51 in our ledger"]


def test_the_table_shows_a_difference_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Decimals beyond the currency's are what a fault looks like; they are not rounded away."""
    odd = Book.of({**INVOICES, "INV-1": {"total USD": Decimal("1082.5049")}})
    Screen(silent=False).feed(dataclasses.replace(agreeing(), files=odd))
    shown = capsys.readouterr().out
    assert "1,082.5049 USD" in shown
    assert "1,082.50 USD" in shown
    assert "1,250.500 KWD" in shown


def test_a_file_that_our_ledger_does_not_know_is_named(tmp_path: Path) -> None:
    """A file sent and not recorded would be sent again; so would what is left of a broken upload."""
    (tmp_path / "inbound").mkdir()
    (tmp_path / "inbound" / "orders.x12.part").write_bytes(b"ISA")
    sandbox = SandboxProcess(cast("Any", None), {"partner_root": str(tmp_path)})
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    try:
        with ledger.reading() as reading:
            assert folder_faults(sandbox, reading) == ["orders.x12.part is there and counts as nothing"]
    finally:
        ledger.close()


CSV = (
    "LEDGER,JOURNAL,CURRENCY,LEDGER_CURRENCY,ENTERED_DR,ENTERED_CR,ACCOUNTED_DR,ACCOUNTED_CR,LINE_DESCRIPTION,RECORD_ID\r\n"
    'US,"A, b",EUR,USD,10.50,,11.40,,"two\r\nlines, ""quoted""",7/US/A\r\n'
    "US,A,EUR,USD,,10.50,,11.40,,7/US/A\r\n"
)


def test_csv_is_read_by_its_own_rules() -> None:
    """Commas, quotes and line ends within a cell are no ends of anything."""
    book = read_csv([CSV.encode()])
    assert book.told == Counter({"7/US/A": 1})
    assert book.figures == {
        "lines": 2,
        "entered debit EUR": Decimal("10.50"),
        "entered credit EUR": Decimal("10.50"),
        "accounted debit USD": Decimal("11.40"),
        "accounted credit USD": Decimal("11.40"),
    }


def test_a_journal_in_two_files_is_told_twice() -> None:
    """Once per file that has it, however many lines it has there."""
    assert read_csv([CSV.encode(), CSV.encode()]).told == Counter({"7/US/A": 2})


def fixed_line(debit: str, credit: str) -> bytes:
    """A detail record at the agreed positions; amounts of 17 digits with two implied decimals."""
    front = f"{'D':1}{'US Primary Ledger':30}{'Nov-26':15}{7:018d}{'Büro – Müller':100}{'':50}USD20261121{1:09d}{'':24}"
    return f"{front}{debit:0>17}{credit:0>17}{debit:0>17}{credit:0>17}".encode("cp1252").ljust(400)


def fixed(lines: int, total: str) -> bytes:
    """A file of a debit and a credit of 12.34 with a trailer that says so."""
    trailer = f"T{lines:09d}{1:09d}{total:0>18}{total:0>18}".encode("cp1252").ljust(400)
    records = [b"H".ljust(400), fixed_line("1234", "0"), fixed_line("0", "1234"), trailer]
    return b"".join(record + b"\r\n" for record in records)


def test_fixed_width_is_read_by_position() -> None:
    """Bytes of cp1252, in which a dash and an umlaut are one each: a column later everything would be wrong."""
    book = read_fixed([fixed(2, "1234")])
    assert book.faults == ()
    assert book.told == Counter({"7/US Primary Ledger/Büro – Müller": 1})
    assert book.figures["accounted credit USD"] == Decimal("12.34")


@pytest.mark.parametrize(("lines", "total"), [(3, "1234"), (2, "1235")])
def test_a_trailer_that_counts_otherwise_is_a_fault(lines: int, total: str) -> None:
    """A mainframe would refuse the file."""
    assert len(read_fixed([fixed(lines, total)]).faults) == 1


def test_a_record_of_another_length_is_a_fault() -> None:
    """One byte too many shifts every record after it."""
    assert read_fixed([fixed(2, "1234").replace(b"H ", b"H  ", 1)]).faults


def interchange(*segments: str, sets: int = 1) -> bytes:
    """An X12 file around these segments, with delimiters of its own choice."""
    blank, sender, receiver = " " * 10, f"{'A':15}", f"{'B':15}"
    isa = f"ISA|00|{blank}|00|{blank}|ZZ|{sender}|ZZ|{receiver}|261121|1200|U|00401|000000009|0|T|>"
    parts = [isa, "GS|PO|A|B|20261121|1200|5|X|004010", *segments, f"GE|{sets}|5", "IEA|1|000000009"]
    return "".join(f"{part}!" for part in parts).encode("ascii")


BILL = ("ST|810|0001", "BIG|20261121|INV-1", "CUR|SE|USD", "TDS|1050", "SAC|C|ZZZZ|||1100", "SAC|A|ZZZZ|||50")


def test_an_invoice_is_read_in_hundredths() -> None:
    """Totals have two implied decimals; an allowance is subtracted."""
    book = read_invoices([interchange(*BILL, "SE|7|0001")])
    assert (dict(book.figures), book.faults) == ({"total USD": Decimal("10.50")}, ())


def test_an_envelope_that_counts_otherwise_is_a_fault() -> None:
    """Segments in SE, sets in GE: a partner's translator refuses either."""
    assert read_invoices([interchange(*BILL, "SE|6|0001")]).faults == (
        "SE says ('6', '0001'), the file has ('7', '0001')",
    )
    assert len(read_invoices([interchange(*BILL, "SE|7|0001", sets=2)]).faults) == 1


def test_an_invoice_whose_parts_are_not_its_total_is_a_fault() -> None:
    """What the partner pays is the total; what it books are the parts."""
    short = [segment.replace("1100", "1099") for segment in BILL]
    assert read_invoices([interchange(*short, "SE|7|0001")]).faults == (
        "810 INV-1: its parts come to 10.49, its total is 10.50",
    )


ORDER = interchange(
    "ST|850|0001", "BEG|00|SA|US1||20261121", "CUR|BY|USD", "PO1|1|200|BX|5.5", "PO1|2|1|EA|500", "AMT|TT|1600",
    "SE|7|0001",
)  # fmt: skip


def changed(*lines: str, total: str) -> bytes:
    """An 860 for the order above."""
    segments = ("ST|860|0001", "BCH|04|SA|US1||1|20261121", "CUR|BY|USD", *lines, f"AMT|TT|{total}")
    return interchange(*segments, f"SE|{len(segments) + 1}|0001")


@pytest.mark.parametrize(
    ("lines", "total", "figures"),
    [
        (("POC|1|QI|260|260|BX|5.5",), "1930", {"lines": 2, "quantity": 261, "ordered USD": 1930, "changes": 1}),
        (("POC|2|DI|0|0|EA|500",), "1100", {"lines": 1, "quantity": 200, "ordered USD": 1100, "changes": 1}),
        (("POC|3|AI|4|4|EA|2.5",), "1610", {"lines": 3, "quantity": 205, "ordered USD": 1610, "changes": 1}),
    ],
)
def test_a_change_is_applied_to_what_the_partner_has(
    lines: tuple[str, ...], total: str, figures: dict[str, Any]
) -> None:
    """Changed, removed and added lines: afterwards the partner's order is Fusion's."""
    book = read_orders([ORDER, changed(*lines, total=total)])
    assert (book.figures, book.faults, book.told) == (figures, (), Counter({"US1": 1}))


def test_a_change_of_an_unknown_order_is_a_fault() -> None:
    """Whoever sends it first would have lost the order."""
    assert read_orders([changed("POC|1|QI|260|260|BX|5.5", total="1430")]).faults == (
        "860 for US1, of which there was no 850",
    )


def test_an_order_whose_lines_are_not_its_total_is_a_fault() -> None:
    """The change was applied, and the partner's sum is another than ours."""
    assert len(read_orders([ORDER, changed("POC|1|QI|260|260|BX|5.5", total="1931")]).faults) == 1

"""Envelopes: what a partner's translator reads first, byte by byte, and rejects whole files for."""

from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.exports.writing import Change
from mlc_dagster.exports.x12.characters import Characters
from mlc_dagster.exports.x12.checks import check_interchange, check_segments
from mlc_dagster.exports.x12.envelope import EnvelopeUnusable
from mlc_dagster_tests.exports.x12 import partner as p


def test_the_isa_has_106_bytes_with_all_its_padding(tmp_path: Path) -> None:
    """Receivers take the delimiters by position: one byte less and nothing in the file can be read."""
    data = p.interchange(p.writer("invoices"), tmp_path, [p.version(p.invoice())])
    expected = (
        "ISA*00*          *00*          *ZZ*ACME           *01*123456789      *261121*1205*U*00401*000000041*0*T*>~"
    )
    assert data[:106].decode() == expected
    assert data[106:109] == b"GS*"


def test_005010_names_its_repetition_separator_and_version(tmp_path: Path) -> None:
    """ISA11 changed its meaning: a U there makes U the separator of repetitions."""
    sender = p.writer("invoices", standard="005010", industry="VICS", delimiters={"element": "|", "repetition": "^"})
    data = p.interchange(sender, tmp_path, [p.version(p.invoice())])
    isa = data[:106].decode().split("|")
    assert (len(data[:106]), isa[11], isa[12]) == (106, "^", "00501")
    assert p.one(p.split(data, element="|"), "GS")[8] == "005010VICS"


@pytest.mark.parametrize("number", [1, 41, 999_999_999])
def test_numbers_have_no_leading_zeros_but_in_isa(tmp_path: Path, number: int) -> None:
    """GS06 with zeros is refused by strict readers; ISA13 without them has a wrong length."""
    data = p.interchange(p.writer("invoices"), tmp_path, [p.version(p.invoice())], numbers=(number, number))
    segments = p.split(data)
    assert p.one(segments, "ISA")[13] == p.one(segments, "IEA")[2] == f"{number:09d}"
    assert p.one(segments, "GS")[6] == p.one(segments, "GE")[2] == str(number)
    assert p.one(segments, "GE")[1] == p.one(segments, "IEA")[1] == "1"
    assert p.one(segments, "ST")[2] == p.one(segments, "SE")[2] == "0001"


@pytest.mark.parametrize("number", [0, 1_000_000_000])
def test_a_number_out_of_range_gives_no_file(tmp_path: Path, number: int) -> None:
    """Ten digits would push every later byte of ISA aside."""
    with pytest.raises(EnvelopeUnusable, match=str(number)):
        p.interchange(p.writer("invoices"), tmp_path, [p.version(p.invoice())], numbers=(number, 1))


@pytest.mark.parametrize("line_break", ["none", "lf", "crlf"])
def test_an_independent_reader_finds_counts_and_numbers_right(tmp_path: Path, line_break: str) -> None:
    """Several groups and documents in one file, as pyx12 reads them."""
    sender = p.writer("purchase_orders", line_break=line_break)
    before, after = p.order(), p.order(p.order_line(quantity="12"), revision=1)
    versions = [
        p.version(p.order(number="PO-1")),
        p.version(p.order(number="PO-2")),
        p.version(after, Change.CHANGE, number=2, previous=before),
    ]
    data = p.interchange(sender, tmp_path, versions)
    segments = p.pyx12_reads(data)
    assert [found[1] for found in p.named(segments, "GS")] == ["PO", "PC"]
    assert [found[1:] for found in p.named(segments, "ST")] == [["850", "0001"], ["850", "0002"], ["860", "0001"]]
    assert [found[1:] for found in p.named(segments, "GE")] == [["2", "7"], ["1", "8"]]
    assert check_interchange(data).problems == []


def test_line_breaks_come_after_terminators_only(tmp_path: Path) -> None:
    """People read such files; the terminator stays what ISA says."""
    data = p.interchange(p.writer("invoices", line_break="crlf"), tmp_path, [p.version(p.invoice())])
    assert data.count(b"\r\n") == data.count(b"~") == data.count(b"~\r\n")


def test_the_date_is_of_the_layouts_zone(tmp_path: Path) -> None:
    """A partner in Auckland files by its own day."""
    data = p.interchange(
        p.writer("invoices", time_zone="Pacific/Auckland", group_time="HHMMSS"), tmp_path, [p.version(p.invoice())]
    )
    segments = p.split(data)
    assert p.one(segments, "ISA")[9:11] == ["261122", "0105"]
    assert p.one(segments, "GS")[4:6] == ["20261122", "010509"]


def test_group_ids_and_usage_are_the_partners_own(tmp_path: Path) -> None:
    """GS02 and GS03 often name a department where ISA names the network's mailbox."""
    ends = {"group_sender": "ACMEAP", "group_receiver": "BANKGL", "usage": "P", "acknowledgement_requested": True}
    segments = p.split(p.interchange(p.writer("invoices", partner=ends), tmp_path, [p.version(p.invoice())]))
    assert p.one(segments, "GS")[2:4] == ["ACMEAP", "BANKGL"]
    assert p.one(segments, "ISA")[14:16] == ["1", "P"]


@pytest.mark.parametrize(
    "ends", [{"sender": "ZZ:AC*ME"}, {"sender": "ZZ:A"}, {"sender": "ZZ:ACME "}, {"group_sender": "A>B"}]
)
def test_ids_that_break_the_envelope_are_refused_before_any_file(ends: dict[str, Any]) -> None:
    """An id with a delimiter in it would be found by the partner, in production."""
    with pytest.raises(EnvelopeUnusable, match=r"partner\."):
        p.writer("invoices", partner=ends)


def test_levels_ask_for_one_number_per_group() -> None:
    """Control numbers are taken from the ledger by these counts: one too many is a gap."""
    assert p.writer("purchase_orders").levels(["PO", "PC"]) == {"interchange": 1, "group": 2}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"~SE*", b"~SE*9", "counts"),
        (b"GE*1*7", b"GE*1*8", "number"),
        (b"IEA*1*", b"IEA*2*", "counts"),
        (b"*000000041*0", b"*000000042*0", "number"),
        (b"CTT*1*10~", b"CTT*1*10*~", "empty element"),
        (b"GE*1*7~", b"", "closes nothing"),
        (b"ISA*00*          *", b"ISA*00*         *", "lengths"),
        (b"IEA*1*000000041~", b"IEA*1*000000041", "cut off"),
        (b"IEA*1*000000041~", b"", "never closed"),
    ],
)
def test_the_check_finds_what_would_be_rejected(tmp_path: Path, old: bytes, new: bytes, fault: str) -> None:
    """It judges bytes alone, so it finds what the writer believes to be right too."""
    data = p.interchange(p.writer("invoices"), tmp_path, [p.version(p.invoice())])
    assert check_interchange(data).problems == []
    assert old in data
    assert any(fault in problem for problem in check_interchange(data.replace(old, new, 1)).problems)


def test_what_was_checked_is_counted(tmp_path: Path) -> None:
    """A preview says what was looked at: a check that never ran proves nothing."""
    orders = [p.version(p.order(number="PO-1")), p.version(p.order(number="PO-2"))]
    passed = check_interchange(p.interchange(p.writer("purchase_orders"), tmp_path, orders)).passed
    assert {
        "ISA has 106 bytes: 1",
        "SE01 counts the segments: 2",
        "GE01 counts the sets: 1",
        "ST02 is there once: 2",
    } <= (set(passed))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"*INV-10045*", b"*INV-10045 with a long tail*", "BIG02 number 'INV-10045 with a long tail' is not AN 1/22"),
        (b"BIG*20261120*", b"BIG**", "BIG01 issued is empty"),
        (b"BIG*20261120*", b"BIG*2026-1-2*", "BIG01 issued '2026-1-2' is not DT 8/8"),
        (b"*10*EA*12.5*", b"*10**12.5*", "breaks P020304: quantity, unit, price together or not at all"),
        (b"*10*EA*12.5*", b"*10*EA*1,5*", "IT104 price '1,5' is not R 1/17"),
        (b"TDS*12500", b"TDS*125.00", "TDS01 total '125.00' is not N2 1/15"),
        (b"ITD******", b"ITD******9", "ITD06 net_due '9' is not DT 8/8"),
        (b"Net 30", b"Net\t30", r"has '\t'"),
        (b"CTT*1*10", b"CTT*2*10", "counts '2' lines, there are 1"),
        (b"CTT*1*10", b"CTT*1*10*7", "CTT03 '7' is where nothing may be"),
    ],
)
def test_the_check_of_segments_finds_what_would_be_rejected(tmp_path: Path, old: bytes, new: bytes, fault: str) -> None:
    """Every element and rule once more from the bytes, as a partner's translator does it."""
    data = p.interchange(p.writer("invoices"), tmp_path, [p.version(p.invoice())])
    allowed = Characters("extended", "*~>").allowed
    assert check_segments(data, "004010", allowed).problems == []
    assert old in data
    found = check_segments(data.replace(old, new, 1), "004010", allowed)
    assert any(fault in problem for problem in found.problems)
    assert len(found.failed) == 1

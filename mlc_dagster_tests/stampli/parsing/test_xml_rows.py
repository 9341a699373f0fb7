"""XML by element paths: the same invoices, and nothing that a document can do to its reader."""

import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile_rows import Xml
from mlc_dagster.stampli.parsing.xml_rows import XmlRows
from mlc_dagster_tests.stampli.builders import invoice_csv, invoice_rows, only
from mlc_dagster_tests.stampli.builders_shapes import XML, read, xml_file

ROWS = [*invoice_rows("60.00", "40.00"), *invoice_rows("1.00", invoice_id="2")]
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def write(folder: Path, content: bytes) -> Path:
    path = folder / "x.xml"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(FileRejected) as refused:
        read(write(folder, content), XML)
    assert refused.value.reason == "FILE_SCHEMA"
    assert refused.value.text.isprintable()
    return refused.value.text


@pytest.mark.parametrize("head", ["", "\ufeff", '<?xml version="1.0"?>', "<!-- made by hand -->"])
def test_a_document_says_what_the_plain_file_says(tmp_path: Path, head: str) -> None:
    """The shape of a file is the sender's matter; the invoice, and so its digest, is the same."""
    rows = invoice_rows("100.00", vendor_name="Müller & <Söhne>")
    (invoice,), aside = read(write(tmp_path, xml_file(rows, head=head)), XML)
    assert not aside
    assert invoice.digest == only(tmp_path, invoice_csv(rows)).digest


def test_a_document_on_one_line_is_the_same(tmp_path: Path) -> None:
    """Line ends mean nothing in XML, so rows are numbered by their elements."""
    flat = b"".join(line.strip() for line in xml_file(ROWS).splitlines())
    invoices, _ = read(write(tmp_path, flat), XML)
    assert [invoice.rows for invoice in invoices] == [(1, 2), (3,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "aaa">]><InvoiceExport>&a;</InvoiceExport>', "document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><InvoiceExport/>', "document type"),
        (b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://localhost/x">%p;]><InvoiceExport/>', "document type"),
        (b"<InvoiceExport>&undefined;</InvoiceExport>", "undefined entity"),
        (b"<InvoiceExport>" + b"<a>" * 100 + b"</a>" * 100 + b"</InvoiceExport>", "max_depth"),
        (b"<InvoiceExport><a>" + b"x" * 3_000_000 + b"</a></InvoiceExport>", "max_row_bytes"),
        (b'<InvoiceExport><a b="' + b"x" * 3_000_000 + b'"/></InvoiceExport>', "max_row_bytes"),
        (b"<InvoiceExport><!--" + b"x" * 3_000_000 + b"--></InvoiceExport>", "max_row_bytes"),
        (b"<InvoiceExport>" + b"".join(b"<a%d/>" % n for n in range(2000)) + b"</InvoiceExport>", "max_columns"),
        (b"<Other/>", "the profile expects 'InvoiceExport'"),
        (b"", "no element found"),
        (b"<InvoiceExport>", "no element found"),
        (b'<?xml version="1.0" encoding="UTF-16"?><InvoiceExport/>', "says that it is UTF-16"),
        ("<InvoiceExport/>".encode("utf-16"), "is UTF-16, the profile says utf-8"),
        (b"<InvoiceExport>\xe9</InvoiceExport>", "not well-formed"),
        (b"<InvoiceExport><Invoice/></InvoiceExport>", "invoices are expected in InvoiceExport/Invoices/Invoice"),
    ],
)
def test_a_document_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Entities that grow, files that are fetched, depths without end: whoever can write a file could send them."""
    assert words in refusal(tmp_path, content)


def test_a_fault_of_the_document_is_told_with_line_and_column(tmp_path: Path) -> None:
    """A person opens the file there."""
    assert "at line 3, column 4" in refusal(tmp_path, HEAD + b"<InvoiceExport>\n  <\n")


def test_a_document_that_is_cut_off_gives_no_invoice(tmp_path: Path) -> None:
    """Its first invoices look whole."""
    whole = xml_file(ROWS)
    for cut in range(200, len(whole) - 5, 97):
        with pytest.raises(FileRejected):
            next(parse_file(write(tmp_path, whole[:cut]), XML))


def test_an_element_that_is_there_twice_sets_its_invoice_aside(tmp_path: Path) -> None:
    """Which of two amounts counts is not for us to guess."""
    content = xml_file(ROWS).replace(b'<Amount currency="USD">100.00</Amount>', b"<Amount>1</Amount><Amount>2</Amount>")
    (invoice,), aside = read(write(tmp_path, content), XML)
    assert invoice.source_id == "2"
    assert [row.source_id for row in aside] == ["88121", "88121"]
    assert "invoice_amount (InvoiceExport/Invoices/Invoice/Amount) is there twice" in aside[0].text


def test_an_invoice_without_lines_is_set_aside(tmp_path: Path) -> None:
    """Nothing of it could be posted, and nothing of it may disappear."""
    content = xml_file(ROWS)
    start, end = content.index(b"<Lines>"), content.index(b"</Lines>") + len(b"</Lines>")
    (invoice,), (row,) = read(write(tmp_path, content[:start] + content[end:]), XML)
    assert invoice.source_id == "2"
    assert (row.company_id, row.source_id) == ("C100", "88121")
    assert "has no Lines/Line" in row.text


def test_lines_in_another_place_are_not_overlooked(tmp_path: Path) -> None:
    """An undeclared element is told as an unknown column; a line must not be one."""
    content = xml_file(ROWS).replace(b"</Lines>", b"</Lines><Line><Amount>5.00</Amount></Line>", 1)
    _, aside = read(write(tmp_path, content), XML)
    assert "Line stands in another place than Lines/Line" in aside[0].text


def test_undeclared_elements_are_told_and_bank_data_parks(tmp_path: Path) -> None:
    """A path is spelt wrong once; a bank account must go nowhere, not even into a message."""
    content = xml_file(ROWS).replace(b"</Vendor>", b"<Iban>DE89370400440532013000</Iban><Phone>1</Phone></Vendor>", 1)
    stream = parse_file(write(tmp_path, content), XML)
    assert stream.warnings == (
        "column 'invoices/invoice/vendor/phone' is not in profile stampli_xml; its values are not used",
    )
    first, second = stream
    assert [found.reason for found in first.problems] == ["BANK_DATA_PRESENT"]  # type: ignore[union-attr]
    assert b"DE8937" not in first.content  # type: ignore[union-attr]
    assert not second.problems  # type: ignore[union-attr]


def test_places_are_paths_of_elements(tmp_path: Path) -> None:
    """In a document on one line a line number helps nobody."""
    stream = parse_file(write(tmp_path, xml_file(ROWS).replace(b">40.00<", b">40,00<")), XML)
    (problem,) = next(stream).problems  # type: ignore[union-attr]
    assert problem.row is not None
    assert stream.place(problem.row, problem.field) == "/InvoiceExport/Invoices/Invoice[1]/Lines/Line[2]/Amount"
    assert stream.place(3, "invoice_number") == "/InvoiceExport/Invoices/Invoice[2]/Number"


def test_memory_follows_the_invoice_and_not_the_document(tmp_path: Path) -> None:
    """A tree of the whole document would be ten times its size."""
    one = xml_file(invoice_rows("1.00"))
    start, end = one.index(b"<Invoice "), one.index(b"</Invoice>") + len(b"</Invoice>")
    path = tmp_path / "big.xml"
    with path.open("wb") as stream:
        stream.write(one[:start])
        for number in range(1500):
            stream.write(one[start:end].replace(b"88121", b"%d" % number))
        stream.write(one[end:])
    tracemalloc.start()
    count = sum(1 for _ in parse_file(path, XML))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1500
    assert peak < 5_000_000
    assert path.stat().st_size > 1_000_000


def test_a_document_is_parsed_once_however_often_its_rows_are_asked_for(tmp_path: Path) -> None:
    """Parsing costs more than all the rest; what it gave waits on disk, and is the same each time."""
    path = write(tmp_path, xml_file(ROWS).replace(b"</Vendor>", b"<Phone>1</Phone></Vendor>", 1))
    opened: list[Path] = []

    @contextmanager
    def counted() -> Generator[BinaryIO]:
        opened.append(path)
        with path.open("rb") as stream:
            yield stream

    rules = XML.rows
    assert isinstance(rules, Xml)
    source = XmlRows(counted, path.name, XML, rules)
    names = source.header()
    assert isinstance(names, list)
    first, second = list(source.blocks(len(names), bool)), list(source.blocks(len(names), bool))
    assert first == second
    assert [len(row) for block in first for row in block.rows] == [len(names)] * 3
    # A column that shows late is empty in the rows before it, not missing.
    assert [row[names.index("invoices/invoice/vendor/phone")] for block in first for row in block.rows] == [
        "1",
        "1",
        "",
    ]
    assert len(opened) == 1

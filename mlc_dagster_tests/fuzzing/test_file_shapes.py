"""Typed, split and XML files of any bytes: refused as a whole, or every row accounted for and no amount changed."""

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path

import defusedxml.ElementTree
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing.parse import InvoiceStream
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_files import NoEnd
from mlc_dagster.stampli.parsing.sniffing import sniff
from mlc_dagster.stampli.profile_check import examine, fits
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import PROFILE, file_name, invoice_csv, invoice_rows
from mlc_dagster_tests.stampli.builders_shapes import (
    SPLIT,
    TYPED,
    XML,
    manifest_of,
    split_parts,
    typed_file,
    typed_records,
    write_split,
    xml_file,
)

_HOSTILE = st.sampled_from(
    [
        b"", b" ", b'"', b"|", b"\\", b"\\|", b";", b"\r", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xe9",
        b"H|", b"L|", b"D|", b"FT|", b"<", b">", b"</Line>", b"<Line>", b"<Invoice>", b"&amp;", b"&#0;", b"&x;",
        b"<!--", b"]]>", b"<![CDATA[1]]>", b"1e9", b"NaN", b"-0.00", b"1.000,00", b"9" * 30, b"A" * 5000,
        b"\xe2\x80\xae",
    ]
)  # fmt: skip
_PLAIN = [{"line_description": "Filters"}, {"line_description": "Pumps"}]
_ROWS = [row for key in ("1", "2", "3") for row in invoice_rows("10.50", "2.00", invoice_id=key, lines=_PLAIN)]
_UNTRUE = TYPED.model_copy(
    update={
        "file": TYPED.file.model_copy(update={"end": NoEnd(rule="none")}),
        "rows": TYPED.rows.model_copy(
            update={"records": {name: each for name, each in TYPED.rows.records.items() if name != "FT"}}  # type: ignore[union-attr]
        ),
    }
)
"""Without a trailer, which would refuse nearly every damaged file before its rows are looked at."""


def packed_profile(profile: Profile) -> Profile:
    """The profile for files that may be packed."""
    return profile.model_copy(update={"file": profile.file.model_copy(update={"compression": "auto"})})


def zipped(content: bytes) -> bytes:
    """A zip with this file in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export", content)
    return packed.getvalue()


@st.composite
def _damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes put in and cut out; now and then a line moved."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.one_of(st.just(0), st.integers(0, 40)))
        content = content[:at] + draw(st.one_of(_HOSTILE, st.binary(max_size=6))) + content[at + cut :]
    if draw(st.booleans()):
        lines = content.splitlines(keepends=True)
        lines.insert(draw(st.integers(0, len(lines))), lines.pop(draw(st.integers(0, len(lines) - 1))))
        content = b"".join(lines)
    return content


def read(path: Path, profile: Profile) -> tuple[InvoiceStream, list[ParsedInvoice | QuarantinedRow]] | FileRejected:
    """Everything in the file, or its refusal."""
    try:
        stream = InvoiceStream(path, profile)
        return stream, list(stream)
    except FileRejected as refusal:
        return refusal


def prove(
    path: Path, profile: Profile, amount_in: Callable[[int], Decimal | None] = lambda row: None
) -> set[int] | None:
    """Refused in words (then None is returned); or rows add up, and invoices have their own text's money.

    Args:
        amount_in: the amount in a row as somebody else reads the file; None where he cannot tell.
    """
    outcome = read(path, profile)
    if isinstance(outcome, FileRejected):
        assert outcome.reason == "FILE_SCHEMA"
        assert outcome.text.isprintable()
        return None
    stream, found = outcome
    numbers = [line for each in found for line in (each.rows if isinstance(each, ParsedInvoice) else (each.line,))]
    assert len(set(numbers)) == len(numbers) == stream.rows
    for each in found:
        if isinstance(each, QuarantinedRow):
            assert each.text.isprintable()
            assert stream.place(each.line)
            continue
        assert all(problem.text.isprintable() for problem in each.problems)
        assert (each.invoice is None) == bool(each.problems)
        if each.invoice is not None:
            assert each.amount_text is not None
            assert each.invoice.amount == Decimal(each.amount_text.replace(",", "."))
            assert {type(line.amount) for line in each.invoice.lines} == {Decimal}
            told = [amount_in(row) for row in each.rows]
            if None not in told:
                assert sorted(line.amount for line in each.invoice.lines) == sorted(told)  # type: ignore[type-var]
    return set(numbers)


@fuzzed(200)
@given(content=_damaged(typed_file(typed_records(_ROWS))))
def test_a_damaged_typed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Its trailer knows count, sum and hash: whatever changes is found, and no row of it is believed."""
    path = tmp_path / "typed.txt"
    path.write_bytes(content)
    prove(path, TYPED)


@fuzzed(250)
@given(content=_damaged("".join(f"{record}\n" for record in typed_records(_ROWS)).encode()))
def test_every_record_of_a_damaged_typed_file_is_accounted_for(tmp_path: Path, content: bytes) -> None:
    """Also where no trailer tells that something is wrong."""
    path = tmp_path / "typed.txt"
    path.write_bytes(content)
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    kinds = [line.partition(b"|")[0] for line in lines]
    amounts = {b"L": 4, b"T": 2, b"D": 2}

    def amount_in(row: int) -> Decimal | None:
        cells = lines[row - 1].split(b"|")
        return None if b"\\" in lines[row - 1] else number(cells[amounts[cells[0]]])

    numbers = prove(path, _UNTRUE, amount_in)
    for row, kind in enumerate(kinds, start=1) if numbers is not None else ():
        # Not a row of its own: what frames rows, and a line that its splits replace.
        following = next((each for each in kinds[row:] if each), b"")
        assert row in (numbers or ()) or kind in (b"", b"FH", b"H", b"A") or following == b"D"


@fuzzed(150)
@given(data=st.data())
def test_every_row_of_a_damaged_delivery_is_accounted_for(tmp_path: Path, data: st.DataObject) -> None:
    """Damage that the sender's own export made: its manifest is true of the damaged bytes."""
    parts = split_parts(_ROWS)
    name = data.draw(st.sampled_from(sorted(parts)))
    parts[name] = data.draw(_damaged(parts[name]))
    profile = SPLIT.model_copy(
        update={
            "file": SPLIT.file.model_copy(
                update={"end": SPLIT.file.end.model_copy(update={"records": None, "total": None})}
            )
        }
    )
    lines = parts["x_lines.csv"].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    at = lines[0].split(b";").index(b"line_amount") if b"line_amount" in lines[0].split(b";") else None

    def amount_in(row: int) -> Decimal | None:
        if at is None or b'"' in parts["x_lines.csv"]:
            return None
        return number(lines[row - 1].split(b";")[at].replace(b",", b"."))

    numbers = prove(write_split(tmp_path, parts, true_manifest(parts)), profile, amount_in)
    if numbers is not None and b'"' not in parts["x_lines.csv"]:
        head = next(at for at, line in enumerate(lines, start=1) if line)
        assert numbers >= {at for at, line in enumerate(lines, start=1) if line and at > head}


def number(text: bytes) -> Decimal | None:
    """The number that this text is, by Python's own reading."""
    try:
        return Decimal(text.decode())
    except (InvalidOperation, UnicodeDecodeError):
        return None


def true_manifest(parts: dict[str, bytes]) -> bytes:
    """Names, sizes and hashes of these bytes, whatever they are."""
    files = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in parts.items()
    ]
    return json.dumps({"created_at": "2026-10-30T16:02:11Z", "files": files}).encode()


@fuzzed(150)
@given(manifest=_damaged(manifest_of(split_parts(_ROWS))))
def test_a_damaged_manifest_is_refused_or_true(tmp_path: Path, manifest: bytes) -> None:
    """It is the document that decides which bytes are read."""
    prove(write_split(tmp_path, split_parts(_ROWS), manifest), SPLIT)


@fuzzed(250)
@given(content=_damaged(xml_file(_ROWS)))
def test_every_line_of_a_damaged_document_is_accounted_for(tmp_path: Path, content: bytes) -> None:
    """Well-formed damage moves elements; the rest is refused by the parser, in our words."""
    path = tmp_path / "x.xml"
    path.write_bytes(content)
    numbers = prove(path, XML)
    if numbers is not None:
        # The tree that another parser makes of it: every line a row, every invoice without lines one.
        tree = defusedxml.ElementTree.fromstring(content)
        invoices = tree.findall("./{*}Invoices/{*}Invoice")
        lines = [invoice.findall("./{*}Lines/{*}Line") for invoice in invoices]
        assert len(numbers) == sum(max(1, len(own)) for own in lines)
        amounts = [[line.findtext("./{*}Amount") for line in own] or [None] for own in lines]
        by_row = dict(enumerate((amount for own in amounts for amount in own), start=1))
        prove(path, XML, lambda row: number((by_row[row] or "").strip().encode()))


@fuzzed(100)
@given(content=st.binary(max_size=300))
def test_bytes_that_are_nothing_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    """A picture under the name of an export is refused in words, not by a traceback."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for profile in (TYPED, SPLIT, XML):
        prove(path, profile)


_SHAPES = {
    "typed": (typed_file(typed_records(_ROWS)), TYPED, ".txt"),
    "xml": (xml_file(_ROWS), XML, ".xml"),
    "lines": (invoice_csv(_ROWS), PROFILE, ".csv"),
    "gzip": (gzip.compress(invoice_csv(_ROWS), mtime=0), packed_profile(PROFILE), ".csv"),
}


@fuzzed(150)
@given(data=st.data(), shape=st.sampled_from(sorted(_SHAPES)))
def test_a_check_of_any_file_ends_with_an_answer(tmp_path: Path, data: st.DataObject, shape: str) -> None:
    """People check the files that the reader refuses: a traceback would be no answer, nor one deviation too few."""
    whole, profile, ending = _SHAPES[shape]
    path = tmp_path / file_name().replace(".csv", ending)
    path.write_bytes(data.draw(_damaged(whole)))
    sniff(path)
    fits(path, [TYPED, SPLIT, XML, PROFILE])
    found = examine(path, profile, limit=3)
    assert len(found.deviations) == min(3, found.reasons.total())
    assert all(each.text.isprintable() and each.place.isprintable() for each in found.deviations)
    assert not (found.unbuilt or found.set_aside) or found.deviations


_CURRENCIES = {"USD": 2, "JPY": 0, "KWD": 3}
_TEXT = st.text(st.characters(codec="cp1252", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
"""Texts that every shape can carry, cp1252 among them; blanks are another test's."""


@st.composite
def _invoices(draw: st.DrawFn) -> list[dict[str, str]]:
    """Invoices with any amounts that their currency has, and texts full of delimiters."""
    rows: list[dict[str, str]] = []
    for key in range(draw(st.integers(1, 4))):
        currency = draw(st.sampled_from(sorted(_CURRENCIES)))
        places = _CURRENCIES[currency]
        amounts = draw(
            st.lists(
                st.decimals(-(10**18), 10**18, places=places).map(lambda amount: f"{amount:f}"), min_size=1, max_size=4
            )
        )
        rows += invoice_rows(
            *amounts,
            invoice_id=str(key), invoice_number=draw(_TEXT), currency=currency, vendor_name=draw(_TEXT),
            invoice_amount=f"{draw(st.decimals(-(10**18), 10**18, places=places)):f}",
            lines=[{"line_description": draw(_TEXT)} for _ in amounts],
        )  # fmt: skip
    return rows


@fuzzed(50)
@given(rows=_invoices())
def test_money_is_the_same_in_every_shape_and_packing(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    """What was written is what is read, to the last digit, whatever carries it: and so is the digest."""
    for path in tmp_path.iterdir():
        path.unlink()
    plain = invoice_csv(rows)
    written = {
        "lines.csv": (plain, PROFILE),
        "lines.csv.gz": (gzip.compress(plain), packed_profile(PROFILE)),
        "lines.csv.zip": (zipped(plain), packed_profile(PROFILE)),
        "typed.txt": (typed_file(typed_records(rows)), TYPED),
        "typed.gz": (gzip.compress(typed_file(typed_records(rows))), packed_profile(TYPED)),
        "x.xml": (xml_file(rows), XML),
        "x.zip": (zipped(xml_file(rows)), packed_profile(XML)),
    }
    digests: dict[str, list[str]] = {}
    for name, (content, profile) in written.items():
        (tmp_path / name).write_bytes(content)
        digests[name] = same_money(tmp_path / name, profile, rows)
    same_money(write_split(tmp_path, split_parts(rows)), SPLIT, rows)
    assert len({tuple(each) for each in digests.values()}) == 1


def same_money(path: Path, profile: Profile, rows: list[dict[str, str]]) -> list[str]:
    """Digests of the invoices in the file, after every amount was found to be the one that was written."""
    outcome = read(path, profile)
    assert not isinstance(outcome, FileRejected), outcome.text
    found = {each.source_id: each for each in outcome[1] if isinstance(each, ParsedInvoice)}
    assert len(found) == len(outcome[1])
    for key, each in found.items():
        own = [row for row in rows if row["invoice_id"] == key]
        assert each.invoice is not None, each.problems
        assert each.invoice.amount == Decimal(own[0]["invoice_amount"])
        assert [line.amount for line in each.invoice.lines] == [Decimal(row["line_amount"]) for row in own]
        assert (each.invoice.currency, each.invoice.number) == (own[0]["currency"], own[0]["invoice_number"])
        assert each.invoice.vendor_name == own[0]["vendor_name"]
    assert set(found) == {row["invoice_id"] for row in rows}
    return [found[key].digest for key in sorted(found)]

"""Typed, split and XML files of any bytes: refused as a whole, or every row accounted for and no amount changed."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing import InvoiceStream
from mlc_dagster.stampli.profile import Profile
from mlc_dagster.stampli.profile_files import NoEnd
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import invoice_rows
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
_ROWS = [row for number in ("1", "2", "3") for row in invoice_rows("10.50", "2.00", invoice_id=number)]
_UNTRUE = TYPED.model_copy(
    update={
        "file": TYPED.file.model_copy(update={"end": NoEnd(rule="none")}),
        "rows": TYPED.rows.model_copy(
            update={"records": {name: each for name, each in TYPED.rows.records.items() if name != "FT"}}  # type: ignore[union-attr]
        ),
    }
)
"""Without a trailer, which would refuse nearly every damaged file before its rows are looked at."""


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


def prove(path: Path, profile: Profile) -> set[int]:
    """Refused in words (and nothing is returned); or rows add up, and invoices have their own text's money."""
    outcome = read(path, profile)
    if isinstance(outcome, FileRejected):
        assert outcome.reason == "FILE_SCHEMA"
        assert outcome.text.isprintable()
        return set()
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
    numbers = prove(path, _UNTRUE)
    kinds = [line.partition(b"|")[0] for line in content.removeprefix(b"\xef\xbb\xbf").splitlines()]
    for number, kind in enumerate(kinds, start=1) if numbers else ():
        # Not a row of its own: what frames rows, and a line that its splits replace.
        following = next((each for each in kinds[number:] if each), b"")
        assert number in numbers or kind in (b"", b"FH", b"H", b"A") or following == b"D"


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
    prove(write_split(tmp_path, parts, true_manifest(parts)), profile)


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
    prove(path, XML)


@fuzzed(100)
@given(content=st.binary(max_size=300))
def test_bytes_that_are_nothing_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    """A picture under the name of an export is refused in words, not by a traceback."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for profile in (TYPED, SPLIT, XML):
        prove(path, profile)

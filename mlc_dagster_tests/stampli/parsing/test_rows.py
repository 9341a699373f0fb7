"""Where rows begin and end: any line end, any quoting, any damage, and never a row lost to another's fault."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing import physical_lines
from mlc_dagster.stampli.parsing.profile import TextRules
from mlc_dagster.stampli.parsing.rows import Fault, RowSplitter

RULES = TextRules()
HEADER = b"a,b,c\n"


def plausible(cells: Sequence[str]) -> bool:
    return bool(cells[0]) and cells[0].isprintable()


def split(body: bytes, *, careful: bool = False, rules: TextRules = RULES) -> list[tuple[int, list[str] | Fault]]:
    splitter = RowSplitter(io.BytesIO(HEADER + body), rules, careful=careful)
    header = splitter.header()
    assert isinstance(header, list)
    found: dict[int, list[str] | Fault] = {}
    for block in splitter.blocks(len(header), plausible):
        found |= dict(zip(block.lines, block.rows, strict=True))
        found |= dict(block.faults)
    return sorted(found.items())


def lines_of(entries: list[tuple[int, list[str] | Fault]]) -> dict[int, list[str] | str]:
    return {line: cells.text if isinstance(cells, Fault) else cells for line, cells in entries}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("careful", [False, True])
def test_every_line_end_separates_rows(end: bytes, careful: bool) -> None:
    """Exports come from Windows, Linux and old Macs; the wrong guess would make one row of a file."""
    body = end.join([b"1,2,3", b"4,5,6", b""])
    assert lines_of(split(body, careful=careful)) == {2: ["1", "2", "3"], 3: ["4", "5", "6"]}


def test_quotes_protect_delimiters_quotes_and_line_ends() -> None:
    """RFC 4180 as written: a description may hold anything."""
    found = lines_of(split(b'1,"a, ""b""",3\n2,"two\r\nlines",x\n3,4,5\n'))
    assert found == {2: ["1", 'a, "b"', "3"], 3: ["2", "two\nlines", "x"], 5: ["3", "4", "5"]}


def test_a_quote_inside_an_unquoted_cell_is_text() -> None:
    """Inches are written like this by exporters that quote only where they must."""
    assert lines_of(split(b'1,24" monitor,3\n')) == {2: ["1", '24" monitor', "3"]}


def test_rows_of_the_wrong_width_are_set_aside_and_the_others_stay() -> None:
    """A comma too many must neither shift the columns of its row nor reject the file."""
    found = lines_of(split(b"1,2,3\n4,5\n6,7,8,9\n10,11,12\n"))
    assert found[2] == ["1", "2", "3"]
    assert found[3] == "has 2 cells, the header has 3"
    assert found[4] == "has 4 cells, the header has 3"
    assert found[5] == ["10", "11", "12"]


def test_a_stray_opening_quote_costs_its_own_row_only() -> None:
    """Without resynchronising, everything up to the next quote would vanish into one cell."""
    found = lines_of(split(b'1,"Acme,3\n2,x,y\n3,x,y\n4,x,y\n'))
    assert isinstance(found[2], str)
    assert list(found) == [2, 3, 4, 5]
    assert [found[line] for line in (3, 4, 5)] == [["2", "x", "y"], ["3", "x", "y"], ["4", "x", "y"]]


def test_a_stray_quote_that_meets_another_one_does_not_merge_the_rows_between() -> None:
    """The cells add up here: only the rows inside the "field" give the fault away."""
    found = lines_of(split(b'1,"Acme,3\n2,x,y\n3,Acme",y\n'))
    assert isinstance(found[2], str)
    assert found[3] == ["2", "x", "y"]
    assert found[4] == ["3", 'Acme"', "y"]


def test_a_field_over_the_bound_of_lines_is_set_aside_with_its_continuation() -> None:
    """The bound is what keeps a stray quote small; what lies behind it is read again."""
    rules = TextRules(max_field_lines=3)
    found = lines_of(split(b'1,"one\ntwo\nthree\nfour",3\n5,6,7\n', rules=rules))
    assert found[6] == ["5", "6", "7"]
    assert all(isinstance(found[line], str) for line in found if line < 6)


def test_a_field_of_exactly_the_bound_is_a_field() -> None:
    """The bound is inclusive; descriptions of twenty lines exist."""
    rules = TextRules(max_field_lines=3)
    assert lines_of(split(b'1,"one\ntwo\nthree",3\n', rules=rules)) == {2: ["1", "one\ntwo\nthree", "3"]}


def test_bytes_that_are_not_text_cost_their_row_only() -> None:
    """One cp1252 letter in a UTF-8 file is one quarantined row, with its line number."""
    found = lines_of(split("1,2,3\n4,é,6\n".encode() + b"7,caf\xe9,9\n10,11,12\n"))
    assert found[3] == ["4", "é", "6"]
    assert found[4] == "holds byte 0xE9, which is not utf-8 text"
    assert found[5] == ["10", "11", "12"]


def test_a_nul_byte_costs_its_row_only() -> None:
    """Databases refuse NUL; some readers end the file at it."""
    found = lines_of(split(b"1,2,3\n4,\x005,6\n7,8,9\n"))
    assert found == {2: ["1", "2", "3"], 3: "holds a NUL byte", 4: ["7", "8", "9"]}


def test_a_line_longer_than_any_row_is_skipped_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without line ends must not be read into memory as one row."""
    monkeypatch.setattr(physical_lines, "CHUNK", 1000)
    rules = TextRules(max_row_bytes=1024)
    found = split(b"1,2,3\n" + b"x" * 50_000 + b"\r\n4,5,6\n", rules=rules)
    assert [line for line, _ in found] == [2, 3, 4]
    assert isinstance(found[1][1], Fault)
    assert found[2][1] == ["4", "5", "6"]


def test_a_byte_order_mark_is_not_part_of_the_first_column() -> None:
    """Excel writes one; the first column would otherwise be missing."""
    splitter = RowSplitter(io.BytesIO(b"\xef\xbb\xbf" + HEADER), RULES)
    assert splitter.header() == ["a", "b", "c"]


def test_blank_lines_are_no_rows_and_keep_the_line_numbers() -> None:
    """People look for the line number in an editor."""
    assert lines_of(split(b"\n1,2,3\n\r\n\n4,5,6\n")) == {3: ["1", "2", "3"], 6: ["4", "5", "6"]}


_PIECES = st.lists(
    st.sampled_from(
        [b"1", b"a", b",", b",", b",", b'"', b'""', b"\n", b"\n", b"\r\n", b"\r", b"\0", b"\xe9", "é".encode(), b" ",
         b"1,2,3\n", b"k,v,w\n", b'k,"v\nv",w\n', b'k,"v,w\n', b"x" * 40]
    ),
    max_size=120,
).map(b"".join)  # fmt: skip


@settings(max_examples=400)
@given(body=_PIECES, chunk=st.sampled_from([1, 7, 64, 256 * 1024]))
def test_the_fast_path_and_the_careful_path_agree(body: bytes, chunk: int) -> None:
    """The fast path is only an optimisation: on any bytes it must see the same rows, cells and faults."""
    rules = TextRules(max_field_lines=4, max_field_bytes=60, max_row_bytes=1024)
    kept = physical_lines.CHUNK
    physical_lines.CHUNK = chunk
    try:
        fast = split(body, rules=rules)
    finally:
        physical_lines.CHUNK = kept
    assert fast == split(body, careful=True, rules=rules)


@settings(max_examples=300)
@given(body=_PIECES)
def test_rows_and_faults_cover_the_file(body: bytes) -> None:
    """Every byte of a line belongs to a row, a fault or a blank line: nothing is dropped between two rows."""
    rules = TextRules(max_field_lines=4, max_field_bytes=60)
    found = dict(split(body, careful=True, rules=rules))
    physical = (HEADER + body).splitlines(keepends=True)
    starts = sorted(found)
    for number, line in enumerate(physical[1:], start=2):
        if line.strip(b"\r\n"):
            assert any(start <= number for start in starts)
    for start, following in zip(starts, [*starts, len(physical) + 1][1:], strict=True):
        taken = physical[start - 1 : following - 1]
        cells = found[start]
        if isinstance(cells, Fault):
            assert b"".join(taken).startswith(cells.raw)
            assert not b"".join(taken)[len(cells.raw) :].strip(b"\r\n")
        else:
            text = b"".join(taken).decode().replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
            assert "".join(cells).replace('"', "").replace(",", "").replace("\n", "") == text.replace('"', "").replace(
                ",", ""
            ).replace("\n", "")

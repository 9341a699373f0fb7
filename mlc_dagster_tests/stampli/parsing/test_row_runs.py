"""Rows that begin alike, split once: the same rows as reading each of them by itself, or a refusal to split."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing import physical_lines
from mlc_dagster.stampli.parsing.profile import TextRules
from mlc_dagster.stampli.parsing.row_runs import Runs, is_printable, runs_of
from mlc_dagster.stampli.parsing.rows import Fault, RowSplitter

RULES = TextRules()


def split(chunk: str, leading: int = 2, width: int = 4, encoding: str = "utf-8") -> Runs | None:
    return runs_of(chunk.encode(encoding), TextRules(encoding=encoding), width=width, leading=leading)


def test_what_rows_share_is_kept_once() -> None:
    """An invoice of a thousand lines has one supplier."""
    runs = split("a,b,1,x\na,b,2,y\nc,b,3,z")
    assert runs is not None
    assert list(runs.heads) == [["a", "c"], ["b", "b"]]
    assert list(runs.tails) == [["1", "2", "3"], ["x", "y", "z"]]
    assert (list(runs.starts), list(runs.ends())) == ([0, 2], [2, 3])
    assert list(runs) == [["a", "b", "1", "x"], ["a", "b", "2", "y"], ["c", "b", "3", "z"]]
    assert runs[1:] == [runs[1], runs[2]]
    assert runs[-1] == runs[2]
    with pytest.raises(IndexError):
        runs[3]


def test_quotes_are_read_on_both_sides() -> None:
    """Names and descriptions hold commas."""
    runs = split('a,"b, c",1,"x, ""y"""\na,"b, c",2,z\na,24" tube,3,\n')
    assert runs is not None
    assert list(runs) == [["a", "b, c", "1", 'x, "y"'], ["a", "b, c", "2", "z"], ["a", '24" tube', "3", ""]]
    assert list(runs.starts) == [0, 2]


@pytest.mark.parametrize(
    "chunk",
    ["a,b,1\n", "a,b,1,x,y\n", "a,b,1,x\na,b,2\na,b,3,y,z\n", "a,b,1,x\n\n", "\n", 'a,b,"1,x\n', 'a,"b,1,x\n',
     'a,b,"1"2,x\n', "a,b\0,1,x\n", 'a,b,"1\n2",x\n', "a\n", 'a,b,1,x\na,b,"2,y"\n'],
)  # fmt: skip
def test_what_only_careful_reading_can_tell_is_not_split(chunk: str) -> None:
    """A cell too many in one row and too few in the next must not move anything."""
    assert split(chunk) is None


def test_bytes_that_are_no_text_are_not_split() -> None:
    """They cost their own row only, which careful reading finds."""
    assert runs_of(b"a,b,1,\xe9\n", RULES, width=4, leading=2) is None
    runs = split("a,bé,1,é\na,bé,2,ü\n", encoding="cp1252")
    assert runs is not None
    assert list(runs)[1] == ["a", "bé", "2", "ü"]


@pytest.mark.parametrize("text", ["plain", "é ü 日本", "line\r\nends\n"])
def test_visible_text_is_visible(text: str) -> None:
    """Most text needs no second look."""
    assert is_printable(text.encode(), "utf-8")


@pytest.mark.parametrize("text", ["a\tb", "a\x00", "\x1b[2J", "a\x7f", "a\u202eb", "a\u00a0b", "é\u200b"])
def test_control_and_invisible_characters_are_seen(text: str) -> None:
    """A key with a zero width space looks like another key."""
    assert not is_printable(text.encode(), "utf-8")


_LINES = st.lists(
    st.tuples(
        st.sampled_from(["k,v,", "k,v,", "k,w,", '"k",v,', '"k,1",v,', 'k,"v""",', "k,é,", "k,v", "", "\ufeffk,v,"]),
        st.sampled_from(["1,x", "2,", ',"y, z"', '1,"two\nlines"', "1", "1,2,3", '"1,x', '1"2,x', "é,ü", "\0,x", ","]),
        st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n"]),
    ).map("".join),
    max_size=12,
).map("".join)


@settings(max_examples=500)
@given(body=_LINES, chunk=st.sampled_from([9, 64, 1024]), encoding=st.sampled_from(["utf-8", "cp1252"]))
def test_rows_in_runs_and_rows_read_with_care_agree(body: str, chunk: int, encoding: str) -> None:
    """Splitting what begins alike is only an optimisation: the same rows, numbers and faults on any text."""
    rules = TextRules(encoding=encoding, max_field_lines=4, max_field_bytes=60, max_row_bytes=1024)
    stream = b"a,b,c,d\n" + body.encode(encoding, "replace")

    def read(*, careful: bool, repeated: int) -> list[tuple[int, list[str] | Fault]]:
        splitter = RowSplitter(io.BytesIO(stream), rules, careful=careful)
        assert splitter.header() == ["a", "b", "c", "d"]
        found: dict[int, list[str] | Fault] = {}
        for block in splitter.blocks(4, lambda cells: bool(cells[0]), repeated=repeated):
            found |= dict(zip(block.lines, block.rows, strict=True)) | dict(block.faults)
            assert not block.printable or all(cell.isprintable() for row in block.rows for cell in row)
        return sorted(found.items())

    kept = physical_lines.CHUNK
    physical_lines.CHUNK = chunk
    try:
        in_runs = read(careful=False, repeated=2)
    finally:
        physical_lines.CHUNK = kept
    assert in_runs == read(careful=True, repeated=0)

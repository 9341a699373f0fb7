"""Layouts are checked before anything is written, and say in their own words what is wrong with them."""

from pathlib import Path

import pytest

from mlc_dagster.exports.layouts.crosswalk import CodeUnknown, Crosswalk, read_codes
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.loading import load_layout, open_writer, shipped_layouts
from mlc_dagster_tests.exports.layouts import workbench as b

EXAMPLES = Path(__file__).parents[3] / "examples" / "layouts"
NAME = "[{name: N, field: journal.name}]"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads(path: Path) -> None:
    """Users start from a copy; an example that does not load would be their first impression."""
    layout = load_layout(path.name, root=path.parent)
    assert layout.identity.name == path.stem
    if layout.format != "x12":
        assert open_writer(layout, b.feed_of(layout.source), b.CHARTS).identity == layout.identity


@pytest.mark.parametrize("name", shipped_layouts())
def test_every_shipped_layout_loads_by_its_name(name: str) -> None:
    """`layout: journals_csv` in mlc.yaml."""
    layout = load_layout(name, root=Path("nowhere"))
    assert layout.identity.name == name
    assert len(layout.identity.sha256) == 64


@pytest.mark.parametrize(
    "name", [name for name in shipped_layouts() if (EXAMPLES / f"{name}.yaml").exists() and not name.startswith("x12")]
)
def test_the_copy_of_a_shipped_layout_says_the_same(name: str) -> None:
    """A copy that lags behind would be a trap."""
    shipped, copied = load_layout(name, root=Path()), load_layout(f"{name}.yaml", root=EXAMPLES)
    assert shipped.document == copied.document


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b.csv_layout(NAME, "delimeter: ;"), "line 7: delimeter: unknown key; did you mean 'delimiter'?"),
        (b.csv_layout("[{name: N, field: journal.nam}]"), "did you mean 'journal.name'?"),
        (b.csv_layout("[{name: N, field: line.entered_d}]"), "did you mean 'line.entered_dr'?"),
        (b.csv_layout("[{name: N, field: file.sequence}]"), "write it in header or trailer"),
        (b.csv_layout("[{name: N, field: line.number}]", source="invoices", row="header"), "is a field of row: line"),
        (b.csv_layout("[{name: N, field: segment.a}]", source="suppliers", row="site"), "suppliers have none"),
        (b.csv_layout(NAME, source="journals", row="site"), "row: 'site': journals have rows of header, line"),
        (b.csv_layout("[{name: N, field: journal.name, constant: x}]"), "column N has either field or constant"),
        (b.csv_layout("[{name: N, constant: 7}]"), "columns.0.constant: Input should be a valid string (found 7)"),
        (b.csv_layout("[{name: N, field: journal.name, format: '%Y'}]"), "format pattern is not for journal.name"),
        (b.csv_layout("[{name: N, field: line.stat_amount, format: {decimals: currency}}]"), "has no currency"),
        (b.csv_layout("[{name: N, field: journal.effective_date, format: '%q'}]"), "%q is not one of"),
        (b.csv_layout("[{name: N, field: journal.name, crosswalk: x}]"), "crosswalk 'x' is not declared"),
        (b.csv_layout("[{name: N, constant: a}, {name: N, constant: b}]"), "column 'N' is there twice"),
        (b.csv_layout(NAME, "encoding: utf-16"), "write utf-16-le and bom: true"),
        (b.csv_layout(NAME, "encoding: utf8x"), "'utf8x' is no encoding"),
        (b.csv_layout(NAME, "encoding: cp1252", "bom: true"), "has no byte order mark"),
        (b.csv_layout(NAME, "delimiter: '\"'"), "has the quote character or a new line in it"),
        (b.csv_layout(NAME, "quote: minimal", "quote: all"), "line 8: is not YAML: the key 'quote' is there twice"),
        (b.csv_layout(NAME, "formula_guard: on"), "Input should be 'off', 'prefix' or 'reject'"),
        (b.fixed_layout("[{name: N, constant: a, length: 2, start: 1}, {name: M, constant: b, length: 1, start: 2}]"),
         "column M starts at 2, inside the one before (ends at 2)"),
        (b.fixed_layout("[{name: N, template: '{rows}', length: 2}]"), "template and total belong to header"),
        (b.fixed_layout("[{name: N, sign_of: X, length: 2}]"), "sign_of: 'X' is no column"),
        (b.fixed_layout("[{name: N, field: line.entered_dr, length: 9, default: none}]"), "'none' is no number"),
        ("format: xml", "format: is 'xml'; write one of csv, fixed_width, x12"),
        ("- a", "must be a mapping"),
        ("format: [", "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_line_and_remedy(text: str, words: str) -> None:
    """An integration engineer must not have to read our code."""
    with pytest.raises(LayoutError) as error:
        b.loaded(text)
    assert words in str(error.value)
    assert "layout.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b.csv_layout("[{name: N, field: segment.accont}]"), "did you mean 'account'?"),
        (b.csv_layout(NAME, "null: 'a,b'"), "null: 'a,b' has a delimiter"),
        (b.csv_layout(NAME, "trailer: [['{row}']]"), "did you mean {rows}?"),
        (b.csv_layout(NAME, "trailer: [['{total.debit}']]"), "no such placeholder"),
        (b.csv_layout(NAME, "trailer: [['{currency}']]"), "{currency}: no such placeholder"),
        (b.csv_layout(NAME, "chart: US2"), "chart: 'US2' is not one of US1"),
        (b.fixed_layout("[{name: N, constant: x, length: 1}]", "trailer: [[{name: T, total: debit, length: 9}]]"),
         "total 'debit' is not one of entered_dr"),
        (b.fixed_layout("[{name: N, constant: x, length: 1, pad: '€'}]", "encoding: cp037"), "does not exist in cp037"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_feed_is_said_when_the_writer_is_opened(text: str, words: str) -> None:
    """Before the first document, not at the end of the first file."""
    with pytest.raises(LayoutError) as error:
        b.writer_of(text)
    assert words in str(error.value)


def test_a_feed_of_another_source_is_refused() -> None:
    """Journals in an invoice layout would be empty columns."""
    layout = b.loaded(b.csv_layout(NAME))
    with pytest.raises(LayoutError, match="source: is 'journals' and feed 'partner' is of invoices"):
        open_writer(layout, b.feed_of("invoices"), b.CHARTS)


def test_an_unknown_name_and_a_missing_file_are_said() -> None:
    """A typing mistake in mlc.yaml."""
    with pytest.raises(LayoutError, match="did you mean 'journals_csv'"):
        load_layout("journal_csv", root=Path())
    with pytest.raises(LayoutError, match="no such file"):
        load_layout("layouts/none.yaml", root=Path())


def test_the_hash_covers_the_crosswalks() -> None:
    """The manifest's hash proves which table translated the codes."""
    text = b.csv_layout(NAME, "crosswalks: {units: {file: units.csv}}")
    one = b.loaded(text, units="fusion,partner\nEach,EA\n").identity.sha256
    same = b.loaded(text, units="fusion,partner\nEach,EA\n").identity.sha256
    other = b.loaded(text, units="fusion,partner\nEach,PC\n").identity.sha256
    assert one == same
    assert one != other
    assert one != b.loaded(text + "# a comment\n", units="fusion,partner\nEach,EA\n").identity.sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "it needs fusion and partner"),
        ("fusion,partner\nEach,EA\nEach,PC\n", "line 3: 'Each' is there twice"),
        ("fusion,partner\nEach,\n", "line 2: fusion 'Each', partner '': fill in both"),
    ],
)
def test_a_crosswalk_that_is_not_clear_is_refused(text: str, words: str) -> None:
    """Of two rows for one code, one would win by accident."""
    with pytest.raises(LayoutError, match=words):
        read_codes(text, source_file="units.csv")


def test_a_crosswalk_translates_keeps_or_holds() -> None:
    """What happens to a code without a row is the partner's choice."""
    codes = {"Each": "EA"}
    assert Crosswalk("units", codes).translate("Each") == "EA"
    assert Crosswalk("units", codes, "keep").translate("Box") == "Box"
    assert Crosswalk("units", codes, "default", "ZZ").translate("Box") == "ZZ"
    with pytest.raises(CodeUnknown, match="crosswalk units has no row for 'Box'"):
        Crosswalk("units", codes).translate("Box")
    assert read_codes("\ufefffusion,partner,note\nEach,EA,x\n", source_file="x") == codes

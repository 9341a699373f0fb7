"""Crosswalk files: dates hold inclusively, a lapsed row is not "the same code", faults are named with their rows."""

import datetime as dt
from pathlib import Path

import pytest

from mlc_dagster.settings import CrosswalkSettings
from mlc_dagster.stampli.crosswalks import CrosswalkError, load_crosswalks, parse_crosswalk
from mlc_dagster_tests.stampli.builders_mapping import no_crosswalks

DAY = dt.date(2026, 6, 30)


def test_rows_hold_from_and_until_inclusively() -> None:
    """The day of the change belongs to one row only."""
    text = b"stampli,fusion,valid_from,valid_to\nA,1,,2026-06-30\nA,2,2026-07-01,\n"
    table = parse_crosswalk(text, source="x.csv", sites=False)
    assert [table.lookup("A", day) and table.lookup("A", day).fusion for day in (DAY, DAY + dt.timedelta(1))] == [  # type: ignore[union-attr]
        "1",
        "2",
    ]


def test_no_row_means_the_same_code() -> None:
    """Most codes need no translation."""
    table = no_crosswalks().vendors
    assert table.lookup("A", DAY) is None
    assert not table.lapsed("A", DAY)


def test_a_row_that_ended_does_not_mean_the_same_code() -> None:
    """Vendor A was another number until June; in July A may be somebody else in Fusion."""
    table = parse_crosswalk(b"stampli,fusion,valid_to\nA,1,2026-06-30\n", source="x.csv", sites=False)
    assert table.lapsed("A", DAY + dt.timedelta(1))
    assert not table.lapsed("A", DAY)


def test_a_vendor_row_may_name_the_site() -> None:
    """Where one vendor has several pay sites."""
    table = parse_crosswalk(b"stampli,fusion,site\nA,1,DENVER\nB,2,\n", source="x.csv", sites=True)
    assert table.lookup("A", DAY).site == "DENVER"  # type: ignore[union-attr]
    assert table.lookup("B", DAY).site is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"stampli\nA\n", ["'fusion' is missing"]),
        (b"stampli,fusion,colour\nA,1,red\n", ["'colour'"]),
        (b"stampli,fusion,site\nA,1,X\n", ["'site'"]),
        (b"stampli,fusion\nA,1\nA,2\n", ["rows 2 and 3", "'A'"]),
        (b"stampli,fusion,valid_from,valid_to\nA,1,2026-01-01,2026-06-30\nA,2,2026-06-30,\n", ["rows 2 and 3"]),
        (b"stampli,fusion,valid_from\nA,1,01/02/2026\n", ["row 2", "01/02/2026", "YYYY-MM-DD"]),
        (b"stampli,fusion,valid_from,valid_to\nA,1,2026-07-01,2026-06-30\n", ["row 2", "after"]),
        (b"stampli,fusion\nA\n", ["row 2", "1 cells"]),
        (b"stampli,fusion\n,1\n", ["row 2"]),
        (b"stampli,fusion\nA,\xe9\n", ["UTF-8"]),
        (b"", ["'stampli' is missing"]),
    ],
)
def test_faults_are_named(text: bytes, words: list[str]) -> None:
    """These files are edited by hand, and a wrong row pays the wrong supplier."""
    with pytest.raises(CrosswalkError) as refused:
        parse_crosswalk(text, source="vendors.csv", sites=False)
    assert all(word in str(refused.value) for word in ["vendors.csv", *words])


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    """It is stored with each intent and says which table was used."""
    (tmp_path / "vendors.csv").write_text("stampli,fusion\nA,1\n")
    settings = CrosswalkSettings(vendors=Path("vendors.csv"))
    before = load_crosswalks(settings, tmp_path).version
    assert load_crosswalks(settings, tmp_path).version == before
    (tmp_path / "vendors.csv").write_text("stampli,fusion\nA,2\n")
    assert load_crosswalks(settings, tmp_path).version != before
    # Ledgers hold it: what was used yesterday has the same version tomorrow.
    assert no_crosswalks().version == "4ccced4b5ff29f2c2b0938067e0b2feba1ee7b1b802c9a0e299a3bf026edaa9e"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Going on without a crosswalk would post to the wrong suppliers."""
    with pytest.raises(CrosswalkError, match=r"nowhere\.csv"):
        load_crosswalks(CrosswalkSettings(vendors=Path("nowhere.csv")), tmp_path)

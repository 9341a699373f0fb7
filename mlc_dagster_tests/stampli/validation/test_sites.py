"""Which supplier and which pay site an invoice goes to, and what is told when nobody can know."""

import datetime as dt
from typing import Any

import pytest

from mlc_dagster.stampli.crosswalks import Target
from mlc_dagster.stampli.validation.mapping import Mapping
from mlc_dagster_tests.stampli.builders_mapping import (
    TODAY,
    FakeAssignment,
    FakeReferences,
    FakeSite,
    FakeSupplier,
    crosswalks,
    invoice,
    mapped,
    outcome,
    parked,
)


def test_an_unknown_vendor_parks_with_its_number() -> None:
    """It is let through by itself when the supplier is created."""
    (problem,) = outcome(references=FakeReferences(suppliers={}))  # type: ignore[misc]
    assert problem.reason == "VENDOR_UNKNOWN"
    assert problem.value == "30012"


@pytest.mark.parametrize(
    "change", [{"status": "INACTIVE"}, {"inactive_date": TODAY}, {"inactive_date": dt.date(2020, 1, 1)}]
)
def test_an_inactive_vendor_parks(change: dict[str, Any]) -> None:
    """Inactive from the day on that Fusion names."""
    assert parked(references=FakeReferences(suppliers={"30012": FakeSupplier(**change)})) == ["VENDOR_INACTIVE"]


def test_a_vendor_that_becomes_inactive_tomorrow_is_active() -> None:
    """The end date lies ahead."""
    supplier = FakeSupplier(inactive_date=TODAY + dt.timedelta(1))
    assert mapped(references=FakeReferences(suppliers={"30012": supplier})).supplier_number == "30012"


def test_the_crosswalk_gives_supplier_and_site() -> None:
    """The sender's vendor codes are not Fusion's."""
    sites = (FakeSite("HQ"), FakeSite("DENVER"))
    references = FakeReferences(suppliers={"1287": FakeSupplier(number="1287", sites=sites)})
    result = mapped(references=references, tables=crosswalks(vendors={"30012": Target("1287", "DENVER")}))
    assert (result.supplier_number, result.site_name) == ("1287", "DENVER")


def test_a_lapsed_crosswalk_row_parks_instead_of_taking_the_same_code() -> None:
    """The same code may be another supplier in Fusion."""
    tables = crosswalks(vendors={"30012": Target("1287", None, None, dt.date(2026, 1, 1))})
    assert parked(tables=tables) == ["VENDOR_UNKNOWN"]


def test_the_site_in_the_file_goes_before_the_crosswalks() -> None:
    """The invoice knows best where it wants to be paid."""
    references = FakeReferences(suppliers={"30012": FakeSupplier(sites=(FakeSite("HQ"), FakeSite("DENVER")))})
    tables = crosswalks(vendors={"30012": Target("30012", "DENVER")})
    assert mapped(invoice(vendor_site="HQ"), references, tables=tables).site_name == "HQ"


def test_another_name_in_fusion_is_told() -> None:
    """A number that was reused for another supplier is seen by its name."""
    references = FakeReferences(suppliers={"30012": FakeSupplier(name="Umbrella Corp")})
    assert [warning.reason for warning in mapped(references=references).warnings] == ["VENDOR_NAME_DIFFERS"]


ELSEWHERE = (FakeAssignment("Other BU"),)


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ((FakeSite("A"), FakeSite("B")), "SITE_AMBIGUOUS"),
        ((FakeSite("A", primary_pay=True), FakeSite("B")), "A"),
        ((FakeSite("A", primary_pay=True), FakeSite("B", primary_pay=True)), "SITE_AMBIGUOUS"),
        ((FakeSite("A"), FakeSite("B", pay=False)), "A"),
        ((FakeSite("A"), FakeSite("B", status="INACTIVE")), "A"),
        ((FakeSite("A"), FakeSite("B", inactive_date=TODAY)), "A"),
        ((FakeSite("A", primary_pay=True, assignments=ELSEWHERE), FakeSite("B")), "B"),
        ((FakeSite("A", assignments=ELSEWHERE),), "SITE_UNKNOWN"),
        ((FakeSite("A", assignments=(FakeAssignment(inactive_date=TODAY),)),), "SITE_UNKNOWN"),
        ((FakeSite("A", pay=None, primary_pay=None),), "A"),
        ((), "SITE_UNKNOWN"),
    ],
)
def test_the_site_is_the_only_one_or_the_primary_one(sites: tuple[FakeSite, ...], expected: str) -> None:
    """Guessing among pay sites sends money to a wrong address."""
    result = outcome(references=FakeReferences(suppliers={"30012": FakeSupplier(sites=sites)}))
    assert (result.site_name if isinstance(result, Mapping) else result[0].reason) == expected


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (FakeSite("HQ"), "no site DENVER"),
        (FakeSite("DENVER", pay=False), "not a pay site"),
        (FakeSite("DENVER", assignments=ELSEWHERE), "not assigned to US1 Business Unit"),
    ],
)
def test_a_named_site_that_cannot_be_used_says_why(site: FakeSite, words: str) -> None:
    """The named site is never replaced by another one."""
    (problem,) = outcome(  # type: ignore[misc]
        invoice(vendor_site="DENVER"), FakeReferences(suppliers={"30012": FakeSupplier(sites=(site,))})
    )
    assert problem.reason == "SITE_UNKNOWN"
    assert words in problem.remedy

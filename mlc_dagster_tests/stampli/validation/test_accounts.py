"""Account combinations: built from coding, crosswalks and template, and judged by what Fusion knows of them."""

import datetime as dt

import pytest

from mlc_dagster.stampli.validation.accounts import TemplateFault
from mlc_dagster_tests.stampli.builders_mapping import (
    KEY,
    FakeCombination,
    FakeReferences,
    FakeValue,
    crosswalks,
    invoice,
    line,
    mapped,
    outcome,
    parked,
)


def test_crosswalks_translate_account_and_cost_center() -> None:
    """Stampli's codes on the left, Fusion's on the right."""
    references = FakeReferences(combinations={("101", "120", "60540", "000", "000", "000"): FakeCombination()})
    tables = crosswalks(accounts={"61200": "60540"}, cost_centers={"4410": "120"})
    assert mapped(None, references, tables=tables).lines[0]["DistributionCombination"] == "101-120-60540-000-000-000"


def test_any_dimension_may_fill_a_segment() -> None:
    """Charts differ: location, class, project …"""
    references = FakeReferences(combinations={("101", "4410", "61200", "000", "SEA", "000"): FakeCombination()})
    given = invoice(line(dimensions={"cost_center": "4410", "location": "SEA"}))
    template = "101-{cost_center}-{account}-000-{location}-000"
    assert mapped(given, references, account_template=template).lines[0]["DistributionCombination"] == (
        "101-4410-61200-000-SEA-000"
    )
    assert parked(account_template=template) == ["ACCOUNT_UNMAPPED"]
    assert mapped(given, references, account_template=template.replace("{location}", "{dim_location}"))


def test_a_dimension_that_the_template_does_not_use_is_told_once() -> None:
    """It is coded in Stampli and would be lost without a word."""
    coded = {"cost_center": "4410", "region": "West"}
    warnings = mapped(invoice(line(1, dimensions=coded), line(2, dimensions=coded))).warnings
    assert [(warning.reason, warning.field) for warning in warnings] == [("DIM_UNKNOWN", "dim_region")]


def test_a_missing_cost_center_parks() -> None:
    """Cost without a cost centre is nobody's cost."""
    assert parked(invoice(line(dimensions={}))) == ["COST_CENTER_MISSING"]


def test_a_default_cost_center_serves_balance_sheet_accounts_only() -> None:
    """A tax or accrual account has none; an expense account must have one."""
    template = "101-{cost_center:0000}-{account}-000-000-000"
    given, key = invoice(line(dimensions={})), ("101", "0000", "61200", "000", "000", "000")
    asset = FakeReferences(combinations={key: FakeCombination(account_type="A")})
    expense = FakeReferences(combinations={key: FakeCombination(account_type="E")})
    assert mapped(given, asset, account_template=template).lines[0]["DistributionCombination"] == "-".join(key)
    assert parked(given, expense, account_template=template) == ["COST_CENTER_MISSING"]
    assert mapped(given, expense, account_template=template, require_cost_center=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is not in CC"),
        (FakeValue(enabled=False), "is disabled"),
        (FakeValue(end=dt.date(2026, 10, 1)), "was valid until 2026-10-01"),
        (FakeValue(start=dt.date(2026, 11, 1)), "is valid from 2026-11-01"),
        (FakeValue(summary=True), "summary"),
    ],
)
def test_a_cost_center_that_cannot_be_used_says_why(value: FakeValue | None, words: str) -> None:
    """Judged on the accounting date, where the chart names a value set to ask."""
    references = FakeReferences(cost_centers={"4410": value} if value else {})
    (problem,) = outcome(references=references, charted={"cost_center_value_set": "CC"})  # type: ignore[misc]
    assert problem.reason == "COST_CENTER_INVALID"
    assert words in problem.remedy


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (FakeCombination(enabled=False), "is disabled"),
        (FakeCombination(detail_posting=False), "does not allow detail posting"),
        (FakeCombination(summary=True), "is a summary account"),
        (FakeCombination(end=dt.date(2026, 10, 27)), "was valid until 2026-10-27"),
        (FakeCombination(start=dt.date(2026, 10, 29)), "is valid from 2026-10-29"),
        (None, "no such combination"),
    ],
)
def test_a_combination_that_cannot_be_posted_to_says_why(known: FakeCombination | None, words: str) -> None:
    """The gl accountant has to know which of five things to change."""
    (problem,) = outcome(references=FakeReferences(combinations={KEY: known} if known else {}))  # type: ignore[misc]
    assert problem.reason == "ACCOUNT_INVALID"
    assert words in problem.remedy
    assert problem.value is not None
    assert "101-4410-61200-000-000-000" in problem.value


def test_an_unlisted_combination_may_be_tried() -> None:
    """Where Fusion inserts combinations on their first use."""
    result = mapped(references=FakeReferences(combinations={}), unknown_combination="try")
    assert [warning.reason for warning in result.warnings] == ["ACCOUNT_NOT_LISTED"]


def test_a_full_combination_is_taken_as_it_is() -> None:
    """Some customers code whole combinations in Stampli."""
    given = invoice(line(gl_account="-".join(KEY), dimensions={}))
    assert mapped(given).lines[0]["DistributionCombination"] == "-".join(KEY)


def test_a_full_combination_that_disagrees_with_the_dimensions_parks() -> None:
    """One of the two is wrong, and nobody here knows which."""
    given = invoice(line(gl_account="-".join(KEY), dimensions={"cost_center": "9999"}))
    (problem,) = outcome(given)  # type: ignore[misc]
    assert problem.reason == "DIM_CONFLICT"
    assert problem.value == "101-4410-61200-000-000-000 has 4410, dim_cost_center says 9999"


def test_a_fixed_cost_center_that_disagrees_with_the_line_parks() -> None:
    """The template would overrule what was approved."""
    assert parked(account_template="101-0000-{account}-000-000-000") == ["DIM_CONFLICT"]


def test_a_full_combination_of_another_length_parks() -> None:
    """A segment too few shifts all that follow."""
    assert parked(invoice(line(gl_account="101-4410-61200"))) == ["ACCOUNT_UNMAPPED"]


def test_a_foreign_balancing_segment_parks_unless_declared() -> None:
    """It books one company's cost into another's books."""
    key = ("202", *KEY[1:])
    given = invoice(line(gl_account="-".join(key)))
    references = FakeReferences(combinations={key: FakeCombination()})
    assert parked(given, references) == ["INTERCOMPANY_NOT_DECLARED"]
    assert mapped(given, references, intercompany=True)
    assert mapped(given, references, balancing_values=["101", "202"])


def test_a_template_that_does_not_fit_the_chart_is_refused() -> None:
    """A configuration error, not a fault of an invoice."""
    with pytest.raises(TemplateFault, match="2 segments"):
        outcome(account_template="101-{account}")

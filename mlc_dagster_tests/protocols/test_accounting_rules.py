"""G1, G2, H1 to H5: what may be booked, and how. One window holds every case; each test asks for its own."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.sandbox.books import BookedInvoice
from mlc_dagster.sandbox.seed import (
    DISABLED_ACCOUNT,
    DISABLED_DEPARTMENT,
    ENDED_ACCOUNT,
    ENDED_DEPARTMENT,
    FUTURE_ACCOUNT,
    INACTIVE_SITE_SUPPLIER,
    INACTIVE_SUPPLIER,
    NOT_POSTABLE_ACCOUNT,
    PRIMARY_SITE_SUPPLIER,
    SUMMARY_ACCOUNT,
    TWO_PAY_SITES_SUPPLIER,
    UK_SUPPLIER,
    UNASSIGNED_SUPPLIER,
    Seed,
)
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.intake import Rows, bill, drop, events, problems, prove_books, verdict
from mlc_dagster_tests.servers.rehearsal import COMPANIES, Rehearsal, rehearsal

US: dict[str, Any] = COMPANIES["C100"]
COMPANIES_HERE: dict[str, Any] = {
    "CALC": {**US, "tax_mode": "fusion_calculates"},
    "ITEMTAX": {**US, "tax_mode": "item_line"},
    "NORATE": {**US, "conversion_rate_type": None},
    "ROUND": {**US, "tolerance": "0.02", "rounding_account": "101-4410-60590-000-000-000"},
    "TRY": {**US, "unknown_combination": "try"},
    "SUFFIX": {**US, "memo_suffix": "-CM"},
    "OPTIONAL": {**US, "account_template": "101-{cost_center:0000}-{account}-000-000-000"},
    "INTER": {**US, "intercompany": True},
    "POSTING": {**US, "accounting_date": "posting_date"},
    "PREPAY": {**US, "prepayments": True},
}


def _line(**cells: str) -> dict[str, Any]:
    return {"lines": [cells]}


def _memo(*amounts: str, **cells: Any) -> dict[str, Any]:
    return {"amounts": amounts or ("-5.00",), "invoice_type": "CREDIT_MEMO", **cells}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    # G1
    "g1 three decimals": ({"amounts": ("1.005",)}, "FIELD_INVALID"),
    "g1 exponent": ({"amounts": ("1e3",), "invoice_amount": "1e3"}, "FIELD_INVALID"),
    "g1 thousands": ({"amounts": ("1000.00",), "invoice_amount": "1,000.00"}, "FIELD_INVALID"),
    "g1 blank": ({"amounts": ("10.00",), "invoice_amount": " 10.00"}, "FIELD_INVALID"),
    "g1 plus": ({"amounts": ("10.00",), "invoice_amount": "+10.00"}, "FIELD_INVALID"),
    "g1 not a number": ({"amounts": ("10.00",), "invoice_amount": "NaN"}, "FIELD_INVALID"),
    "g1 other digits": ({"amounts": ("10.00",), "invoice_amount": "\uff11\uff10.00"}, "FIELD_INVALID"),
    "g1 yen with decimals": ({"amounts": ("100.5",), "currency": "JPY"}, "FIELD_INVALID"),
    "g1 dinar with four": ({"amounts": ("1.2345",), "currency": "KWD"}, "FIELD_INVALID"),
    "g1 guessed date": ({"invoice_date": "01/02/2026"}, "FIELD_INVALID"),
    "g1 no such day": ({"invoice_date": "2026-02-29"}, "FIELD_INVALID"),
    # G2
    "g2 beyond a double": ({"amounts": ("90071992547409.93",)}, ""),
    "g2 yen": ({"amounts": ("100", "250"), "currency": "JPY"}, ""),
    "g2 dinar": ({"amounts": ("1.234", "0.001"), "currency": "KWD"}, ""),
    "g2 binary fraction": ({"amounts": ("0.10", "0.20")}, ""),
    # H1
    "h1 unknown company": ({"company_id": "NOBODY"}, "BU_UNMAPPED"),
    "h1 one cent off": ({"amounts": ("10.00",), "invoice_amount": "10.01"}, "AMOUNT_MISMATCH"),
    "h1 within tolerance": ({"amounts": ("10.00",), "invoice_amount": "10.02", "company_id": "ROUND"}, ""),
    "h1 beyond tolerance": (
        {"amounts": ("10.00",), "invoice_amount": "10.03", "company_id": "ROUND"},
        "AMOUNT_MISMATCH",
    ),
    "h1 tax lines": (
        {
            "amounts": ("10.00", "0.80"),
            "tax_amount": "0.80",
            "lines": [{}, {"line_type": "TAX", "gl_account": "22100"}],
        },
        "",
    ),
    "h1 tax stated otherwise": (
        {
            "amounts": ("10.00", "0.80"),
            "tax_amount": "0.90",
            "lines": [{}, {"line_type": "TAX", "gl_account": "22100"}],
        },
        "TAX_CONFLICT",
    ),
    "h1 tax without its line": ({"amounts": ("10.00",), "tax_amount": "0.80"}, "TAX_CONFLICT"),
    "h1 tax twice": (
        {
            "amounts": ("10.00", "0.80"),
            "company_id": "CALC",
            "lines": [{}, {"line_type": "TAX", "gl_account": "22100"}],
        },
        "TAX_CONFLICT",
    ),
    "h1 tax as item": (
        {
            "amounts": ("10.00", "0.80"),
            "company_id": "ITEMTAX",
            "lines": [{}, {"line_type": "TAX", "gl_account": "22100"}],
        },
        "",
    ),
    "h1 no posting date": ({"company_id": "POSTING", "posting_date": ""}, "FIELD_MISSING"),
    "h1 posting date": ({"company_id": "POSTING", "posting_date": "2026-11-05"}, ""),
    "h1 rate missing": ({"company_id": "NORATE", "currency": "EUR"}, "RATE_MISSING"),
    "h1 user rate without value": ({"currency": "EUR", "exchange_rate_type": "User"}, "RATE_MISSING"),
    "h1 user rate": ({"currency": "EUR", "exchange_rate_type": "User", "exchange_rate": "1.0825"}, ""),
    "h1 corporate rate": ({"currency": "EUR"}, ""),
    "h1 unknown currency": ({"currency": "XYZ"}, "CURRENCY_INVALID"),
    "h1 prepayment": ({"invoice_type": "PREPAYMENT"}, "PREPAYMENT_NOT_ALLOWED"),
    "h1 prepayment declared": ({"invoice_type": "PREPAYMENT", "company_id": "PREPAY"}, ""),
    "h1 not approved": ({"status": "PENDING"}, "NOT_APPROVED"),
    "h1 approved by nobody": ({"approved_by": ""}, "NOT_APPROVED"),
    # H2
    "h2 memo": (_memo(), ""),
    "h2 positive memo": (_memo("5.00"), "MEMO_SIGN"),
    "h2 memo with a positive line": (_memo("-10.00", "5.00"), "MEMO_SIGN"),
    "h2 debit memo": ({"amounts": ("-5.00",), "invoice_type": "DEBIT_MEMO"}, ""),
    "h2 negative invoice": ({"amounts": ("-5.00",)}, "MEMO_SIGN"),
    "h2 negative line": ({"amounts": ("10.00", "-2.00")}, ""),
    "h2 original": ({"amounts": ("7.00",), "number": "REUSED"}, ""),
    "h2 memo under its number": (_memo(number="REUSED"), "MEMO_NUMBER_REUSED"),
    "h2 original with suffix": ({"amounts": ("7.00",), "number": "AGAIN", "company_id": "SUFFIX"}, ""),
    "h2 memo with suffix": (_memo(number="AGAIN", company_id="SUFFIX"), ""),
    # H3
    "h3 purchase order": (_line(po_number="PO-1", po_line="1"), "PO_NOT_SUPPORTED"),
    "h3 order line only": (_line(po_line="1"), "PO_NOT_SUPPORTED"),
    # H4
    "h4 unknown account": (_line(gl_account="99999"), "ACCOUNT_INVALID"),
    "h4 unknown account tried": ({**_line(gl_account="101-4410-61200-000-999-000"), "company_id": "TRY"}, "FUSION"),
    "h4 disabled": (_line(gl_account=DISABLED_ACCOUNT), "ACCOUNT_INVALID"),
    "h4 ended": (_line(gl_account=ENDED_ACCOUNT), "ACCOUNT_INVALID"),
    "h4 not postable": (_line(gl_account=NOT_POSTABLE_ACCOUNT), "ACCOUNT_INVALID"),
    "h4 summary": (_line(gl_account=SUMMARY_ACCOUNT), "ACCOUNT_INVALID"),
    "h4 not valid yet": (_line(gl_account=FUTURE_ACCOUNT), "ACCOUNT_INVALID"),
    "h4 whole combination": (_line(gl_account="101-4410-61200-000-000-000"), ""),
    "h4 combination against its dimension": (_line(gl_account="101-4420-61200-000-000-000"), "DIM_CONFLICT"),
    "h4 foreign company": (_line(gl_account="201-4410-61200-000-000-000"), "INTERCOMPANY_NOT_DECLARED"),
    "h4 no account": (_line(gl_account=""), "FIELD_MISSING"),
    "h4 no cost centre": (_line(dim_cost_center=""), "COST_CENTER_MISSING"),
    "h4 defaulted for expense": ({**_line(dim_cost_center=""), "company_id": "OPTIONAL"}, "COST_CENTER_MISSING"),
    "h4 defaulted for assets": ({**_line(dim_cost_center="", gl_account="15000"), "company_id": "OPTIONAL"}, ""),
    "h4 ended cost centre": (_line(dim_cost_center=ENDED_DEPARTMENT), "COST_CENTER_INVALID"),
    "h4 disabled cost centre": (_line(dim_cost_center=DISABLED_DEPARTMENT), "COST_CENTER_INVALID"),
    # H5
    "h5 unknown supplier": ({"vendor_id": "39999"}, "VENDOR_UNKNOWN"),
    "h5 inactive supplier": ({"vendor_id": INACTIVE_SUPPLIER}, "VENDOR_INACTIVE"),
    "h5 unassigned site": ({"vendor_id": UNASSIGNED_SUPPLIER}, "SITE_UNKNOWN"),
    "h5 site of another unit": ({"vendor_id": UK_SUPPLIER}, "SITE_UNKNOWN"),
    "h5 two pay sites": ({"vendor_id": TWO_PAY_SITES_SUPPLIER}, "SITE_AMBIGUOUS"),
    "h5 two pay sites, one named": ({"vendor_id": TWO_PAY_SITES_SUPPLIER, "vendor_site": "WEST"}, ""),
    "h5 one primary": ({"vendor_id": PRIMARY_SITE_SUPPLIER}, ""),
    "h5 the active one": ({"vendor_id": INACTIVE_SITE_SUPPLIER}, ""),
    "h5 the inactive one named": ({"vendor_id": INACTIVE_SITE_SUPPLIER, "vendor_site": "HQ"}, "SITE_UNKNOWN"),
    "h5 no such site": ({"vendor_site": "MARS"}, "SITE_UNKNOWN"),
    # Periods, lengths, documents
    "g4 closed period": ({"invoice_date": "2026-09-30"}, "PERIOD_CLOSED"),
    "g4 future period": ({"invoice_date": "2026-12-01"}, "PERIOD_FUTURE"),
    "g4 never opened": ({"invoice_date": "2027-03-01"}, "PERIOD_FUTURE"),
    "long number": ({"number": "N" * 51}, "LENGTH"),
    "long description": ({"description": "x" * 241}, "LENGTH"),
    "line twice": ({"amounts": ("1.00", "2.00"), "lines": [{}, {"line_number": "1"}]}, "LINE_DUPLICATE"),
    "path out": ({"document_file": "../../etc/passwd"}, "FIELD_INVALID"),
}
"""What differs from a valid invoice, and the reason for which it parks; nothing where it is posted."""


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """All cases in one file, after one run."""
    with rehearsal(tmp_path_factory.mktemp("accounting"), seed=Seed(20, TODAY)) as flow:
        flow.open_feed()
        flow.change_config(
            {
                "stampli": {"companies": COMPANIES_HERE},
                "fusion": {"charts": {"US1": {"cost_center_value_set": "US1 Cost Center"}}},
            }
        )
        bills: list[Rows] = []
        for name, (changes, _) in CASES.items():
            cells = dict(changes)
            amounts = cells.pop("amounts", ("10.00",))
            if any(not _is_number(amount) for amount in amounts):
                cells.setdefault("invoice_amount", amounts[0])
            bills.append(bill(name, *amounts, **cells))
        drop(flow, 1, *bills)
        flow.process()
        yield flow


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


@pytest.mark.parametrize("name", [name for name, (_, reason) in CASES.items() if reason])
def test_g1_to_h5_what_may_not_be_booked_is_parked_with_its_reason(booked: Rehearsal, name: str) -> None:
    """Reason, offending field and remedy; and nothing of it in Fusion."""
    reason = CASES[name][1]
    if reason == "FUSION":
        assert verdict(booked, name) == "PARKED FUSION_REJECTED(AP-810501)"
    else:
        assert verdict(booked, name) == f"PARKED {reason}"
    assert all(problem["remedy"] for problem in problems(booked, name))
    assert _of(booked, name) is None or name == "h2 memo under its number"


@pytest.mark.parametrize("name", [name for name, (_, reason) in CASES.items() if not reason])
def test_g1_to_h5_everything_else_of_the_window_goes_on(booked: Rehearsal, name: str) -> None:
    """One faulty invoice holds up no other."""
    assert verdict(booked, name) == "CONFIRMED", problems(booked, name)


def test_c10_the_window_with_every_case_adds_up_to_the_cent(booked: Rehearsal) -> None:
    """Books, ledger and trail agree, in count and per currency."""
    numbers = [
        "AGAIN-CM" if name == "h2 memo with suffix" else cells.get("number", f"N-{name}")
        for name, (cells, reason) in CASES.items()
        if not reason
    ]
    prove_books(booked, *numbers)


def _of(flow: Rehearsal, name: str) -> BookedInvoice | None:
    found = flow.fusion.books.invoices(number=CASES[name][0].get("number", f"N-{name}"))
    return found[0] if found else None


def _booked(flow: Rehearsal, name: str) -> BookedInvoice:
    found = _of(flow, name)
    assert found is not None, f"{name} is not in the books"
    return found


def test_g2_amounts_reach_fusion_exactly(booked: Rehearsal) -> None:
    """Through a float, 90071992547409.93 becomes 90071992547409.94."""
    assert _booked(booked, "g2 beyond a double").amount == Decimal("90071992547409.93")
    assert str(_booked(booked, "g2 yen").amount) == "350"
    assert str(_booked(booked, "g2 dinar").amount) == "1.235"
    assert _booked(booked, "g2 binary fraction").amount == Decimal("0.30")


def test_g4_the_accounting_date_is_always_sent(booked: Rehearsal) -> None:
    """Left out, Fusion would choose one; it cannot be changed later."""
    sent = {name: _booked(booked, name).accounting_date for name in ("h1 posting date", "h2 memo")}
    assert sent == {"h1 posting date": "2026-11-05", "h2 memo": "2026-10-28"}


def test_h1_a_difference_within_the_tolerance_is_booked_to_the_named_account(booked: Rehearsal) -> None:
    """It is a line that everybody can see, not a rounding of somebody's amount."""
    lines = _booked(booked, "h1 within tolerance").lines
    assert [(str(line.amount), line.account) for line in lines][-1] == ("0.02", "101-4410-60590-000-000-000")
    assert sum(line.amount for line in lines) == _booked(booked, "h1 within tolerance").amount


def test_h1_tax_goes_where_the_company_says(booked: Rehearsal) -> None:
    """As a tax line, or as an item where Fusion must not see tax."""
    assert [line.line_type for line in _booked(booked, "h1 tax lines").lines] == ["Item", "Tax"]
    assert [line.line_type for line in _booked(booked, "h1 tax as item").lines] == ["Item", "Item"]


def test_h2_memos_are_negative_and_netted_with_nothing(booked: Rehearsal) -> None:
    """Header and lines; the invoice they belong to stays as it is."""
    memo = _booked(booked, "h2 memo")
    assert (memo.invoice_type, str(memo.amount), [str(line.amount) for line in memo.lines]) == (
        "Credit memo", "-5.00", ["-5.00"],
    )  # fmt: skip
    assert str(_booked(booked, "h2 original").amount) == "7.00"
    suffixed = booked.fusion.books.invoices(number="AGAIN-CM")
    assert [str(invoice.amount) for invoice in suffixed] == ["-5.00"]


def test_h5_the_site_that_decides_is_the_one_that_was_sent(booked: Rehearsal) -> None:
    """Named, primary, or the only one that is active."""
    sites = {
        name: _booked(booked, name).supplier_site for name in CASES if name.startswith("h5") and not CASES[name][1]
    }
    assert sites == {"h5 two pay sites, one named": "WEST", "h5 one primary": "HQ", "h5 the active one": "EAST"}


def test_g5_each_match_leaves_one_event_that_names_its_snapshot(booked: Rehearsal) -> None:
    """An auditor asks what was known when the invoice was let through, also where a cache answered."""
    posted = sum(1 for _, reason in CASES.values() if reason in ("", "FUSION"))
    for kind, times in (("supplier.matched", 1), ("period.matched", 2)):
        found = events(booked, kind)
        assert len(found) == times * posted
        assert all(str(event["detail"]["snapshot"]).startswith("read 2") for event in found)
    subjects = {event["subject"] for event in events(booked, "account.matched")}
    assert len(subjects) == posted
    centres = events(booked, "cost_center.matched")
    assert {event["detail"]["value"] for event in centres} == {"4410"}
    assert all(str(event["detail"]["snapshot"]).startswith("read 2") for event in centres)


def test_h_every_reason_of_the_cases_is_told_with_field_and_value(booked: Rehearsal) -> None:
    """A person must find the cell without opening the file."""
    told = {name: problems(booked, name)[0] for name, (_, reason) in CASES.items() if reason}
    without = [name for name, problem in told.items() if not problem["field"]]
    assert without == []

"""Reference data and settings for mapping tests: one company, one supplier, one account, everything in order."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from mlc_dagster.settings import ChartSettings, CompanySettings, CrosswalkSettings
from mlc_dagster.stampli.crosswalks import Crosswalk, Crosswalks, Target, load_crosswalks
from mlc_dagster.stampli.model import Invoice, InvoiceLine
from mlc_dagster.stampli.reasons import Problem
from mlc_dagster.stampli.validation.mapping import Mapping, map_invoice

TODAY = dt.date(2026, 11, 2)


@dataclass(frozen=True)
class FakeAssignment:
    client_bu: str | None = "US1 Business Unit"
    inactive_date: dt.date | None = None
    status: str | None = "ACTIVE"


@dataclass(frozen=True)
class FakeSite:
    name: str = "HQ"
    pay: bool | None = True
    primary_pay: bool | None = False
    status: str | None = "ACTIVE"
    inactive_date: dt.date | None = None
    assignments: tuple[FakeAssignment, ...] = (FakeAssignment(),)


@dataclass(frozen=True)
class FakeSupplier:
    supplier_id: int = 300000047507499
    name: str = "ACME Inc"
    number: str = "30012"
    status: str | None = "ACTIVE"
    inactive_date: dt.date | None = None
    sites: tuple[FakeSite, ...] = (FakeSite(),)


@dataclass(frozen=True)
class FakeCombination:
    account_type: str | None = "E"
    enabled: bool = True
    detail_posting: bool = True
    summary: bool = False
    start: dt.date | None = None
    end: dt.date | None = None


@dataclass(frozen=True)
class FakeValue:
    enabled: bool = True
    summary: bool = False
    start: dt.date | None = None
    end: dt.date | None = None


@dataclass(frozen=True)
class FakePeriod:
    name: str = "10-26"
    status: str = "O"
    start: dt.date = dt.date(2026, 10, 1)
    end: dt.date = dt.date(2026, 10, 31)


@dataclass
class FakeReferences:
    """Answers from dictionaries; periods are open unless told otherwise."""

    suppliers: dict[str, FakeSupplier] = field(default_factory=lambda: {"30012": FakeSupplier()})
    combinations: dict[tuple[str, ...], FakeCombination] = field(
        default_factory=lambda: {("101", "4410", "61200", "000", "000", "000"): FakeCombination()}
    )
    cost_centers: dict[str, FakeValue] = field(default_factory=dict)
    ap: FakePeriod | None = FakePeriod()
    gl: FakePeriod | None = FakePeriod()
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def supplier(self, number: str, /) -> FakeSupplier | None:
        self.asked.append(("supplier", number))
        return self.suppliers.get(number)

    def combination(self, chart: str, segments: tuple[str, ...], /) -> FakeCombination | None:
        self.asked.append(("combination", chart, segments))
        return self.combinations.get(segments)

    def cost_center(self, chart: str, value: str, /) -> FakeValue | None:
        self.asked.append(("cost_center", chart, value))
        return self.cost_centers.get(value)

    def ap_period(self, ledger: str, on: dt.date, /) -> FakePeriod | None:
        self.asked.append(("ap_period", ledger, on))
        return self.ap

    def gl_period(self, ledger: str, on: dt.date, /) -> FakePeriod | None:
        self.asked.append(("gl_period", ledger, on))
        return self.gl


def company(**changes: Any) -> CompanySettings:
    """Settings of company C100."""
    values: dict[str, Any] = {
        "business_unit": "US1 Business Unit",
        "legal_entity": "US1 Legal Entity",
        "ledger": "US Primary Ledger",
        "chart": "US1",
        "time_zone": "America/Denver",
        "invoice_source": "Stampli",
        "tax_mode": "tax_line",
        "accounting_date": "invoice_date",
        "account_template": "101-{cost_center}-{account}-000-000-000",
    }
    return CompanySettings.model_validate({**values, **changes})


def chart(**changes: Any) -> ChartSettings:
    """A chart of six segments."""
    values: dict[str, Any] = {
        "ledgers": ["US Primary Ledger"],
        "segments": ["entity", "department", "account", "subAccount", "location", "future1"],
        "natural_account": "account",
        "cost_center": "department",
    }
    return ChartSettings.model_validate({**values, **changes})


def line(number: int = 1, amount: str = "100.00", **changes: Any) -> InvoiceLine:
    """One item line."""
    values: dict[str, Any] = {
        "line_type": "ITEM",
        "description": "Filters",
        "gl_account": "61200",
        "dimensions": {"cost_center": "4410"},
    }
    return InvoiceLine(number=number, amount=Decimal(amount), **{**values, **changes})


def invoice(*lines: InvoiceLine, amount: str | None = None, **changes: Any) -> Invoice:
    """An approved invoice that nothing is wrong with; its amount is the sum of its lines."""
    lines = lines or (line(),)
    values: dict[str, Any] = {
        "company_id": "C100",
        "source_id": "88121",
        "number": "INV-00417",
        "invoice_type": "STANDARD",
        "status": "APPROVED",
        "vendor_id": "30012",
        "vendor_name": "Acme, Inc.",
        "invoice_date": dt.date(2026, 10, 28),
        "currency": "USD",
        "approved_by": "jdoe",
        "approved_at": dt.datetime(2026, 10, 30, 16, 2, 11, tzinfo=dt.UTC),
    }
    total = sum((each.amount for each in lines), Decimal(0)) if amount is None else Decimal(amount)
    return Invoice(amount=total, lines=lines, **{**values, **changes})


KEY = ("101", "4410", "61200", "000", "000", "000")


def no_crosswalks() -> Crosswalks:
    """Tables without rows: every code is the same on both sides."""
    return load_crosswalks(CrosswalkSettings(), Path())


def crosswalks(
    vendors: dict[str, Target] | None = None,
    accounts: dict[str, str] | None = None,
    cost_centers: dict[str, str] | None = None,
) -> Crosswalks:
    return Crosswalks(
        Crosswalk({code: (target,) for code, target in (vendors or {}).items()}),
        Crosswalk({code: (Target(value),) for code, value in (accounts or {}).items()}),
        Crosswalk({code: (Target(value),) for code, value in (cost_centers or {}).items()}),
        "v1",
    )


def outcome(
    given: Invoice | None = None,
    references: FakeReferences | None = None,
    *,
    tables: Crosswalks | None = None,
    ledger_currency: str = "USD",
    number_reused: bool = False,
    charted: dict[str, Any] | None = None,
    **settings: Any,
) -> Mapping | list[Problem]:
    return map_invoice(
        given or invoice(),
        company=company(**settings),
        chart=chart(**(charted or {})),
        ledger_currency=ledger_currency,
        references=references or FakeReferences(),
        crosswalks=tables or no_crosswalks(),
        today=TODAY,
        number_reused=number_reused,
    )


def mapped(*given: Any, **how: Any) -> Mapping:
    result = outcome(*given, **how)
    assert isinstance(result, Mapping), result
    return result


def parked(*given: Any, **how: Any) -> list[str]:
    result = outcome(*given, **how)
    assert isinstance(result, list), result
    return [problem.reason for problem in result]

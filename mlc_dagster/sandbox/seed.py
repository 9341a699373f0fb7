"""The enterprise that the embedded Fusion starts with: ledgers, business units, accounts, periods, suppliers.

Deterministic: the same ``Seed`` always gives the same rows with the same ids, at any size. Rows are plain dictionaries
with Fusion's attribute names, children as lists under their child resource's name; attributes left out are null.
"""

import calendar
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Record = dict[str, Any]

US_BUSINESS_UNIT: Final = "US1 Business Unit"
UK_BUSINESS_UNIT: Final = "UK1 Business Unit"
US_LEDGER: Final = "US Primary Ledger"
UK_LEDGER: Final = "UK Primary Ledger"
US_CHART: Final = 5237
UK_CHART: Final = 5238
SEGMENTS: Final = ("entity", "department", "account", "subAccount", "location", "future1")
DELIMITER: Final = "-"
CURRENCIES: Final[Mapping[str, int]] = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3, "CAD": 2, "CHF": 2}
"""Currency code to the number of decimals that its amounts may have."""

PAYMENT_TERMS: Final = ("Immediate", "Net 30", "Net 45", "Net 60", "2/10 Net 30")
INVOICE_SOURCES: Final = ("Manual invoice entry", "Stampli", "EDI", "External", "Invoice gateway", "Spreadsheet")

FIRST_SUPPLIER: Final = 30000
INACTIVE_SUPPLIER: Final = "30005"
UNASSIGNED_SUPPLIER: Final = "30006"
"""Its only site is assigned to no business unit."""
APOSTROPHE_SUPPLIER: Final = "30007"
TWO_PAY_SITES_SUPPLIER: Final = "30008"
"""Two pay sites, none of them primary."""
PRIMARY_SITE_SUPPLIER: Final = "30009"
"""Two pay sites; HQ is the primary one."""
INACTIVE_SITE_SUPPLIER: Final = "30010"
"""Site HQ is inactive, site EAST pays."""
UK_SUPPLIER: Final = "30011"
"""Assigned to the UK business unit only."""
ACME: Final = "30012"
UMLAUT_SUPPLIER: Final = "30013"
SMALLEST: Final = 14

DEPARTMENTS: Final = ("0000", "4410", "4420", "4430")
ENDED_DEPARTMENT: Final = "4490"
DISABLED_DEPARTMENT: Final = "4499"
ACCOUNTS: Final[Mapping[str, str]] = {
    "60540": "E",
    "60590": "E",
    "61200": "E",
    "61300": "E",
    "62100": "E",
    "11200": "A",
    "15000": "A",
    "22100": "L",
    "22200": "L",
    "41000": "R",
}
"""Natural account to account type letter; every department has every one of them."""
DISABLED_ACCOUNT: Final = "63100"
ENDED_ACCOUNT: Final = "63200"
NOT_POSTABLE_ACCOUNT: Final = "63300"
SUMMARY_ACCOUNT: Final = "63400"
FUTURE_ACCOUNT: Final = "63500"

_SPECIAL_NAMES: Final = {
    APOSTROPHE_SUPPLIER: "O'Neill & Sons",
    ACME: "Acme, Inc.",
    UMLAUT_SUPPLIER: "Müller Söhne GmbH",
}
_FIRST = ("Northwind", "Blue Ridge", "Cascade", "Delta", "Evergreen", "Foothill", "Granite", "Harbor", "Ironwood")
_SECOND = ("Paper", "Logistics", "Office Supply", "Electric", "Software", "Catering", "Freight")
_THIRD = ("Co", "LLC", "Group", "Partners", "Works")


@dataclass(frozen=True, slots=True)
class BusinessUnit:
    """A business unit with its ledger, legal entity and the balancing segment value it books to."""

    business_unit_id: int
    name: str
    ledger_id: int
    ledger: str
    currency: str
    chart: int
    legal_entity: str
    legal_entity_id: int
    entity: str
    cost_center_set: str


BUSINESS_UNITS: Final = (
    BusinessUnit(
        300000046987012,
        US_BUSINESS_UNIT,
        300000046975971,
        US_LEDGER,
        "USD",
        US_CHART,
        "US1 Legal Entity",
        300000046973970,
        "101",
        "US1 Cost Center",
    ),
    BusinessUnit(
        300000047274444,
        UK_BUSINESS_UNIT,
        300000047488112,
        UK_LEDGER,
        "GBP",
        UK_CHART,
        "UK1 Legal Entity",
        300000047488100,
        "201",
        "UK1 Cost Center",
    ),
)


def month_start(day: dt.date, offset: int = 0) -> dt.date:
    """First day of the month ``offset`` months after the month of ``day``."""
    months = day.year * 12 + day.month - 1 + offset
    return dt.date(months // 12, months % 12 + 1, 1)


def period_name(day: dt.date) -> str:
    """``Nov-26`` for any day of November 2026."""
    return f"{calendar.month_abbr[day.month]}-{day:%y}"


@dataclass(frozen=True)
class Seed:
    """How large the enterprise is and what day it is there.

    ``open_months`` counts the open periods up to the current month; the month after it is future-enterable, older ones
    are closed, later ones never opened. ``periods`` overrides single ones: ``{"Mar-26": "O", "101:Oct-26": "C"}``.
    """

    suppliers: int = 20
    today: dt.date = field(default_factory=lambda: dt.datetime.now(dt.UTC).date())
    open_months: int = 2
    periods: Mapping[str, str] = field(default_factory=dict[str, str])
    extra_accounts: int = 0
    """Further expense accounts, numbered from 70000, in every department."""
    invoice_sources: tuple[str, ...] = INVOICE_SOURCES
    currencies: Mapping[str, int] = field(default_factory=lambda: dict(CURRENCIES))

    def __post_init__(self) -> None:
        if self.suppliers < SMALLEST:
            msg = f"suppliers: {self.suppliers} is too few, the enterprise has at least {SMALLEST}"
            raise ValueError(msg)

    def supplier_numbers(self) -> list[str]:
        """Every seeded supplier number, ascending."""
        return [str(FIRST_SUPPLIER + index) for index in range(self.suppliers)]

    def ordinary_suppliers(self) -> list[str]:
        """Numbers of active suppliers whose site HQ alone pays and is assigned to the US business unit."""
        special = {INACTIVE_SUPPLIER, UNASSIGNED_SUPPLIER, TWO_PAY_SITES_SUPPLIER, PRIMARY_SITE_SUPPLIER}
        special |= {INACTIVE_SITE_SUPPLIER, UK_SUPPLIER}
        return [number for number in self.supplier_numbers() if number not in special]

    def supplier_name(self, number: str) -> str:
        """Name of a seeded supplier."""
        if number in _SPECIAL_NAMES:
            return _SPECIAL_NAMES[number]
        index = int(number) - FIRST_SUPPLIER
        words = (_FIRST[index % 9], _SECOND[index % 7], _THIRD[index % 5])
        return f"{' '.join(words)} {index:05d}"

    def supplier_rows(self) -> Iterator[Record]:
        """Suppliers with ``sites`` and those with ``assignments``."""
        changed = f"{self.today.year - 1}-06-01T09:00:00.000+00:00"
        for index in range(self.suppliers):
            number = str(FIRST_SUPPLIER + index)
            row: Record = {
                "SupplierId": 300000100000000 + index * 10,
                "Supplier": self.supplier_name(number),
                "SupplierNumber": number,
                "SupplierPartyId": 300000100000000 + index * 10 + 1,
                "CreationDate": changed,
                "LastUpdateDate": changed,
                "sites": list(self._sites(number, index)),
            }
            if number == INACTIVE_SUPPLIER:
                row["Status"] = "INACTIVE"
                row["InactiveDate"] = month_start(self.today, -6).isoformat()
            yield row

    def _sites(self, number: str, index: int) -> Iterator[Record]:
        ended = month_start(self.today, -6).isoformat()
        changed = f"{self.today.year - 1}-06-01T09:00:00.000+00:00"
        base = 300000200000000 + index * 100
        purposes: dict[str, Record] = {"HQ": {"SitePurposePayFlag": True, "SitePurposePrimaryPayFlag": True}}
        if number == TWO_PAY_SITES_SUPPLIER:
            purposes = {"HQ": {"SitePurposePayFlag": True}, "WEST": {"SitePurposePayFlag": True}}
        elif number == PRIMARY_SITE_SUPPLIER:
            purposes["WEST"] = {"SitePurposePayFlag": True}
        elif number == INACTIVE_SITE_SUPPLIER:
            purposes["HQ"] |= {"Status": "INACTIVE", "InactiveDate": ended}
            purposes["EAST"] = {"SitePurposePayFlag": True}
        elif index % 7 == 3:
            purposes["PLANT"] = {}
        for place, (name, purpose) in enumerate(purposes.items()):
            yield {
                "SupplierSiteId": base + place * 10,
                "SupplierSite": name,
                "ProcurementBU": US_BUSINESS_UNIT,
                "ProcurementBUId": BUSINESS_UNITS[0].business_unit_id,
                "SupplierAddressName": name,
                "SitePurposePurchasingFlag": True,
                "CreationDate": changed,
                "LastUpdateDate": changed,
                **purpose,
                "assignments": list(self._assignments(number, index, base + place * 10)),
            }

    def _assignments(self, number: str, index: int, site_id: int) -> Iterator[Record]:
        if number == UNASSIGNED_SUPPLIER:
            return
        if number == UK_SUPPLIER:
            units: tuple[BusinessUnit, ...] = BUSINESS_UNITS[1:]
        elif index % 3 == 0:
            units = BUSINESS_UNITS
        else:
            units = BUSINESS_UNITS[:1]
        for place, unit in enumerate(units):
            yield {
                "AssignmentId": site_id * 10 + place,
                "ClientBU": unit.name,
                "ClientBUId": unit.business_unit_id,
                "BillToBU": unit.name,
                "BillToBUId": unit.business_unit_id,
            }

    def combination_rows(self) -> Iterator[Record]:
        """Account combinations of both charts, US first."""
        ended = (month_start(self.today, -3) - dt.timedelta(days=1)).isoformat()
        odd: dict[str, Record] = {
            DISABLED_ACCOUNT: {"EnabledFlag": "N"},
            ENDED_ACCOUNT: {"EndDateActive": ended},
            NOT_POSTABLE_ACCOUNT: {"DetailPostingAllowedFlag": "N"},
            SUMMARY_ACCOUNT: {"SummaryFlag": "Y", "DetailPostingAllowedFlag": "N"},
            FUTURE_ACCOUNT: {"StartDateActive": month_start(self.today, 12).isoformat()},
        }
        accounts = dict(ACCOUNTS) | dict.fromkeys(odd, "E")
        accounts |= {str(70000 + extra): "E" for extra in range(self.extra_accounts)}
        number = 300000048120000
        for unit in BUSINESS_UNITS:
            for account, letter in accounts.items():
                for department in DEPARTMENTS:
                    number += 1
                    values = (unit.entity, department, account, "000", "000", "000")
                    yield {
                        "_CODE_COMBINATION_ID": number,
                        "_CHART_OF_ACCOUNTS_ID": unit.chart,
                        "AccountType": letter,
                        **dict(zip(SEGMENTS, values, strict=True)),
                        **odd.get(account, {}),
                    }

    def ledger_rows(self) -> Iterator[Record]:
        """Primary ledgers."""
        for unit in BUSINESS_UNITS:
            yield {
                "LedgerId": unit.ledger_id,
                "Name": unit.ledger,
                "CurrencyCode": unit.currency,
                "ChartOfAccountsId": unit.chart,
            }

    def business_unit_rows(self) -> Iterator[Record]:
        """Business units with their ledger and legal entity."""
        for unit in BUSINESS_UNITS:
            yield {
                "BusinessUnitId": unit.business_unit_id,
                "BusinessUnitName": unit.name,
                "PrimaryLedgerId": unit.ledger_id,
                "LegalEntityId": unit.legal_entity_id,
                "DefaultCurrencyCode": unit.currency,
            }

    def period_rows(self) -> Iterator[Record]:
        """Monthly periods of the previous, current and next year, for payables (200) and general ledger (101)."""
        first = dt.date(self.today.year - 1, 1, 1)
        for unit in BUSINESS_UNITS:
            for application in (101, 200):
                for month in range(36):
                    start = month_start(first, month)
                    name = period_name(start)
                    status = self.periods.get(f"{application}:{name}", self.periods.get(name))
                    yield {
                        "LedgerId": unit.ledger_id,
                        "PeriodNameId": name,
                        "ApplicationId": application,
                        "ClosingStatus": status or self._status(start),
                        "StartDate": start.isoformat(),
                        "EndDate": (month_start(start, 1) - dt.timedelta(days=1)).isoformat(),
                    }

    def _status(self, start: dt.date) -> str:
        ahead = (start.year - self.today.year) * 12 + start.month - self.today.month
        if ahead > 1:
            return "N"
        if ahead == 1:
            return "F"
        return "O" if ahead > -self.open_months else "C"

    def value_set_rows(self) -> Iterator[Record]:
        """Cost centre and natural account value sets with their ``values``."""
        ended = (month_start(self.today, -3) - dt.timedelta(days=1)).isoformat()
        number = 300000046120000
        for place, unit in enumerate(BUSINESS_UNITS):
            centers = [{"Value": value} for value in DEPARTMENTS]
            centers.append({"Value": ENDED_DEPARTMENT, "EndDateActive": ended})
            centers.append({"Value": DISABLED_DEPARTMENT, "EnabledFlag": "N"})
            accounts = [{"Value": value, "AccountType": letter} for value, letter in ACCOUNTS.items()]
            accounts += [{"Value": str(70000 + extra), "AccountType": "E"} for extra in range(self.extra_accounts)]
            for code, values in ((unit.cost_center_set, centers), (f"{unit.name[:3]} Account", accounts)):
                number += 1
                yield {
                    "ValueSetId": number,
                    "ValueSetCode": code,
                    "Description": f"{code} of the {unit.ledger}",
                    "values": [
                        {"ValueId": number * 1000 + place * 100_000 + index, **value}
                        for index, value in enumerate(values)
                    ],
                }

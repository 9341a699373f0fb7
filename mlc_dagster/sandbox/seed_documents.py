"""Journals and purchase orders that the embedded Fusion has from the start: one of each kind that formats stumble on.

Dated in the days before ``Seed.today``, so that they are there at go-live. What they become as rows is decided by the
desks of ``fusion.journals`` and ``fusion.orders``.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any, Final

from mlc_dagster.sandbox.seed import ACME, UK_BUSINESS_UNIT, UK_SUPPLIER, UMLAUT_SUPPLIER, Seed

FIRST_BATCH: Final = 300000070001000
FIRST_ORDER: Final = 300000071001000

PAYABLES_BATCH: Final = "Payables A 771200100 771201 N"
"""Two journals in USD."""
FOREIGN_BATCH: Final = "Payables A 771200100 771202 N"
"""EUR into a ledger in USD."""
STAT_BATCH: Final = "Headcount"
JPY_BATCH: Final = "Tokyo office"
LONG_BATCH: Final = "Allocation of rent"
"""One journal of 60 lines: more than a nested page holds."""
UNPOSTED_BATCH: Final = "Accruals in preparation"
UK_BATCH: Final = "UK accruals"

GOODS_ORDER: Final = "US165121"
"""Two lines; the first in two schedules."""
SERVICES_ORDER: Final = "US165122"
"""One line of goods, one that is an amount only."""
UK_ORDER: Final = "UK165123"
"""In GBP."""

_RENT_LINES: Final = 60


def _code(entity: str, department: str, account: str) -> str:
    return f"{entity}-{department}-{account}-000-000-000"


def journal_batches(seed: Seed) -> Iterator[tuple[int, dict[str, Any]]]:
    """(JeBatchId, what ``JournalDesk.build_journal_batch`` takes), oldest first."""
    expense, travel, payable = (
        _code("101", "4410", "61200"),
        _code("101", "4420", "61300"),
        _code("101", "0000", "22100"),
    )
    rent: list[tuple[str, str | None, str | None, str]] = [
        (
            _code("101", ("4410", "4420", "4430")[place % 3], "62100"),
            f"{100 + place}.{place:02d}",
            None,
            f"Desk {place}",
        )
        for place in range(1, _RENT_LINES)
    ]
    # 100 + place, and place hundredths, over places 1 to 59.
    rent.append((_code("101", "0000", "22200"), None, "7687.70", "Rent payable"))
    batches: list[dict[str, Any]] = [
        {
            "name": PAYABLES_BATCH,
            "source": "Payables",
            "from_subledger": True,
            "journals": [
                {
                    "name": "Purchase Invoices USD",
                    "category": "Purchase Invoices",
                    "lines": [
                        (expense, "1100.00", None, "Journal Import Created"),
                        (travel, "80.50", None, "Journal Import Created"),
                        (payable, None, "1180.50", "Journal Import Created"),
                    ],
                },
                {
                    "name": "Payments USD",
                    "category": "Payments",
                    "lines": [
                        (payable, "1180.50", None, "Journal Import Created"),
                        (_code("101", "0000", "11200"), None, "1180.50", "Journal Import Created"),
                    ],
                },
            ],
        },
        {
            "name": FOREIGN_BATCH,
            "source": "Payables",
            "category": "Purchase Invoices",
            "currency": "EUR",
            "rate": "1.0853",
            "rate_type": "Corporate",
            "from_subledger": True,
            "lines": [
                (expense, "333.33", None, "Müller Söhne GmbH"),
                (travel, "333.33", None, "Reisekosten"),
                (_code("101", "4430", "61200"), "333.34", None, "Bürobedarf; Größe „M“"),
                (payable, None, "1000.00", None),
            ],
        },
        {
            "name": STAT_BATCH,
            "source": "Spreadsheet",
            "category": "Statistical",
            "currency": "STAT",
            "lines": [
                (_code("101", "4410", "60540"), "42", None, "Heads"),
                (_code("101", "4420", "60540"), "17", None, "Heads"),
            ],
        },
        {
            "name": JPY_BATCH,
            "category": "Adjustment",
            "currency": "JPY",
            "rate": "0.0067",
            "lines": [(expense, "125000", None, "東京 office, supplies"), (payable, None, "125000", None)],
        },
        {"name": LONG_BATCH, "category": "Allocation", "source": "AutoCopy", "lines": rent},
        {
            "name": UNPOSTED_BATCH,
            "category": "Accrual",
            "status": "U",
            "lines": [(expense, "250.00", None, 'Cleaning, "deep"'), (payable, None, "250.00", None)],
        },
        {
            "name": UK_BATCH,
            "category": "Accrual",
            "ledger": "UK Primary Ledger",
            "lines": [
                (_code("201", "4410", "61200"), "99.99", None, "Tea"),
                (_code("201", "0000", "22200"), None, "99.99", None),
            ],
        },
    ]
    for place, batch in enumerate(batches):
        yield FIRST_BATCH + place * 1000, batch | {"moment": _moment(seed, 5, place)}


def purchase_orders(seed: Seed) -> Iterator[tuple[int, dict[str, Any]]]:
    """(POHeaderId, what ``OrderDesk.build_purchase_order`` takes), oldest first."""
    wanted = [(seed.today + dt.timedelta(days=days)).isoformat() for days in (10, 20)]
    orders: list[dict[str, Any]] = [
        {
            "number": GOODS_ORDER,
            "supplier_number": ACME,
            "freight_terms": "Prepaid",
            "fob": "Destination",
            "lines": [
                {
                    "description": "A4 80g, box of 5",
                    "quantity": "200",
                    "price": "5.5",
                    "uom": "BX",
                    "item": "PAPER-A4",
                    "supplier_item": "NW-A4-80",
                    "category": "Office Supplies",
                    "schedules": [
                        {"quantity": "120", "ship_to": "Seattle", "requested_delivery": wanted[0]},
                        {"quantity": "80", "ship_to": "Denver", "requested_delivery": wanted[1]},
                    ],
                },
                {
                    "description": "Stapler*heavy~duty",
                    "quantity": "12",
                    "price": "8.3333",
                    "uom": "EA",
                    "category": "Office Supplies",
                },
            ],
        },
        {
            "number": SERVICES_ORDER,
            "supplier_number": UMLAUT_SUPPLIER,
            "description": "Window cleaning",
            "lines": [
                {"description": "Ladder", "quantity": "1", "price": "149.00", "category": "Tools"},
                {"description": "Window cleaning, November", "amount": "500.00", "category": "Facilities"},
            ],
        },
        {
            "number": UK_ORDER,
            "supplier_number": UK_SUPPLIER,
            "business_unit": UK_BUSINESS_UNIT,
            "ship_to": "London",
            "bill_to": "London",
            "lines": [
                {
                    "description": "Earl Grey, loose",
                    "quantity": "2.5",
                    "price": "31.20",
                    "uom": "KG",
                    "category": "Catering",
                    "account": _code("201", "4410", "61200"),
                }
            ],
        },
    ]
    for place, order in enumerate(orders):
        yield FIRST_ORDER + place * 1000, order | {"moment": _moment(seed, 4, place)}


def _moment(seed: Seed, days_before: int, place: int) -> dt.datetime:
    day = seed.today - dt.timedelta(days=days_before)
    start = dt.datetime.combine(day, dt.time(2, 10, 44, 120_000), dt.UTC)
    return start + dt.timedelta(hours=3 * place, milliseconds=137 * place)

"""What accountants and buyers do in the embedded Fusion during the demonstration, as its own addresses take it.

What belongs here: the documents. What does not: when they are entered, and what must become of them.
"""

import datetime as dt
from typing import Any

ORDER = "US165200"
SECOND_ORDER = "US165201"
UNPOSTED = "Not posted yet"

_CONSULTING, _TRAVEL = "101-4410-61200-000-000-000", "101-4420-61300-000-000-000"
_ACCRUED = "101-0000-22100-000-000-000"


def journals(today: dt.date) -> list[dict[str, Any]]:
    """Three posted batches, dollars, euros and yen, and one that is not posted; all of the US ledger."""
    day = today.isoformat()
    batches: list[dict[str, Any]] = [
        {
            "name": "Accruals, consulting",
            # The dash and the umlauts are one byte each in cp1252, and the dash is in no Latin-1.
            "journal_name": "Rückstellung Büro – Müller & Söhne",
            "category": "Accrual",
            "lines": [
                (_CONSULTING, "1250.00", None, 'Consulting, "phase 2"'),
                (_TRAVEL, "-50.25", None, "Corrected: two nights; one cancelled"),
                (_ACCRUED, None, "1199.75", "Müller & Söhne"),
            ],
        },
        {
            "name": "Invoices from abroad",
            "journal_name": "Purchase Invoices EUR",
            "category": "Purchase Invoices",
            "currency": "EUR",
            "rate": "1.0853",
            "rate_type": "Corporate",
            "lines": [
                (_CONSULTING, "333.33", None, "Prüfung"),
                (_TRAVEL, "333.33", None, "Reisekosten"),
                (_CONSULTING, "333.34", None, None),
                (_ACCRUED, None, "1000.00", None),
            ],
        },
        {
            "name": "Invoices from Tokyo",
            "journal_name": "Purchase Invoices JPY",
            "category": "Purchase Invoices",
            "currency": "JPY",
            "rate": "0.0067",
            "lines": [(_CONSULTING, "125000", None, "東京"), (_ACCRUED, None, "125000", None)],
        },
        {
            "name": UNPOSTED,
            "status": "U",
            "lines": [(_CONSULTING, "250.00", None, "Draft"), (_ACCRUED, None, "250.00", None)],
        },
    ]
    return [batch | {"effective_date": day} for batch in batches]


def order() -> dict[str, Any]:
    """A purchase order of boxes, and of work at a fixed price."""
    return {
        "number": ORDER,
        "description": "Office, quarter 4",
        "lines": [
            {
                "description": "A4 paper, 80 g, box of 5",
                "quantity": "200",
                "price": "5.50",
                "uom": "BX",
                "supplier_item": "NW-A4-80",
                "category": "Office Supplies",
            },
            {"description": "Window cleaning", "amount": "500.00", "category": "Facilities"},
        ],
    }


def second_order() -> dict[str, Any]:
    """Another one, which meets a server that goes down."""
    toner = {"description": "Toner, black", "quantity": "12", "price": "83.25", "uom": "EA"}
    return {"number": SECOND_ORDER, "lines": [toner]}

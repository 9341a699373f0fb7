"""The canonical invoice: one content, one digest, exact numbers, and a way back."""

import datetime as dt
import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.model import Invoice, InvoiceLine, content_json, digest, fixed_point, invoice_from_json
from mlc_dagster_tests.stampli.builders_mapping import invoice, line

_TEXT = st.text(max_size=20)
_MONEY = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=Decimal(-(10**20)), max_value=10**20)
_EXACT = st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**9), max_value=10**9)
_DATE = st.none() | st.dates()
_LINES = st.builds(
    InvoiceLine,
    number=st.integers(0, 999_999_999),
    line_type=_TEXT,
    amount=_MONEY,
    description=st.none() | _TEXT,
    quantity=st.none() | _EXACT,
    unit_price=st.none() | _EXACT,
    dimensions=st.dictionaries(_TEXT, _TEXT, max_size=3),
    amort_start=_DATE,
)
_INVOICES = st.builds(
    Invoice,
    company_id=_TEXT,
    source_id=_TEXT,
    number=_TEXT,
    invoice_type=_TEXT,
    status=_TEXT,
    vendor_id=_TEXT,
    vendor_name=_TEXT,
    invoice_date=st.dates(),
    currency=_TEXT,
    amount=_MONEY,
    lines=st.lists(_LINES, max_size=4).map(tuple),
    revision=st.integers(0, 99),
    approved_at=st.none() | st.datetimes(min_value=dt.datetime(1990, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001 (hypothesis adds the zone)
    custom=st.dictionaries(_TEXT, _TEXT, max_size=3),
)


@given(_INVOICES)
def test_an_invoice_survives_its_json(given_invoice: Invoice) -> None:
    """What is stored is what was read, to the last digit."""
    assert invoice_from_json(content_json(given_invoice)) == given_invoice


@given(_INVOICES)
def test_content_holds_no_exponent(given_invoice: Invoice) -> None:
    """1E-7 and 0.0000001 would be two digests of one invoice, and the first is refused by many readers."""
    content = json.loads(content_json(given_invoice))
    numbers = [content["amount"]]
    for each in content["lines"]:
        numbers += [each[name] for name in ("amount", "quantity", "unit_price") if name in each]
    assert not any("E" in number or "e" in number for number in numbers)


def test_a_tiny_price_is_written_with_its_zeros() -> None:
    """Decimal itself would write 1E-7."""
    content = content_json(invoice(line(unit_price=Decimal("0.0000001"))))
    assert b'"unit_price":"0.0000001"' in content


def test_zero_has_no_sign() -> None:
    """-0.00 and 0.00 are the same money."""
    assert fixed_point(Decimal("-0.00")) == "0.00"


def test_the_digest_is_of_the_content() -> None:
    """Anybody can check it with sha256sum."""
    import hashlib

    assert digest(invoice()) == hashlib.sha256(content_json(invoice())).hexdigest()


def test_another_amount_is_another_digest() -> None:
    """The digest decides between DUPLICATE and REVISION_AFTER_POST."""
    assert digest(invoice(line(amount="100.00"))) != digest(invoice(line(amount="100.01")))

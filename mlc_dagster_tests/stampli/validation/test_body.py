"""The bytes that are sent: exact, in one order, with nothing that Fusion was not meant to see."""

import json
import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.validation.body import render_body
from mlc_dagster.stampli.validation.mapping import Mapping, map_invoice
from mlc_dagster_tests.stampli.builders_mapping import (
    TODAY,
    FakeReferences,
    chart,
    company,
    invoice,
    line,
    no_crosswalks,
)


def mapping_of(given_invoice: Invoice) -> Mapping:
    mapping = map_invoice(
        given_invoice,
        company=company(),
        chart=chart(),
        ledger_currency="USD",
        references=FakeReferences(),
        crosswalks=no_crosswalks(),
        today=TODAY,
    )
    assert isinstance(mapping, Mapping)
    return mapping


def test_the_body_is_byte_for_byte_this() -> None:
    """It is frozen with the intent: order and form are part of the promise."""
    assert render_body(mapping_of(invoice(line(1, "1000.00"), line(2, "82.50"))), "20261102T1500Z-1") == (
        b'{"InvoiceNumber":"INV-00417","InvoiceCurrency":"USD","InvoiceAmount":1082.50,"InvoiceDate":"2026-10-28",'
        b'"BusinessUnit":"US1 Business Unit","Supplier":"ACME Inc","SupplierNumber":"30012","SupplierSite":"HQ",'
        b'"InvoiceType":"Standard","InvoiceSource":"Stampli","LegalEntity":"US1 Legal Entity",'
        b'"AccountingDate":"2026-10-28","InvoiceGroup":"20261102T1500Z-1","invoiceLines":['
        b'{"LineNumber":1,"LineType":"Item","LineAmount":1000.00,"Description":"Filters",'
        b'"DistributionCombination":"101-4410-61200-000-000-000"},'
        b'{"LineNumber":2,"LineType":"Item","LineAmount":82.50,"Description":"Filters",'
        b'"DistributionCombination":"101-4410-61200-000-000-000"}]}'
    )


@given(
    st.lists(
        st.decimals(min_value=Decimal(0), max_value=Decimal(10) ** 22, places=2, allow_nan=False),
        min_size=1,
        max_size=5,
    ),
    st.text(max_size=50),
)
def test_amounts_and_texts_come_back_exactly(amounts: list[Decimal], text: str) -> None:
    """Above 2^53 a float would bend the cents; quotes and line ends in texts must stay texts."""
    lines = [line(n, str(amount), description=text) for n, amount in enumerate(amounts, 1)]
    body = render_body(mapping_of(invoice(*lines, description=text)), "group")
    read = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    assert [each["LineAmount"] for each in read["invoiceLines"]] == amounts
    assert read["InvoiceAmount"] == sum(amounts, Decimal(0))
    assert read.get("Description", "") == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_numbers_have_no_exponent(amount: Decimal) -> None:
    """Decimal writes 1E+3 for a thousand when it was computed so."""
    mapping = mapping_of(invoice())
    header = {**mapping.header, "InvoiceAmount": amount}
    body = render_body(
        Mapping(**{**{f: getattr(mapping, f) for f in mapping.__struct_fields__}, "header": header}), "g"
    )
    number = re.search(rb'"InvoiceAmount":([^,]+),', body)
    assert number is not None
    assert re.fullmatch(rb"-?[0-9]+(\.[0-9]+)?", number[1])
    assert Decimal(number[1].decode()) == amount


def test_absent_values_are_left_out() -> None:
    """Null is a value to Fusion: it would switch off a default."""
    assert b"null" not in render_body(mapping_of(invoice()), "group")

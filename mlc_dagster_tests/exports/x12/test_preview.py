"""A preview of X12: which field fills which element, and every rule that was checked on the bytes."""

from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.exports.layouts.loading import load_layout
from mlc_dagster.exports.layouts.preview import Preview, preview
from mlc_dagster.exports.writing import Change
from mlc_dagster.fusion.records import Content
from mlc_dagster.settings import ExportSettings
from mlc_dagster_tests.exports.x12 import partner as p

CONTENTS: dict[str, Content] = {
    "x12_invoices_810": p.invoice(p.item(), p.amount_only("Tax", "1", 2), p.amount_only("Freight", "2", 3)),
    "x12_orders_850": p.order(description="Urgent"),
    "x12_journals_821": p.journal(),
}


def shown(name: str, *contents: Content) -> Preview:
    layout = load_layout(name, root=Path())
    settings: dict[str, Any] = {
        "name": "preview",
        "source": layout.source,
        "layout": name,
        "ledgers": ["US Primary Ledger"],
        "sftp": {"host": "localhost", "username": "u", "password": "env:UNUSED", "host_key": "SHA256:unused"},
        "partner": {"sender": "ZZ:ACME", "receiver": "ZZ:BANK"},
    }
    reads = [p.version(content, Change.NEW).read for content in contents]
    return preview(layout, ExportSettings.model_validate(settings), reads, {"US1": p.US1})


def test_every_element_names_its_field() -> None:
    """People hold it beside the partner's guide, which speaks of BIG02 and TDS01."""
    mapping = shown("x12_invoices_810", CONTENTS["x12_invoices_810"]).mapping
    for line in (
        "810: invoice.number -> BIG02 number (AN 1/22, required)",
        "810: invoice.amount -> TDS01 total (N2 1/15, required)",
        "810: invoice.supplier -> N102 name of N1*SE (AN 1/60, text)",
        "810: 'F' -> PID01 kind of PID*F (ID 1/1, required)",
        "partner.usage -> ISA15",
    ):
        assert line in mapping
    assert not any("FA2" in line for line in mapping)


@pytest.mark.parametrize("name", CONTENTS)
def test_no_element_of_the_file_is_without_its_field(name: str) -> None:
    """An element that nobody explains is the one that is wrong."""
    made = shown(name, CONTENTS[name])
    targets = {line.partition(" -> ")[2].split()[0] for line in made.mapping if line[:3].isdigit()}
    written = {
        f"{segment[0]}{position:02d}"
        for segment in p.split(made.content)
        for position, value in enumerate(segment[1:], 1)
        if value and segment[0] not in ("ISA", "GS", "ST", "SE", "GE", "IEA")
    }
    assert written - targets == set()


def test_both_sets_of_orders_are_explained() -> None:
    """The 860 comes weeks after the 850 that was looked at."""
    mapping = shown("x12_orders_850", CONTENTS["x12_orders_850"]).mapping
    assert "860: change_codes -> POC02 change (ID 2/2, required)" in mapping
    assert "850: order.number -> BEG03 number (AN 1/22, required)" in mapping


def test_every_check_has_a_line_with_its_count() -> None:
    """Envelopes, elements, rules between elements, and the arithmetic of the set."""
    invoice = CONTENTS["x12_invoices_810"]
    made = shown("x12_invoices_810", invoice, invoice)
    assert made.problems == ()
    for line in (
        "810: lines, tax and charges come to the invoice's amount, TDS01: 2",
        "SE01 counts the segments: 2",
        "IEA01 counts the groups: 1",
        "IT1 P020304: quantity, unit, price together or not at all: 2",
        "BIG: mandatory elements are there, types and lengths are right: 2",
        "characters are of the set and no delimiters: 22",
        "CTT01 counts the lines: 2",
    ):
        assert line in made.checks


def test_a_document_that_is_held_was_not_checked() -> None:
    """Its checks are not counted as passed."""
    made = shown("x12_invoices_810", p.invoice(p.item(amount=p.Decimal(1))))
    assert "HELD TOTALS" in made.problems[0]
    assert not any(line.startswith("810:") for line in made.checks)
    assert made.content == b""

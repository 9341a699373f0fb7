"""X12 layouts: a wrong word is found when the layout is read, with the right one beside it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.loading import load_layout, shipped_layouts
from mlc_dagster.exports.writing import LayoutIdentity
from mlc_dagster.exports.x12.layout import X12Layout, parse_x12_layout
from mlc_dagster.exports.x12.writer import X12Writer
from mlc_dagster.settings.exports import PartnerSettings
from mlc_dagster_tests.exports.x12 import partner as p

EXAMPLES = Path("examples/layouts").resolve()


def problems(source: str = "invoices", **keys: Any) -> str:
    with pytest.raises(LayoutError) as caught:
        parse_x12_layout(p.document(source, **keys), source_file="partner.yaml", crosswalks={"units": p.UNITS})
    assert caught.value.source_file == "partner.yaml"
    return "; ".join(caught.value.problems)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"credit_sing": "positive"}, "did you mean 'credit_sign'"),
        ({"delimiters": {"elements": "|"}}, "did you mean 'element'"),
        ({"delimiters": {"element": ">"}}, "must be different"),
        ({"delimiters": {"element": "A"}}, "cannot be a delimiter"),
        ({"elements": {"BIG.release_nr": "invoice.source"}}, "did you mean 'release_number'"),
        ({"elements": {"BGI.release_number": "invoice.source"}}, "did you mean 'BIG'"),
        ({"elements": {"BIG.release_number": "invoice.sorce"}}, "did you mean 'invoice.source'"),
        ({"elements": {"BIG.release_number": "line.item"}}, "field of lines"),
        ({"elements": {"BIG.type": {"field": "invoice.kind", "crosswalk": "unit"}}}, "did you mean 'units'"),
        ({"references": [{"qualifier": "VR"}]}, "give field or constant"),
        ({"sets": {"new": 850, "change": 810, "cancel": 810}}, "850 does not carry invoices"),
        ({"standard": 2056}, "in quotes"),
        ({"time_zone": "Mars/Base"}, "no time zone"),
        ({"elements": {"IT1.unit": {"constant": "EA", "field": "line.uom"}}}, "give field or constant"),
        ({"parties": [{"entity": "S*", "name": "invoice.supplier"}]}, "parties.0: 'S*' has '*'"),
        ({"delimiters": {"element": "_"}, "currency_entity": "B_"}, "currency_entity: 'B_' has '_'"),
        ({"change_codes": {"quantity_upp": "QI"}}, "did you mean 'quantity_up'"),
    ],
)
def test_a_wrong_key_or_name_leads_to_the_right_one(keys: dict[str, Any], words: str) -> None:
    """Layouts are written by people with a partner's PDF beside them."""
    assert words in problems(**keys)


def test_a_crosswalk_that_nothing_uses_is_a_slip() -> None:
    """`unit` instead of `units` would send Fusion's own codes."""
    with pytest.raises(LayoutError, match="did you mean 'units'"):
        parse_x12_layout(p.document("invoices"), source_file="f", crosswalks={"unit": p.UNITS})


def test_an_absent_key_is_named() -> None:
    """Not by a traceback."""
    document = p.document("invoices")
    del document["standard"]
    with pytest.raises(LayoutError, match="standard: is required"):
        parse_x12_layout(document, source_file="f", crosswalks={})


def test_an_860_changes_only_what_the_partner_has() -> None:
    """A new order as 860 is rejected by every partner."""
    assert "a new one is an 850" in problems("purchase_orders", sets={"new": 860, "change": 860, "cancel": 860})


SHIPPED = sorted(name for name in shipped_layouts() if name.startswith("x12_"))
OURS = [*SHIPPED, *sorted(str(path) for path in EXAMPLES.glob("x12_*.yaml"))]


def test_the_three_flows_have_a_layout() -> None:
    """What the documentation promises to ship."""
    assert {"x12_invoices_810", "x12_journals_821", "x12_orders_850"} <= set(SHIPPED)


@pytest.mark.parametrize("name", OURS)
def test_shipped_layouts_and_examples_write_a_document(name: str) -> None:
    """People copy them: each must work as it stands."""
    layout = load_layout(name, root=EXAMPLES)
    assert isinstance(layout.document, X12Layout)
    writer = X12Writer(
        layout.document, layout.identity, PartnerSettings(sender="ZZ:ACME", receiver="ZZ:BANK"), {"US1": p.US1}
    )
    content = {"invoices": p.invoice(), "purchase_orders": p.order(), "journals": p.journal()}[layout.source]
    made = writer.render(p.version(content), 1)
    assert made.rows > 8
    assert isinstance(writer.identity, LayoutIdentity)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_layouts_quote_their_standard(name: str) -> None:
    """YAML reads 004010 as an octal number."""
    text = (Path("mlc_dagster/exports/layouts/shipped") / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["standard"] == "004010"

"""Column types: exact money, unambiguous time, JSON without floats, alike on both databases."""

import datetime as dt
import json
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import StatementError

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.types import canonical_json, storable
from mlc_dagster.money import from_minor
from mlc_dagster_tests.ledger.population import add_invoice, invoice_row

MONEY = [
    ("USD", 108_250),
    ("JPY", 1_234_567),
    ("KWD", 1_234_567),
    ("USD", -108_250),
    ("USD", 2**53 + 1),
    ("USD", -(2**53) - 1),
    ("USD", 2**63 - 1),
    ("USD", 0),
]


@pytest.mark.parametrize(("currency", "minor"), MONEY)
def test_money_comes_back_to_the_last_unit(shared_ledger: Ledger, currency: str, minor: int) -> None:
    """Beyond 2**53 a float would already have changed it; yen have no cents and dinars have a thousand fils."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, currency=currency, amount_minor=minor)
    row = invoice_row(shared_ledger, key)
    assert (row["currency"], row["amount_minor"], type(row["amount_minor"])) == (currency, minor, int)


@pytest.mark.parametrize("wrong", [1.0, 1.5, Decimal(1), Decimal("1.5"), "100", True])
@pytest.mark.parametrize("table", [schema.invoice, schema.invoice_occurrence])
def test_money_that_is_no_int_is_refused(shared_ledger: Ledger, table: sa.Table, wrong: Any) -> None:
    """PostgreSQL would round 1.5 to 2 without a word, SQLite would keep the float."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction)
    with pytest.raises(StatementError, match="minor units"), shared_ledger.transaction() as transaction:
        transaction.execute(sa.update(table).values(amount_minor=wrong))
    assert invoice_row(shared_ledger, key)["amount_minor"] == 12345


def test_money_too_large_is_refused_not_cut(shared_ledger: Ledger) -> None:
    """Nothing wraps around."""
    with pytest.raises((StatementError, OverflowError)), shared_ledger.transaction() as transaction:
        add_invoice(transaction, amount_minor=2**63)


@pytest.mark.parametrize(
    ("minor", "exponent", "amount"),
    [(108_250, 2, "1082.50"), (5, 0, "5"), (-1_234, 3, "-1.234"), (2**60, 2, "11529215046068469.76")],
)
def test_minor_units_become_amounts_exactly(minor: int, exponent: int, amount: str) -> None:
    """By the currency's own exponent, without a division."""
    assert str(from_minor(minor, exponent)) == amount


def test_fusions_ids_have_room(shared_ledger: Ledger) -> None:
    """Fusion's InvoiceIds have fifteen digits and more."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, fusion_invoice_id=300_000_123_456_789_012)
    assert invoice_row(shared_ledger, key)["fusion_invoice_id"] == 300_000_123_456_789_012


def set_time(ledger: Ledger, value: dt.datetime) -> dt.datetime:
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, cured_at=value)
    found: dt.datetime = invoice_row(ledger, key)["cured_at"]
    return found


def test_a_time_without_zone_is_refused(shared_ledger: Ledger) -> None:
    """Nobody could say later which moment was meant."""
    with pytest.raises(StatementError, match="without zone"):
        set_time(shared_ledger, dt.datetime(2026, 3, 2, 9, 0))  # noqa: DTZ001 - the fault


def test_a_time_keeps_its_moment_and_its_microseconds(shared_ledger: Ledger) -> None:
    """Whatever zone it was given in, it comes back as UTC."""
    given_time = dt.datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
    found = set_time(shared_ledger, given_time)
    assert found == given_time
    assert found.tzinfo is dt.UTC


def test_times_sort_and_compare_as_moments(shared_ledger: Ledger) -> None:
    """SQLite keeps text: microseconds that are zero must not sort behind those that are not."""
    base = dt.datetime(2031, 3, 2, 9, 0, tzinfo=dt.UTC)
    moments = [base, base + dt.timedelta(microseconds=1), base + dt.timedelta(seconds=1)]
    with shared_ledger.transaction() as transaction:
        for moment in reversed(moments):
            add_invoice(transaction, parked_at=moment)
    column = schema.invoice.c.parked_at
    with shared_ledger.reading() as reading:
        found = [row["parked_at"] for row in reading.rows(sa.select(column).where(column >= base).order_by(column))]
        later = reading.value(sa.select(sa.func.count()).select_from(schema.invoice).where(column > base))
    assert found == moments
    assert later == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    """Digests are taken over it."""
    assert json.loads(canonical_json(value)) == value


@given(JSON)
def test_json_is_written_in_one_way_alone(value: Any) -> None:
    """The trail's hashes are over these characters: whatever writes them faster must write the same."""
    assert canonical_json(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_json_of_half_a_character_can_be_kept_and_reads_back(kind: type[dict[str, Any]]) -> None:
    """Such text has no bytes: written as it is, it would fail at the commit, with the changes of others."""
    value = kind({"a\udfff": "b\ud800\udbffc", "\U0001f600": "\\ud800"})
    text = canonical_json(value)
    assert text.encode().decode() == text
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"), ("ünïcode \U0001f600", "ünïcode \U0001f600"), ("line\nfeed \x1b", "line\nfeed \x1b"),
        ("a\0b", "a\\x00b"), ("ä\0b", "ä\\x00b"), ("\udcfc.csv", "\\udcfc.csv"), ("\ud83d", "\\ud83d"),
    ],
)  # fmt: skip
def test_text_that_no_database_keeps_is_escaped_and_no_other(text: str, kept: str) -> None:
    """Everything else stays to the letter: it is hashed, and looked for."""
    assert storable(text) == kept
    assert kept.encode()


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), min_size=2))
def test_json_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    """The same content has the same hash, however it was put together."""
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("value", [1.5, [1.5], {"a": {"b": [0, 1.0]}}, (float("nan"),), Decimal("1.5"), b"x", {1, 2}])
def test_json_refuses_what_is_not_exact(value: Any) -> None:
    """A float anywhere inside is found, and nothing is turned into text by guessing."""
    with pytest.raises(TypeError):
        canonical_json(value)


def test_text_in_json_survives_any_character(shared_ledger: Ledger) -> None:
    """Names come from all over the world, and wrong bytes come from everywhere."""
    shown = {"name": 'Łódź – 東京 \u0000 \x1f "quoted" \\'}
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, differences=shown)
    assert invoice_row(shared_ledger, key)["differences"] == shown

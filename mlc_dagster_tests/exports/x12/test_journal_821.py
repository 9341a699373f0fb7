"""821: the account's segments stay apart, sides and currencies are exact, nothing unbalanced is written."""

from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.exports.writing import Change, DocumentHeld
from mlc_dagster.fusion.records import Journal
from mlc_dagster_tests.exports.x12 import partner as p


def reason(content: Journal, **keys: Any) -> str:
    with pytest.raises(DocumentHeld) as caught:
        p.writer("journals", **keys).render(p.version(content), 1)
    return caught.value.reason


def test_a_journal_has_one_entry_per_line_with_its_segments() -> None:
    """ACT01 takes 35 characters, combinations are longer: each segment has an FA2 of its own."""
    made = p.writer("journals").render(p.version(p.journal()), 1)
    segments = p.split(made.body)
    assert [found[0] for found in segments[:4]] == ["ST", "B2A", "DTM", "TRN"]
    assert p.one(segments, "DTM") == ["DTM", "194", "20261130"]
    start = segments.index(["ENT", "1"])
    assert segments[start : start + 10] == [
        ["ENT", "1"],
        ["ACT", "63100"],
        ["CUR", "BY", "USD"],
        ["FIR", "ZZ", "GL", "100.25", "20261130", "", "", "", "", "D", "", "USD", "100.25"],
        ["REF", "LI", "1"],
        ["MSG", "Accrued rent"],
        ["FA1", "ZZ"],
        ["FA2", "ZZ", "101"],
        ["FA2", "ZZ", "20"],
        ["FA2", "ZZ", "63100"],
    ]
    assert [found[9] for found in p.named(segments, "FIR")] == ["D", "C"]
    assert made.totals["entered_dr USD"] == made.totals["accounted_cr USD"] == Decimal("100.25")


def test_entered_and_accounted_amounts_stand_side_by_side() -> None:
    """FIR03 is the ledger's currency, FIR12 the journal's; mixing them up is off by the rate."""
    euro = {"currency": "EUR", "accounted_dr": Decimal(110)}
    lines = (
        p.journal_line(1, dr="100", **euro),
        p.journal_line(2, cr="100", currency="EUR", accounted_cr=Decimal(110)),
    )
    segments = p.rendered(p.writer("journals"), p.journal(*lines, currency="EUR"))
    assert [(found[3], found[11], found[12]) for found in p.named(segments, "FIR")] == [("110", "EUR", "100")] * 2


def test_the_trace_number_is_the_same_in_every_version() -> None:
    """The partner finds the journal again by it; two journals of one batch differ."""
    sender = p.writer("journals")
    first = p.one(p.rendered(sender, p.journal()), "TRN")[2]
    changed = p.rendered(sender, p.journal(description="x"), Change.CHANGE)
    assert p.one(changed, "TRN")[2] == first
    assert p.one(changed, "B2A")[1] == "05"
    assert p.one(p.rendered(sender, p.journal(name="Accrual Nov 2")), "TRN")[2] != first


@pytest.mark.parametrize(
    ("option", "expected"), [("flip", [("5", "C"), ("5", "D")]), ("keep", [("-5", "D"), ("-5", "C")])]
)
def test_a_negative_debit_is_what_the_partners_agreed(option: str, expected: list[tuple[str, str]]) -> None:
    """Receivers read magnitudes by default; red entries survive where both sides know them."""
    content = p.journal(p.journal_line(1, dr="-5"), p.journal_line(2, cr="-5"))
    segments = p.rendered(p.writer("journals", negative_amounts=option), content)
    assert [(found[3], found[9]) for found in p.named(segments, "FIR")] == expected


def test_what_cannot_be_posted_waits() -> None:
    """Each would be a wrong balance at the partner."""
    unbalanced = p.journal(p.journal_line(1, dr="5"), p.journal_line(2, cr="5.01"))
    assert reason(unbalanced) == "UNBALANCED"
    assert reason(p.journal(ledger="Other")) == "CHART_UNKNOWN"
    assert reason(p.journal(p.journal_line(1, dr="5", account_combination="1-2"))) == "UNBALANCED"
    short = {"account_combination": "101-20"}
    assert reason(p.journal(p.journal_line(1, dr="5", **short), p.journal_line(2, cr="5"))) == "ACCOUNT_SEGMENTS"
    statistical = p.journal(p.journal_line(1, dr="5", currency="STAT"), currency="STAT")
    assert reason(statistical) == "STATISTICAL"
    assert reason(p.journal(effective_date=None)) == "FIELD_MISSING"


def test_many_lines_are_all_there() -> None:
    """The count in SE and the entries' numbers hold at any size."""
    lines = tuple(
        p.journal_line(number, dr="1" if number % 2 else None, cr=None if number % 2 else "1")
        for number in range(1, 20_001)
    )
    made = p.writer("journals").render(p.version(p.journal(*lines)), 1)
    segments = p.split(made.body)
    assert p.named(segments, "ENT")[-1] == ["ENT", "20000"]
    assert segments[-1] == ["SE", str(len(segments)), "0001"]
    assert made.rows == len(segments)

"""Names and reasons fit for the record: one person under two spellings is one person."""

import dataclasses

import pytest

from mlc_dagster.ledger.approval import Approval, Decision, NotApproved
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.people import same_person, tokens
from mlc_dagster_tests.ledger.population import events

WHY = "checked with the supplier"


@pytest.mark.parametrize(
    "other",
    ["anna", " Anna@corp ", "ANNA@corp.example", "CORP\\anna", "Anna <anna@corp.example>", "\uff21nna", "a n n a"],
)
def test_one_person_under_two_spellings_approves_nothing(other: str) -> None:
    """Case, blanks and the domain are no second person."""
    assert same_person("anna", other)
    with pytest.raises(NotApproved, match="two different people") as refused:
        Approval(by="anna", approved_by=other, reason=WHY)
    assert refused.value.field == "approved_by"


def test_first_and_last_name_are_found_however_they_are_joined() -> None:
    """The directory says anna.lee, the person signs as Anna Lee."""
    assert {tokens(name) for name in ("Anna Lee", "anna.lee@corp", "CORP\\anna_lee")} == {("anna", "lee")}
    assert not same_person("Anna Lee", "Anna Leo")


@pytest.mark.parametrize(
    "other",
    [
        "Lee, Anna",
        "anna.lee+2@corp.example",
        "Anna Lee (approver)",
        "Mr Anna Lee",
        "Prof. Dr. A. Lee",
        "Lee A",
        "Anná Lee",
        "Anna M. Lee",
        "Anna Lee 2",
        "annalee",
        "alee",
        "Anna",
        "(Anna Lee)",
        "Ann\u02b9a Lee",
    ],
)
def test_what_may_be_another_spelling_is_no_second_person(other: str) -> None:
    """An approval that one person can give alone is none."""
    with pytest.raises(NotApproved, match="two different people"):
        Approval(by="Anna Lee", approved_by=other, reason=WHY)


@pytest.mark.parametrize(
    "other", ["\u0410nna Lee", "Anna\u3164 Lee", "Anna\u2800Lee", "Anna\ufe0f Lee", "Anna L\u0435e"]
)
def test_a_name_that_looks_like_another_is_refused(other: str) -> None:
    """Fillers are shown as nothing, Cyrillic letters as Latin ones: an auditor would read one name twice."""
    with pytest.raises(NotApproved, match=r"invisible characters|mixes letters of CYRILLIC and LATIN") as refused:
        Approval(by="Anna Lee", approved_by=other, reason=WHY)
    assert refused.value.field == "approved_by"
    assert same_person("Anna Lee", other)


def test_a_name_in_other_letters_alone_that_reads_the_same_is_one() -> None:
    """Every letter of Coco has a Cyrillic twin."""
    assert same_person("Coco", "\u0421\u043e\u0441\u043e")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna Lee", "Bob Lee"),
        ("Anna Lee", "B. Lee"),
        ("A. Lee", "B. Lee"),
        ("anna", "bob"),
        ("\u0418\u0432\u0430\u043d", "\u041f\u0451\u0442\u0440"),
        ("u10231", "u10232"),
        ("राम", "रमा"),
        ("山田 太郎", "すずき ハナ"),
    ],
)
def test_two_people_are_two(one: str, other: str) -> None:
    """A rule that refused them would be switched off; names of every script are names."""
    assert Approval(by=one, approved_by=other, reason=WHY).said["approved_by"] == other


@pytest.mark.parametrize(("field", "name"), [("by", "Eve Moss"), ("approved_by", "B. Stone")])
def test_where_approvers_are_listed_nobody_else_approves(ledger: Ledger, field: str, name: str) -> None:
    """Names are claimed: a list leaves only those that the configuration knows, written out."""
    ledger.approvers = ("Anna Lee", "Bob Stone", "Carla Diaz")
    approval = Approval(**({"by": "anna.lee@corp", "approved_by": "Carla Diaz", "reason": WHY} | {field: name}))
    with pytest.raises(NotApproved, match="not among approvers") as refused, ledger.transaction() as transaction:
        approval.record(transaction, "test.done", "invoice:1", before={}, after={})
    assert refused.value.field == field
    assert events(ledger, "test.done") == []


def test_listed_approvers_approve(ledger: Ledger) -> None:
    """In any spelling of their whole names."""
    ledger.approvers = ("Anna Lee", "Bob Stone")
    with ledger.transaction() as transaction:
        Approval(by="anna.lee@corp", approved_by="Stone, Bob", reason=WHY).record(
            transaction, "test.done", "invoice:1", before={}, after={}
        )
    assert len(events(ledger, "test.done")) == 1


@pytest.mark.parametrize("field", ["by", "approved_by", "reason"])
@pytest.mark.parametrize("value", ["", "  ", "\t\n", "bob\u202egnol"])
def test_what_is_empty_or_invisible_is_refused(field: str, value: str) -> None:
    """It would stand in the audit trail as nobody, as no reason, or as something else than people read."""
    given = {"by": "anna", "approved_by": "bob", "reason": WHY, field: value}
    with pytest.raises(NotApproved) as refused:
        Approval(**given)
    assert refused.value.field == field


@pytest.mark.parametrize("reason", ["ok", "see above", "..........", "1234567890", "x" * 1001])
def test_a_reason_says_something(reason: str) -> None:
    """An auditor reads it years later, without anybody to ask."""
    with pytest.raises(NotApproved) as refused:
        Decision(by="anna", reason=reason)
    assert refused.value.field == "reason"


@pytest.mark.parametrize("nobody", ["@corp", "---", "CORP\\"])
def test_a_name_names_somebody(nobody: str) -> None:
    """Two such names would be the same nobody."""
    with pytest.raises(NotApproved, match="nobody's name"):
        Approval(by="anna", approved_by=nobody, reason=WHY)


def test_an_approval_cannot_be_bent_after_it_was_made() -> None:
    """Whatever takes one may rely on it."""
    approval = Approval(by=" anna ", approved_by="bob", reason=f" {WHY}\n")
    assert approval.said == {"by": "anna", "approved_by": "bob", "reason": WHY}
    with pytest.raises(NotApproved):
        dataclasses.replace(approval, approved_by="Anna@corp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        approval.approved_by = "anna"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_event_tells_who_why_before_and_after(ledger: Ledger) -> None:
    """In the transaction of the action; the actor is who ran the process, whatever names were claimed."""
    with ledger.transaction() as transaction:
        Approval(by="anna", approved_by="bob", reason=WHY).record(
            transaction, "test.done", "invoice:1", before={"state": "A"}, after={"state": "B"}, hold="X"
        )
    [event] = events(ledger, "test.done")
    assert event["actor"] == "test"
    assert event["detail"] == {
        "by": "anna",
        "approved_by": "bob",
        "reason": WHY,
        "before": {"state": "A"},
        "after": {"state": "B"},
        "hold": "X",
    }


def test_the_trail_itself_refuses_one_person_for_two(ledger: Ledger) -> None:
    """A caller that goes round ``Approval`` gets no further."""
    given = {"by": "anna", "approved_by": " Anna@corp", "reason": WHY}
    with ledger.transaction() as transaction, pytest.raises(LedgerError, match="two different people"):
        transaction.audit_action("test.done", "invoice:1", **given, before={}, after={})
    assert events(ledger, "test.done") == []

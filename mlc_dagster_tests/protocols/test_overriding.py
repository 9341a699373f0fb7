"""Rules C2 to C6 where two people decide: Fusion is asked first, and nothing is sent without proofs of its own."""

from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.controls import reposts
from mlc_dagster.ledger.releases import AFTER_ABANDON, judge_again, release_hold
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.unsettled import NotUnsettled
from mlc_dagster.stampli import overriding
from mlc_dagster.stampli.overriding import OverrideRefused
from mlc_dagster_tests.cli.conftest import BOTH as TWO
from mlc_dagster_tests.cli.conftest import run_mlc
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    clerk,
    drop,
    invoices,
    later,
    one,
    ours,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def key_of(flow: Rehearsal, number: str = "INV-1") -> int:
    return int(invoices(flow)[number]["id"])


def verdict(flow: Rehearsal) -> tuple[str, str | None]:
    row = invoices(flow)["INV-1"]
    return row["state"], row["reason"]


def given_up(flow: Rehearsal) -> int:
    """INV-1 after three attempts without an answer; Fusion does not have it."""
    clerk(flow)
    fault = flow.fusion.faults.add("reset", method="POST", path="invoices")
    drop(flow, one("INV-1"))
    flow.process()
    for _ in range(8):
        later(flow)
    flow.fusion.faults.remove(fault)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")
    assert posts(flow) == 3
    return key_of(flow)


def stored_unseen(flow: Rehearsal) -> int:
    """INV-1, stored by Fusion without an answer while nothing was visible to us."""
    blind = flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    flow.fusion.faults.add("commit_then_reset", method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    later(flow)
    flow.fusion.faults.remove(blind)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")
    return key_of(flow)


def typed_in(flow: Rehearsal, **fields: Any) -> int:
    """The same invoice, entered in Fusion by a clerk."""
    amount = {"InvoiceAmount": Decimal("100.00"), "invoiceLines": [{"LineNumber": 1, "LineAmount": Decimal("100.00")}]}
    return clerk(flow, "INV-1", **(amount | fields))


def test_c6_marked_as_posted_is_read_back_like_any_other(flow: Rehearsal) -> None:
    """Compared by id with what was sent, adopted, and confirmed by the next run line by line."""
    key = stored_unseen(flow)
    [booked] = ours(flow)
    marked = overriding.mark_posted(flow.inbound, key, booked.invoice_id, BOTH)
    assert (marked.state, marked.foreign) == (InvoiceState.CREATED, {})
    assert states(flow) == {"INV-1": "CREATED"}
    later(flow)
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_books(flow, "INV-1")
    assert posts(flow) == 1
    assert_adds_up(flow, created=1)


def test_c3_marked_as_posted_by_a_clerk_is_never_acted_on(flow: Rehearsal) -> None:
    """Number, supplier, business unit and amount are equal, but it is not our request's doing."""
    key = given_up(flow)
    fusion_id = typed_in(flow)
    marked = overriding.mark_posted(flow.inbound, key, fusion_id, BOTH)
    assert marked.state is InvoiceState.ALREADY_IN_FUSION
    assert "CreatedBy" in marked.foreign
    later(flow)
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}
    assert ours(flow) == []
    assert_adds_up(flow, already_in_fusion=1)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("InvoiceAmount", {"InvoiceAmount": Decimal("100.01")}),
        ("InvoiceNumber", {"InvoiceNumber": "INV-2"}),
        ("SupplierNumber", {"SupplierNumber": "30014"}),
        ("BusinessUnit", {"BusinessUnit": "UK1 Business Unit"}),
        ("InvoiceCurrency", {"InvoiceCurrency": "EUR"}),
    ],
)
def test_marking_another_invoice_as_posted_is_refused(flow: Rehearsal, field: str, fields: dict[str, Any]) -> None:
    """Two people can mistype an id together; what was sent decides."""
    key = given_up(flow)
    fusion_id = typed_in(flow, **fields)
    with pytest.raises(OverrideRefused, match=rf"is not what was sent .*{field}: sent "):
        overriding.mark_posted(flow.inbound, key, fusion_id, BOTH)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")


def test_marking_an_id_that_fusion_does_not_show_is_refused(flow: Rehearsal) -> None:
    """Nobody's word replaces the look."""
    key = given_up(flow)
    with pytest.raises(OverrideRefused, match="no invoice with InvoiceId 999999"):
        overriding.mark_posted(flow.inbound, key, 999_999, BOTH)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")


def test_c4_two_people_allow_a_fourth_attempt_after_two_more_absences(flow: Rehearsal) -> None:
    """The command sends nothing; the next run proves absence twice, then sends the same bytes once."""
    key = given_up(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    assert posts(flow) == 3
    assert states(flow) == {"INV-1": "UNKNOWN"}
    later(flow)
    made = attempts(flow)
    assert [row["phase"] for row in made] == ["ABSENT", "ABSENT", "ABSENT", "CREATED"]
    assert made[2]["absences"] == 2
    assert made[3]["body"] == made[2]["body"]
    with flow.ledger.reading() as reading:
        assert [repost.fault for repost in reposts(reading)] == [None, None, None]
    assert_books(flow, "INV-1")
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_adds_up(flow, created=1)


def test_c4_one_approval_is_one_attempt(flow: Rehearsal) -> None:
    """The fourth has no answer either: it is parked again, and a fifth takes two people again."""
    key = given_up(flow)
    flow.fusion.faults.add("reset", method="POST", path="invoices")
    overriding.allow_repost(flow.inbound, key, BOTH)
    for _ in range(6):
        later(flow)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")
    assert posts(flow) == 4
    with flow.ledger.transaction() as transaction:
        judge_again(transaction, key, by="anna@host", reason="look once more")
    for _ in range(3):
        later(flow)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")
    assert posts(flow) == 4


def test_c2_what_appears_after_the_approval_is_adopted_and_not_sent(flow: Rehearsal) -> None:
    """Between the approval and the next run Fusion shows it after all: the run's own proofs are what counts."""
    key = given_up(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    typed_in(flow)
    later(flow)
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}
    assert posts(flow) == 3


@pytest.mark.parametrize("decide", [overriding.allow_repost, overriding.abandon])
def test_c2_what_fusion_shows_is_neither_sent_again_nor_given_up(flow: Rehearsal, decide: Any) -> None:
    """It is posted, whatever two people believe."""
    key = stored_unseen(flow)
    [booked] = ours(flow)
    with pytest.raises(OverrideRefused, match=f"InvoiceId {booked.invoice_id}"):
        decide(flow.inbound, key, BOTH)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")
    assert posts(flow) == 1


@pytest.mark.parametrize("decide", [overriding.allow_repost, overriding.abandon])
@pytest.mark.parametrize("case", [given_up, stored_unseen])
def test_c2_no_decision_where_nothing_is_visible(flow: Rehearsal, case: Any, decide: Any) -> None:
    """Zero rows without a control row are no proof; two people are none either."""
    key = case(flow)
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    with pytest.raises(OverrideRefused, match="cannot be proven"):
        decide(flow.inbound, key, BOTH)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")


def test_c2_no_decision_while_fusion_does_not_answer(flow: Rehearsal) -> None:
    """Without the look there is nothing to decide on."""
    key = given_up(flow)
    flow.fusion.faults.add("status", method="GET", path="invoices", status=500)
    for decide in (overriding.allow_repost, overriding.abandon):
        with pytest.raises(FusionError):
            decide(flow.inbound, key, BOTH)
    assert verdict(flow) == ("PARKED", "SUBMIT_UNKNOWN")


def test_c6_given_up_is_never_posted(flow: Rehearsal) -> None:
    """Not by a later poll, not by a reconcile, not by another file that has it."""
    key = given_up(flow)
    overriding.abandon(flow.inbound, key, BOTH)
    assert verdict(flow) == ("REJECTED", "ABANDONED")
    later(flow)
    drop(flow, [*one("INV-1"), *one("INV-9")], sequence=2)
    flow.process()
    flow.run(attempts(flow, "INV-1")[0]["window_start"])
    assert verdict(flow) == ("REJECTED", "ABANDONED")
    assert_books(flow, "INV-9")
    assert_adds_up(flow, rejected=1, duplicate=1, created=1)


def test_c6_a_revision_of_what_was_given_up_waits_for_two_people(flow: Rehearsal) -> None:
    """Two people said "never": neither Stampli's next revision, nor a further one, nor one person undoes that."""
    key = given_up(flow)
    overriding.abandon(flow.inbound, key, BOTH)
    for revision in (2, 3):
        drop(flow, one("INV-1", invoice_revision=str(revision)), sequence=revision)
        flow.process()
        assert verdict(flow) == ("PARKED", AFTER_ABANDON)
        with flow.ledger.transaction() as transaction:
            judge_again(transaction, key, by="ann", reason="it looks right now")
        later(flow)
        assert verdict(flow) == ("PARKED", AFTER_ABANDON)
    assert posts(flow) == 3
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, key, AFTER_ABANDON, BOTH)
    later(flow)
    assert_books(flow, "INV-1")
    assert posts(flow) == 4


def test_c6_a_void_of_what_was_given_up_needs_nobody(flow: Rehearsal) -> None:
    """It is not posted either way."""
    key = given_up(flow)
    overriding.abandon(flow.inbound, key, BOTH)
    drop(flow, one("INV-1", invoice_revision="2", status="VOID"), sequence=2)
    flow.process()
    assert verdict(flow) == ("REJECTED", "VOIDED_IN_STAMPLI")
    drop(flow, one("INV-1", invoice_revision="3"), sequence=3)
    flow.process()
    assert verdict(flow) == ("PARKED", AFTER_ABANDON)


def test_c6_what_was_created_takes_no_decision(flow: Rehearsal) -> None:
    """Created stays created: no approval leads back to sending."""
    clerk(flow)
    drop(flow, one("INV-1"))
    flow.process()
    key = key_of(flow)
    for decide in (overriding.allow_repost, overriding.abandon):
        with pytest.raises(NotUnsettled, match="CONFIRMED"):
            decide(flow.inbound, key, BOTH)
    with flow.ledger.reading() as reading:
        assert recovery.attempts_allowed(reading, key, 3) == 3
    assert states(flow) == {"INV-1": "CONFIRMED"}


def test_the_commands_say_what_comes_next(flow: Rehearsal) -> None:
    """Refusal, one more attempt, and a clerk's invoice: each in one line, with the exit code of a refusal."""
    key = given_up(flow)

    def decide(*arguments: object) -> tuple[int, str]:
        result = run_mlc("--config", flow.config, "invoices", *map(str, arguments), *TWO)
        return result.exit_code, result.stderr or result.stdout

    code, text = decide("mark-posted", key, "--fusion-id", 999_999)
    assert (code, "Fusion shows no invoice with InvoiceId 999999" in text) == (2, True)
    fusion_id = typed_in(flow)
    code, text = decide("repost", key)
    assert (code, f"Fusion shows it as InvoiceId {fusion_id}" in text) == (2, True)
    code, text = decide("mark-posted", key, "--fusion-id", fusion_id)
    assert (code, "entered by somebody else" in text, "never acted on" in text) == (0, True, True)
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}


def test_the_command_that_allows_one_more_attempt_sends_nothing(flow: Rehearsal) -> None:
    """It says who sends, and after what."""
    key = given_up(flow)
    result = run_mlc("--config", flow.config, "invoices", "repost", str(key), *TWO)
    assert (result.exit_code, "after it has proven twice" in result.stdout) == (0, True)
    assert posts(flow) == 3
    later(flow)
    assert_books(flow, "INV-1")

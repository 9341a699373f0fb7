"""Rule C4: what is certainly not sent is sent again, what was refused waits, what is unknown is proven absent twice."""

from collections import Counter
from typing import Any

import pytest

from mlc_dagster.fusion.errors import RemoteDown
from mlc_dagster.ledger.submissions import MOST_UNKNOWN
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    beside,
    clerk,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    only,
    phases,
    posts,
    states,
    until,
)
from mlc_dagster_tests.servers.forwarder import Forwarder
from mlc_dagster_tests.servers.rehearsal import Rehearsal

REFUSED_WAIT = 0.2
AMBIGUOUS_WAIT = 0.4


def between_posts(flow: Rehearsal) -> list[Any]:
    """The look-ups between the first two POSTs of invoices; pages after the first are not look-ups of their own."""
    entries = flow.fusion.books.requests(route="invoices")
    places = [place for place, entry in enumerate(entries) if entry.method == "POST"]
    return [entry for entry in entries[places[0] + 1 : places[1]] if "offset=0" in entry.query]


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("retry_after", [None, "1"])
def test_c4_refused_waits_is_looked_up_once_and_sent_again(
    flow: Rehearsal, status: int, retry_after: str | None
) -> None:
    """A complete 503 or 429 says that nothing was stored; one look-up, since a proxy may be the one who says it."""
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=status, retry_after=retry_after, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    first, second = attempts(flow)
    assert (first["phase"], first["http_status"], second["phase"]) == ("REFUSED", status, "CREATED")
    assert (second["created_at"] - first["created_at"]).total_seconds() >= max(REFUSED_WAIT, float(retry_after or 0))
    assert len(between_posts(flow)) == 1
    assert_books(flow, "INV-1")
    assert posts(flow) == 2
    assert_adds_up(flow, created=1)


def test_c4_retry_after_is_obeyed_up_to_the_cap(flow: Rehearsal) -> None:
    """A misconfigured gateway may ask for a day."""
    flow.change_config({"fusion": {"retry_after_cap": 0.5}})
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, retry_after="86400", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    first, second = attempts(flow)
    assert 0.5 <= (second["created_at"] - first["created_at"]).total_seconds() < 20
    assert_books(flow, "INV-1")


def test_c4_refusal_due_after_the_run_is_left_to_the_next_poll(flow: Rehearsal) -> None:
    """Nobody waits five minutes inside a run; what is due later is asked for when it is due, and only then."""
    flow.change_config({"fusion": {"wait_in_run": 0.5}})
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, retry_after="120", count=1)
    drop(flow, one("INV-1"))
    [(_, _, report)] = flow.process()
    assert (report.posting.refused, report.posting.left_waiting) == (1, 1)
    assert_adds_up(flow, unknown=1)
    assert later(flow, 60) == []
    later(flow, 61)
    assert_books(flow, "INV-1")
    assert posts(flow) == 2
    assert_adds_up(flow, created=1)


def test_c4_run_ends_though_fusion_refuses_for_ever(flow: Rehearsal) -> None:
    """Maintenance may answer 503 for hours: the run must not go on asking, nor lose anything."""
    flow.change_config({"fusion": {"wait_in_run": 1}})
    clerk(flow)
    fault = flow.fusion.faults.add("status", method="POST", path="invoices", status=503)
    drop(flow, many(3))
    [(_, _, report)] = flow.process()
    assert report.posting.left_waiting == 3
    assert posts(flow, 201) == 0
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


@pytest.mark.parametrize("lost", ["commit_then_hang", "commit_then_reset", "cut_off"])
def test_c4_stored_and_not_answered_is_adopted(flow: Rehearsal, lost: str) -> None:
    """Fusion stored it and we do not know: found by the look-up, adopted, never sent again."""
    flow.change_config({"fusion": {"request_timeout": 1}})
    drop(flow, one("INV-0"))
    flow.process()
    flow.fusion.faults.add(lost, method="POST", path="invoices", count=1)
    drop(flow, many(3), sequence=2)
    [(_, _, report)] = flow.process()
    assert (report.posting.created, report.posting.adopted) == (2, 1)
    assert_books(flow, "INV-0", *numbers(3))
    assert posts(flow) == 4
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_adds_up(flow, created=4)


def test_c4_stored_and_answered_with_an_error_is_adopted(flow: Rehearsal) -> None:
    """Whatever a gateway says of a request that was stored, one invoice each: looked up, adopted, never sent again."""
    statuses = (200, 408, 409, 429, 500, 502, 503, 504)
    clerk(flow)
    for place, status in enumerate(statuses):
        flow.fusion.faults.add(
            "commit_then_status", path="invoices", status=status, body="<html>hm</html>", skip=place, count=1
        )
    drop(flow, many(len(statuses)))
    [(_, _, report)] = flow.process()
    assert (report.posting.created, report.posting.adopted) == (0, len(statuses))
    assert_books(flow, *numbers(len(statuses)))
    assert posts(flow) == len(statuses)
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_adds_up(flow, created=len(statuses))


@pytest.mark.parametrize("lost", ["hang", "reset"])
def test_c4_unknown_and_not_stored_is_sent_once_more_after_two_absences(flow: Rehearsal, lost: str) -> None:
    """Two look-ups half a wait apart must both show the control row and not the invoice, under whatever number."""
    flow.change_config({"fusion": {"request_timeout": 1}})
    clerk(flow)
    flow.fusion.faults.add(lost, method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    first, second = attempts(flow)
    assert (first["phase"], first["absences"], second["phase"]) == ("ABSENT", 2, "CREATED")
    between = between_posts(flow)
    looked = [entry.started for entry in between if "INV-1" in entry.query]
    assert (len(looked), len(between)) == (2, 4)
    assert (looked[1] - looked[0]).total_seconds() >= AMBIGUOUS_WAIT / 2
    sent = flow.fusion.books.requests(method="POST", route="invoices")
    assert (looked[0] - sent[0].started).total_seconds() >= AMBIGUOUS_WAIT
    assert first["body"] == second["body"]
    assert_books(flow, "INV-1")
    assert posts(flow) == 2
    assert_adds_up(flow, created=1)


def test_c4_error_that_leaves_it_open_is_unknown_and_not_refused(flow: Rehearsal) -> None:
    """408, 409, 500, 502 and 504 do not say that nothing was stored, so each wants its two absences."""
    statuses = [408, 409, 500, 502, 504]
    clerk(flow)
    for place, status in enumerate(statuses):
        flow.fusion.faults.add("status", method="POST", path="invoices", status=status, skip=place, count=1)
    drop(flow, many(len(statuses)))
    flow.process()
    unknown = [row for row in attempts(flow) if row["attempt"] == 1]
    assert sorted(row["http_status"] for row in unknown) == statuses
    assert {(row["phase"], row["absences"]) for row in unknown} == {("ABSENT", 2)}
    assert_books(flow, *numbers(len(statuses)))
    assert posts(flow) == 2 * len(statuses)
    assert_adds_up(flow, created=len(statuses))


def test_c4_stored_between_the_two_look_ups_is_adopted(flow: Rehearsal) -> None:
    """Fusion works longer than the first wait: one absence is not enough, and here is why."""
    clerk(flow)
    drop(flow, one("INV-1"))
    flow.change_config({"fusion": {"request_timeout": 1, "wait_in_run": 0, "ambiguous_wait": 100}})
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    flow.process()
    later(flow, 101)
    assert attempts(flow)[0]["absences"] == 1
    gate.release()
    later(flow, 51)
    assert_books(flow, "INV-1")
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_adds_up(flow, created=1)


def test_c4_three_unknown_attempts_over_all_runs_are_parked(flow: Rehearsal) -> None:
    """Whatever keeps this one from an answer, a person looks at it; a fourth POST is never made."""
    clerk(flow)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("reset", method="POST", path="invoices")
    drop(flow, one("INV-1"))
    flow.process()
    for _ in range(8):
        later(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("PARKED", "SUBMIT_UNKNOWN")
    assert posts(flow) == 3
    assert [each["absences"] for each in attempts(flow)] == [2, 2, 2]
    flow.fusion.faults.clear()
    later(flow)
    flow.run(attempts(flow)[0]["window_start"])
    assert posts(flow) == 3
    assert_adds_up(flow, parked=1)


def test_c4_parked_as_unknown_keeps_its_claim(flow: Rehearsal) -> None:
    """It may turn up in Fusion yet: another document under the same number must not be sent."""
    clerk(flow)
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=3)
    drop(flow, one("INV-1"))
    flow.process()
    drop(flow, one("INV-1", invoice_id="another"), sequence=2)
    flow.process()
    assert posts(flow) == 3
    assert_adds_up(flow, parked=2)


def test_c4_first_invoice_of_a_business_unit_unknown_and_nothing_visible_is_parked(flow: Rehearsal) -> None:
    """Absence cannot be proven where nothing is visible: it is not sent again on a guess."""
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    assert invoices(flow)["INV-1"]["reason"] == "SUBMIT_UNKNOWN"
    assert posts(flow) == 1
    assert_adds_up(flow, parked=1)


def test_c4_with_eight_unknown_nothing_new_is_begun(flow: Rehearsal) -> None:
    """So many unknown outcomes say that the way to Fusion is broken; each one more is a document to be looked for."""
    flow.change_config({"fusion": {"wait_in_run": 0, "ambiguous_wait": 3600, "max_in_flight": 2}})
    clerk(flow)
    fault = flow.fusion.faults.add("reset", method="POST", path="invoices")
    drop(flow, many(30))
    flow.process()
    sent = posts(flow)
    assert MOST_UNKNOWN <= sent <= MOST_UNKNOWN + 1, "one more may have been under way beside the eighth"
    assert list(states(flow).values()).count("VALIDATED") == 30 - sent
    drop(flow, many(3, "NEXT"), sequence=2)
    flow.process()
    assert posts(flow) == sent, "nor does a later window begin anything"
    flow.fusion.faults.remove(fault)
    flow.change_config({"fusion": {"wait_in_run": 30, "ambiguous_wait": 0.4, "max_in_flight": 16}})
    for _ in range(2):
        later(flow, 4000)
    assert_books(flow, *numbers(30), *numbers(3, "NEXT"))
    assert posts(flow, 201) == 33
    assert_adds_up(flow, created=33)


def test_c4_eight_refused_do_not_stop_new_ones(flow: Rehearsal) -> None:
    """REFUSED is certain: nothing was stored. Only unknown outcomes count."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=12)
    drop(flow, many(30))
    flow.process()
    assert posts(flow, 201) == 18
    later(flow)
    assert_books(flow, *numbers(30))
    assert_adds_up(flow, created=30)


def test_c4_the_run_goes_on_while_an_outcome_is_unknown(flow: Rehearsal) -> None:
    """One invoice without an answer must not hold up the rest of the window."""
    flow.change_config({"fusion": {"max_in_flight": 1, "ambiguous_wait": 1.5, "request_timeout": 1}})
    clerk(flow)
    flow.fusion.faults.add("hang", method="POST", path="invoices", count=1)
    drop(flow, many(4))
    flow.process()
    order = [row["invoice_pk"] for row in attempts(flow)]
    assert len(order) == 5
    assert (order.index(order[-1]), order[1:4]) == (0, sorted(set(order))[1:4])
    assert_books(flow, *numbers(4))
    assert_adds_up(flow, created=4)


def test_c4_the_run_goes_on_while_a_refused_one_is_looked_for(flow: Rehearsal) -> None:
    """A look-up that takes its time must not leave the other slots empty."""
    flow.change_config({"fusion": {"max_in_flight": 2, "request_timeout": 20}})
    clerk(flow)
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    flow.fusion.faults.add("latency", method="POST", path="invoices", seconds=0.1)
    drop(flow, many(12))
    with beside(flow.process) as running:
        until(lambda: posts(flow, 503))
        gate = flow.fusion.faults.gate(method="GET", path="invoices", stage="before")
        assert gate.wait_held(30)
        until(lambda: posts(flow, 201) == 11)
        gate.release()
        running.result(60)
    assert_books(flow, *numbers(12))
    assert_adds_up(flow, created=12)


def test_c4_connection_refused_is_certainly_not_sent(flow: Rehearsal) -> None:
    """No connection, no byte: the invoices are VALIDATED again, the run says why, and a later one sends each once."""
    with Forwarder(flow.fusion.port) as way:
        flow.change_config({"fusion": {"base_url": way.base_url}})
        drop(flow, one("INV-0"))
        flow.process()
        drop(flow, many(6), sequence=2)
        gate = flow.fusion.faults.gate(method="GET", path="invoices", stage="before")
        with beside(flow.process) as run:
            assert gate.wait_held(20)
            # The look-up's connection stays and carries one POST; the others need connections of their own.
            way.refuse()
            gate.release()
            with pytest.raises(PostingStopped) as stopped:
                run.result(30)
        assert isinstance(stopped.value.cause, RemoteDown)
        arrived = posts(flow) - 1
        assert arrived < 6
        after = list(states(flow).values())
        assert (after.count("VALIDATED"), after.count("UNKNOWN")) == (6 - arrived, 0)
        assert phases(flow).count("RELEASED") == 6 - arrived
        way.accept()
        later(flow)
        assert_books(flow, "INV-0", *numbers(6))
        assert posts(flow) == 7
        assert_adds_up(flow, created=7)


def test_c4_token_endpoint_down_posts_nothing(flow: Rehearsal) -> None:
    """Without a token nothing can be looked up or sent: the run fails, a later one finishes."""
    fault = flow.fusion.faults.add("token_down", status=503)
    drop(flow, many(3))
    with pytest.raises(RemoteDown):
        flow.process()
    assert posts(flow) == 0
    assert_adds_up(flow, unknown=3)
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_c4_token_endpoint_down_in_the_middle_gives_the_claims_back(flow: Rehearsal) -> None:
    """The token ends while requests are under way: each was refused before Fusion acted."""
    clerk(flow)
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=3)
        flow.fusion.expire_tokens()
        fault = flow.fusion.faults.add("token_down", status=503)
        gate.release()
        with pytest.raises(PostingStopped):
            run.result(40)
    assert set(states(flow).values()) == {"VALIDATED"}
    assert posts(flow, 201) == 0
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_c4_many_at_once_each_ends_in_the_books_once(flow: Rehearsal) -> None:
    """Every kind of fault together over sixty invoices: nothing lost, nothing twice, to the cent."""
    clerk(flow)
    faults = flow.fusion.faults
    for kind, named in (
        ("status", {"status": 503}),
        ("status", {"status": 429, "retry_after": "0.1"}),
        ("reset", {}),
        ("commit_then_reset", {}),
        ("commit_then_status", {"status": 503}),
        ("commit_then_status", {"status": 500}),
    ):
        faults.add(kind, method="POST", path="invoices", probability=0.06, count=3, **named)
    drop(flow, many(60))
    flow.process()
    for _ in range(6):
        later(flow)
    assert_books(flow, *numbers(60))
    assert_adds_up(flow, created=60)


def test_c4_a_pause_that_fusion_asks_for_costs_no_intent_its_lease(flow: Rehearsal) -> None:
    """A 429 with Retry-After silences all requests; what waits for a slot meanwhile is neither given up nor unknown."""
    flow.change_config({"fusion": {"request_timeout": 1, "max_in_flight": 4}})
    clerk(flow)
    drop(flow, many(8))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    flow.fusion.faults.add("status", method="POST", path="invoices", status=429, retry_after=4, count=4)
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=4)
        until(lambda: phases(flow) == ["INTENT"] * 5)
        gate.release()
        summary = run.result(60)[2].posting
    assert (summary.created, summary.dropped, summary.unknown) == (8, 0, 0)
    assert_books(flow, *numbers(8))
    assert Counter(phases(flow)) == {"CREATED": 8, "REFUSED": 4}
    assert_adds_up(flow, created=8)

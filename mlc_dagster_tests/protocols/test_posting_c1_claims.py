"""Rule C1: claim and intent are committed before the request, with a lease; only then may anything be sent.

Nothing here waits for a time to pass: clocks are moved, and what is held at a gate is held for as long as it takes.
"""

import os
import signal
from pathlib import Path

import pytest

from mlc_dagster.ledger.windows import WindowBusy
from mlc_dagster.stampli.posting.sending import Sender
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    beside,
    clerk,
    drop,
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
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.servers.runner import RunProcess

PATIENCE = 120.0
"""Seconds for a request: what is held at a gate, or slow on a busy machine, must not pass for a time-out."""
LEASE = 2 * PATIENCE + 1
LONG = LEASE + 60
"""Seconds after which any lease is over, that of the window too."""


@pytest.fixture
def patient(flow: Rehearsal) -> Rehearsal:
    """A flow whose requests have time."""
    flow.change_config({"fusion": {"request_timeout": PATIENCE}})
    return flow


def test_c1_killed_between_intent_and_request_is_sent_once_after_two_absences(patient: Rehearsal) -> None:
    """Kill -9 before the first byte: the intent alone must neither lose the invoice nor let it be sent unproven."""
    flow = patient
    clerk(flow)
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    with RunProcess(flow, wanted, stop_before_send=True) as run:
        run.wait_stopped()
        assert phases(flow) == ["INTENT"]
        run.kill()
    assert posts(flow) == 0
    later(flow)
    assert_books(flow, "INV-1")
    assert posts(flow) == 1
    first, second = attempts(flow)
    assert (first["phase"], first["absences"], second["phase"]) == ("ABSENT", 2, "CREATED")
    assert_adds_up(flow, created=1)


def test_c1_killed_while_the_request_is_under_way_and_never_arrives(patient: Rehearsal) -> None:
    """Kill -9 with the request on the wire that Fusion never acts on: sent once more, after two absences."""
    flow = patient
    clerk(flow)
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30, requests=3)
        run.kill()
    gate.drop()
    later(flow)
    assert_books(flow, *numbers(3))
    assert posts(flow, 201) == 3
    assert {row["absences"] for row in attempts(flow) if row["phase"] == "ABSENT"} == {2}
    assert_adds_up(flow, created=3)


def test_c1_killed_between_request_and_record_is_adopted_and_not_sent_again(patient: Rehearsal) -> None:
    """Kill -9 after Fusion stored it and before we wrote it down: the classic double payment."""
    flow = patient
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        run.kill()
    gate.drop()
    later(flow)
    assert_books(flow, "INV-1")
    assert posts(flow) == 1
    assert phases(flow) == ["CREATED"]
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_adds_up(flow, created=1)


def test_c1_killed_run_whose_request_is_stored_late_is_adopted(patient: Rehearsal) -> None:
    """Fusion goes on working on a request whose sender is dead; the look-up after the wait must find it."""
    flow = patient
    clerk(flow)
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        run.kill()
    gate.release()
    until(lambda: flow.fusion.books.invoices(number="INV-1"))
    later(flow)
    assert_books(flow, "INV-1")
    assert posts(flow) == 1
    assert_adds_up(flow, created=1)


def test_c1_recovery_touches_expired_leases_only(patient: Rehearsal) -> None:
    """A later run must not look up, let alone send, what a living sender may still be sending."""
    flow = patient
    clerk(flow)
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    with RunProcess(flow, wanted, stop_before_send=True) as run:
        run.wait_stopped()
        run.kill()
    # A little later the window is free again (its process is gone), but the intent's lease still runs.
    assert [report.posting.unknown for report in later(flow, 1)] == [0]
    assert phases(flow) == ["INTENT"]
    assert posts(flow) == 0


def test_c1_stopped_process_that_wakes_after_its_lease_does_not_post(patient: Rehearsal) -> None:
    """SIGSTOP between intent and first byte, SIGCONT when another run has long sent the invoice."""
    flow = patient
    clerk(flow)
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    with RunProcess(flow, wanted, stop_before_send=True) as run:
        run.wait_stopped()
        later(flow, LONG)
        assert_books(flow, "INV-1")
        run.wake(LONG)
        summary = run.result()
    assert (summary["dropped"], summary["created"]) == (1, 0)
    assert posts(flow) == 1
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


def test_c1_stopped_process_that_wakes_first_drops_its_claim(patient: Rehearsal) -> None:
    """Woken late and before anybody else: the intent is given back unsent, and the next run sends it at once."""
    flow = patient
    clerk(flow)
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    with RunProcess(flow, wanted, stop_before_send=True) as run:
        run.wait_stopped()
        flow.clock.advance(LONG)
        run.wake(LONG)
        assert run.result()["dropped"] == 1
    assert posts(flow) == 0
    assert (states(flow), phases(flow)) == ({"INV-1": "VALIDATED"}, ["RELEASED"])
    later(flow)
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


def test_c1_run_that_lost_its_window_begins_nothing_more(patient: Rehearsal) -> None:
    """Its proofs of absence are as old as its sleep; the fence keeps it from acting on them."""
    flow = patient
    flow.change_config({"fusion": {"max_in_flight": 1}})
    clerk(flow)
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    with RunProcess(flow, wanted, stop_before_send=True) as run:
        run.wait_stopped()
        # The second run is held off from sending, so that two invoices are still to be begun when the first wakes.
        gate = flow.fusion.faults.gate(method="GET", path="invoices", stage="before", limit=1)
        flow.clock.advance(LONG)
        again = only(flow.poll().runs)
        with beside(lambda: flow.run(again)):
            try:
                assert gate.wait_held(20)
                run.wake(LONG)
                stopped = run.result()
                assert (stopped["error"], "taken over" in stopped["text"]) == ("PostingStopped", True)
                assert posts(flow) == 0
            finally:
                gate.release()
    later(flow)
    assert_books(flow, *numbers(3))
    assert posts(flow) == 3
    assert_adds_up(flow, created=3)


def test_c1_two_processes_on_one_window_the_second_is_refused(patient: Rehearsal) -> None:
    """Daemon and command at the same time: one works, the other is told who does."""
    flow = patient
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        with pytest.raises(WindowBusy):
            flow.run(wanted)
        with pytest.raises(WindowBusy):
            flow.run(wanted.window_start)
        gate.release()
        assert run.result()["created"] == 3
    assert_books(flow, *numbers(3))
    assert posts(flow) == 3
    assert_adds_up(flow, created=3)


def test_c1_two_windows_with_the_same_invoice_post_it_once(patient: Rehearsal) -> None:
    """The same invoice in a second file while the first request has no answer yet: it waits for the outcome."""
    flow = patient
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        drop(flow, one("INV-1", description="again"), sequence=2)
        flow.clock.advance(1000)
        second = [each for each in flow.poll_settled().runs if each.window_start != wanted.window_start]
        flow.run(only(tuple(second)))
        assert posts(flow) == 0, "the only request is still at the gate, so none was answered"
        gate.release()
        assert run.result()["created"] == 1
    later(flow)
    assert_books(flow, "INV-1")
    assert posts(flow) == 1


def test_c1_two_windows_with_two_invoices_of_one_number_post_one(patient: Rehearsal) -> None:
    """Two documents of Stampli under one supplier's number: the claim lets one through, the other is for a person."""
    flow = patient
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        drop(flow, one("INV-1 ", invoice_id="other") + one("INV-2"), sequence=2)
        flow.clock.advance(1000)
        with beside(flow.process) as second:
            assert gate.wait_held(30, requests=2)
            gate.release()
            second.result(30)
        assert run.result()["created"] == 1
    assert_books(flow, "INV-1", "INV-2")
    assert posts(flow) == 2
    assert_adds_up(flow, created=2, parked=1)


def test_c1_few_intents_wait_for_a_slot(patient: Rehearsal) -> None:
    """An intent that waits uses up its lease, and a crash leaves each to be looked up: a quarter beside those sent."""
    flow = patient
    flow.change_config({"fusion": {"max_in_flight": 4}})
    clerk(flow)
    drop(flow, many(10))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=4)
        until(lambda: phases(flow) == ["INTENT"] * 5)
        assert gate.held == 4
        assert sorted(states(flow).values()) == ["SENDING"] * 5 + ["VALIDATED"] * 5
        gate.release()
        run.result(30)
    assert_books(flow, *numbers(10))
    assert posts(flow) == 10
    assert_adds_up(flow, created=10)


def test_c1_intents_follow_the_pace_and_not_only_the_setting(
    patient: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client starts with 16 slots whatever the setting allows; beside those, four intents wait."""
    flow = patient
    looks: list[int] = []
    room = Sender.room

    def counted(sender: Sender, in_flight: int, claiming: int = 0) -> int:
        looks.append(in_flight)
        return room(sender, in_flight, claiming)

    monkeypatch.setattr(Sender, "room", counted)
    flow.change_config({"fusion": {"max_in_flight": 30}})
    clerk(flow)
    drop(flow, many(24))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=16)
        until(lambda: phases(flow).count("INTENT") == 20)
        # The run looks for room whenever something wakes it, and once a second while all its requests are under way.
        before = len(looks)
        until(lambda: len(looks) > before + 1, PATIENCE)
        assert phases(flow).count("INTENT") == 20
        assert gate.held == 16
        gate.release()
        run.result(30)
    assert_books(flow, *numbers(24))
    assert_adds_up(flow, created=24)


def signals_pending(pid: int) -> bool:
    """A signal was sent that the process has not taken yet."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
    return any(int(fields[name], 16) for name in ("SigPnd", "ShdPnd"))


def test_c1_what_waits_is_not_sent_once_the_run_is_interrupted(patient: Rehearsal) -> None:
    """Ctrl-C lets what is on the wire come to its end and begins nothing more, though its intent is committed."""
    flow = patient
    flow.change_config({"fusion": {"max_in_flight": 4}})
    clerk(flow)
    drop(flow, many(10))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30, requests=4)
        until(lambda: phases(flow) == ["INTENT"] * 5)
        os.kill(run.pid, signal.SIGINT)
        until(lambda: not signals_pending(run.pid))
        gate.release()
        run.process.join(PATIENCE)
    assert posts(flow) == 4
    assert sorted(phases(flow)) == ["CREATED"] * 4 + ["RELEASED"]
    later(flow)
    assert_books(flow, *numbers(10))
    assert posts(flow, 201) == 10
    assert_adds_up(flow, created=10)


def test_c1_sending_again_respects_the_slots_too(patient: Rehearsal) -> None:
    """Ten refused invoices come due at once; with four slots four are sent, and one waits."""
    flow = patient
    flow.change_config({"fusion": {"max_in_flight": 4, "wait_in_run": 0}})
    clerk(flow)
    drop(flow, many(10))
    fault = flow.fusion.faults.add("status", method="POST", path="invoices", status=503)
    flow.process()
    flow.fusion.faults.remove(fault)
    assert set(phases(flow)) == {"REFUSED"}
    flow.change_config({"fusion": {"wait_in_run": 20}})
    flow.clock.advance(600)
    wanted = only(flow.poll().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: flow.run(wanted)) as run:
        assert gate.wait_held(20, requests=4)
        until(lambda: phases(flow).count("INTENT") == 5)
        assert gate.held == 4
        gate.release()
        run.result(30)
    later(flow)
    assert_books(flow, *numbers(10))
    assert posts(flow, 201) == 10
    assert_adds_up(flow, created=10)

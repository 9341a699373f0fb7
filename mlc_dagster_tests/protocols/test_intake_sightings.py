"""A1 and A2: a file is taken when two durable sightings agree, and never because a folder is new to us."""

import datetime as dt
import os
import time
from pathlib import Path

import pytest

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.stampli.intake.feed import BeforeGoLive, FirstContact, decide_first_contact
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.intake import (
    bill,
    deliver,
    drop,
    events,
    file_states,
    posted_numbers,
    prove_books,
    served_faultily,
    verdict,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.stampli.builders import file_name


def _decide(flow: Rehearsal, process: frozenset[str] | None) -> tuple[int, int]:
    inbound = flow.inbound
    return decide_first_contact(flow.ledger, inbound.open_session, inbound.stampli, inbound.profile, process)


def test_a1_one_sighting_takes_nothing_and_two_take_the_file_once(flow: Rehearsal) -> None:
    """A file that was seen once may still be growing."""
    drop(flow, 1, bill("1", "10.00"))
    first = flow.poll()
    assert (first.assigned, first.runs, len(first.waiting)) == ((), (), 1)
    flow.clock.advance(29)
    assert flow.poll().assigned == ()
    flow.clock.advance(2)
    second = flow.poll()
    assert len(second.assigned) == 1
    for wanted in second.runs:
        flow.run(wanted)
    flow.clock.advance(60)
    assert flow.poll().assigned == ()
    prove_books(flow, "N-1")


def test_a1_a_run_without_waiting_takes_what_an_earlier_process_saw(flow: Rehearsal) -> None:
    """`--no-wait` from cron: each process looks once; the sighting must outlive the process that made it."""
    drop(flow, 1, bill("1", "10.00"))
    assert flow.poll().assigned == ()
    flow.ledger.close()
    flow.clock.advance(300)
    flow.ledger = open_ledger(f"sqlite:///{flow.folder / 'data' / 'ledger.sqlite'}", clock=flow.clock)
    poll = flow.poll()
    assert len(poll.assigned) == 1
    flow.run(poll.runs[0])
    prove_books(flow, "N-1")


def test_a1_a_file_touched_between_sightings_waits_from_the_start(flow: Rehearsal) -> None:
    """Size and time must both hold still."""
    name = drop(flow, 1, bill("1", "10.00"))
    flow.poll()
    os.utime(flow.outbound / name, (time.time() - 500, time.time() - 500))
    flow.clock.advance(31)
    assert flow.poll().assigned == ()
    flow.clock.advance(31)
    assert len(flow.poll().assigned) == 1


def test_a2_first_contact_with_files_stops_the_feed_and_names_both_commands(tmp_path: Path) -> None:
    """Ten thousand old files are not new invoices."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        drop(flow, 1, bill("1", "10.00"))
        with pytest.raises(FirstContact):
            flow.poll()
        flow.clock.advance(60)
        with pytest.raises(FirstContact) as stopped:
            flow.poll()
        assert "mlc files baseline" in str(stopped.value)
        assert "mlc files process" in str(stopped.value)
        assert stopped.value.count == 1
        assert flow.fusion.books.count() == 0
        assert file_states(flow) == []


def test_a2_baselined_files_are_audited_and_never_posted(tmp_path: Path) -> None:
    """What a person declared to be handled stays handled; what comes later is processed."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        drop(flow, 1, bill("1", "10.00"))
        drop(flow, 2, bill("2", "20.00"))
        with pytest.raises(FirstContact):
            flow.poll()
        assert _decide(flow, frozenset()) == (2, 0)
        assert flow.process() == []
        deliver(flow, 3, bill("3", "30.00"))
        prove_books(flow, "N-3")
        assert len(events(flow, "file.baseline")) == 2
        assert len(events(flow, "feed.opened")) == 1


def test_a2_named_files_are_processed_and_the_others_are_baseline(tmp_path: Path) -> None:
    """The files that are still open at go-live can be picked by name."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        drop(flow, 1, bill("1", "10.00"))
        named = drop(flow, 2, bill("2", "20.00"))
        with pytest.raises(LookupError, match="no such file"):
            _decide(flow, frozenset({"nowhere.csv"}))
        assert _decide(flow, frozenset({named})) == (1, 1)
        flow.process()
        prove_books(flow, "N-2")


def test_a2_all_files_are_processed_when_a_person_says_so(tmp_path: Path) -> None:
    """A new customer's first files are new invoices indeed."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        drop(flow, 1, bill("1", "10.00"))
        drop(flow, 2, bill("2", "20.00"))
        assert _decide(flow, None) == (0, 2)
        flow.process()
        prove_books(flow, "N-1", "N-2")


def test_a2_approvals_before_go_live_are_parked(flow: Rehearsal) -> None:
    """An old invoice in a new file was handled by the former process."""
    deliver(flow, 1, bill("1", "10.00", approved_at="2025-12-31T23:59:59Z"), bill("2", "20.00"))
    assert verdict(flow, "1") == "PARKED BEFORE_GO_LIVE"
    prove_books(flow, "N-2")


@pytest.mark.timing
def test_a2_ten_thousand_baselined_files_cost_one_listing(tmp_path: Path) -> None:
    """Old files must cost neither a download nor time at every poll."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow, served_faultily(flow) as server:
        for sequence in range(10_000):
            (flow.outbound / file_name(sequence)).touch()
        _decide(flow, frozenset())
        began = time.monotonic()
        assert flow.poll().assigned == ()
        assert time.monotonic() - began < 5.0
        assert len(server.logins) == 2
        assert server.opened == []


def test_d4_a_go_live_in_the_future_polls_nothing_and_says_so(flow: Rehearsal) -> None:
    """Nothing may be posted before the day that was agreed on, however early the daemon was started."""
    drop(flow, 1, bill("1", "10.00"))
    start = (flow.clock() + dt.timedelta(days=3)).date()
    flow.change_config({"poll": {"start": start}})
    with pytest.raises(BeforeGoLive, match=f"{start:%Y-%m-%d}"):
        flow.poll()
    assert posted_numbers(flow) == []
    flow.clock.advance(3 * 86400)
    # Approved before that day: parked, not posted.
    flow.process()
    assert verdict(flow, "1") == "PARKED BEFORE_GO_LIVE"
    prove_books(flow)

"""G4: the accounting date, and the day on which it is "today"; G6: a ledger restored from an older copy."""

import datetime as dt
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.sandbox.seed import Seed, month_start, period_name
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.protocols.intake import (
    bill,
    deliver,
    drop,
    events,
    invoice_row,
    problems,
    prove_books,
    verdict,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Rehearsal]:
    """A Fusion whose day is today; last, this and next month are open."""
    day = dt.datetime.now(dt.UTC).date()
    around = {period_name(month_start(day, offset)): "O" for offset in (-1, 0, 1)}
    with rehearsal(tmp_path, seed=Seed(20, day, periods=around)) as flow:
        flow.open_feed()
        yield flow


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati"])
def test_g4_today_is_the_legal_entitys_day(today: Rehearsal, zone: str) -> None:
    """At any moment these two zones have different dates; the last night of a month decides over the period."""
    today.change_config({"stampli": {"companies": {"C100": {"accounting_date": "today", "time_zone": zone}}}})
    before = today.clock().astimezone(ZoneInfo(zone)).date()
    deliver(today, 1, bill("1", "10.00"))
    after = today.clock().astimezone(ZoneInfo(zone)).date()
    (booked,) = today.fusion.books.invoices()
    assert booked.accounting_date in {before.isoformat(), after.isoformat()}
    assert booked.invoice_date == "2026-10-28"


@pytest.mark.parametrize(("application", "word"), [(101, "General Ledger"), (200, "Payables")])
def test_g4_both_periods_are_checked(flow: Rehearsal, application: int, word: str) -> None:
    """Payables may be open while the general ledger is closed: the invoice could never be accounted."""
    flow.fusion.set_period("Oct-26", "C", application=application)
    deliver(flow, 1, bill("1", "10.00"), bill("2", "20.00", invoice_date="2026-11-02"))
    assert verdict(flow, "1") == "PARKED PERIOD_CLOSED"
    assert word in str(problems(flow, "1")[0]["value"])
    prove_books(flow, "N-2")


def test_g4_the_date_that_passed_is_the_one_in_the_frozen_body(today: Rehearsal) -> None:
    """Validated on one day and sent on the next: the date that was checked is sent, not the day of sending."""
    today.change_config({"stampli": {"companies": {"C100": {"accounting_date": "today", "time_zone": "UTC"}}}})
    today.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
    deliver(today, 1, bill("0", "5.00"))
    today.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    deliver(today, 2, bill("1", "10.00"))
    checked = events(today, "invoice.validated")[-1]["detail"]["accounting_date"]
    for _ in range(4):
        today.clock.advance(86_400)
        for wanted in today.poll().runs:
            today.run(wanted)
    assert today.clock().date().isoformat() != checked
    (booked,) = today.fusion.books.invoices(number="N-1")
    assert booked.accounting_date == checked


def _copy(flow: Rehearsal, name: str) -> Path:
    copy = flow.folder / name
    source = sqlite3.connect(flow.folder / "data" / "ledger.sqlite")
    target = sqlite3.connect(copy)
    with source, target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def _restore(flow: Rehearsal, copy: Path) -> None:
    flow.ledger.close()
    place = flow.folder / "data" / "ledger.sqlite"
    for suffix in ("-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    place.write_bytes(copy.read_bytes())
    flow.ledger = open_ledger(f"sqlite:///{place}", clock=flow.clock)


def test_g6_a_ledger_restored_from_before_the_posting_posts_nothing_twice(flow: Rehearsal) -> None:
    """The backup knows the files and not the posts; Fusion is asked before anything is sent."""
    drop(flow, 1, bill("1", "10.00"), bill("2", "20.00"))
    (wanted,) = flow.poll_settled().runs
    copy = _copy(flow, "before.sqlite")
    flow.run(wanted)
    sent = flow.fusion.books.count("POST", "invoices")
    _restore(flow, copy)
    _until_quiet(flow)
    assert [verdict(flow, key) for key in ("1", "2")] == ["ALREADY_IN_FUSION"] * 2
    assert flow.fusion.books.count("POST", "invoices") == sent
    assert flow.fusion.books.duplicates() == []
    assert invoice_row(flow, "1")["differences"] == {}
    deliver(flow, 2, bill("3", "30.00"))
    assert sorted(booked.number for booked in flow.fusion.books.invoices()) == ["N-1", "N-2", "N-3"]


def test_g6_a_ledger_restored_from_between_intent_and_answer_adopts_what_is_ours(flow: Rehearsal) -> None:
    """The backup holds the intent: user, source, group and content agree, so the invoice is ours."""
    deliver(flow, 1, bill("0", "5.00"))
    drop(flow, 2, bill("1", "10.00"))
    (wanted,) = flow.poll_settled().runs
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after", limit=1)
    copies: list[Path] = []

    def copy_then_release() -> None:
        gate.wait_held(20)
        copies.append(_copy(flow, "between.sqlite"))
        gate.release()

    watcher = threading.Thread(target=copy_then_release)
    watcher.start()
    flow.run(wanted)
    watcher.join()
    _restore(flow, copies[0])
    _until_quiet(flow)
    assert verdict(flow, "1") == "CONFIRMED"
    prove_books(flow, "N-0", "N-1")
    observe_step(flow.inbound)


def _until_quiet(flow: Rehearsal) -> list[RunWanted]:
    done: list[RunWanted] = []
    for _ in range(8):
        flow.clock.advance(16 * 60)
        runs = flow.poll().runs
        if not runs:
            return done
        for wanted in runs:
            flow.run(wanted)
            done.append(wanted)
    raise AssertionError("runs are asked for without an end")

"""A5: what could not be put away is tried again by every poll that it is due at, cheaply, and told after a day."""

import datetime as dt
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.schema import ledger_setting
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.intake import disposing
from mlc_dagster.stampli.intake.disposing import Retried, retry_disposal
from mlc_dagster_tests.protocols.intake import bill, deliver, events, files, prove_books
from mlc_dagster_tests.protocols.test_intake_deliveries import names_in, put_away
from mlc_dagster_tests.servers.rehearsal import Rehearsal


@pytest.fixture
def stuck(flow: Rehearsal) -> Rehearsal:
    """One file was processed, and its archive folder is not there."""
    flow.change_config({"stampli": {"after_read": "archive"}})
    ((_, _, posted),) = deliver(flow, 1, bill("1", "10.00"))
    assert len(posted.disposal_problems) == 1
    return flow


def offline(inbound: Inbound) -> Inbound:
    """The wiring with a server that must not be asked anything."""

    @contextmanager
    def opened() -> Generator[Any]:
        pytest.fail("the server was asked")
        yield

    return replace(inbound, open_session=opened)


def test_a5_a_poll_puts_away_what_a_run_could_not(stuck: Rehearsal) -> None:
    """No window may ever run again: the folder was created, and the file goes."""
    (stuck.outbound / "archive").mkdir()
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    assert retry_disposal(stuck.inbound) == Retried()
    assert names_in(stuck) == []
    assert files(stuck)[0]["disposed_at"] is not None
    prove_books(stuck, "N-1")


def test_a5_a_poll_asks_the_server_nothing_when_nothing_is_due(stuck: Rehearsal) -> None:
    """Polls come every half minute; a folder that is missing is missing for hours."""
    assert retry_disposal(offline(stuck.inbound)) == Retried()
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds() - 1)
    assert retry_disposal(offline(stuck.inbound)) == Retried()
    stuck.clock.advance(2)
    assert len(retry_disposal(stuck.inbound).told) == 1
    (stuck.outbound / "archive").mkdir()
    assert retry_disposal(offline(stuck.inbound)) == Retried()
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    retry_disposal(stuck.inbound)
    assert names_in(stuck) == []
    assert retry_disposal(offline(stuck.inbound)) == Retried()


def test_a5_where_files_are_left_nothing_is_looked_at(flow: Rehearsal) -> None:
    """``leave`` is the default, and its folders grow for years."""
    deliver(flow, 1, bill("1", "10.00"))
    assert retry_disposal(offline(flow.inbound)) == Retried()


def test_a5_a_command_tries_at_once_what_failed_before_it_began(stuck: Rehearsal) -> None:
    """Whoever has just created the folder looks whether it helped; runs of the same call have tried already."""
    assert retry_disposal(offline(stuck.inbound), began=stuck.clock() - dt.timedelta(minutes=1)) == Retried()
    (stuck.outbound / "archive").mkdir()
    assert retry_disposal(stuck.inbound, began=stuck.clock()) == Retried()
    assert names_in(stuck) == []


def test_a5_a_poll_tries_a_few_files_and_the_next_one_goes_on(flow: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick has seconds; years of ``leave`` may wait when ``archive`` is written into mlc.yaml."""
    (flow.outbound / "archive").mkdir()
    for sequence in range(1, 4):
        deliver(flow, sequence, bill(f"{sequence}", "10.00"))
    monkeypatch.setattr(disposing, "PER_POLL", 2)
    flow.change_config({"stampli": {"after_read": "archive"}})
    left = []
    for _ in range(3):
        assert retry_disposal(flow.inbound) == Retried()
        left.append(len(names_in(flow)))
    assert left == [1, 0, 0]


def test_a5_what_fails_does_not_keep_others_from_being_put_away(
    flow: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest file cannot be deleted; the newer ones are tried while it waits for its turn."""
    for sequence in (1, 2):
        deliver(flow, sequence, bill(f"{sequence}", "10.00"))
    flow.change_config({"stampli": {"after_read": "delete"}})
    monkeypatch.setattr(disposing, "PER_POLL", 1)
    first = files(flow)[0]
    put_away(flow, first, breaking=1)
    assert retry_disposal(flow.inbound) == Retried()
    assert [row["disposed_at"] is None for row in files(flow)] == [True, False]
    assert retry_disposal(offline(flow.inbound)) == Retried()


def test_a5_a_file_that_stays_for_a_day_is_told_once_a_day(stuck: Rehearsal) -> None:
    """Not at every poll, and not only to those who read the log of a run."""
    name = names_in(stuck)[0]
    told: list[Retried] = []
    for _ in range(4):
        stuck.clock.advance(disposing.TELL_AFTER.total_seconds() / 2 + 60)
        told.append(retry_disposal(stuck.inbound))
        told.append(retry_disposal(stuck.inbound))
    assert [len(each.stuck) for each in told] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert [each.newly_stuck for each in told] == [False, False, True, False, False, False, True, False]
    assert name in told[2].stuck[0]
    assert "archive_directory" in told[2].stuck[0]
    (stuck.outbound / "archive").mkdir()
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    assert retry_disposal(stuck.inbound) == Retried()


def test_a5_a_server_that_is_down_counts_as_a_failure(stuck: Rehearsal) -> None:
    """The poll itself may have reached it a moment before; its tick must not fail for tidying up."""
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    stuck.change_config({"stampli": {"sftp": {"port": 1}}})
    (told,) = retry_disposal(stuck.inbound).told
    assert told.startswith("processed files cannot be put away: ")
    assert retry_disposal(offline(stuck.inbound)) == Retried()


def test_a5_what_is_kept_about_failures_ends_with_them(stuck: Rehearsal) -> None:
    """Nothing but files that still lie there, and nobody's turn."""
    (stuck.outbound / "archive").mkdir()
    retry_disposal(stuck.inbound, began=stuck.clock())
    with stuck.ledger.reading() as reading:
        kept = reading.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == "disposal/stampli"))
    assert kept == '{"owner":null,"until":null,"failed_at":null,"failing":{}}'
    assert len(events(stuck, "file.disposed")) == 1

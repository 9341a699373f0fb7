"""When a feed with a schedule of its own is due: once per tick, with all that belongs to it."""

import datetime as dt
from pathlib import Path

from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

LINES = [("101-4410-61200-000-000-000", "100.00", None), ("101-0000-22100-000-000-000", None, "100.00")]


def files_at(remote: PartnerRehearsal, now: dt.datetime) -> int:
    """Fusion's clock says ``now``; how many files the partner has after a poll that keeps to the schedules."""
    remote.world.move_clock(now - remote.world.clock())
    assert remote.run(due_only=True).exit_code == 0
    return len(remote.delivered())


def test_a_daily_feed_makes_one_file_a_day(tmp_path: Path) -> None:
    """With the last minutes before its tick in it: not a file at the tick, and a second one when they are over."""
    with partner_rehearsal(tmp_path, behind=dt.timedelta(days=2)) as remote:
        tick = (remote.world.clock() + dt.timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
        remote.change_feed("journals", schedule=f"0 {tick.hour} * * *")
        files: list[list[int]] = []
        for base in (tick, tick + dt.timedelta(days=1)):
            for before in (dt.timedelta(hours=3), dt.timedelta(minutes=7)):
                remote.world.add_journal_batch(f"{before}", lines=LINES, last_update_date=base - before)
            after = [dt.timedelta(minutes=minutes) for minutes in (0.5, 1, 20, 120)]
            files.append([files_at(remote, base + moment) for moment in after])
        assert files == [[0, 0, 1, 1], [1, 1, 2, 2]]
        text = (remote.inbox / remote.delivered()[-1]).read_text()
        assert (text.count("3:00:00"), text.count("0:07:00")) == (2, 2)

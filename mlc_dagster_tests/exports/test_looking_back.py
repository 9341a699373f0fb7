"""The daily look back and sweep are about what is new, whatever run they happen to fall due in."""

import datetime as dt
from pathlib import Path

from mlc_dagster.exports.reading import ExtractKind
from mlc_dagster_tests.servers.partner_rehearsal import partner_rehearsal

LINES = [("101-4410-61200-000-000-000", "100.00", None), ("101-0000-22100-000-000-000", None, "100.00")]


def test_a_run_of_an_old_window_does_not_use_up_the_days_look_back(tmp_path: Path) -> None:
    """Somebody materialises an old window just as it falls due: what came late since must be found all the same."""
    with partner_rehearsal(tmp_path) as remote:
        first = remote.later(30)
        remote.read("journals")
        last = remote.later(23 * 60)
        remote.read("journals")
        remote.world.add_journal_batch("late", lines=LINES, last_update_date=last - dt.timedelta(hours=5))
        remote.later(80)
        by_hand = remote.read("journals", until=first)
    made = {extract.kind: extract for extract in by_hand.extracts}
    assert set(made) == {ExtractKind.LOOK_BACK, ExtractKind.SWEEP}
    assert {extract.window_end for extract in by_hand.extracts} == {last}
    assert made[ExtractKind.LOOK_BACK].records == 1

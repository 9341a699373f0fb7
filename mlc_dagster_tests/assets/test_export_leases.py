"""A run that is over holds nothing: the next one in the same process need not wait for a lease to end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.automation.export_sensor import export_selection, export_tags
from mlc_dagster.automation.jobs import OUTBOUND_JOB
from mlc_dagster.definitions import build_defs
from mlc_dagster.exports.planning import plan_exports
from mlc_dagster.exports.reading import fusion_now
from mlc_dagster.ledger.schema import poll_window, window_run
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

LINES = [("101-4410-61200-000-000-000", "100.00", None), ("101-0000-22100-000-000-000", None, "100.00")]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """One journal in a window that is over."""
    with partner_rehearsal(tmp_path) as running:
        running.world.add_journal_batch("A", lines=LINES)
        running.later()
        yield running


def leases(remote: PartnerRehearsal) -> list[str | None]:
    with remote.ledger.reading() as reading:
        return [row["lease_owner"] for row in reading.rows(sa.select(poll_window.c.lease_owner))]


def test_a_run_that_ended_well_holds_no_window(remote: PartnerRehearsal) -> None:
    """The summary over all feeds comes last, when the work is done; it must not take it up again."""
    assert remote.run().exit_code == 0
    assert leases(remote) == [None]


def test_a_step_that_cannot_begin_gives_back_what_an_earlier_one_holds(remote: PartnerRehearsal) -> None:
    """A layout that broke while its source was read: said in the ledger, and tried again without waiting."""
    outbound = remote.outbound
    [run] = plan_exports(outbound, fusion_now(outbound), force=True).runs
    broken = remote.folder / "broken.yaml"
    broken.write_text("nonsense: 1")
    remote.change_feed("journals", layout=str(broken))
    job = build_defs(remote.settings, environ={}).resolve_job_def(OUTBOUND_JOB)
    result = job.execute_in_process(
        instance=remote.instance,
        asset_selection=export_selection(run),
        tags=export_tags(run),
        run_config=QUIET,
        raise_on_error=False,
    )
    assert not result.success
    assert leases(remote) == [None]
    with remote.ledger.reading() as reading:
        [work] = reading.rows(sa.select(window_run))
    assert (work["state"], work["failure"].split(":")[0]) == ("OPEN", "LayoutError")
    remote.change_feed("journals", layout="journals_csv")
    assert remote.run().exit_code == 0
    assert len(remote.delivered()) == 1

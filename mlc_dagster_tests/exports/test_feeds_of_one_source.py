"""Two feeds of one source share its extracts, and neither may lose what the other had read in its own order."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.planning import MOST_WINDOWS, plan_exports
from mlc_dagster.exports.reading import fusion_now
from mlc_dagster.exports.runs import ExportRun
from mlc_dagster.exports.steps import FeedBehind
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"
QUARTER = dt.timedelta(minutes=15)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """Windows go 30 days back; the feed ``journals`` begins now, and one journal is older than that."""
    with partner_rehearsal(tmp_path) as running:
        start = running.settings.poll.start
        running.change_config(poll={"start": start - dt.timedelta(days=30)})
        running.change_feed("journals", start=start)
        yield running


def begin(remote: PartnerRehearsal) -> dt.datetime:
    """When the feed ``journals`` begins."""
    start = remote.settings.exports[0].start
    assert start is not None
    return start


def add_feed(remote: PartnerRehearsal, name: str, start: dt.datetime | None = None) -> None:
    """A second feed of journals; from the first window on when no start is given."""
    given = {} if start is None else {"start": start}
    remote.change_feed(name, source="journals", layout="journals_csv", ledgers=["US Primary Ledger"], **given)


def post(remote: PartnerRehearsal, name: str, at: dt.datetime | None = None) -> None:
    more = {} if at is None else {"last_update_date": at}
    remote.world.add_journal_batch(name, lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")], **more)


def planned(remote: PartnerRehearsal, feed: str) -> list[ExportRun]:
    outbound = remote.outbound
    return plan_exports(outbound, fusion_now(outbound), only=[feed], force=True).runs


def catch_up(remote: PartnerRehearsal, feed: str) -> None:
    """The feed's next run, as it is planned: read up to its end, deliver."""
    [run] = planned(remote, feed)
    remote.read("journals", until=run.last + QUARTER)
    remote.deliver(feed, until=run.last + QUARTER)


def got(remote: PartnerRehearsal, feed: str, name: str) -> int:
    """Lines of the batch in the feed's files."""
    files = [path for path in remote.inbox.iterdir() if path.name.startswith(f"{feed}_")]
    return sum(path.read_text().count(f",{name},") for path in files)


def test_a_feed_added_later_that_begins_weeks_earlier_gets_everything(remote: PartnerRehearsal) -> None:
    """The source was read from a later moment on; what lies before it was never read for anybody."""
    post(remote, "OLD", begin(remote) - dt.timedelta(days=20))
    post(remote, "NEW")
    remote.poll("journals")
    add_feed(remote, "early")
    catch_up(remote, "early")
    assert (got(remote, "early", "OLD"), got(remote, "early", "NEW")) == (2, 2)
    assert (got(remote, "journals", "OLD"), got(remote, "journals", "NEW")) == (0, 2)


def test_a_feed_added_later_that_begins_hours_earlier_gets_everything(remote: PartnerRehearsal) -> None:
    """Within one range of windows as well: the earlier part is read behind the later one, and is not overlooked."""
    post(remote, "OLD", begin(remote) - dt.timedelta(hours=5))
    post(remote, "NEW")
    remote.poll("journals")
    add_feed(remote, "early", begin(remote) - dt.timedelta(hours=10))
    catch_up(remote, "early")
    assert (got(remote, "early", "OLD"), got(remote, "early", "NEW")) == (2, 2)


def test_the_feed_that_was_there_before_gets_nothing_older(remote: PartnerRehearsal) -> None:
    """What another feed's beginning brings in is before its own; a partner must not get it out of the blue."""
    post(remote, "OLD", begin(remote) - dt.timedelta(hours=5))
    remote.poll("journals")
    add_feed(remote, "early")
    catch_up(remote, "early")
    remote.poll("journals")
    assert got(remote, "journals", "OLD") == 0


def test_two_feeds_with_different_beginnings_both_get_theirs(remote: PartnerRehearsal) -> None:
    """The one with the later beginning stands first in mlc.yaml, and reads for both."""
    add_feed(remote, "early")
    post(remote, "OLD", begin(remote) - dt.timedelta(days=20))
    post(remote, "NEW")
    remote.later()
    for feed in ("journals", "early"):
        catch_up(remote, feed)
    assert (got(remote, "journals", "OLD"), got(remote, "journals", "NEW")) == (0, 2)
    assert (got(remote, "early", "OLD"), got(remote, "early", "NEW")) == (2, 2)


def test_an_outage_longer_than_a_run_leaves_no_feed_behind(tmp_path: Path) -> None:
    """One feed is run by hand over all of it: the other's next run ends in the middle of that one extract."""
    with partner_rehearsal(tmp_path, behind=dt.timedelta(days=4)) as remote:
        add_feed(remote, "other")
        end = remote.later(15 * (MOST_WINDOWS + 50))
        post(remote, "LATE", end - dt.timedelta(hours=1))
        remote.read("journals")
        remote.deliver("journals")
        [run] = planned(remote, "other")
        assert run.last + QUARTER < end
        remote.read("journals", until=run.last + QUARTER)
        remote.deliver("other", until=run.last + QUARTER)
        assert (got(remote, "journals", "LATE"), got(remote, "other", "LATE")) == (2, 2)


def test_a_feed_that_does_not_get_where_it_was_asked_to_says_so(remote: PartnerRehearsal) -> None:
    """A feed that stands still for good must never look like one that had nothing to send."""
    post(remote, "A")
    end = remote.later()
    with pytest.raises(FeedBehind, match=r"journals has nothing yet.*asked for.*mlc run outbound --feed journals"):
        remote.deliver("journals", until=end)
    remote.read("journals", until=end)
    with pytest.raises(FeedBehind, match=rf"stands at {end:%Y-%m-%d %H:%M} UTC"):
        remote.deliver("journals", until=end + QUARTER)
    assert got(remote, "journals", "A") == 2

"""From when on a feed takes records: never before there are windows."""

from typing import Any

from mlc_dagster_tests.settings.configuration import problems, settings

FEED: dict[str, Any] = {
    "name": "ap",
    "source": "invoices",
    "layout": "invoices_csv",
    "sftp": {"host": "h", "username": "u", "password": "env:P", "host_key": "SHA256:abc", "directory": "/in"},
}


def test_a_feed_that_begins_before_the_first_window_is_refused() -> None:
    """It would ask for windows that are none: nothing would ever be delivered, and nobody told."""
    [problem] = problems({"exports": [{**FEED, "start": "2025-12-31"}]})
    assert "exports.ap.start: 2025-12-31" in problem
    assert "before poll.start (2026-01-01" in problem
    assert "move poll.start back" in problem


def test_a_feed_may_begin_with_the_first_window() -> None:
    """The same moment is not before it."""
    [feed] = settings({"exports": [{**FEED, "start": "2026-01-01"}]}).exports
    assert feed.start == settings().poll.start

"""F4: what goes again is the same bytes under the same name; what waits goes first, by itself."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.resending import resend
from mlc_dagster_tests.protocols.delivering import CONTENT, Collector, picking_up
from mlc_dagster_tests.servers.partner import FEED, DeliveryProcess


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with picking_up(tmp_path) as found:
        yield found


def test_a_resend_is_the_same_bytes(collector: Collector) -> None:
    """Also long after, whatever became of layouts and settings: the archive is what is sent."""
    acme = collector.acme
    key = acme.freeze("A.csv", CONTENT)
    acme.deliver()
    outbound = acme.outbound
    found = resend(outbound, outbound.feeds[FEED], key, actor="ann", reason="the partner lost it")
    assert found.outcome == "SENT"
    assert collector.collected == [("A.csv", CONTENT)] * 2
    assert hashlib.sha256(collector.collected[1][1]).hexdigest() == acme.file(key)["sha256"]


def test_an_inferred_file_can_be_sent_again(collector: Collector) -> None:
    """Concluded wrongly: the partner says that it never came, and a person sends it."""
    acme = collector.acme
    key = acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(acme.place, at="rename") as run:
        run.wait_killed()
    for path in acme.root.iterdir():
        path.unlink()
    assert [entry.outcome for entry in acme.deliver()] == ["INFERRED"]
    outbound = acme.outbound
    resend(outbound, outbound.feeds[FEED], key, actor="ann", reason="it never came")
    assert collector.collected == [("A.csv", CONTENT)]


def test_pending_files_go_first(collector: Collector) -> None:
    """What an earlier run left is delivered before what was built since, with the bytes it was frozen with."""
    acme = collector.acme
    acme.freeze("old.csv", b"old")
    with DeliveryProcess(acme.place, at="upload") as run:
        run.wait_killed()
    acme.freeze("new.csv", b"new")
    with DeliveryProcess(acme.place) as run:
        assert run.result() == ["SENT", "SENT"]
    assert collector.collected == [("old.csv", b"old"), ("new.csv", b"new")]

"""F2: one writer per feed, first in first out. A run that slept through its lease must not deliver when it wakes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster_tests.protocols.delivering import CONTENT, Collector, picking_up, use_mode
from mlc_dagster_tests.servers.partner import DeliveryProcess


@pytest.fixture
def collector(tmp_path: Path, ledger_url: str) -> Iterator[Collector]:
    """On both databases: who holds the feed is decided by their locks and clocks."""
    with picking_up(tmp_path, ledger_url) as found:
        yield found


def test_a_second_run_is_refused(collector: Collector) -> None:
    """Two runs at once would send twice."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="rename", how="stop") as first:
        first.wait_stopped()
        with DeliveryProcess(collector.acme.place) as second:
            assert second.result()[0] == "FeedBusy"
        first.wake()
        assert first.result() == ["SENT"]
    assert collector.collected == [("A.csv", CONTENT)]


def test_a_killed_run_stalls_nobody(collector: Collector) -> None:
    """Its lease is taken over at once: the process is gone."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="upload") as first:
        first.wait_killed()
    with DeliveryProcess(collector.acme.place) as second:
        assert second.result() == ["SENT"]
    assert collector.collected == [("A.csv", CONTENT)]


@pytest.mark.parametrize("step", ["look", "upload", "verify", "commit renaming", "rename", "look after rename"])
def test_a_run_that_slept_delivers_nothing(collector: Collector, step: str) -> None:
    """Stopped (SIGSTOP) until another run had the feed and was done: it wakes, and the partner gets nothing more."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at=step, how="stop") as sleeper:
        sleeper.wait_stopped()
        collector.acme.forget_lease()
        with DeliveryProcess(collector.acme.place) as successor:
            (outcome,) = successor.result()
        sleeper.wake()
        assert sleeper.result() == ["STOPPED"]
    assert outcome == ("INFERRED" if step == "look after rename" else "SENT")
    assert collector.collected == [("A.csv", CONTENT)]
    assert collector.acme.states() == [outcome]


def test_a_run_that_slept_creates_nothing_directly(collector: Collector) -> None:
    """Direct mode: the successor cannot know whether it was written, so nobody writes until a person has asked."""
    use_mode(collector.acme, "direct")
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="upload", how="stop") as sleeper:
        sleeper.wait_stopped()
        collector.acme.forget_lease()
        with DeliveryProcess(collector.acme.place) as successor:
            assert successor.result() == ["UNKNOWN"]
        sleeper.wake()
        assert sleeper.result() == ["STOPPED"]
    assert collector.collected == []
    assert collector.acme.there() == {}


def test_files_go_in_their_order(collector: Collector) -> None:
    """Also when runs die between them: a later version never overtakes."""
    names = [f"{number}.csv" for number in (3, 1, 2)]
    for name in names:
        collector.acme.freeze(name, name.encode())
    for step in ("upload", "rename"):
        with DeliveryProcess(collector.acme.place, at=step, nth=2) as run:
            run.wait_killed()
    with DeliveryProcess(collector.acme.place) as run:
        run.result()
    assert [name for name, _ in collector.collected] == names

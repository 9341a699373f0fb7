"""F3: what is concluded from the server alone after a run was killed in the middle of something."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster_tests.protocols.delivering import CONTENT, Collector, picking_up, use_mode
from mlc_dagster_tests.servers.partner import DeliveryProcess


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with picking_up(tmp_path) as found:
        yield found


def test_killed_in_the_middle_of_the_bytes(collector: Collector) -> None:
    """The half lies under a temporary name of ours; it is cleared away and the same bytes go under another."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place) as run:
        collector.server.faults.before_write = lambda path, offset: run.kill() if offset == 65_536 else None
        run.wait_killed()
    collector.server.faults.before_write = lambda path, offset: None
    (half,) = collector.acme.there()
    with DeliveryProcess(collector.acme.place) as run:
        assert run.result() == ["SENT"]
    temporary = [Path(name).name for name in collector.server.opened if name.endswith(".part")]
    assert half in temporary
    assert len(set(temporary)) == 2
    assert collector.collected == [("A.csv", CONTENT)]
    assert collector.acme.there() == {}


def test_killed_while_the_server_renames(collector: Collector) -> None:
    """Renamed, not heard, picked up: under neither name. Concluded, told to a person, never sent again."""
    key = collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place) as run:

        def take_and_kill(path: Path) -> None:
            collector.take(path)
            run.kill()

        collector.server.faults.after_rename = take_and_kill
        run.wait_killed()
    (delivered,) = collector.acme.deliver()
    assert (delivered.outcome, delivered.alert) == ("INFERRED", True)
    assert "resend" in delivered.text
    assert collector.acme.deliver() == []
    assert collector.collected == [("A.csv", CONTENT)]
    assert collector.acme.file(key)["state"] == "INFERRED"


def test_temporary_name_there_means_rename(collector: Collector) -> None:
    """Verified and not renamed: it is renamed, after it was verified once more; no byte is written again."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="rename") as run:
        run.wait_killed()
    writes: list[Path] = []
    collector.server.faults.before_write = lambda path, offset: writes.append(path)
    with DeliveryProcess(collector.acme.place) as run:
        assert run.result() == ["SENT"]
    assert writes == []
    assert collector.collected == [("A.csv", CONTENT)]


def test_a_temporary_file_that_changed_is_not_renamed(collector: Collector) -> None:
    """Somebody touched it between proof and name: a person looks; the partner gets no wrong bytes."""
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="rename") as run:
        run.wait_killed()
    (temporary,) = collector.acme.root.iterdir()
    temporary.write_bytes(CONTENT[:-1] + b"?")
    (delivered,) = collector.acme.deliver()
    assert (delivered.outcome, delivered.alert) == ("STOPPED", True)
    assert collector.collected == []


def test_own_name_there_means_delivered(collector: Collector) -> None:
    """A partner that has not come yet: the file with our hash under its name is ours."""
    collector.server.faults.after_rename = lambda path: None
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place, at="look after rename") as run:
        run.wait_killed()
    with DeliveryProcess(collector.acme.place) as run:
        assert run.result() == ["SENT"]
    assert collector.acme.there() == {"A.csv": CONTENT}


@pytest.mark.parametrize("place", ["before the file was made", "in the middle of the bytes"])
def test_direct_mode_leaves_it_to_a_person(collector: Collector, place: str) -> None:
    """The partner may have read what lay there: no run ever writes it a second time."""
    use_mode(collector.acme, "direct")
    collector.acme.freeze("A.csv", CONTENT)
    collector.server.faults.after_close = lambda path: None
    with DeliveryProcess(collector.acme.place, at="upload" if place == "before the file was made" else None) as run:

        def kill_in_the_middle(path: Path, offset: int) -> None:
            if offset == 65_536:
                run.kill()
                # Nothing of what is under way arrives any more.
                collector.server.faults.drop_on_write = offset

        collector.server.faults.before_write = kill_in_the_middle
        run.wait_killed()
    collector.server.faults.before_write = lambda path, offset: None
    collector.server.faults.drop_on_write = None
    (delivered,) = collector.acme.deliver()
    assert (delivered.outcome, delivered.alert) == ("UNKNOWN", True)
    half = {} if place == "before the file was made" else {"A.csv": CONTENT[:65_536]}
    assert collector.acme.there() == half
    opened = list(collector.server.opened)
    # It is told of at every poll until somebody has settled it.
    (still,) = collector.acme.deliver()
    assert (still.outcome, still.attempts) == ("UNKNOWN", 0)
    assert collector.server.opened == opened


def test_direct_mode_and_whole_all_the_same(collector: Collector) -> None:
    """Killed before its CLOSE, but the last byte had arrived: our hash proves it, and nobody has to ask."""
    use_mode(collector.acme, "direct")
    collector.acme.freeze("A.csv", CONTENT)
    collector.server.faults.after_close = lambda path: None
    with DeliveryProcess(collector.acme.place) as run:
        collector.server.faults.before_write = lambda path, offset: run.kill() if offset == 98_304 else None
        run.wait_killed()
    assert [entry.outcome for entry in collector.acme.deliver()] == ["SENT"]
    assert collector.acme.there() == {"A.csv": CONTENT}


def test_direct_mode_and_picked_up_before_we_knew(collector: Collector) -> None:
    """The partner took it at CLOSE, and the run died before the answer: one copy, and a person is asked."""
    use_mode(collector.acme, "direct")
    collector.acme.freeze("A.csv", CONTENT)
    with DeliveryProcess(collector.acme.place) as run:

        def take_and_kill(path: Path) -> None:
            collector.take(path)
            run.kill()

        collector.server.faults.after_close = take_and_kill
        run.wait_killed()
    collector.server.faults.after_close = collector.take
    with DeliveryProcess(collector.acme.place) as run:
        assert run.result() == ["UNKNOWN"]
    assert collector.collected == [("A.csv", CONTENT)]

"""A server that refuses renames, and a feed that is switched to direct mode: what waits goes the other way, once."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlc_dagster_tests.protocols.delivering import BESIDE, CONTENT, Collector, picking_up, use_mode
from mlc_dagster_tests.servers.partner import DeliveryProcess


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with refusing(tmp_path, None) as found:
        yield found


@pytest.fixture
def collector_on_both(tmp_path: Path, ledger_url: str) -> Iterator[Collector]:
    """With a ledger on SQLite and on PostgreSQL."""
    with refusing(tmp_path, ledger_url) as found:
        yield found


@contextmanager
def refusing(folder: Path, ledger_url: str | None) -> Generator[Collector]:
    """A partner whose server does not rename."""
    with picking_up(folder, ledger_url) as found:
        found.server.faults.rename_refused = True
        yield found


def leave_it(collector: Collector) -> None:
    """The partner comes later."""
    collector.server.faults.after_close = lambda path: None


def writes_begun(collector: Collector) -> list[str]:
    """Names under which a first byte is written from now on."""
    begun: list[str] = []
    collector.server.faults.before_write = lambda path, offset: begun.append(path.name) if offset == 0 else None
    return begun


def test_switched_to_direct_it_delivers_itself(collector_on_both: Collector) -> None:
    """The remedy that the error names is enough: nobody has to touch the file that waits, nor the ledger."""
    collector = collector_on_both
    key = collector.acme.freeze("A.csv", CONTENT, beside=BESIDE)
    collector.acme.deliver()
    assert collector.acme.states() == ["RENAMING"]
    use_mode(collector.acme, "direct")
    assert [entry.outcome for entry in collector.acme.deliver()] == ["SENT"]
    assert collector.collected == list(collector.acme.contents.items())
    assert collector.acme.there() == {}
    assert collector.acme.file(key)["state"] == "SENT"
    assert collector.acme.deliver() == []


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        ("look for both names", 1),
        ("commit renaming", 1),
        ("rename", 1),
        ("look for both names", 2),
        ("commit refused", 1),
        ("remove stale", 1),
        ("look", 1),
        ("commit uploading", 1),
        ("look after upload", 1),
        ("commit arrived", 1),
    ],
)
def test_killed_on_the_other_way(collector: Collector, step: str, nth: int) -> None:
    """Wherever the run dies that takes it back: the next one delivers it, and there is one file, of one name."""
    leave_it(collector)
    collector.acme.freeze("A.csv", CONTENT)
    collector.acme.deliver()
    use_mode(collector.acme, "direct")
    begun = writes_begun(collector)
    with DeliveryProcess(collector.acme.place, at=step, nth=nth) as run:
        run.wait_killed()
    assert [entry.outcome for entry in collector.acme.deliver()] == ["SENT"]
    assert collector.acme.there() == {"A.csv": CONTENT}
    assert begun == ["A.csv"]


def test_killed_when_its_bytes_may_be_on_their_way(collector: Collector) -> None:
    """From then on it is a file of direct mode like any other: a person is asked, and no run writes it again."""
    collector.acme.freeze("A.csv", CONTENT)
    collector.acme.deliver()
    use_mode(collector.acme, "direct")
    with DeliveryProcess(collector.acme.place, at="upload") as run:
        run.wait_killed()
    assert [entry.outcome for entry in collector.acme.deliver()] == ["UNKNOWN"]
    assert collector.collected == []


def test_renamed_by_hand_and_picked_up_before_the_switch(collector: Collector) -> None:
    """The other remedy was taken: what is under neither name is not written a second time."""
    collector.acme.freeze("A.csv", CONTENT)
    collector.acme.deliver()
    for path in collector.acme.root.iterdir():
        path.unlink()
    use_mode(collector.acme, "direct")
    assert [entry.outcome for entry in collector.acme.deliver()] == ["INFERRED"]
    assert collector.collected == []


def test_a_server_that_renames_after_all(collector: Collector) -> None:
    """Both remedies at once: what lies there verified gets its name; no byte is written again."""
    leave_it(collector)
    collector.acme.freeze("A.csv", CONTENT)
    collector.acme.deliver()
    use_mode(collector.acme, "direct")
    collector.server.faults.rename_refused = False
    collector.server.faults.after_rename = lambda path: None
    begun = writes_begun(collector)
    assert [entry.outcome for entry in collector.acme.deliver()] == ["SENT"]
    assert collector.acme.there() == {"A.csv": CONTENT}
    assert begun == []


def test_in_modes_that_rename_it_stays_where_it_is(collector: Collector) -> None:
    """Each run asks again and writes nothing: a partner that also refuses removals would get a heap of halves."""
    collector.acme.freeze("A.csv", CONTENT)
    collector.acme.deliver()
    before = collector.acme.there()
    for _ in range(3):
        collector.acme.deliver()
    assert collector.acme.there() == before
    assert collector.acme.states() == ["RENAMING"]

"""An alert is sent when it is news, and counts as told only when somebody was reached."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mlc_dagster.alerts import Alerts, Message
from mlc_dagster.alerts.telling import Trouble, is_news, send
from mlc_dagster.settings import AlertSettings
from mlc_dagster_tests.alerts.receiver import receiving

WAITS = Trouble("file:stampli:/outbound/A.csv", "waits for its marker")
FULL = Trouble("export:7", "the disk is full")
MESSAGE = Message("two troubles", "in words")


@dataclass
class Memory:
    """What was told, kept in memory."""

    told: list[tuple[str, str, str]] = field(default_factory=list)

    def is_news(self, subject: str, cause: str) -> bool:
        return not any(each[:2] == (subject, cause) for each in self.told)

    def note(self, troubles: Sequence[tuple[str, str]], title: str) -> None:
        self.told += [(subject, cause, title) for subject, cause in troubles]


def alerts(*ports: int) -> Alerts:
    return Alerts(AlertSettings(to=[f"json://127.0.0.1:{port}" for port in ports], prefix="EU pod"), str)


def test_what_somebody_heard_is_no_news() -> None:
    """One address of two is enough: the same trouble is not told at every run."""
    memory = Memory()
    with receiving() as well, receiving(status=500) as badly:
        both = alerts(well.port, badly.port)
        assert is_news(memory, both, WAITS)
        assert len(send(memory, both, [WAITS, FULL], MESSAGE)) == 1
        assert not is_news(memory, both, WAITS)
    assert memory.told == [(*WAITS, "two troubles"), (*FULL, "two troubles")]


@pytest.mark.parametrize("addresses", [0, 1])
def test_what_nobody_heard_is_not_on_record(addresses: int) -> None:
    """No address, or none that was reached: an auditor must not read that people knew."""
    memory = Memory()
    with receiving(status=500) as badly:
        nobody = alerts(*[badly.port] * addresses)
        assert len(send(memory, nobody, [WAITS], MESSAGE)) == addresses
    assert memory.told == []
    assert is_news(memory, nobody, WAITS) == bool(addresses)


def test_without_a_ledger_everything_is_told() -> None:
    """It cannot be opened: that is the worst moment to keep quiet."""
    with receiving() as receiver:
        somebody = alerts(receiver.port)
        assert is_news(None, somebody, WAITS)
        assert send(None, somebody, [WAITS], MESSAGE) == []
    assert len(receiver.received) == 1

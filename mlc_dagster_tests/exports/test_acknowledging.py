"""A partner's folder of 997s on a real SFTP server: what is new is read once, and nothing keeps the rest from it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.alerts.messages import Refused
from mlc_dagster.exports.acknowledging import AckResult, read_acknowledgements
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.ledger import acknowledgements
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.sftp import NoSuchPath, SftpCredentials, open_session
from mlc_dagster_tests.exports.workshop import Workshop
from mlc_dagster_tests.ledger.answering import deliver, status
from mlc_dagster_tests.ledger.population import HandClock, events
from mlc_dagster_tests.servers.sshd import RealSshd
from mlc_dagster_tests.sftp.conftest import settings_for

HOUR = 3600


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    with RealSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: HandClock) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", actor="test", clock=clock)
    yield opened
    opened.close()


class Folder:
    """The partner's acknowledgement folder, and a feed that reads it."""

    def __init__(self, root: Path, sshd: RealSshd, ledger: Ledger, clock: HandClock) -> None:
        self.path = root / "acks"
        self.path.mkdir()
        self.clock = clock
        self.ledger = ledger
        self.downloads: list[str] = []
        self._sshd = sshd
        self._shop = Workshop.open(
            ledger,
            root,
            partner={"sender": "ZZ:US", "receiver": "ZZ:THEM"},
            acknowledgement={"expected_within": "24h", "directory": str(self.path), "pattern": "*.edi"},
        )

    @property
    def outbound(self) -> Outbound:
        return self._shop.outbound

    @property
    def feed(self) -> Feed:
        sftp = settings_for(self._sshd.host, self._sshd.port, self._sshd.username, self._sshd.fingerprint)
        credentials = SftpCredentials(private_key=self._sshd.private_key)
        return Feed(self._shop.settings.exports[0], self._shop.writer, lambda: open_session(sftp, credentials))

    def put(self, name: str, content: bytes, *, age: float = HOUR) -> Path:
        """A file that was written ``age`` seconds ago."""
        path = self.path / name
        path.write_bytes(content)
        moment = int(self.clock.now.timestamp() - age)
        os.utime(path, (moment, moment))
        return path

    def read(self) -> AckResult:
        return read_acknowledgements(self.outbound, self.feed)


@pytest.fixture
def folder(tmp_path: Path, sshd: RealSshd, ledger: Ledger, clock: HandClock) -> Folder:
    return Folder(tmp_path, sshd, ledger, clock)


def answer(*segments: str, sender: str = "THEM", receiver: str = "US", number: int = 1) -> bytes:
    """A 997 with these segments between ST and SE, written by hand."""
    lines = [
        f"ISA*00*          *00*          *ZZ*{sender:<15}*ZZ*{receiver:<15}*260302*0900*U*00401*{number:09}*0*T*>",
        f"GS*FA*{sender}*{receiver}*20260302*0900*{number}*X*004010",
        "ST*997*0001",
        *segments,
        f"SE*{len(segments) + 2}*0001",
        f"GE*1*{number}",
        f"IEA*1*{number:09}",
    ]
    return "".join(f"{line}~\n" for line in lines).encode()


def group(code: str, number: int = 1) -> tuple[str, str]:
    return (f"AK1*PO*{number}", f"AK9*{code}*1*1*1")


def test_an_acknowledgement_reaches_its_file(folder: Folder, ledger: Ledger) -> None:
    """From bytes on the partner's server to the status of what we sent."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    folder.put("1.edi", answer(*group("A")))
    result = folder.read()
    assert (result.files, result.accepted, result.refused, result.unmatched, result.broken) == (1, 1, [], [], [])
    assert status(ledger, file_id) == "accepted"


def test_files_stay_and_are_read_once(folder: Folder, ledger: Ledger) -> None:
    """The folder is the partner's; and a year of 997s must not be fetched at every poll."""
    deliver(ledger, 1, ["301"], group=1)
    path = folder.put("1.edi", answer(*group("A")))
    folder.read()
    # Other bytes under the same name, size and time: seen only by somebody who fetches the file.
    folder.put("1.edi", answer(*group("R")))
    again = folder.read()
    assert (again.files, again.refused, path.exists()) == (0, [], True)
    with ledger.reading() as reading:
        assert list(acknowledgements.known_files(reading, "partner")) == [str(path)]


def test_the_same_bytes_under_another_name_are_not_counted_twice(folder: Folder, ledger: Ledger) -> None:
    """Partners resend; two rejections of one order are one."""
    deliver(ledger, 1, ["301"], group=1)
    folder.put("1.edi", answer(*group("R")))
    assert len(folder.read().refused) == 1
    folder.put("2.edi", answer(*group("R")))
    again = folder.read()
    assert (again.files, again.refused) == (0, [])


def test_a_name_that_gets_other_bytes_is_read_again(folder: Folder, ledger: Ledger) -> None:
    """Some partners have one file that they write anew each day; within one second too, while it is young."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    folder.put("latest.edi", answer(*group("R")), age=1)
    folder.read()
    folder.put("latest.edi", answer(*group("A")), age=1)
    assert folder.read().accepted == 1
    assert status(ledger, file_id) == "accepted"


def test_names_outside_the_pattern_are_not_touched(folder: Folder) -> None:
    """The folder may hold the partner's orders to us as well."""
    folder.put("order.xml", b"<order/>")
    result = folder.read()
    assert (result.files, result.broken) == (0, [])


def test_a_refused_set_is_told_with_its_record(folder: Folder, ledger: Ledger) -> None:
    """Set 0002 is order 302: the buyer knows it by that."""
    deliver(ledger, 1, ["301", "302"], group=1)
    segments = (
        "AK1*PO*1", "AK2*850*0001", "AK5*A", "AK2*850*0002", "AK3*BEG*2**8", "AK4*3**7*US1", "AK5*R*5", "AK9*P*2*2*1",
    )  # fmt: skip
    folder.put("1.edi", answer(*segments))
    [refused] = folder.read().refused
    assert refused == Refused("file-1.txt", "PO group 1 set 0002", "302", "R", refused.text)
    assert "BEG at 2" in refused.text
    assert "US1" in refused.text


def test_a_broken_file_is_told_once_and_stops_no_other(folder: Folder, ledger: Ledger) -> None:
    """One half-written file must not hide the rejection behind it."""
    deliver(ledger, 1, ["301"], group=1)
    folder.put("0.edi", b"this is no X12")
    folder.put("1.edi", answer(*group("A"))[:-30])
    folder.put("2.edi", answer(*group("R")))
    first = folder.read()
    assert [path for path, _ in first.broken] == [str(folder.path / "0.edi"), str(folder.path / "1.edi")]
    assert len(first.refused) == 1
    assert folder.read().broken == []
    assert len(events(ledger, "acknowledgement.unreadable")) == 2


def test_a_broken_file_that_is_completed_is_read(folder: Folder, ledger: Ledger) -> None:
    """It was being written when we looked."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    whole = answer(*group("A"))
    folder.put("1.edi", whole[:-30])
    assert len(folder.read().broken) == 1
    folder.put("1.edi", whole)
    assert folder.read().accepted == 1
    assert status(ledger, file_id) == "accepted"


def test_an_answer_between_others_is_not_ours(folder: Folder, ledger: Ledger) -> None:
    """A folder shared with the partner's other customers has the same small numbers as ours."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    folder.put("1.edi", answer(*group("R"), receiver="SOMEBODY"))
    result = folder.read()
    assert "does not come from this feed's partner to us" in result.unmatched[0]
    assert result.refused == []
    assert status(ledger, file_id) == "waiting"


def test_an_answer_to_a_number_that_was_never_sent_is_told(folder: Folder) -> None:
    """Somebody else sends in our name, or the ledger was restored from an old backup."""
    folder.put("1.edi", answer(*group("A", 99)))
    [told] = folder.read().unmatched
    assert told.endswith("answers PO 99 with A; nothing was sent to this partner under that number")


def test_a_refused_interchange_is_told(folder: Folder, ledger: Ledger) -> None:
    """A TA1 is all that comes when the envelope itself was refused."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    ta1 = (
        "ISA*00*          *00*          *ZZ*THEM           *ZZ*US             *260302*0900*U*00401*000000007*0*T*>~"
        "TA1*000000001*260302*0900*R*006~IEA*0*000000007~"
    )
    folder.put("1.edi", ta1.encode())
    [refused] = folder.read().refused
    assert (refused.what, refused.code) == ("TA1 interchange 1", "R")
    assert status(ledger, file_id) == "rejected"


def test_silence_is_told_once(folder: Folder, ledger: Ledger, clock: HandClock) -> None:
    """Overdue files fail the check for as long as they are; people hear of each once."""
    deliver(ledger, 1, ["301"], group=1)
    folder.read()
    clock.advance(25 * HOUR)
    first, second = folder.read(), folder.read()
    assert [name for name, _ in first.newly_overdue] == ["file-1.txt"]
    assert second.newly_overdue == []
    assert [row["name"] for row in second.overdue] == ["file-1.txt"]


def test_a_folder_that_is_not_there_still_tells_what_is_overdue(
    folder: Folder, ledger: Ledger, clock: HandClock
) -> None:
    """A folder that was never made is the likeliest reason for silence."""
    deliver(ledger, 1, ["301"], group=1)
    folder.path.rmdir()
    with pytest.raises(NoSuchPath):
        folder.read()
    clock.advance(25 * HOUR)
    with pytest.raises(NoSuchPath):
        folder.read()
    assert len(events(ledger, "acknowledgement.overdue")) == 1

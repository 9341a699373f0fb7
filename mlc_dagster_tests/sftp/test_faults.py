"""What the connector makes of servers and partners that misbehave."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from mlc_dagster.sftp import (
    Download,
    DownloadRequest,
    FileChanged,
    FileTooLarge,
    FileVanished,
    PollDeadlineExceeded,
    SftpError,
    SftpTimeout,
    Unreachable,
)
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.sftp.conftest import Served

NO_LIMIT = 1 << 30


def leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file()]


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    directory = tmp_path / "landing"
    directory.mkdir()
    return directory


def test_a_frozen_server_hits_the_channel_timeout(faulty: FaultySftp, faulty_served: Served) -> None:
    """Without a limit paramiko waits for ever and the poll with it."""
    with faulty_served.session(channel_timeout=0.5) as session:
        faulty.faults.frozen.set()
        start = time.monotonic()
        with pytest.raises(SftpTimeout) as caught:
            session.list("/")
    assert caught.value.transient
    assert time.monotonic() - start < 5


def test_a_server_that_freezes_while_a_file_is_read(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """The same limit holds inside a download, and no half file stays."""
    (faulty.root / "f").write_bytes(b"x" * 200_000)
    faulty.faults.before_read = lambda path, offset: faulty.faults.frozen.set() if offset else None
    with faulty_served.session(channel_timeout=0.5) as session, pytest.raises(SftpTimeout):
        session.download("/f", landing / "f", expected_size=200_000, max_bytes=NO_LIMIT)
    assert leftovers(landing) == []


def test_a_trickling_server_hits_the_deadline(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """Each answer comes in time, the whole never ends: poll_deadline closes the connection."""
    (faulty.root / "f").write_bytes(b"x" * 32_768 * 200)
    faulty.faults.latency = 0.05
    start = time.monotonic()
    with (
        faulty_served.session(poll_deadline=1, prefetch="off") as session,
        pytest.raises(PollDeadlineExceeded, match="1 s") as caught,
    ):
        session.download("/f", landing / "f", expected_size=32_768 * 200, max_bytes=NO_LIMIT)
    assert caught.value.transient
    assert time.monotonic() - start < 5
    assert leftovers(landing) == []


def test_after_the_deadline_everything_says_so(faulty: FaultySftp, faulty_served: Served) -> None:
    """The first error names the cause, and so do the later ones: nothing looks like a network fault."""
    with faulty_served.session(poll_deadline=0.5, channel_timeout=30) as session:
        faulty.faults.frozen.set()
        for _ in range(2):
            with pytest.raises(PollDeadlineExceeded):
                session.list("/")


def test_a_cut_connection_is_unreachable(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """Cut in the middle of a file: transient, nothing on disk."""
    (faulty.root / "f").write_bytes(b"x" * 200_000)
    faulty.faults.drop_on_read = 65_536
    with faulty_served.session() as session, pytest.raises(Unreachable) as caught:
        session.download("/f", landing / "f", expected_size=200_000, max_bytes=NO_LIMIT)
    assert caught.value.transient
    assert leftovers(landing) == []


@pytest.mark.parametrize("prefetch", ["auto", "off"])
def test_a_file_that_grows_while_it_is_read(
    faulty: FaultySftp, faulty_served: Served, landing: Path, prefetch: str
) -> None:
    """The bytes listed all came, but the file is longer by now: somebody is still writing."""
    (faulty.root / "f").write_bytes(b"x" * 100_000)

    def grow(path: Path, offset: int) -> None:
        with path.open("ab") as growing:
            growing.write(b"more")

    faulty.faults.before_read = grow
    with faulty_served.session(prefetch=prefetch) as session, pytest.raises(FileChanged) as caught:
        session.download("/f", landing / "f", expected_size=100_000, max_bytes=NO_LIMIT)
    assert caught.value.transient
    assert leftovers(landing) == []


def test_a_file_that_shrinks_while_it_is_read(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """An upload that starts over truncates first; what came is half of the old and half of the new."""
    (faulty.root / "f").write_bytes(b"x" * 300_000)
    faulty.faults.before_read = lambda path, offset: os.truncate(path, 50_000)
    with faulty_served.session() as session, pytest.raises(FileChanged):
        session.download("/f", landing / "f", expected_size=300_000, max_bytes=NO_LIMIT)
    assert leftovers(landing) == []


def test_a_file_that_vanishes_while_it_is_read(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """An open file outlives its name; without the name nobody can prove that it was whole."""
    (faulty.root / "f").write_bytes(b"x" * 100)
    faulty.faults.before_read = lambda path, offset: path.unlink(missing_ok=True)
    with faulty_served.session() as session, pytest.raises(FileVanished):
        session.download("/f", landing / "f", expected_size=100, max_bytes=NO_LIMIT)
    assert leftovers(landing) == []


def test_a_file_that_is_replaced_while_it_is_read(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """Same name, same length, other content: the time tells."""
    (faulty.root / "f").write_bytes(b"old")
    os.utime(faulty.root / "f", (1_700_000_000, 1_700_000_000))

    def replace(path: Path) -> None:
        (faulty.root / "new").write_bytes(b"new")
        os.utime(faulty.root / "new", (1_700_000_060, 1_700_000_060))
        (faulty.root / "new").replace(path)

    with faulty_served.session() as session:
        (found,) = session.list("/").files
        faulty.faults.before_stat = replace
        with pytest.raises(FileChanged, match="1700000060"):
            session.download(found.path, landing / "f", expected_size=3, max_bytes=NO_LIMIT, expected_mtime=found.mtime)
    assert leftovers(landing) == []


def test_a_file_that_became_a_link_is_changed(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """A link of the same size in the place of a listed file is not that file."""
    (faulty.root / "f").write_bytes(b"123")

    def swap(path: Path) -> None:
        path.unlink()
        path.symlink_to("abc")

    faulty.faults.before_stat = swap
    with faulty_served.session() as session, pytest.raises(FileChanged, match="no ordinary file"):
        session.download("/f", landing / "f", expected_size=3, max_bytes=NO_LIMIT)


def test_an_empty_file_that_has_content_is_changed(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """Some stores list a size of 0 until the upload is committed."""
    (faulty.root / "f").write_bytes(b"123")
    with faulty_served.session() as session, pytest.raises(FileChanged):
        session.download("/f", landing / "f", expected_size=0, max_bytes=NO_LIMIT)


def test_missing_sizes_do_not_stop_a_download(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """A server that never tells sizes: read to the end, which is all that can be checked."""
    content = os.urandom(100_000)
    (faulty.root / "f").write_bytes(content)
    faulty.faults.no_sizes = True
    with faulty_served.session() as session:
        (found,) = session.list("/").files
        download = session.download(found.path, landing / "f", expected_size=found.size, max_bytes=NO_LIMIT)
    assert found.size is None
    assert download == Download(100_000, hashlib.sha256(content).hexdigest())


def test_missing_sizes_do_not_lift_the_limit(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """max_bytes holds while reading as well, where no size announced itself."""
    (faulty.root / "f").write_bytes(b"x" * 100_000)
    faulty.faults.no_sizes = True
    with faulty_served.session() as session, pytest.raises(FileTooLarge):
        session.download("/f", landing / "f", expected_size=None, max_bytes=99_999)
    assert leftovers(landing) == []


def test_missing_types_count_as_files(faulty: FaultySftp, faulty_served: Served) -> None:
    """Servers on top of object stores tell no type; their files must not be ignored."""
    (faulty.root / "f").touch()
    faulty.faults.no_types = True
    with faulty_served.session() as session:
        assert [entry.name for entry in session.list("/").files] == ["f"]


def test_a_failing_close_does_not_spoil_a_read(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """CLOSE commits writes; after a read its failure says nothing about the bytes."""
    (faulty.root / "f").write_bytes(b"123")
    faulty.faults.close_fails = True
    with faulty_served.session() as session:
        assert session.download("/f", landing / "f", expected_size=3, max_bytes=NO_LIMIT).size == 3


def test_one_name_that_is_not_utf8_loses_no_other(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """A Windows tool wrote a u-umlaut as latin-1: it is listed, readable, and so is everything beside it."""
    (faulty.root / "a.csv").touch()
    (faulty.root / os.fsdecode(b"M\xfcller.csv")).write_bytes(b"123")
    with faulty_served.session() as session:
        files = session.list("/").files
        odd = next(entry for entry in files if entry.name != "a.csv")
        session.download(odd.path, landing / "f", expected_size=3, max_bytes=NO_LIMIT)
    assert len(files) == 2
    assert odd.name.encode("utf-8", "surrogateescape") == b"M\xfcller.csv"
    assert odd.printable == "/M\\udcfcller.csv"
    assert (landing / "f").read_bytes() == b"123"


def test_names_that_lead_elsewhere_are_no_files(faulty: FaultySftp, faulty_served: Served) -> None:
    """A hostile server's names must not become paths, here or there."""
    (faulty.root / "a.csv").touch()
    faulty.faults.extra_names = (b"../up.csv", b"/etc/passwd", b"sub/a.csv", b"nul\0.csv", b"")
    with faulty_served.session() as session:
        listing = session.list("/")
    assert [entry.name for entry in listing.files] == ["a.csv"]
    assert {entry.name for entry in listing.others} == {"../up.csv", "/etc/passwd", "sub/a.csv", "nul\0.csv", ""}


def test_a_doubled_name_is_one_file(faulty: FaultySftp, faulty_served: Served) -> None:
    """A folder that changes while it is read may show an entry twice (paramiko #826)."""
    for name in ("a", "b"):
        (faulty.root / name).touch()
    faulty.faults.doubled_names = True
    with faulty_served.session() as session:
        assert [entry.name for entry in session.list("/").files] == ["a", "b"]


def test_a_server_that_bears_one_request_at_a_time(faulty: FaultySftp, faulty_served: Served) -> None:
    """A listing that fails on the way is asked for again with one request at a time, and so for the whole session."""
    for number in range(250):
        (faulty.root / f"{number:03}").touch()
    faulty.faults.fail_listing_after = 150
    with faulty_served.session() as session:
        listing = session.list("/")
        assert session._most_in_flight == 1
    assert len(listing.files) == 250


def test_a_listing_that_stalls_is_given_up(faulty: FaultySftp, faulty_served: Served) -> None:
    """A hundred names and then silence, also when asked singly: a time-out, never a short listing."""
    for number in range(250):
        (faulty.root / f"{number:03}").touch()
    faulty.faults.freeze_after_names = 150
    with faulty_served.session(channel_timeout=0.5) as session, pytest.raises(SftpTimeout):
        session.list("/")


def test_few_sessions_per_connection_are_enough(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """A server that allows one channel gets all files read over that one."""
    faulty.faults.refuse_sessions_after = 1
    for number in range(40):
        (faulty.root / f"{number}").write_bytes(b"123")
    requests = [DownloadRequest(f"/{number}", landing / f"{number}", 3, NO_LIMIT) for number in range(40)]
    with faulty_served.session() as session:
        answers = session.download_many(requests)
    assert [type(answer) for answer in answers] == [Download] * 40


def test_many_downloads_use_several_channels(faulty: FaultySftp, faulty_served: Served, landing: Path) -> None:
    """At some distance to the server the waiting for each file adds up; eight at once wait together."""
    reading: set[int] = set()
    together = threading.Event()

    def note(path: Path, offset: int) -> None:
        reading.add(int(path.name))
        if len(reading) >= 8:
            together.set()

    faulty.faults.before_read = note
    faulty.faults.latency = 0.02
    for number in range(24):
        (faulty.root / f"{number}").write_bytes(b"123")
    requests = [DownloadRequest(f"/{number}", landing / f"{number}", 3, NO_LIMIT) for number in range(24)]
    with faulty_served.session() as session:
        start = time.monotonic()
        answers = session.download_many(requests)
        seconds = time.monotonic() - start
    assert [type(answer) for answer in answers] == [Download] * 24
    assert together.is_set()
    # One after the other, four answers a file cost 24 * 4 * 0.02 s.
    assert seconds < 24 * 4 * 0.02


def test_a_connection_lost_midway_answers_for_every_file(
    faulty: FaultySftp, faulty_served: Served, landing: Path
) -> None:
    """Each request gets an answer; those before the cut are kept, those after it can be asked for again."""
    for number in range(40):
        (faulty.root / f"{number}").write_bytes(b"x" * (10 if number < 20 else 40_000))
    faulty.faults.drop_on_read = 32_768
    requests = [
        DownloadRequest(f"/{number}", landing / f"{number}", 10 if number < 20 else 40_000, NO_LIMIT)
        for number in range(40)
    ]
    with faulty_served.session() as session:
        answers = session.download_many(requests)
    failures = [answer for answer in answers if isinstance(answer, SftpError)]
    assert len(answers) == 40
    assert failures
    assert all(failure.transient for failure in failures)
    assert len(leftovers(landing)) == 40 - len(failures)


def test_listing_ten_thousand_opens_none(faulty: FaultySftp, faulty_served: Served) -> None:
    """A folder of known files costs one listing and not a single open."""
    for number in range(10_000):
        (faulty.root / f"{number:05}").touch()
    with faulty_served.session() as session:
        listing = session.list("/")
    assert len(listing.files) == 10_000
    assert faulty.opened == []

"""Uploads: whole on the server, or an error; judged by what lies there."""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_dagster.sftp import (
    LocalFileError,
    NoSuchPath,
    PermissionRefused,
    PollDeadlineExceeded,
    Progress,
    ServerRefused,
    SftpTimeout,
    TargetExists,
    Unreachable,
    UnsafeName,
    Uploaded,
)
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.sftp.conftest import Served

SIZES = [0, 1, 32_768, 100_000, 10_000_000]


@pytest.fixture
def source(tmp_path: Path) -> Callable[[int], Path]:
    def make(size: int) -> Path:
        path = tmp_path / f"source-{size}"
        path.write_bytes(random.Random(size).randbytes(size))
        return path

    return make


@pytest.mark.parametrize("size", SIZES)
def test_bytes_arrive_whole(served: Served, source: Callable[[int], Path], size: int) -> None:
    """Around the block size and far beyond it, what lies on the server is what was given."""
    local = source(size)
    with served.session() as session:
        uploaded = session.upload(local, served.path("out.csv"))
        read_back = session.sha256(served.path("out.csv"))
    content = local.read_bytes()
    assert uploaded == Uploaded(served.path("out.csv"), size, hashlib.sha256(content).hexdigest())
    assert read_back == uploaded.sha256
    assert (served.root / "out.csv").read_bytes() == content


def test_an_existing_file_is_never_overwritten(served: Served, source: Callable[[int], Path]) -> None:
    """OpenSSH says no more than "Failure" to an exclusive create; the caller must know that the name is taken."""
    (served.root / "out.csv").write_bytes(b"the partner's")
    progress = Progress()
    with served.session() as session, pytest.raises(TargetExists):
        session.upload(source(100_000), served.path("out.csv"), progress=progress)
    assert (served.root / "out.csv").read_bytes() == b"the partner's"
    assert not progress.created


def test_a_missing_folder_is_named(served: Served, source: Callable[[int], Path]) -> None:
    """A wrong directory is a permanent fault; no folder is made."""
    with served.session() as session, pytest.raises(NoSuchPath) as caught:
        session.upload(source(1), served.path("absent/out.csv"))
    assert not caught.value.transient
    assert not (served.root / "absent").exists()


def test_the_session_goes_on_after_a_refusal(served: Served, source: Callable[[int], Path]) -> None:
    """One taken name must not cost the connection."""
    (served.root / "taken").touch()
    with served.session() as session:
        with pytest.raises(TargetExists):
            session.upload(source(1), served.path("taken"))
        session.upload(source(100_000), served.path("free"))
    assert (served.root / "free").stat().st_size == 100_000


def test_no_attributes_are_set(served: Served, source: Callable[[int], Path]) -> None:
    """Banks and object stores refuse chmod and utime; the file's time is the server's own."""
    local = source(1)
    local.chmod(0o400)
    before = time.time()
    with served.session() as session:
        session.upload(local, served.path("out.csv"))
    assert (served.root / "out.csv").stat().st_mtime > before - 5
    assert (served.root / "out.csv").stat().st_mode & 0o200


def test_an_unsafe_name_is_refused(served: Served, source: Callable[[int], Path]) -> None:
    """A name from a template must not lead out of the folder."""
    with served.session() as session, pytest.raises(UnsafeName):
        session.upload(source(1), served.path(".."))


def test_our_own_missing_file_is_our_fault(served: Served, tmp_path: Path) -> None:
    """It must not read as if the partner's server had no such file."""
    with served.session() as session, pytest.raises(LocalFileError, match="cannot be read"):
        session.upload(tmp_path / "absent", served.path("out.csv"))
    assert not (served.root / "out.csv").exists()


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_failing_write_comes_back(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], size: int
) -> None:
    """A full disk: paramiko's put without its size check reports success."""
    faulty.faults.fail_write_from = 0
    with faulty_served.session() as session, pytest.raises(ServerRefused, match="no space left") as caught:
        session.upload(source(size), "/out.csv")
    assert caught.value.transient


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_failing_last_write_comes_back(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], size: int
) -> None:
    """The answers to the last writes are the ones that paramiko drops."""
    faulty.faults.fail_write_from = (size - 1) // 32_768 * 32_768
    with faulty_served.session() as session, pytest.raises(ServerRefused, match="no space left"):
        session.upload(source(size), "/out.csv")


@pytest.mark.parametrize("size", SIZES)
def test_a_failing_close_comes_back(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], size: int
) -> None:
    """An object store says at CLOSE that it could not commit."""
    faulty.faults.close_fails = True
    with faulty_served.session() as session, pytest.raises(ServerRefused, match="did not commit"):
        session.upload(source(size), "/out.csv")


def test_after_a_failed_write_the_session_goes_on(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path]
) -> None:
    """Answers to earlier writes are still under way: a fresh channel keeps them away from the next request."""
    faulty.faults.fail_write_from = 50_000
    with faulty_served.session() as session:
        with pytest.raises(ServerRefused):
            session.upload(source(10_000_000), "/first.csv")
        faulty.faults.fail_write_from = None
        session.upload(source(100_000), "/second.csv")
        found = session.stat("/second.csv")
    assert found is not None
    assert found.size == 100_000


@pytest.mark.parametrize("offset", [0, 65_536])
def test_a_dropped_connection_is_unreachable(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], offset: int
) -> None:
    """Wherever the line breaks, the fault may pass; and the caller knows that the file had been created."""
    faulty.faults.drop_on_write = offset
    progress = Progress()
    with faulty_served.session() as session, pytest.raises(Unreachable) as caught:
        session.upload(source(100_000), "/out.csv", progress=progress)
    assert caught.value.transient
    assert progress.created


@pytest.mark.parametrize("kind", ["open", "close"])
def test_a_lost_answer_is_no_success(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], kind: str
) -> None:
    """The server did as asked, and nobody heard: the caller must look before it does anything else."""
    faulty.faults.lose_answer_to = kind
    progress = Progress()
    with faulty_served.session() as session, pytest.raises(Unreachable):
        session.upload(source(100), "/out.csv", progress=progress)
    assert (progress.asked, progress.created) == (True, kind == "close")
    assert (faulty.root / "out.csv").exists()


@pytest.mark.parametrize("size", [100, 10_000_000])
def test_a_server_that_freezes_hits_the_channel_timeout(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path], size: int
) -> None:
    """Small: the answer never comes. Large: the window fills and nothing can be sent any more."""
    faulty.faults.before_write = lambda path, offset: faulty.faults.frozen.set()
    start = time.monotonic()
    with faulty_served.session(channel_timeout=0.5) as session, pytest.raises(SftpTimeout) as caught:
        session.upload(source(size), "/out.csv")
    assert caught.value.transient
    assert time.monotonic() - start < 10


def test_a_trickling_server_hits_the_deadline(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path]
) -> None:
    """Each answer comes in time, the whole never ends."""
    faulty.faults.before_write = lambda path, offset: time.sleep(0.02)
    start = time.monotonic()
    with faulty_served.session(poll_deadline=1) as session, pytest.raises(PollDeadlineExceeded):
        session.upload(source(10_000_000), "/out.csv")
    assert time.monotonic() - start < 10


def test_a_refused_write_keeps_its_type(
    faulty: FaultySftp, faulty_served: Served, source: Callable[[int], Path]
) -> None:
    """Permission is a permanent fault, also when the server notices late."""
    faulty.faults.close_is_forbidden = True
    with faulty_served.session() as session:
        with pytest.raises(PermissionRefused):
            session.upload(source(100_000), "/out.csv")
        faulty.faults.close_is_forbidden = False
        session.upload(source(1), "/other.csv")
    assert (faulty.root / "other.csv").stat().st_size == 1

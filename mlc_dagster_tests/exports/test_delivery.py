"""Deliveries onto OpenSSH: what lies on the partner's server afterwards, and what is known about it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.delivery import Outcome
from mlc_dagster.exports.faults import NameTaken
from mlc_dagster.sftp import NoSuchPath, SftpCredentials
from mlc_dagster_tests.servers.partner import Partner, partner
from mlc_dagster_tests.servers.sshd import RealSshd
from mlc_dagster_tests.sftp.conftest import settings_for


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    with RealSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def acme(sshd: RealSshd, tmp_path: Path, ledger_url: str) -> Iterator[Partner]:
    root = tmp_path / "inbound"
    sftp = settings_for(sshd.host, sshd.port, sshd.username, sshd.fingerprint)
    sftp = sftp.model_copy(update={"directory": str(root)})
    with partner(tmp_path, root, sftp, SftpCredentials(private_key=sshd.private_key), ledger_url) as found:
        yield found


def test_files_arrive_with_their_bytes_and_nothing_else(acme: Partner, sshd: RealSshd) -> None:
    """The partner sees two files, no temporary one; the ledger has the server's own word for each."""
    first, second = acme.freeze("A.csv", b"x" * 100_000), acme.freeze("B.csv", b"")
    delivered = acme.deliver()
    assert [(entry.name, entry.outcome, entry.attempts) for entry in delivered] == [
        ("A.csv", Outcome.SENT, 1),
        ("B.csv", Outcome.SENT, 1),
    ]
    assert acme.there() == {"A.csv": b"x" * 100_000, "B.csv": b""}
    row = acme.file(first)
    stat = (acme.root / "A.csv").stat()
    assert (row["state"], row["server_size"], row["server_mtime"]) == ("SENT", 100_000, int(stat.st_mtime))
    assert (row["verified_by"], row["server_key"]) == ("sha256", sshd.fingerprint)
    assert acme.file(second)["state"] == "SENT"


def test_delivering_again_does_nothing(acme: Partner) -> None:
    """Every run begins with what is pending; what is sent is not."""
    acme.freeze("A.csv")
    acme.deliver()
    (acme.root / "A.csv").unlink()
    assert acme.deliver() == []
    assert acme.there() == {}


def test_the_outbox_shows_what_waits(acme: Partner) -> None:
    """While it waits, a person finds the file under its own name; afterwards it is gone from there."""
    acme.freeze("A.csv", beside=("manifest",))
    seen: list[dict[str, bytes]] = []
    acme.deliver(before=lambda step: seen.append(acme.waiting()))
    assert seen[0] == acme.contents
    assert acme.waiting() == {}


@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_companions_come_after_the_file(acme: Partner, mode: str) -> None:
    """A trigger that is there before its file makes the partner read half of it."""
    acme.upload(mode=mode)
    key = acme.freeze("A.csv", beside=("manifest", "trigger"))
    first_seen: list[str] = []

    def watch(step: str) -> None:
        first_seen.extend(name for name in acme.there() if not name.startswith(".") and name not in first_seen)

    (delivered,) = acme.deliver(before=watch)
    assert delivered.outcome is Outcome.SENT
    assert first_seen == ["A.csv", "A.csv.manifest.json", "A.csv.trg"]
    assert acme.there() == acme.contents
    row = acme.file(key)
    assert [companion["step"] for companion in row["companions"]] == ["SENT", "SENT"]
    assert (row["state"], row["verified_by"]) == ("SENT", "sha256")


def test_another_folder_first(acme: Partner, tmp_path: Path) -> None:
    """Mode tempdir: nothing unfinished is ever seen in the partner's folder."""
    (tmp_path / "incoming").mkdir()
    acme.upload(mode="tempdir", temp_directory=str(tmp_path / "incoming"))
    acme.freeze("A.csv")
    seen: set[str] = set()
    acme.deliver(before=lambda step: seen.update(acme.there()))
    assert seen == {"A.csv"}
    assert acme.there() == acme.contents
    assert acme.there(tmp_path / "incoming") == {}


@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_a_file_uploaded_by_hand_counts_as_sent(acme: Partner, mode: str) -> None:
    """A person fetched it from the outbox while the run could not: it is not sent a second time."""
    acme.upload(mode=mode)
    key = acme.freeze("A.csv", b"same")
    (acme.root / "A.csv").write_bytes(b"same")
    os.utime(acme.root / "A.csv", (1_700_000_000, 1_700_000_000))
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.SENT
    assert "already" in delivered.text
    assert (acme.root / "A.csv").stat().st_mtime == 1_700_000_000
    assert acme.file(key)["state"] == "SENT"


@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_other_bytes_under_the_name_are_never_overwritten(acme: Partner, mode: str) -> None:
    """Same size, other bytes: only the hash tells. The files after it wait."""
    acme.upload(mode=mode, retry_for=300)
    acme.freeze("A.csv", b"ours")
    acme.freeze("B.csv")
    (acme.root / "A.csv").write_bytes(b"them")
    first, second = acme.deliver()
    assert (first.outcome, second.outcome) == (Outcome.STOPPED, Outcome.WAITING)
    assert first.stopped is not None
    assert isinstance(first.stopped.cause, NameTaken)
    assert acme.there() == {"A.csv": b"them"}
    assert acme.slept == []


@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_a_missing_folder_stops_at_once(acme: Partner, mode: str) -> None:
    """No folder is made, nothing is tried again, and the file goes when the folder is there."""
    acme.upload(mode=mode, retry_for=300)
    key = acme.freeze("A.csv", b"content")
    acme.root.rmdir()
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.STOPPED
    assert delivered.stopped is not None
    assert isinstance(delivered.stopped.cause, NoSuchPath)
    assert not delivered.stopped.transient
    assert (acme.slept, acme.root.exists()) == ([], False)
    assert acme.file(key)["state"] == "PENDING"
    assert acme.waiting() == {"A.csv": b"content"}
    acme.root.mkdir()
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.SENT]
    assert acme.there() == {"A.csv": b"content"}


def test_damaged_bytes_are_not_sent(acme: Partner) -> None:
    """The archive is what was frozen; when it is not, nothing goes."""
    key = acme.freeze("A.csv", b"content")
    place = acme.outbound.archive.path(acme.file(key)["sha256"])
    place.chmod(0o600)
    place.write_bytes(b"other!!")
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.STOPPED
    assert "restore the archive" in delivered.text
    assert acme.there() == {}


def test_a_lost_lease_sends_nothing(acme: Partner) -> None:
    """Another run has the feed: it delivers, and this one leaves no trace in the ledger."""
    key = acme.freeze("A.csv")
    (delivered,) = acme.deliver(still_ours=lambda: False)
    assert (delivered.outcome, delivered.alert) == (Outcome.STOPPED, False)
    assert acme.there() == {}
    assert (acme.file(key)["state"], acme.file(key)["attempts"]) == ("PENDING", 0)


def test_large_files_are_checked_by_size(acme: Partner) -> None:
    """Above verify_at_most reading back costs more than it tells."""
    acme.upload(verify_at_most=10)
    key = acme.freeze("A.csv", b"x" * 11)
    acme.deliver()
    assert acme.file(key)["verified_by"] == "size"

"""Deliveries while server, line or partner misbehave: tried again or not, once on the server in any case."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.delivery import Outcome
from mlc_dagster.exports.faults import BytesDiffer, OutcomeUnknown, RenameRefused
from mlc_dagster.sftp import HostKeyRejected, LoginRefused, PermissionRefused, SftpCredentials, Unreachable
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.forwarder import Forwarder
from mlc_dagster_tests.servers.partner import Partner, partner
from mlc_dagster_tests.sftp.conftest import settings_for

CONTENT = bytes(range(256)) * 500
"""Four writes."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultySftp]:
    with FaultySftp(tmp_path / "served") as running:
        yield running


@pytest.fixture
def line(server: FaultySftp) -> Iterator[Forwarder]:
    with Forwarder(server.port) as forwarder:
        yield forwarder


@pytest.fixture
def acme(server: FaultySftp, line: Forwarder, tmp_path: Path) -> Iterator[Partner]:
    (server.root / "in").mkdir()
    sftp = settings_for(server.host, line.port, server.username, server.fingerprint)
    sftp = sftp.model_copy(update={"directory": "/in"})
    with partner(tmp_path, server.root / "in", sftp, SftpCredentials(password=server.password)) as found:
        found.upload(retry_for=300)
        yield found


def only_cause(acme: Partner) -> Exception:
    """Why the one pending file stopped."""
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.STOPPED
    assert delivered.stopped is not None
    return delivered.stopped.cause


def test_transient_faults_are_tried_again(server: FaultySftp, acme: Partner) -> None:
    """Twice a full disk, then room: one file, pauses that double, no half file left behind."""
    acme.freeze("A.csv", CONTENT)
    server.faults.fail_write_from = 32_768
    seen: list[int] = []

    def watch(step: str) -> None:
        if step == "look":
            seen.append(len(acme.there()))
            if len(seen) == 3:
                server.faults.fail_write_from = None

    (delivered,) = acme.deliver(before=watch)
    assert (delivered.outcome, delivered.attempts) == (Outcome.SENT, 3)
    assert acme.slept == [0.5 * 2, 0.5 * 4]
    assert seen == [0, 0, 0]
    assert acme.there() == {"A.csv": CONTENT}


def test_it_gives_up_after_the_time_for_trying(line: Forwarder, acme: Partner) -> None:
    """The server is down: about five minutes, then the file waits with its bytes, and nothing is marked as sent."""
    key = acme.freeze("A.csv", CONTENT)
    acme.freeze("B.csv")
    line.refuse()
    first, second = acme.deliver()
    assert (first.outcome, second.outcome) == (Outcome.STOPPED, Outcome.WAITING)
    assert first.stopped is not None
    assert isinstance(first.stopped.cause, Unreachable)
    assert first.stopped.transient
    assert 240 <= sum(acme.slept) <= 300
    assert max(acme.slept) <= 60
    assert acme.states() == ["PENDING", "PENDING"]
    assert acme.waiting() == acme.contents
    assert str(acme.outbound.outbox) in first.text
    assert str(acme.file(key)["sha256"]) in first.text
    line.accept()
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.SENT, Outcome.SENT]
    assert acme.there() == acme.contents


def test_a_failing_file_holds_back_the_next(server: FaultySftp, acme: Partner) -> None:
    """First in first out: a later version must not reach the partner before an earlier one."""
    acme.freeze("A.csv", CONTENT)
    acme.freeze("B.csv", b"small")
    server.faults.fail_write_from = 32_768
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.STOPPED, Outcome.WAITING]
    assert acme.there() == {}
    server.faults.fail_write_from = None
    acme.deliver()
    assert acme.there() == {"A.csv": CONTENT, "B.csv": b"small"}


def test_a_wrong_password_is_tried_once(server: FaultySftp, acme: Partner, tmp_path: Path) -> None:
    """Repeated bad logins lock a bank's account."""
    wrong = SftpCredentials(password="wrong")
    with partner(tmp_path / "other", acme.root, acme.place.sftp, wrong, f"sqlite:///{tmp_path / 'l2'}") as found:
        found.upload(retry_for=300)
        found.place.folder.mkdir(exist_ok=True)
        found.freeze("A.csv")
        assert isinstance(only_cause(found), LoginRefused)
        assert (found.slept, found.there()) == ([], {})
    assert len(server.logins) == 1


def test_a_changed_host_key_stops_at_once(server: FaultySftp, acme: Partner) -> None:
    """Somebody else may be answering: no credential, no byte."""
    acme.freeze("A.csv")
    acme.account(host_key="SHA256:" + "A" * 43)
    assert isinstance(only_cause(acme), HostKeyRejected)
    assert (server.logins, acme.slept, acme.there()) == ([], [], {})


def test_a_refused_right_stops_at_once(server: FaultySftp, acme: Partner) -> None:
    """Repeating does not give a right; and the half that lies there has a name that nobody reads."""
    acme.freeze("A.csv")
    server.faults.close_is_forbidden = True
    assert isinstance(only_cause(acme), PermissionRefused)
    assert acme.slept == []
    assert "A.csv" not in acme.there()
    server.faults.close_is_forbidden = False
    acme.deliver()
    assert acme.there() == acme.contents


def test_a_server_that_stores_other_bytes_is_found_out(server: FaultySftp, acme: Partner) -> None:
    """Size alone would not tell. The bad copy never gets the file's name."""
    acme.freeze("A.csv", b"0123456789")
    stored: list[str] = []

    def spoil(path: Path) -> None:
        stored.append(path.name)
        if len(stored) == 1:
            path.write_bytes(b"0123456788")

    server.faults.after_close = spoil
    (delivered,) = acme.deliver()
    assert (delivered.outcome, delivered.attempts) == (Outcome.SENT, 2)
    assert len(set(stored)) == 2
    assert acme.there() == {"A.csv": b"0123456789"}


def test_a_server_that_cuts_files_off_never_shows_one(server: FaultySftp, acme: Partner) -> None:
    """Every attempt comes out short: the partner sees nothing, the text names both sizes."""
    acme.upload(verify="size")
    acme.freeze("A.csv", b"0123456789")
    server.faults.after_close = lambda path: path.write_bytes(b"01234")
    cause = only_cause(acme)
    assert isinstance(cause, BytesDiffer)
    assert "10 bytes" in str(cause)
    assert "5 bytes" in str(cause)
    assert acme.there() == {}


def test_a_server_that_tells_no_size(server: FaultySftp, acme: Partner) -> None:
    """Object stores may leave it out; the hash still proves the bytes."""
    server.faults.no_sizes = True
    acme.upload(verify="size")
    first = acme.freeze("A.csv")
    acme.deliver()
    assert acme.file(first)["verified_by"] == "none"
    assert acme.there() == acme.contents


@pytest.mark.parametrize("kind", ["open", "close", "rename"])
def test_a_lost_answer_leads_to_one_file(server: FaultySftp, acme: Partner, kind: str) -> None:
    """The server did as asked and nobody heard: looked at, then gone on from there."""
    acme.freeze("A.csv", CONTENT)
    server.faults.lose_answer_to = kind
    (delivered,) = acme.deliver()
    assert (delivered.outcome, delivered.attempts) == (Outcome.SENT, 2)
    assert acme.there() == {"A.csv": CONTENT}


def test_the_line_breaks_in_the_middle(server: FaultySftp, acme: Partner) -> None:
    """The half file has a temporary name, and the next attempt clears it away."""
    acme.freeze("A.csv", CONTENT)

    server.faults.drop_on_write = 65_536

    def mend(step: str) -> None:
        if step == "remove stale":
            server.faults.drop_on_write = None

    (delivered,) = acme.deliver(before=mend)
    assert (delivered.outcome, delivered.attempts) == (Outcome.SENT, 2)
    assert acme.there() == {"A.csv": CONTENT}


def test_a_server_that_does_not_rename_says_so(server: FaultySftp, acme: Partner) -> None:
    """EDI mailboxes refuse it: stopped at once with the remedy, and delivered once when it is allowed."""
    acme.freeze("A.csv", CONTENT)
    server.faults.rename_refused = True
    cause = only_cause(acme)
    assert isinstance(cause, RenameRefused)
    assert "direct" in str(cause)
    assert acme.slept == []
    assert "A.csv" not in acme.there()
    server.faults.rename_refused = False
    opened = len(server.opened)
    acme.deliver()
    assert acme.there() == {"A.csv": CONTENT}
    # What lies there verified is read back, not written again.
    assert all(not name.endswith("A.csv") for name in server.opened[opened:])


def test_a_partner_that_renames_it_by_hand(server: FaultySftp, acme: Partner) -> None:
    """The way out that the text names: the next run finds the file under its name and counts it as sent."""
    acme.freeze("A.csv", CONTENT)
    server.faults.rename_refused = True
    acme.deliver()
    (temporary,) = acme.root.iterdir()
    temporary.rename(acme.root / "A.csv")
    (delivered,) = acme.deliver()
    assert (delivered.outcome, acme.states()) == (Outcome.SENT, ["SENT"])


@pytest.mark.parametrize("expected", [True, False])
@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_a_partner_that_picks_up_at_once(server: FaultySftp, acme: Partner, mode: str, expected: bool) -> None:
    """After a good answer "no such file" means picked up, not lost: it is sent once."""
    acme.upload(mode=mode, picked_up_at_once=expected)
    acme.freeze("A.csv", CONTENT)
    collected: list[bytes] = []

    def collect(path: Path) -> None:
        if path.name == "A.csv":
            collected.append(path.read_bytes())
            path.unlink()

    server.faults.after_close = server.faults.after_rename = collect
    (delivered,) = acme.deliver()
    assert (delivered.outcome, delivered.alert) == (Outcome.SENT, False)
    assert ("picked up" in delivered.text) is not expected
    assert collected == [CONTENT]
    assert acme.deliver() == []


def test_a_partner_that_takes_temporary_names(server: FaultySftp, acme: Partner) -> None:
    """It has the bytes under a wrong name: a person decides, nothing is sent twice, the next files wait."""
    acme.freeze("A.csv", CONTENT)
    taken: list[bytes] = []

    def take(path: Path) -> None:
        taken.append(path.read_bytes())
        path.unlink()

    server.faults.after_close = take
    (delivered,) = acme.deliver()
    assert (delivered.outcome, delivered.alert) == (Outcome.UNKNOWN, True)
    assert "direct" in delivered.text
    acme.freeze("B.csv")
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.UNKNOWN, Outcome.WAITING]
    assert taken == [CONTENT]


def test_a_folder_that_is_not_mounted_proves_nothing(server: FaultySftp, acme: Partner) -> None:
    """Renamed or not, in a folder that is gone nothing can be seen: no conclusion is drawn."""
    acme.freeze("A.csv", CONTENT)
    server.faults.lose_answer_to = "rename"

    def unmount(step: str) -> None:
        if step == "look for both names":
            acme.root.rename(acme.root.with_name("away"))

    (delivered,) = acme.deliver(before=unmount)
    assert delivered.outcome is Outcome.STOPPED
    assert acme.states() == ["RENAMING"]
    acme.root.with_name("away").rename(acme.root)
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.SENT]
    assert acme.there() == {"A.csv": CONTENT}


def test_direct_and_the_last_answer_is_lost(server: FaultySftp, acme: Partner) -> None:
    """The whole file lies there with our hash: sent, without a second upload."""
    acme.upload(mode="direct")
    acme.freeze("A.csv", CONTENT)
    server.faults.lose_answer_to = "close"
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.SENT
    assert acme.there() == {"A.csv": CONTENT}


@pytest.mark.parametrize("fault", ["drop_on_write", "fail_write_from"])
def test_direct_and_the_upload_breaks_off(server: FaultySftp, acme: Partner, fault: str) -> None:
    """The partner may have read the half: held for a person, never sent a second time, and the next files wait."""
    acme.upload(mode="direct")
    key = acme.freeze("A.csv", CONTENT)
    setattr(server.faults, fault, 65_536)
    (delivered,) = acme.deliver()
    assert (delivered.outcome, delivered.alert) == (Outcome.UNKNOWN, True)
    assert delivered.stopped is not None
    assert isinstance(delivered.stopped.cause, OutcomeUnknown)
    half = acme.there()
    assert len(half["A.csv"]) < len(CONTENT)
    setattr(server.faults, fault, None)
    acme.freeze("B.csv")
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.UNKNOWN, Outcome.WAITING]
    assert acme.there() == half
    assert acme.file(key)["state"] == "UNKNOWN"
    assert set(acme.waiting()) == {"A.csv", "B.csv"}


def test_direct_and_the_server_stays_away(server: FaultySftp, line: Forwarder, acme: Partner) -> None:
    """It broke off and cannot be looked at: no second upload at the next run either, which looks first."""
    acme.upload(mode="direct")
    acme.freeze("A.csv", CONTENT)

    def vanish(path: Path, offset: int) -> None:
        if offset == 0:
            line.refuse()
            server.faults.drop_on_write = 65_536

    server.faults.before_write = vanish
    (delivered,) = acme.deliver()
    assert (delivered.outcome, acme.states()) == (Outcome.STOPPED, ["UPLOADING"])
    line.accept()
    server.faults.drop_on_write = None
    server.faults.before_write = lambda path, offset: None
    writes = len(server.opened)
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.UNKNOWN]
    assert len(server.opened) == writes


def test_direct_and_no_connection_is_no_unclear_end(line: Forwarder, acme: Partner) -> None:
    """Nothing was asked of the server, so the file simply waits."""
    acme.upload(mode="direct")
    acme.freeze("A.csv", CONTENT)
    line.refuse()
    (delivered,) = acme.deliver()
    assert (delivered.outcome, acme.states()) == (Outcome.STOPPED, ["PENDING"])
    line.accept()
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.SENT]


def test_a_failing_companion_does_not_send_the_file_again(server: FaultySftp, acme: Partner) -> None:
    """The file is there; only its manifest is tried again, then the trigger. Until then it does not count as sent."""
    acme.freeze("A.csv", CONTENT, beside=("manifest", "trigger"))
    fails = {"now": True}

    def refuse_manifest(path: Path, offset: int) -> None:
        server.faults.fail_write_from = 0 if "manifest" in path.name and fails["now"] else None

    server.faults.before_write = refuse_manifest
    (delivered,) = acme.deliver()
    assert (delivered.outcome, acme.states()) == (Outcome.STOPPED, ["RENAMING"])
    assert acme.there() == {"A.csv": CONTENT}
    fails["now"] = False
    # Meanwhile the partner has taken the file: that must not bring a second one.
    (acme.root / "A.csv").unlink()
    (delivered,) = acme.deliver()
    assert delivered.outcome is Outcome.SENT
    assert sorted(acme.there()) == ["A.csv.manifest.json", "A.csv.trg"]


def test_a_frozen_server_costs_the_channel_timeout_only(server: FaultySftp, acme: Partner) -> None:
    """A run must not hang on a partner."""
    acme.upload(retry_for=0)
    acme.freeze("A.csv", CONTENT)
    acme.account(channel_timeout=0.5)
    server.faults.before_write = lambda path, offset: server.faults.frozen.set()
    began = time.monotonic()
    (delivered,) = acme.deliver()
    assert delivered.stopped is not None
    assert delivered.stopped.transient
    assert time.monotonic() - began < 10

"""Whom the connector talks to, and how it fails to."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.sftp import (
    HostKeyRejected,
    LoginRefused,
    NoCommonAlgorithm,
    PinUnreadable,
    PollDeadlineExceeded,
    QuestionAsked,
    SftpCredentials,
    SftpError,
    SftpTimeout,
    Unreachable,
    offered_host_keys,
    open_session,
)
from mlc_dagster.sftp.keys import parse_pin
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.sshd import KeyKind, RealSshd, new_private_key, public_line
from mlc_dagster_tests.sftp.conftest import Served, settings_for

CANARY = "canary-5f1c"
OTHER_PIN = "SHA256:" + "A" * 43
RIGHT = SftpCredentials(password="let me in")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_an_unknown_host_key_is_rejected_before_any_credential(faulty: FaultySftp) -> None:
    """Whoever answers on that address must not learn the password."""
    settings = settings_for(faulty.host, faulty.port, faulty.username, OTHER_PIN)
    with (
        pytest.raises(HostKeyRejected) as caught,
        open_session(settings, SftpCredentials(password=faulty.password)),
    ):
        pass
    assert caught.value.offered_fingerprint == faulty.fingerprint
    assert caught.value.expected == (OTHER_PIN,)
    assert not caught.value.transient
    assert faulty.logins == []


def test_a_changed_host_key_is_rejected(tmp_path: Path) -> None:
    """The same address with another key is the man in the middle until somebody confirms it."""
    with SandboxSftp(tmp_path / "r", username="stampli", password="let me in", host_key_file=tmp_path / "k1") as first:
        settings = settings_for(first.host, first.port, "stampli", first.fingerprint)
        with open_session(settings, RIGHT) as session:
            assert session.server_key == first.fingerprint
    second = SandboxSftp(
        tmp_path / "r", username="stampli", password="let me in", host_key_file=tmp_path / "k2", port=first.port
    )
    with second, pytest.raises(HostKeyRejected) as caught, open_session(settings, RIGHT):
        pass
    assert caught.value.offered_fingerprint == second.fingerprint


def test_two_pins_bridge_a_rotation(sandbox: SandboxSftp) -> None:
    """While the partner changes keys, the old and the new one are both accepted."""
    settings = settings_for(sandbox.host, sandbox.port, sandbox.username, [OTHER_PIN, sandbox.fingerprint])
    with open_session(settings, RIGHT) as session:
        assert session.server_key == sandbox.fingerprint


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("form", ["fingerprint", "known_hosts"])
def test_any_of_the_servers_keys_may_be_pinned(sshd: RealSshd, position: int, form: str) -> None:
    """Partners publish their RSA fingerprint while the server would rather prove its ed25519 key."""
    pin = sshd.fingerprints[position] if form == "fingerprint" else sshd.known_hosts[position]
    settings = settings_for(sshd.host, sshd.port, sshd.username, pin)
    with open_session(settings, SftpCredentials(private_key=sshd.private_key)) as session:
        assert session.server_key == sshd.fingerprints[position]


def test_a_pin_of_a_type_that_the_server_lacks_tells_what_it_has(sandbox: SandboxSftp, sshd: RealSshd) -> None:
    """Told that no algorithm is common, people would go after ciphers; what changed is the key."""
    rsa_line = sshd.known_hosts[2]
    settings = settings_for(sandbox.host, sandbox.port, sandbox.username, rsa_line)
    with pytest.raises(HostKeyRejected) as caught, open_session(settings, RIGHT):
        pass
    assert caught.value.offered_fingerprint == sandbox.fingerprint


def test_without_a_pin_nothing_is_contacted(silent_port: int) -> None:
    """Trust at first sight is no trust."""
    settings = settings_for("127.0.0.1", silent_port, "u", OTHER_PIN).model_copy(update={"host_key": []})
    with pytest.raises(PinUnreadable, match="no host key"), open_session(settings, RIGHT):
        pass


def test_a_wrong_password_is_permanent(sandbox: SandboxSftp) -> None:
    """Trying again locks the account; the error says so by not being transient, and does not show the password."""
    settings = settings_for(sandbox.host, sandbox.port, sandbox.username, sandbox.fingerprint)
    with pytest.raises(LoginRefused) as caught, open_session(settings, SftpCredentials(password=CANARY)):
        pass
    assert not caught.value.transient
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("question", ["Password: ", "(partner@bank) Password:", "partner's password"])
def test_a_password_may_be_asked_for_as_a_question(faulty: FaultySftp, question: str) -> None:
    """Servers with PAM often know the password by keyboard-interactive alone."""
    faulty.faults.questions = ((question, False),)
    settings = settings_for(faulty.host, faulty.port, faulty.username, faulty.fingerprint)
    with open_session(settings, SftpCredentials(password=faulty.password)) as session:
        assert session.server_key == faulty.fingerprint
    assert faulty.answers == [faulty.password]


@pytest.mark.parametrize(
    ("questions", "asked", "answers"),
    [
        ((("Verification code: ", False),), "Verification code", 0),
        ((("New password: ", False),), "New password", 0),
        ((("Password: ", True),), "Password", 0),
        ((("Password: ", False), ("Password again: ", False)), "Password again", 1),
    ],
    ids=["code", "new-password", "shown-on-screen", "a-second-one"],
)
def test_no_other_question_is_answered_with_the_password(
    faulty: FaultySftp, questions: tuple[tuple[str, bool], ...], asked: str, answers: int
) -> None:
    """An expired account asks for a new password: answering would set the old one anew, or show it on a screen."""
    faulty.faults.questions = questions
    settings = settings_for(faulty.host, faulty.port, faulty.username, faulty.fingerprint)
    with (
        pytest.raises(QuestionAsked, match=asked) as caught,
        open_session(settings, SftpCredentials(password=faulty.password)),
    ):
        pass
    assert len(faulty.answers) == answers
    assert not caught.value.transient
    assert faulty.password not in str(caught.value)


def test_all_keys_of_a_server_are_shown_without_a_login(sshd: RealSshd) -> None:
    """A person compares them before anything is pinned; each line shown must itself serve as the pin."""
    seen = len(sshd.log)
    keys = offered_host_keys(sshd.host, sshd.port, 10)
    assert [key.fingerprint for key in keys] == sshd.fingerprints
    assert [key.known_hosts_line for key in keys] == sshd.known_hosts
    assert [parse_pin(key.known_hosts_line).fingerprint for key in keys] == sshd.fingerprints
    assert [line for line in sshd.log[seen:] if "Accepted" in line or "Failed" in line] == []


def test_keys_of_a_server_that_speaks_weakly_are_shown_once_that_is_allowed(tmp_path: Path) -> None:
    """The entry of an old partner is set up like any other: allow first, then look at the key."""
    with RealSshd(tmp_path, host_keys=("rsa",), options=["HostKeyAlgorithms ssh-rsa"]) as server:
        with pytest.raises(NoCommonAlgorithm):
            offered_host_keys(server.host, server.port, 10)
        [key] = offered_host_keys(server.host, server.port, 10, allow_algorithms=["ssh-rsa"])
    assert (key.algorithm, key.fingerprint) == ("ssh-rsa", server.fingerprint)


def test_looking_for_keys_has_an_end(silent_port: int) -> None:
    """Somebody sits before the screen and waits."""
    start = time.monotonic()
    with pytest.raises(SftpError):
        offered_host_keys("127.0.0.1", silent_port, 0.4)
    assert time.monotonic() - start < 5


def test_a_strange_key_is_refused(sshd: RealSshd) -> None:
    """OpenSSH's no to a key it does not know is permanent as well."""
    settings = settings_for(sshd.host, sshd.port, sshd.username, sshd.fingerprint)
    with (
        pytest.raises(LoginRefused, match="private_key") as caught,
        open_session(settings, SftpCredentials(private_key=new_private_key())),
    ):
        pass
    assert not caught.value.transient


def test_a_refused_method_names_the_accepted_ones(sshd: RealSshd) -> None:
    """A password for a server that takes keys only: the error tells what to configure."""
    settings = settings_for(sshd.host, sshd.port, sshd.username, sshd.fingerprint)
    with pytest.raises(LoginRefused) as caught, open_session(settings, SftpCredentials(password="x")):
        pass
    assert caught.value.accepted_methods == ("publickey",)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_kind_of_key_logs_in(tmp_path: Path, kind: KeyKind, sshd: RealSshd) -> None:
    """Signatures differ by type; a key that loads must also log in."""
    private_key = new_private_key(kind)
    authorized = sshd.directory / "authorized_keys"
    before = authorized.read_text()
    authorized.write_text(before + public_line(private_key) + "\n")
    try:
        settings = settings_for(sshd.host, sshd.port, sshd.username, sshd.fingerprint)
        with open_session(settings, SftpCredentials(private_key=private_key)) as session:
            assert session.stat(str(tmp_path)) is not None
    finally:
        authorized.write_text(before)


def test_a_closed_port_is_transient(free_port: int) -> None:
    """The partner restarts their server; the next poll finds it."""
    with (
        pytest.raises(Unreachable, match=str(free_port)) as caught,
        open_session(settings_for("127.0.0.1", free_port, "u", OTHER_PIN), RIGHT),
    ):
        pass
    assert caught.value.transient


def test_a_silent_server_is_given_up_quietly(silent_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """connect_timeout ends the wait for a greeting, and paramiko's traceback stays off stderr."""
    settings = settings_for("127.0.0.1", silent_port, "u", OTHER_PIN).model_copy(update={"connect_timeout": 0.5})
    start = time.monotonic()
    with pytest.raises(SftpError) as caught, open_session(settings, RIGHT):
        pass
    assert caught.value.transient
    assert time.monotonic() - start < 5
    assert capfd.readouterr().err == ""


def test_the_deadline_also_ends_a_greeting(silent_port: int) -> None:
    """poll_deadline counts from the first packet, not from the login."""
    settings = settings_for("127.0.0.1", silent_port, "u", OTHER_PIN).model_copy(update={"poll_deadline": 0.3})
    with pytest.raises(PollDeadlineExceeded), open_session(settings, RIGHT):
        pass


def test_something_that_is_not_ssh_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """A web server on that port: one sentence, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 200)

        answering = threading.Thread(target=answer)
        answering.start()
        settings = settings_for("127.0.0.1", listener.getsockname()[1], "u", OTHER_PIN)
        with pytest.raises((Unreachable, SftpTimeout)), open_session(settings, RIGHT):
            pass
        answering.join()
    assert capfd.readouterr().err == ""


def test_weak_ciphers_are_not_spoken(tmp_path: Path) -> None:
    """A server with CBC alone is refused by name instead of being read over a broken cipher."""
    with FaultySftp(tmp_path / "r", encryption_algs=["aes128-cbc"]) as server:
        settings = settings_for(server.host, server.port, server.username, server.fingerprint)
        with (
            pytest.raises(NoCommonAlgorithm) as caught,
            open_session(settings, SftpCredentials(password=server.password)),
        ):
            pass
    assert not caught.value.transient


def test_gcm_is_preferred(served: Served) -> None:
    """AES-GCM is a fifth faster and authenticates by itself."""
    with served.session() as session:
        assert vars(session._transport)["remote_cipher"] == "aes128-gcm@openssh.com"


def test_secrets_show_nowhere(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr nor the most talkative log level gives a credential away."""
    caplog.set_level(logging.DEBUG)
    with served.session() as session:
        session.list(served.directory)
    secrets = [served.credentials.password, *(served.credentials.private_key or "").splitlines()[1:-1]]
    shown = caplog.text + repr(served.credentials) + str(served.credentials)
    assert [secret for secret in secrets if secret and secret in shown] == []


def test_a_session_leaves_no_thread_behind(served: Served) -> None:
    """A daemon polls for months: one thread per poll would be thousands."""
    with served.session() as session:
        session.list(served.directory)
        (reader,) = [thread for thread in threading.enumerate() if thread is session._transport]
    assert not reader.is_alive()

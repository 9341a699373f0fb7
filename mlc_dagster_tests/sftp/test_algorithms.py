"""What is spoken on the wire: strong algorithms, and a weak one only where the server's entry names it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlc_dagster.settings.sftp import WEAK_ALGORITHMS
from mlc_dagster.sftp import LoginRefused, NoCommonAlgorithm, SftpCredentials, open_session
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.sshd import KeyKind, RealSshd, new_private_key, public_line
from mlc_dagster_tests.sftp.conftest import settings_for

WEAK_SERVERS = [
    pytest.param("KexAlgorithms diffie-hellman-group14-sha1", "key exchange", id="group14-sha1"),
    pytest.param("KexAlgorithms diffie-hellman-group1-sha1", "key exchange", id="group1-sha1"),
    pytest.param("KexAlgorithms diffie-hellman-group-exchange-sha1", "key exchange", id="group-exchange-sha1"),
    pytest.param("Ciphers aes128-cbc", "cipher", id="aes128-cbc"),
    pytest.param("Ciphers 3des-cbc", "cipher", id="3des-cbc"),
    pytest.param("MACs hmac-sha1", "MAC", id="hmac-sha1"),
    pytest.param("MACs hmac-md5", "MAC", id="hmac-md5"),
    pytest.param("HostKeyAlgorithms ssh-rsa", "host key", id="ssh-rsa"),
]

RSA_KEY = new_private_key("rsa")


def options_of(option: str) -> list[str]:
    """Sshd negotiates a MAC only beside a cipher that needs one."""
    return [option, "Ciphers aes128-ctr"] if option.startswith("MACs") else [option]


def refused(server: RealSshd) -> NoCommonAlgorithm:
    settings = settings_for(server.host, server.port, server.username, server.fingerprint)
    with (
        pytest.raises(NoCommonAlgorithm) as caught,
        open_session(settings, SftpCredentials(private_key=server.private_key)),
    ):
        pass
    return caught.value


@pytest.mark.parametrize(("option", "kind"), WEAK_SERVERS)
def test_a_server_with_a_weak_algorithm_alone_is_refused_and_served_once_it_is_allowed(
    tmp_path: Path, option: str, kind: str
) -> None:
    """Refusing names what the server has and the line that allows it; that very line must then work."""
    with RealSshd(tmp_path, host_keys=("rsa",), options=options_of(option)) as server:
        error = refused(server)
        algorithm = option.split()[1]
        assert error.offered == {kind: (algorithm,)}
        assert f"allow_algorithms: [{algorithm}]" in str(error)
        assert not error.transient
        settings = settings_for(server.host, server.port, server.username, server.fingerprint)
        allowed = settings.model_copy(update={"allow_algorithms": list(error.allowable)})
        with open_session(allowed, SftpCredentials(private_key=server.private_key)) as session:
            assert session.stat(str(tmp_path)) is not None
            assert session.server_key == server.fingerprint


def test_all_weak_kinds_of_a_server_are_named_at_once(tmp_path: Path) -> None:
    """Found one by one, they would take a change of mlc.yaml each."""
    options = ["KexAlgorithms diffie-hellman-group14-sha1", "Ciphers aes256-cbc", "MACs hmac-sha1"]
    with RealSshd(tmp_path, options=options) as server:
        error = refused(server)
    assert set(error.offered) == {"key exchange", "cipher", "MAC"}
    assert error.allowable == ("diffie-hellman-group14-sha1", "aes256-cbc", "hmac-sha1")


def test_what_nobody_may_allow_is_named_without_a_setting(tmp_path: Path) -> None:
    """RC4 cannot be spoken at all; pointing to a setting would be a wrong track."""
    with FaultySftp(tmp_path / "r", encryption_algs=["arcfour256"]) as server:
        settings = settings_for(server.host, server.port, server.username, server.fingerprint)
        with (
            pytest.raises(NoCommonAlgorithm, match="arcfour256") as caught,
            open_session(settings, SftpCredentials("x")),
        ):
            pass
    assert "allow_algorithms" not in str(caught.value)
    assert server.logins == []


def negotiated(server: RealSshd, allow: Sequence[str]) -> str:
    """What sshd (``LogLevel DEBUG1``) says that it agreed upon."""
    settings = settings_for(server.host, server.port, server.username, server.fingerprint)
    settings = settings.model_copy(update={"allow_algorithms": list(allow)})
    with open_session(settings, SftpCredentials(private_key=server.private_key)):
        return "\n".join(line for line in server.log if "kex: " in line)


def test_a_strong_algorithm_wins_over_an_allowed_one(tmp_path: Path) -> None:
    """An entry that allows everything must not weaken the server after it was renewed."""
    weak_first = [
        "KexAlgorithms diffie-hellman-group1-sha1,curve25519-sha256@libssh.org",
        "Ciphers 3des-cbc,aes128-ctr",
        "MACs hmac-md5,hmac-sha2-256",
        "HostKeyAlgorithms ssh-rsa,rsa-sha2-256",
    ]
    with RealSshd(tmp_path, host_keys=("rsa",), options=[*weak_first, "LogLevel DEBUG1"]) as server:
        spoken = negotiated(server, WEAK_ALGORITHMS)
    assert "algorithm: curve25519-sha256@libssh.org" in spoken
    assert "host key algorithm: rsa-sha2-256" in spoken
    assert "cipher: aes128-ctr MAC: hmac-sha2-256" in spoken


def log_in(server: RealSshd, allow: list[str], kind: KeyKind = "rsa") -> None:
    private_key = new_private_key(kind)
    authorized = server.directory / "authorized_keys"
    authorized.write_text(public_line(private_key) + "\n")
    settings = settings_for(server.host, server.port, server.username, server.fingerprint)
    with open_session(
        settings.model_copy(update={"allow_algorithms": allow}), SftpCredentials(private_key=private_key)
    ) as session:
        assert session.stat(str(server.directory)) is not None


@pytest.fixture
def old_server(tmp_path: Path) -> Iterator[FaultySftp]:
    """Proves itself by an ed25519 key and verifies signatures of RSA keys with SHA-1 alone."""
    (tmp_path / "authorized_keys").write_text(public_line(RSA_KEY) + "\n")
    with FaultySftp(
        tmp_path / "r",
        authorized_client_keys=str(tmp_path / "authorized_keys"),
        signature_algs=["ssh-rsa", "ssh-ed25519"],
    ) as server:
        yield server


def test_an_rsa_key_does_not_sign_with_sha1_by_itself(old_server: FaultySftp) -> None:
    """A signature of that kind can be forged with a budget."""
    settings = settings_for(old_server.host, old_server.port, old_server.username, old_server.fingerprint)
    with pytest.raises(LoginRefused), open_session(settings, SftpCredentials(private_key=RSA_KEY)):
        pass


@pytest.mark.parametrize("silent", [False, True])
def test_an_rsa_key_signs_with_sha1_where_that_is_allowed(old_server: FaultySftp, silent: bool) -> None:
    """Servers before 2017 verify nothing else, and the older ones do not even say so."""
    old_server.faults.no_signature_list = silent
    settings = settings_for(old_server.host, old_server.port, old_server.username, old_server.fingerprint)
    settings = settings.model_copy(update={"allow_algorithms": ["ssh-rsa"]})
    with open_session(settings, SftpCredentials(private_key=RSA_KEY)) as session:
        assert session.list("/").files == []
        offered = vars(session)["_transport"].preferred_pubkeys
    assert offered[-1] == "ssh-rsa"
    assert (len(offered) == 1) is silent


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_allowing_sha1_leaves_a_modern_login_as_it_is(tmp_path: Path, kind: KeyKind) -> None:
    """OpenSSH 9 refuses SHA-1 signatures; the entry may still allow them."""
    with RealSshd(tmp_path) as server:
        log_in(server, ["ssh-rsa"], kind)


def test_what_one_entry_allows_no_other_does(tmp_path: Path) -> None:
    """Teaching the library an old signature would open every partner's connection."""
    options = ["HostKeyAlgorithms ssh-rsa", "LogLevel DEBUG1"]
    with RealSshd(tmp_path, host_keys=("rsa",), options=options) as server:
        assert "host key algorithm: ssh-rsa" in negotiated(server, ["ssh-rsa"])
        assert refused(server).allowable == ("ssh-rsa",)

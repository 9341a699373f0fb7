"""A throw-away OpenSSH server on a free loopback port.

What belongs here: its keys, its configuration, its life. It serves key logins of whoever runs the tests, root or not;
password logins would need an account with a password and are tested against the embedded server.
"""

import base64
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KeyKind = Literal["ed25519", "ecdsa", "rsa"]
_START_SECONDS = 10.0
# A free port may be taken by somebody else before sshd binds it.
_PORT_TRIES = 5


class SshdUnavailable(RuntimeError):
    """There is no sshd, or it does not start."""


def sshd_program() -> Path:
    """Absolute path of sshd, which refuses to start under a relative one.

    Raises:
        SshdUnavailable: not installed.
    """
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise SshdUnavailable(
            "no sshd on this machine; install it with `apt-get install openssh-server` (it need not be running)"
        )
    return Path(found).absolute()


def new_private_key(kind: KeyKind = "ed25519", passphrase: str | None = None) -> str:
    """Text of a new private key in OpenSSH's format."""
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption).decode()


def public_line(private_key: str) -> str:
    """``type base64`` of an unencrypted OpenSSH key, as in authorized_keys and known_hosts."""
    loaded = serialization.load_ssh_private_key(private_key.encode(), None)
    return loaded.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def fingerprint_of(line: str) -> str:
    """``SHA256:…`` of a public key line."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class RealSshd:
    """``with RealSshd(directory) as server:`` listens on ``server.port`` of 127.0.0.1.

    Attributes:
        root: The directory that a session starts in (the whole file system is visible, as far as rights go).
        username: The account that can log in: the one that runs the tests.
        private_key: Text of the key that logs in.
        fingerprint: ``SHA256:…`` of the first host key.
        known_hosts: One line per host key.
        log: sshd's log lines so far.
    """

    host = "127.0.0.1"

    def __init__(
        self, directory: Path, *, host_keys: Sequence[KeyKind] = ("ed25519",), options: Sequence[str] = ()
    ) -> None:
        """``options`` are lines of sshd_config that win over those below, such as ``Ciphers aes128-cbc``."""
        self.program = sshd_program()
        self._options = options
        self.directory = directory.resolve()
        self.root = self.directory / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        # Not getpass, which believes LOGNAME: sshd goes by who it runs as.
        self.username = pwd.getpwuid(os.geteuid()).pw_name
        self.private_key = new_private_key()
        self.port = 0
        self.log: list[str] = []
        self._write("authorized_keys", public_line(self.private_key))
        self._host_keys: list[tuple[Path, str]] = []
        for kind in host_keys:
            text = new_private_key(kind)
            self._host_keys.append((self._write(f"host_{kind}_key", text), public_line(text)))
        self.fingerprint = fingerprint_of(self._host_keys[0][1])
        self._listening = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def known_hosts(self) -> list[str]:
        return [f"[{self.host}]:{self.port} {line}" for _, line in self._host_keys]

    @property
    def fingerprints(self) -> list[str]:
        return [fingerprint_of(line) for _, line in self._host_keys]

    def _write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text.rstrip("\n") + "\n")
        return path

    def _configuration(self) -> str:
        lines = [
            # Of a keyword that is there twice, sshd takes the first.
            *self._options,
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            "AddressFamily inet",
            *(f"HostKey {path}" for path, _ in self._host_keys),
            "PidFile none",
            f"AuthorizedKeysFile {self.directory / 'authorized_keys'}",
            # The temporary directory's parents belong to others, which StrictModes would refuse.
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "AllowTcpForwarding no",
            "X11Forwarding no",
            "PermitTTY no",
            "MaxStartups 100:30:200",
            f"Subsystem sftp internal-sftp -d {self.root}",
            f"ForceCommand internal-sftp -d {self.root}",
        ]
        return "\n".join(lines)

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            # sshd drops privileges into this directory and refuses to start as root without it.
            Path("/run/sshd").mkdir(parents=True, exist_ok=True)
        for _ in range(_PORT_TRIES):
            with socket.create_server((self.host, 0)) as probe:
                self.port = probe.getsockname()[1]
            if self._start():
                return self
        raise SshdUnavailable("sshd does not start:\n" + "\n".join(self.log))

    def _start(self) -> bool:
        configuration = self._write("sshd_config", self._configuration())
        self._listening.clear()
        # In the foreground with its log on stderr: the line "Server listening" is the signal that it is ready.
        self._process = subprocess.Popen(
            [str(self.program), "-D", "-e", "-f", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        self._listening.wait(_START_SECONDS)
        if self._process.poll() is None and any("Server listening" in line for line in self.log):
            return True
        self._stop()
        return False

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        if process.stderr is None:
            return
        for line in process.stderr:
            self.log.append(line.rstrip())
            if "Server listening" in line:
                self._listening.set()
        # It ended: nobody needs to wait any longer.
        self._listening.set()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            # Sessions hold the pipe until their clients are gone; the thread is a daemon and may outlive them.
            self._reader.join(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

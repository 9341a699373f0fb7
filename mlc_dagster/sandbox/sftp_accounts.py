"""Who may log in to the embedded SFTP server, and the host key that it proves itself with."""

import hmac
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED
from typing_extensions import override

from mlc_dagster.sandbox.sftp_faults import SftpFaults


@dataclass(frozen=True)
class SftpAccount:
    """Somebody who may log in; ``root`` is ``/`` to them, ``authorized_keys`` are lines of such a file."""

    username: str
    root: Path
    password: str | None = None
    authorized_keys: Iterable[str] = ()

    def knows(self, key: paramiko.PKey) -> bool:
        """Whether one of the lines is this key."""
        lines = (line.split()[:2] for line in self.authorized_keys)
        return [key.get_name(), key.get_base64()] in lines


class Login(paramiko.ServerInterface):
    """Who may come in, and that SFTP is all they get."""

    def __init__(self, accounts: Mapping[str, SftpAccount], faults: SftpFaults, hang_up: Callable[[], None]) -> None:
        self._accounts = accounts
        self.faults = faults
        self.hang_up = hang_up
        self.account: SftpAccount | None = None

    @override
    def get_allowed_auths(self, username: str) -> str:
        # The same for everybody, so that nobody learns which accounts there are.
        accounts = self._accounts.values()
        offered = [
            ("publickey", any(account.authorized_keys for account in accounts)),
            ("password", any(account.password is not None for account in accounts)),
        ]
        return ",".join(name for name, there in offered if there)

    def check_auth_password(self, username: str, password: str) -> int:
        account = self._accounts.get(username)
        if account is None or account.password is None:
            return AUTH_FAILED
        return self._admit(account, hmac.compare_digest(password.encode(), account.password.encode()))

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        account = self._accounts.get(username)
        return AUTH_FAILED if account is None else self._admit(account, account.knows(key))

    def _admit(self, account: SftpAccount, right: bool) -> int:  # noqa: FBT001 - read as one word at both calls
        if right:
            self.account = account
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    @override
    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


def host_key(file: Path) -> paramiko.Ed25519Key:
    """The key in ``file``, made at the first start and kept, so that a pin stays right."""
    if not file.exists():
        text = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes it readable for the owner alone; link keeps the first of two that start at once.
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as written:
                written.write(text)
            with suppress(FileExistsError):
                os.link(temporary, file)
        finally:
            Path(temporary).unlink()
    return paramiko.Ed25519Key.from_private_key_file(str(file))

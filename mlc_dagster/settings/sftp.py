"""``sftp:`` - one account on one SFTP server; used by every flow that has one."""

import difflib
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mlc_dagster.settings.values import Model, SecretRef, TimeLimit

WEAK_ALGORITHMS = (
    "ssh-rsa",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group1-sha1",
    "aes256-cbc",
    "aes192-cbc",
    "aes128-cbc",
    "3des-cbc",
    "hmac-sha1",
    "hmac-sha1-96",
    "hmac-md5",
    "hmac-md5-96",
)
"""What an entry may allow by name, the less weak first: signatures with SHA-1, and SHA-1, CBC, 3DES and MD5 on the
wire. They are tried after everything strong."""


class SftpSettings(Model):
    host: str
    port: int = Field(default=22, ge=1, le=65535)
    username: str
    password: SecretRef | None = None
    private_key: SecretRef | None = None
    passphrase: SecretRef | None = None
    host_key: str | list[str]
    """Pin(s): ``SHA256:…`` fingerprint or a known_hosts line; two while a key is being rotated."""
    allow_algorithms: list[str] = []
    """Weak algorithms to accept from this server, by name (``ssh-rsa``), because it knows no others."""
    directory: str = "."
    connect_timeout: TimeLimit = 15.0
    channel_timeout: TimeLimit = 60.0
    poll_deadline: TimeLimit = 300.0
    prefetch: Literal["auto", "off"] = "auto"

    @field_validator("host_key")
    @classmethod
    def _at_least_one_pin(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            msg = (
                "is empty; write the server's SHA256:… fingerprint, which `ssh-keyscan HOST | ssh-keygen -lf -` prints"
            )
            raise ValueError(msg)
        return value

    @field_validator("allow_algorithms")
    @classmethod
    def _known_weak_ones(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in WEAK_ALGORITHMS:
                near = difflib.get_close_matches(name, WEAK_ALGORITHMS, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                msg = (
                    f"{name!r} is none of the algorithms that have to be allowed; {hint}"
                    f"There are {', '.join(WEAK_ALGORITHMS)}; strong ones are always spoken"
                )
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if (self.password is None) == (self.private_key is None):
            msg = "give either password or private_key"
            raise ValueError(msg)
        if self.passphrase is not None and self.private_key is None:
            msg = "passphrase belongs to private_key, which is absent"
            raise ValueError(msg)
        return self

    @property
    def host_keys(self) -> list[str]:
        return [self.host_key] if isinstance(self.host_key, str) else list(self.host_key)

"""``secrets:`` - where the keys of the encrypted store are and where a HashiCorp Vault is; all references of mlc.yaml.

What belongs here: settings of the providers that need any, and the list of references that other parts hold. What does
not: resolving them (``vault``).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

from pydantic import BaseModel, field_validator
from pydantic.fields import FieldInfo

from mlc_dagster.settings.values import Model, RemoteUrl, SecretRef, TimeLimit, is_secret_reference


class VaultSettings(Model):
    """A HashiCorp Vault with a key-value engine, version 2; for references such as ``vault:secret/fusion#password``."""

    address: RemoteUrl
    namespace: str | None = None
    """Namespace of Vault Enterprise; absent: the root namespace."""
    token: SecretRef
    """Reference to the token: ``file:`` of a Vault Agent's sink, ``env:`` or ``store:``."""
    mount: str | None = None
    """Where the engine is mounted; absent: the first part of each reference's path."""
    ca_bundle: Path | None = None
    """PEM file of the authority that signed Vault's certificate; absent: those that the system trusts."""
    timeout: TimeLimit = 10.0
    """Seconds one request may take."""

    @field_validator("token")
    @classmethod
    def _not_in_itself(cls, value: str) -> str:
        if value.startswith("vault:"):
            msg = (
                f"{value}: the token that opens the Vault cannot be inside it; write env:NAME, file:/path or store:name"
            )
            raise ValueError(msg)
        return value


class SecretsSettings(Model):
    key_file: Path = Path("mlc.keys")
    """Keys of the encrypted store, one per line, newest first; MLC_SECRET_KEYS takes its place where it is set."""
    vault: VaultSettings | None = None


def secret_references(settings: BaseModel) -> dict[str, str]:
    """Every reference to a secret, by its key in mlc.yaml, such as ``exports.NAME.sftp.password``."""
    return dict(_references(settings, ""))


def _references(model: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in type(model).model_fields.items():
        value: object = getattr(model, name)
        key = f"{prefix}{name}"
        if isinstance(value, str) and _is_reference_field(field):
            yield key, value
        elif isinstance(value, BaseModel):
            yield from _references(value, f"{key}.")
        elif isinstance(value, dict):
            for inner, entry in cast("dict[str, object]", value).items():
                yield from _of_entry(entry, f"{key}.{inner}")
        elif isinstance(value, list):
            for number, entry in enumerate(cast("list[object]", value)):
                # People know an entry by its name, where it has one.
                label = getattr(entry, "name", None)
                yield from _of_entry(entry, f"{key}.{label}" if label else f"{key}[{number}]")


def _of_entry(entry: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(entry, BaseModel):
        yield from _references(entry, f"{key}.")
    elif isinstance(entry, str) and key.startswith("alerts.to[") and is_secret_reference(entry):
        # The one list where references stand among other text.
        yield key, entry


_MARK = get_args(SecretRef)[1]
"""What tells a reference's type from other text."""


def _is_reference_field(field: FieldInfo) -> bool:
    marks = [
        *field.metadata,
        *(mark for arm in get_args(field.annotation) for mark in getattr(arm, "__metadata__", ())),
    ]
    return _MARK in marks

"""``audit:`` - signed checkpoints of the audit trail: by which key, how often, to which second place."""

import base64
import binascii
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mlc_dagster.settings.values import Model, SecretRef


def _ed25519_public_key(value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        msg = f"{value!r} is not an Ed25519 public key as `mlc audit keygen` prints it (32 bytes in base64)"
        raise ValueError(msg)
    return value


PublicKey = Annotated[str, AfterValidator(_ed25519_public_key)]


class AuditSettings(Model):
    signing_key: SecretRef | None = None
    """Reference to the private key of ``mlc audit keygen``; without it checkpoints are hashes that nobody signed."""
    public_keys: list[PublicKey] = []
    """Public keys whose checkpoints are believed; also those that were replaced. None given: only the signing key's."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """A checkpoint is made at least every so many sealed events."""
    checkpoints: Path | None = None
    """Folder of the checkpoint file, outside data_dir and best on another machine or on write-once storage, where
    whoever can change the ledger cannot write. Default: beside data_dir, its name with ``-checkpoints`` added."""

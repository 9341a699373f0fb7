"""``audit:`` - where checkpoints go and which keys are believed; wrong ones are refused with the key's name."""

import base64
from typing import Any

import pytest

from mlc_dagster.settings.secrets import secret_references
from mlc_dagster_tests.settings.configuration import problems, settings

PUBLIC = base64.b64encode(bytes(range(32))).decode()


def test_without_the_part_checkpoints_lie_beside_the_data() -> None:
    """Each tenant's own, since data folders differ; never inside, where they would go with the ledger."""
    found = settings()
    assert found.audit.checkpoint_every == 1000
    assert found.checkpoints_path == found.data_path.with_name(f"{found.data_path.name}-checkpoints")
    assert not found.checkpoints_path.is_relative_to(found.data_path)


def test_the_signing_key_is_a_reference_that_every_check_resolves() -> None:
    """`mlc config check`, rotation and the masking of logs find it like any other secret."""
    found = settings({"audit": {"signing_key": "store:audit/signing_key", "public_keys": [PUBLIC]}})
    assert secret_references(found)["audit.signing_key"] == "store:audit/signing_key"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"signing_key": "canary-private-key"}, "audit.signing_key: is not a secret reference"),
        ({"public_keys": ["abc"]}, "audit.public_keys.0: 'abc' is not an Ed25519 public key"),
        ({"public_keys": ["AAAA"]}, "is not an Ed25519 public key"),
        ({"checkpoint_every": 0}, "audit.checkpoint_every"),
        ({"checkpoint": "/x"}, "audit.checkpoint: unknown key"),
        ({"checkpoints": ".mlc/checkpoints"}, "lies inside data_dir"),
    ],
)
def test_what_cannot_be_used_is_refused(keys: dict[str, Any], told: str) -> None:
    """A wrong key that is found at the first audit would have signed nothing for a year."""
    found = " ".join(problems({"audit": keys}))
    assert told in found
    assert "canary" not in found

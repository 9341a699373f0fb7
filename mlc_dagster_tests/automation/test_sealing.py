"""Every run of the outbound flow leaves a sealed trail behind, with the checkpoints that are due."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.audit_sealing import checkpointing_of
from mlc_dagster.ledger.checkpoints import SigningKey
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.ledger.population import events
from mlc_dagster_tests.servers.configuration import keep_secret
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """A feed of journals, and one journal for it."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        lines = [(DEBIT, "100.00", None), (CREDIT, None, "100.00")]
        running.world.add_journal_batch("A", lines=lines)
        running.later()
        yield running


def test_mlc_run_outbound_seals_and_makes_signed_checkpoints(remote: PartnerRehearsal) -> None:
    """What it read and delivered is under the seal when the command ends, its last events too."""
    keep_secret(remote.folder, "signing_key", SigningKey.generate().private_text())
    remote.change_config(audit={"signing_key": "file:signing_key", "checkpoint_every": 5})
    outcome = remote.run()
    assert not outcome.failures
    assert remote.delivered()
    settings = remote.settings
    found = verify(remote.ledger, checkpointing_of(settings, SecretResolver({}, settings.root)))
    assert found.faults == ()
    assert (found.sealed, found.unsealed) == (len(events(remote.ledger)), 0)
    assert found.checkpoints.signed == found.checkpoints.count > 0


def test_an_outbound_run_that_fails_is_sealed_too(remote: PartnerRehearsal) -> None:
    """The run that went wrong is the one that an auditor wants to read."""
    remote.change_feed("journals", upload={"retry_for": 0})
    remote.sftp.faults.add("down", count=None, username="partner")
    assert remote.run().failures
    found = verify(remote.ledger)
    assert found.sealed > 0
    assert (found.unsealed, found.faults) == (0, ())

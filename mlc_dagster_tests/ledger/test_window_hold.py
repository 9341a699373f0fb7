"""A hold on a window that ends in an error: what the ledger keeps of it."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.window_hold import hold_generation
from mlc_dagster.vault import MASK, SecretResolver, guard_process
from mlc_dagster_tests.ledger.population import FEED, WINDOW, add_window

SECRET = "hunter2-canary"


def test_an_error_that_is_kept_shows_no_secret(ledger: Ledger, tmp_path: Path) -> None:
    """The ledger is kept for years, backed up and handed to auditors; a traceback in a terminal is not."""
    secrets = SecretResolver({"PASSWORD": SECRET}, tmp_path)
    guard_process(secrets)
    secrets.resolve("env:PASSWORD")
    with ledger.transaction() as transaction:
        add_window(transaction)
    held = hold_generation(ledger, FEED, WINDOW, None, owner="host|run", run_id="run", last=True)
    with pytest.raises(RuntimeError), held:
        raise RuntimeError(f"no login with {SECRET}")
    with ledger.reading() as reading:
        kept = str(reading.rows(sa.select(schema.window_run)))
    assert f"no login with {MASK}" in kept
    assert SECRET not in kept

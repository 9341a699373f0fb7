"""Bytes that were lost between receiving and reading: the run's result, the next call and its exit code say so."""

from typing import Any

import pytest

from mlc_dagster.stampli import steps
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow


def test_a_lost_file_is_told_by_the_run_and_by_the_next_call(
    flow: DagsterFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself ends well, as the other files were read; cron's mail must not be empty."""
    lost = flow.drop(1)
    read_files = steps.read_files

    def after_the_loss(ledger: Any, archive: Any, profile: Any, rows: Any, **how: Any) -> Any:
        archive.path(rows[0]["sha256"]).unlink()
        lost.unlink()
        return read_files(ledger, archive, profile, rows, **how)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "read_files", after_the_loss)
        flow.poll()
    said = flow.metadata("stampli_invoice_files")
    assert (said["files_lost"], said["files_read"], said["outcome"]) == (1, 0, "nothing to read")
    assert "is missing" in said["summary"]
    later = flow.poll(wait=False)
    assert (later.exit_code, len(later.overdue)) == (1, 1)
    assert "is no longer on the server" in later.overdue[0]

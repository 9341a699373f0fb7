"""Which secrets a run used is in the audit trail, by reference and once; what it logs shows none of them."""

import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.instigation_logger import InstigationLogger
from dagster._serdes import serialize_value

from mlc_dagster.assets.failures import as_failure
from mlc_dagster.automation.jobs import wiring_of
from mlc_dagster.vault import MASK
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow


def used(flow: DagsterFlow) -> list[str]:
    """Subjects of ``secret.used`` in the audit trail."""
    connection = sqlite3.connect(flow.settings.data_path / "ledger.sqlite")
    found = connection.execute("select subject from audit_event where kind = 'secret.used' order by id").fetchall()
    connection.close()
    return [subject for (subject,) in found]


def test_each_reference_is_told_once_per_run(flow: DagsterFlow) -> None:
    """Auditors ask which run had which password; a tick every half minute would bury the answer."""
    flow.drop(1)
    flow.tick()
    [wanted] = flow.tick().run_requests
    assert used(flow) == []
    assert flow.launch(wanted).success
    sftp = flow.settings.stampli.sftp if flow.settings.stampli else None
    assert sftp is not None
    expected = {flow.settings.fusion.client_secret, sftp.password}
    assert sorted(used(flow)) == sorted(filter(None, expected))


def test_what_a_run_logs_is_masked_in_dagsters_own_storage(flow: DagsterFlow) -> None:
    """The event log is shown to everybody who opens the UI, and kept."""
    secret = SecretFile(flow.settings.root)
    wiring = wiring_of(flow.settings, environ={})
    value = wiring.secrets.resolve(secret.reference)

    @dg.op
    def leaking(context: dg.OpExecutionContext) -> None:
        context.log.warning("login with %s", value)
        try:
            message = f"cannot parse sftp://mlc:{value}@host"
            raise ValueError(message)
        except ValueError as error:
            context.log.exception("failed")
            # As every asset does at its edge.
            raise (as_failure(error) or error) from None

    @dg.job(executor_def=dg.in_process_executor)
    def leaking_job() -> None:
        leaking()

    result = leaking_job.execute_in_process(instance=flow.instance, run_config=QUIET, raise_on_error=False)
    assert not result.success
    stored = "\n".join(serialize_value(entry) for entry in flow.instance.all_logs(result.run_id))
    assert f"login with {MASK}" in stored
    assert f"ValueError: cannot parse sftp://mlc:{MASK}@host" in stored
    assert value not in stored


def test_what_a_tick_logs_is_masked(flow: DagsterFlow, capfd: pytest.CaptureFixture[str]) -> None:
    """Ticks have a logger of their own, which writes to the console and to a file."""
    wiring = wiring_of(flow.settings, environ={})
    value = wiring.secrets.resolve(SecretFile(flow.settings.root).reference)
    with InstigationLogger() as logger:
        logger.warning("token %s", value)
    shown = capfd.readouterr()
    assert f"token {MASK}" in shown.err + shown.out
    assert value not in shown.err + shown.out


class SecretFile:
    """A secret in a file of its own."""

    def __init__(self, folder: Path) -> None:
        path = folder / "canary"
        path.write_text("hunter2-canary")
        path.chmod(0o600)
        self.reference = f"file:{path}"

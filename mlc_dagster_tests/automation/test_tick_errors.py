"""A tick that fails is kept with its error, which everybody may read in the UI."""

from pathlib import Path

import dagster as dg
import pytest

from mlc_dagster.automation.tick_errors import masking_errors
from mlc_dagster.vault import MASK, SecretResolver, guard_process


def test_error_of_a_tick_shows_no_secret(tmp_path: Path) -> None:
    """The library that failed quotes the address that it was given."""
    resolver = SecretResolver({"PASSWORD": "hunter2-canary"}, tmp_path)
    guard_process(resolver)

    @dg.sensor(job_name="any")
    @masking_errors
    def failing(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        message = f"cannot parse sftp://mlc:{resolver.resolve('env:PASSWORD')}@host"
        raise ValueError(message)

    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance) as context,
        pytest.raises(ValueError, match="cannot parse") as caught,
    ):
        failing.evaluate_tick(context)
    assert str(caught.value) == f"cannot parse sftp://mlc:{MASK}@host"

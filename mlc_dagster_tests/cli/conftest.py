"""A sandbox with one poll behind it, shared by tests that read, and a copy of its ledger for those that write."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlc_dagster.cli import app
from mlc_dagster.cli.demo.files import DemoFiles, demo_files
from mlc_dagster.cli.sandbox_process import SandboxProcess, running_sandbox
from mlc_dagster.sandbox.exports import StampliExport

ONE: tuple[str, ...] = ("--by", "Ada", "--reason", "posted by hand before go-live")
BOTH: tuple[str, ...] = ("--by", "Ada", "--approved-by", "Grace", "--reason", "the partner said so")


def run_mlc(*arguments: str | Path, **options: Any) -> Result:
    """``mlc`` with these arguments, in this process; foreseen errors are printed, others raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def json_of(result: Result) -> dict[str, Any]:
    """What a command with ``--json`` printed."""
    return json.loads(result.stdout)


@dataclass(frozen=True)
class Polled:
    """A sandbox, what was sent to it, and how the first poll ended."""

    sandbox: SandboxProcess
    files: DemoFiles
    first_contact: Result
    poll: Result

    @property
    def config(self) -> Path:
        return self.sandbox.config


@pytest.fixture(scope="session")
def polled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Polled]:
    """Old files made the baseline, then all files of the demonstration (but the growing one) polled once."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        files = demo_files(dt.datetime.now(dt.UTC))
        export = StampliExport(sandbox.outbound)
        for old in files.old:
            export.send(old.content, age=dt.timedelta(days=40))
        stopped = run_mlc("run", "inbound", "--config", sandbox.config)
        assert run_mlc("--config", sandbox.config, "files", "baseline", *ONE).exit_code == 0
        for sample in files.first:
            export.send(sample.content, company_id=sample.company_id, age=dt.timedelta(minutes=1))
        export.send(b"company_id,invoice_id\r\nC100,1\r\n", age=dt.timedelta(minutes=1))
        polled_once = run_mlc("run", "inbound", "--json", "--config", sandbox.config)
        yield Polled(sandbox, files, stopped, polled_once)


@pytest.fixture
def private(polled: Polled, tmp_path: Path) -> Path:
    """mlc.yaml of a copy: the same servers, a ledger of its own that the test may change."""
    shutil.copytree(polled.config.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("fusion.sqlite*", "stampli"))
    return tmp_path / "copy" / "mlc.yaml"

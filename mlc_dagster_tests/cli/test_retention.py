"""``mlc retention`` over a posted window: plan, run, holds, and what the other commands say of it afterwards."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import verify
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow
from mlc_dagster_tests.automation.fixtures import flow, remote
from mlc_dagster_tests.cli.conftest import BOTH, ONE, json_of, run_mlc
from mlc_dagster_tests.stampli.builders import file_name

__all__ = ["flow", "remote"]

RULES = dict.fromkeys(("source_files", "invoices", "requests"), "1d")


@pytest.fixture
def posted(flow: DagsterFlow) -> DagsterFlow:
    """One invoice in Fusion, a week ago; the rules keep a day."""
    flow.remote.change_config({"retention": RULES})
    flow.drop(1)
    assert flow.poll().posted == 1
    week = dt.timedelta(days=7)
    for column in (
        schema.source_file.c.read_at,
        schema.invoice.c.changed_at,
        schema.submission.c.ended_at,
    ):
        aged = dt.datetime.now(dt.UTC) - week
        flow.sql(sa.update(column.table).values({column: aged}))
    for path in flow.settings.data_path.joinpath("archive").rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - week.total_seconds()
            os.utime(path, (then, then))
    return flow


def mlc(flow: DagsterFlow, *arguments: str) -> dict[str, Any]:
    return json_of(run_mlc("--config", config_of(flow), *arguments, "--json"))


def config_of(flow: DagsterFlow) -> Path:
    return flow.settings.root / "mlc.yaml"


def test_the_plan_changes_nothing_and_the_run_erases(posted: DagsterFlow) -> None:
    """Somebody looks at it before anything goes for good."""
    plan = {each["content"]: each for each in mlc(posted, "retention", "plan")["plan"]}
    assert {kind: plan[kind]["goes"]["count"] for kind in RULES} == dict.fromkeys(RULES, 1)
    assert plan["extracts"] == {
        "content": "extracts", "period": "forever", "goes": {"count": 0, "bytes": 0}, "kept": {},
        "erased_before": {"count": 0, "bytes": 0},
    }  # fmt: skip
    assert mlc(posted, "retention", "run", "--dry-run")["plan"]
    done = mlc(posted, "retention", "run")
    assert {kind: each["count"] for kind, each in done["erased"].items()} == dict.fromkeys(RULES, 1)
    assert done["files_removed"] == 1


def test_every_command_says_what_was_erased(posted: DagsterFlow) -> None:
    """The row is there, with its hash; the text says when and by which rule."""
    run_mlc("--config", config_of(posted), "retention", "run")
    [file] = mlc(posted, "files", "list")["files"]
    assert "by the rule retention.source_files: 1d" in file["erased"]
    assert file["sha256"]
    [row] = posted.rows(schema.invoice)
    [page] = mlc(posted, "invoices", "show", str(row["id"]))["invoices"]
    assert "retention.invoices: 1d" in page["appearances"][0]["erased"]
    assert "retention.requests: 1d" in page["attempts"][0]["erased"]
    assert page["attempts"][0]["body_sha256"]
    shown = run_mlc("--config", config_of(posted), "invoices", "show", str(row["id"])).stdout
    assert "Body of attempt 1: erased on" in shown
    seal = verify(posted.remote.ledger)
    assert seal.fault is None


def test_reconciling_an_erased_window_finds_nothing_damaged(posted: DagsterFlow) -> None:
    """Somebody re-materialises an old partition: nothing is posted twice, and nothing is called damage."""
    [row] = posted.rows(schema.source_file)
    window = row["window_start"].strftime("%Y-%m-%d-%H:%M")
    run_mlc("--config", config_of(posted), "retention", "run")
    before = posted.remote.fusion.books.totals()
    [again] = posted.poll(window=window).windows
    assert again.unchanged
    assert set(again.checks.values()) == {True}
    assert posted.remote.fusion.books.totals() == before
    assert f"{file_name(1)}: not read again, erased on" in str(posted.metadata("stampli_invoice_files")["summary"])


def test_a_hold_stops_the_run_until_two_people_release_it(posted: DagsterFlow) -> None:
    """One person alone must not be able to make evidence go."""
    config = config_of(posted)
    hold = ("--config", config, "retention", "hold")
    assert run_mlc(*hold, "add", *ONE, "--company", "C100").exit_code == 0
    assert mlc(posted, "retention", "run")["files_removed"] == 0
    plan = {each["content"]: each for each in mlc(posted, "retention", "plan")["plan"]}
    assert plan["invoices"]["kept"] == {
        "legal hold 1": {"count": 1, "bytes": plan["invoices"]["kept"]["legal hold 1"]["bytes"]}
    }
    alone = ("--by", "Ada", "--approved-by", "ada", "--reason", "the case is closed")
    assert run_mlc(*hold, "release", "1", *alone).exit_code == 2
    assert "company C100" in run_mlc(*hold, "list").stdout
    assert run_mlc(*hold, "release", "1", *BOTH).exit_code == 0
    assert run_mlc(*hold, "release", "1", *BOTH).exit_code == 2
    assert "No legal hold." in run_mlc(*hold, "list").stdout
    assert mlc(posted, "retention", "run")["files_removed"] == 1


def test_a_hold_that_names_nothing_is_refused(posted: DagsterFlow) -> None:
    """With what to do instead."""
    refused = run_mlc("--config", config_of(posted), "retention", "hold", "add", *ONE)
    assert refused.exit_code == 2
    assert "give a company, supplier, invoice, file or period" in refused.stderr

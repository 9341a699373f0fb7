"""What the ledger says is true after each single commit, not only at the end: any of them may be the last one.

Looked at from a connection of its own, as the next process would, while a whole poll goes on.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from mlc_dagster.ledger.archive import Archive, ArchiveDamaged
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import fusion_claim, invoice, invoice_occurrence, source_file, submission
from mlc_dagster.ledger.states import CREATED_STATES, IN_FLIGHT_STATES, InvoiceState
from mlc_dagster.ledger.submissions import WAITING_PHASES, Phase
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.faults.scenes import SCENES, Scene, finish, judge
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal


@pytest.fixture(params=["sqlite", "postgres"])
def flow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rehearsal]:
    """The ledger on either database."""
    url: str | None = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with rehearsal(tmp_path, ledger_url=url, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        yield running


def untruths(reading: Transaction, archive: Archive) -> Iterator[str]:
    """What must not be true at any time, one sentence each."""
    yield from _files(reading, archive)
    open_attempts = _count_by(reading, submission.c.invoice_pk, submission.c.ended_at.is_(None), _unfinished())
    claims = _count_by(reading, fusion_claim.c.invoice_pk)
    created = _count_by(reading, submission.c.invoice_pk, submission.c.phase == str(Phase.CREATED))
    for row in reading.rows(sa.select(invoice)):
        name, state = f"{row['number']} is {row['state']}", InvoiceState(row["state"])
        attempts = open_attempts.get(row["id"], 0)
        if attempts != (1 if state in IN_FLIGHT_STATES else 0):
            yield f"{name} and has {attempts} attempts that are not over"
        uncertain = state in IN_FLIGHT_STATES or row["reason"] == "SUBMIT_UNKNOWN"
        if (uncertain or state in CREATED_STATES) and row["id"] not in claims:
            yield f"{name}, and its number is free for another invoice"
        if state in CREATED_STATES and not (created.get(row["id"]) and row["fusion_invoice_id"]):
            yield f"{name} without an attempt that created it, or without an InvoiceId"


def _files(reading: Transaction, archive: Archive) -> Iterator[str]:
    entered = _count_by(reading, invoice_occurrence.c.file_id)
    for row in reading.rows(sa.select(source_file)):
        state = FileState(row["state"])
        if state in (FileState.RECEIVED, FileState.READ):
            try:
                archive.path(row["sha256"])
            except ArchiveDamaged as damage:
                yield f"{row['path']} is {state}: {damage}"
        if state is FileState.READ and entered.get(row["id"], 0) != row["invoices"]:
            yield f"{row['path']} is READ with {entered.get(row['id'], 0)} of {row['invoices']} invoices"


def _unfinished() -> sa.ColumnElement[bool]:
    return submission.c.phase.in_([str(Phase.INTENT), *WAITING_PHASES])


def _count_by(reading: Transaction, key: sa.ColumnElement[Any], *where: sa.ColumnElement[bool]) -> dict[int, int]:
    statement = sa.select(key.label("key"), sa.func.count().label("count")).where(*where).group_by(key)
    return {row["key"]: row["count"] for row in reading.rows(statement)}


def look_after_commits(monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> None:
    """``look`` after each commit that wrote something."""
    commit, looking = DefaultDialect.do_commit, threading.local()

    def do_commit(dialect: DefaultDialect, connection: Any) -> None:
        commit(dialect, connection)
        # A look is a transaction too.
        if not getattr(looking, "now", False):
            looking.now = True
            try:
                look()
            finally:
                looking.now = False

    monkeypatch.setattr(DefaultDialect, "do_commit", do_commit)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_ledger_is_true_after_every_commit(flow: Rehearsal, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies here leaves what the next one can go on from."""
    archive, found, looks = flow.inbound.archive, set[str](), list[None]()

    def look() -> None:
        looks.append(None)
        with flow.ledger.reading() as reading:
            found.update(untruths(reading, archive))

    with monkeypatch.context() as patched:
        look_after_commits(patched, look)
        scene.prepare(flow)
        finish(flow)
    assert found == set()
    assert len(looks) > 20
    judge(flow, scene)

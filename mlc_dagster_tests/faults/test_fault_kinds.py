"""Each kind of fault of the two remote sides over a small set of invoices, through polls until all is done.

Judged by the embedded Fusion's own books. ``make test`` has each kind once on SQLite; ``make test-faults``
(``MLC_FAULTS=all``) has them at every request that they can strike, and on PostgreSQL.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_dagster.assets.failures import FailureKind, kind_of
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.kinds import (
    BOOKS,
    BUCKETS,
    FUSION_KINDS,
    LOOK_UPS,
    PACKETS,
    READS,
    REQUESTS,
    SFTP_KINDS,
    TOKENS,
    FusionKind,
    SftpKind,
    be_patient,
    prepare,
)
from mlc_dagster_tests.faults.scenes import Scene, finish, judge
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.protocols.intake import served_faultily
from mlc_dagster_tests.protocols.posting import posts
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

ALL = os.environ.get("MLC_FAULTS") == "all"
FAR = 10_000
SCENE = Scene("fault kinds", prepare, BOOKS, BUCKETS, boundaries=0)


def fusion_matrix(*, step: int = 1) -> list[object]:
    return [
        pytest.param(kind, place, id=f"{kind.name} at {place}")
        for kind in FUSION_KINDS
        for place in range(0, kind.places, step)
    ]


def sftp_matrix(*, step: int = 1) -> list[object]:
    return [
        pytest.param(kind, place, id=f"{kind.name} at {place}")
        for kind in SFTP_KINDS
        for place in range(0, kind.places, step)
    ]


def attempt(act: Callable[[], object]) -> None:
    """As a sensor or a run does it: what goes wrong at a remote side is told; anything else is a fault of ours."""
    try:
        act()
    except Exception as error:
        if kind_of(error) is FailureKind.UNEXPECTED:
            raise


def poll(flow: Rehearsal) -> None:
    """A poll of the daemon and its runs; each may fail."""
    wanted: list[RunWanted] = []
    attempt(lambda: wanted.extend(flow.poll().runs))
    for run in wanted:
        attempt(lambda run=run: flow.run(run))


def survive(flow: Rehearsal, relieve: Callable[[], object] | None) -> None:
    """Two polls under the fault, two more without it or with what is left of it, and the judgement.

    What was parked because nothing was visible is cured as the status job does it.
    """
    for turn in range(4):
        if turn == 2:
            if relieve is not None:
                relieve()
            # What is stuck has been so by now; on a busy machine the rest is slow enough.
            be_patient(flow, 10)
            # Reference data is kept for an hour.
            flow.clock.advance(3600)
            attempt(lambda: observe_step(flow.inbound, statuses=False))
        poll(flow)
        flow.clock.advance(600)
    finish(flow)
    judge(flow, SCENE)


def under_fusion_fault(flow: Rehearsal, kind: FusionKind, place: int | None) -> None:
    flow.open_feed()
    prepare(flow)
    faults = kind.strike(flow, place)
    survive(flow, flow.fusion.faults.clear if kind.lasts else None)
    assert all(fault.fired for fault in faults), "the fault never struck"


def under_sftp_fault(flow: Rehearsal, kind: SftpKind, place: int) -> None:
    flow.open_feed()
    prepare(flow)
    with served_faultily(flow) as server:
        survive(flow, kind.strike(flow, server, place))
        assert kind.struck(server), "the fault never struck"


@pytest.mark.parametrize("kind", FUSION_KINDS, ids=lambda kind: kind.name)
def test_fusion_goes_wrong(tmp_path: Path, kind: FusionKind) -> None:
    """Whatever Fusion answers or does not: nothing lost, nothing twice, all of it in Fusion at last."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        under_fusion_fault(flow, kind, None)


@pytest.mark.parametrize("kind", SFTP_KINDS, ids=lambda kind: kind.name)
def test_sftp_goes_wrong(tmp_path: Path, kind: SftpKind) -> None:
    """Whatever the SFTP server does: no file is read in part, none is read twice, all are read at last."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        under_sftp_fault(flow, kind, 3)


def test_the_places_are_all_there_are(tmp_path: Path) -> None:
    """A request that is added to the flow later must not be one that no fault ever struck."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        flow.open_feed()
        prepare(flow)
        flow.change_config({"fusion": {"request_timeout": 30}})
        books, counted = flow.fusion.books, list[tuple[int, ...]]()
        with served_faultily(flow) as server:
            server.faults.drop_at = FAR

            def count() -> None:
                tokens = books.count("POST", "oauth2/v1/token")
                reads, look_ups = books.count("GET"), books.count("GET", "invoices")
                packets = FAR - (server.faults.drop_at or 0)
                counted.append((books.count() - tokens, reads, look_ups, posts(flow), tokens, packets))

            survive(flow, count)
    assert counted == [(REQUESTS, READS, LOOK_UPS, len(BOOKS), TOKENS, PACKETS)]


@pytest.mark.skipif(not ALL, reason="make test-faults")
@pytest.mark.parametrize(("kind", "place"), fusion_matrix())
def test_fusion_goes_wrong_at_a_request(tmp_path: Path, kind: FusionKind, place: int) -> None:
    """The same fault means another thing to a look-up, a POST and a read-back."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        under_fusion_fault(flow, kind, place)


@pytest.mark.skipif(not ALL, reason="make test-faults")
@pytest.mark.parametrize(("kind", "place"), sftp_matrix())
def test_sftp_goes_wrong_at_a_request(tmp_path: Path, kind: SftpKind, place: int) -> None:
    """Listing, opening, reading, looking again, closing: each may be the one."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        under_sftp_fault(flow, kind, place)


@pytest.mark.skipif(not ALL, reason="make test-faults")
@pytest.mark.parametrize(("kind", "place"), fusion_matrix(step=5))
def test_fusion_goes_wrong_on_postgresql(tmp_path: Path, postgres_url: str, kind: FusionKind, place: int) -> None:
    """The same where a transaction waits for another one instead of being refused."""
    with rehearsal(tmp_path, ledger_url=postgres_url, seed=Seed(20, TODAY)) as flow:
        under_fusion_fault(flow, kind, place)


@pytest.mark.skipif(not ALL, reason="make test-faults")
@pytest.mark.parametrize(("kind", "place"), sftp_matrix(step=5))
def test_sftp_goes_wrong_on_postgresql(tmp_path: Path, postgres_url: str, kind: SftpKind, place: int) -> None:
    """The same with the other database."""
    with rehearsal(tmp_path, ledger_url=postgres_url, seed=Seed(20, TODAY)) as flow:
        under_sftp_fault(flow, kind, place)

"""SIGKILL at every boundary of a poll: each commit, request, packet and fsync, on both databases.

``make test`` takes a fixed sample; ``make test-faults`` takes all of them (``MLC_FAULTS=all``).
"""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.faults.mortal import poll_until_death
from mlc_dagster_tests.faults.scenes import SCENES, Scene, finish, judge
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

TODAY = dt.date(2026, 11, 21)
ALL = os.environ.get("MLC_FAULTS") == "all"
SAMPLE = 2
"""Points of each scene that ``make test`` takes, evenly spread."""


def points(scene: Scene, *, every: bool, first: int = 0) -> Iterator[int]:
    step = 1 if every else max(1, scene.boundaries // SAMPLE)
    yield from range(first, scene.boundaries, step)


def matrix(*, every: bool, first: int = 0) -> list[object]:
    return [
        pytest.param(scene, at, id=f"{scene.name} at {at}")
        for scene in SCENES
        for at in points(scene, every=every, first=first)
    ]


def survive(flow: Rehearsal, scene: Scene, at: int) -> None:
    flow.open_feed()
    scene.prepare(flow)
    poll_until_death(flow, at)
    finish(flow)
    judge(flow, scene)


@pytest.fixture(params=["sqlite", "postgres"])
def flow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rehearsal]:
    """A poll's boundaries are counted on either database."""
    url: str | None = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with rehearsal(tmp_path, ledger_url=url, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        yield running


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_every_boundary_is_in_the_matrix(flow: Rehearsal, scene: Scene) -> None:
    """A step that is added to the flow later must not be one that nobody ever died at."""
    scene.prepare(flow)
    passed = poll_until_death(flow, None)
    assert passed is not None
    assert len(passed) <= scene.boundaries
    assert len(passed) > scene.boundaries * 0.75
    finish(flow)
    judge(flow, scene)


def test_c1_the_intent_is_committed_between_look_up_and_request(flow: Rehearsal) -> None:
    """What the whole matrix rests on: a writer that commits past the instrumentation would die nowhere in between."""
    SCENES[0].prepare(flow)
    passed = poll_until_death(flow, None)
    assert passed is not None
    sent = passed.index("before POST invoices")
    looked_up = max(place for place, name in enumerate(passed[:sent]) if name == "after GET invoices")
    assert "after commit" in passed[looked_up:sent]
    assert "before commit" in passed[passed.index("after POST invoices") :]
    assert {"before fsync", "before replace", "before SFTP packet read"} <= set(passed)


def test_the_matrix_is_no_small_one() -> None:
    """The sample of this suite is a sample of something."""
    assert sum(scene.boundaries for scene in SCENES) >= 300


@pytest.mark.parametrize(("scene", "at"), matrix(every=ALL))
def test_death_at_a_boundary(tmp_path: Path, scene: Scene, at: int) -> None:
    """Whatever moment a process dies at: later polls finish the rest without a person, nothing is lost or twice."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        survive(flow, scene, at)


@pytest.mark.parametrize(("scene", "at"), matrix(every=ALL, first=0 if ALL else 17))
def test_death_at_a_boundary_on_postgresql(tmp_path: Path, postgres_url: str, scene: Scene, at: int) -> None:
    """The same where other processes' transactions are seen differently, and locks are another server's."""
    with rehearsal(tmp_path, ledger_url=postgres_url, seed=Seed(20, TODAY)) as flow:
        survive(flow, scene, at)


def pairs(*, every: bool) -> list[object]:
    """Deaths in the first poll with deaths in the one that takes up what is left."""
    step = 9 if every else 60
    return [
        pytest.param(scene, at, again, id=f"{scene.name} at {at}, then at {again}")
        for scene in (SCENES if every else SCENES[:1])
        for at in range(step - 1, scene.boundaries, step)
        for again in ((5, 25, 45) if every else (25,))
    ]


@pytest.mark.parametrize(("scene", "at", "again"), pairs(every=ALL))
def test_death_while_a_death_is_recovered_from(tmp_path: Path, scene: Scene, at: int, again: int) -> None:
    """What a recovery leaves half-way is taken up like anything else."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        flow.open_feed()
        scene.prepare(flow)
        poll_until_death(flow, at)
        flow.clock.advance(600)
        poll_until_death(flow, again)
        finish(flow)
        judge(flow, scene)

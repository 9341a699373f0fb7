"""Fixtures for the embedded Fusion: a server on 2026-11-21 and a caller with a token."""

import datetime as dt
from collections.abc import Iterator

import pytest

from mlc_dagster.sandbox.fusion.world import Policies
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller

TODAY = dt.date(2026, 11, 21)


def midday() -> dt.datetime:
    """The server's clock: the seed's day, so that the tests still pass next year."""
    now = dt.datetime.now(dt.UTC)
    return dt.datetime.combine(TODAY, now.timetz())


@pytest.fixture(scope="session")
def running_fusion() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(today=TODAY), clock=midday) as sandbox:
        yield sandbox


@pytest.fixture
def fusion(running_fusion: FusionSandbox) -> FusionSandbox:
    """A running embedded Fusion with twenty suppliers and nothing else in it."""
    running_fusion.world.policies = Policies()
    running_fusion.reset()
    return running_fusion


@pytest.fixture
def caller(fusion: FusionSandbox) -> Iterator[Caller]:
    """Calls with framework version 4."""
    with Caller(fusion) as signed_in:
        yield signed_in

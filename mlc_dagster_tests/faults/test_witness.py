"""The judge of the matrices can say no: what it must find is done here by hand, against the embedded Fusion."""

import datetime as dt
from collections.abc import Iterator

import httpx
import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.faults.witness import assert_sent_with_proof
from mlc_dagster_tests.sandbox.fusion_caller import Caller, invoice


def midday() -> dt.datetime:
    return dt.datetime.combine(TODAY, dt.datetime.now(dt.UTC).timetz())


@pytest.fixture
def caller() -> Iterator[Caller]:
    with FusionSandbox(Seed(20, TODAY), clock=midday) as fusion, Caller(fusion) as signed_in:
        yield signed_in


def send(caller: Caller, kind: str | None = None, **how: object) -> None:
    if kind is not None:
        caller.fusion.faults.add(kind, method="POST", path="invoices", count=1, **how)
    try:
        caller.post(invoice())
    except httpx.TransportError:
        assert kind is not None


def look(caller: Caller, number: str = "INV-1") -> None:
    caller.items("invoices", q=f"InvoiceNumber in ('{number}','CLERK-1')", offset=0, limit=25)


def said_no(caller: Caller) -> bool:
    try:
        assert_sent_with_proof(caller.fusion)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "how", "needed"),
    [
        ("reset", {}, 2),
        ("status", {"status": 500}, 2),
        ("status", {"status": 503}, 1),
        ("status", {"status": 403}, 1),
        ("status", {"status": 401}, 0),
    ],
    ids=["reset", "500", "503", "403", "401"],
)
def test_too_few_look_ups_between_two_copies(caller: Caller, kind: str, how: dict[str, object], needed: int) -> None:
    """The heart of C4, seen from the other side of the wire."""
    send(caller, kind, **how)
    for _ in range(needed - 1):
        look(caller)
    send(caller)
    assert said_no(caller) == (needed > 0)


@pytest.mark.parametrize(("kind", "needed"), [("reset", 2), ("status", 1)])
def test_enough_look_ups(caller: Caller, kind: str, needed: int) -> None:
    """It does not say no to everything."""
    send(caller, kind)
    for _ in range(needed):
        look(caller)
    send(caller)
    assert_sent_with_proof(caller.fusion)


def test_a_blinded_look_up_is_none(caller: Caller) -> None:
    """Zero rows for lost data access prove nothing."""
    send(caller, "reset")
    look(caller)
    caller.fusion.faults.add("zero_rows", method="GET", count=1)
    look(caller)
    send(caller)
    assert said_no(caller)


def test_a_look_up_of_another_number_is_none(caller: Caller) -> None:
    """INV-10 is not INV-1."""
    send(caller, "reset")
    look(caller)
    look(caller, "INV-10")
    send(caller)
    assert said_no(caller)


def test_a_copy_of_what_the_look_ups_showed(caller: Caller) -> None:
    """Two look-ups that both show the invoice, and it is sent all the same: Fusion's own refusal must not hide that."""
    send(caller, "commit_then_reset")
    look(caller)
    look(caller)
    send(caller)
    assert len(caller.fusion.books.invoices(number="INV-1")) == 1
    assert said_no(caller)

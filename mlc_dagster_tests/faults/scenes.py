"""What a poll may meet when it is killed: each scene prepares the two remote sides and says what must be true at last.

The judge is the embedded Fusion's own books; the ledger is asked only whether everything is accounted for.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster_tests.faults.witness import assert_sent_with_proof
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    clerk,
    drop,
    later,
    one,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal

_ON_THEIR_WAY = {InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.SENDING, InvoiceState.UNKNOWN}
_POLLS = 8
"""Later polls after which everything must have come to its end."""


@dataclass(frozen=True)
class Scene:
    """``prepare`` leaves the remote sides so that the next poll does the work."""

    name: str
    prepare: Callable[[Rehearsal], None]
    books: tuple[str, ...]
    """Numbers of the invoices that are in Fusion at last, each once."""
    buckets: Mapping[str, int]
    """The equation at last."""
    boundaries: int
    """At least as many as its poll passes; a test counts them."""


def _settle(flow: Rehearsal) -> None:
    """The first look at the folder; the next one finds the files settled."""
    flow.poll()
    flow.clock.advance(flow.inbound.stampli.settle_seconds + 1)


def _new_files(flow: Rehearsal) -> None:
    clerk(flow)
    drop(flow, [*one("INV-1"), *one("INV-2", "10.00", "20.00"), *one("INV-9", vendor_id="99999"), *one("INV-3")])
    drop(flow, [*one("INV-1", invoice_id="id-INV-1"), *one("INV-4"), *one("INV-8", invoice_amount="1.00")], 2)
    _settle(flow)


def _unknown_outcomes(flow: Rehearsal) -> None:
    clerk(flow)
    flow.fusion.faults.add("commit_then_reset", method="POST", path="invoices", count=1)
    # Not the same request: one that is cut on its way in stores nothing, whatever else strikes it.
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1, skip=1)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    drop(flow, [*one("INV-1"), *one("INV-2"), *one("INV-3")])
    flow.process()
    flow.change_config({"fusion": {"wait_in_run": 5}})
    flow.clock.advance(600)


def _correction(flow: Rehearsal) -> None:
    clerk(flow)
    drop(flow, [*one("INV-1"), *one("INV-2", invoice_amount="1.00")])
    flow.process()
    again = {"invoice_revision": "2", "approved_at": "2026-11-01T16:02:11Z"}
    drop(flow, [*one("INV-1", "150.00", **again), *one("INV-2", "75.00", **again)], 2)
    _settle(flow)


def _validated_in_fusion(flow: Rehearsal) -> None:
    clerk(flow)
    flow.change_config({"stampli": {"companies": {"C100": {"after_create": "validate"}}}})
    drop(flow, [*one("INV-1"), *one("INV-2"), *one("INV-3")])
    _settle(flow)


SCENES = (
    Scene(
        "new files",
        _new_files,
        ("INV-1", "INV-2", "INV-3", "INV-4"),
        {"created": 4, "parked": 2, "duplicate": 1},
        boundaries=135,
    ),
    Scene("unknown outcomes", _unknown_outcomes, ("INV-1", "INV-2", "INV-3"), {"created": 3}, boundaries=70),
    Scene("a correction", _correction, ("INV-1", "INV-2"), {"created": 2, "parked": 1, "superseded": 1}, boundaries=70),
    Scene("validated in Fusion", _validated_in_fusion, ("INV-1", "INV-2", "INV-3"), {"created": 3}, boundaries=130),
)


def finish(flow: Rehearsal) -> None:
    """Polls as the daemon would, without a person, until nothing is on its way any more."""
    for _ in range(_POLLS):
        later(flow)
        if not on_their_way(flow) and not flow.poll().runs:
            return
    raise AssertionError(f"after {_POLLS} polls there is work left: {on_their_way(flow)}")


def on_their_way(flow: Rehearsal) -> list[str]:
    """Invoices that are not at an end; two may have one number."""
    with flow.ledger.reading() as reading:
        rows = reading.rows(sa.select(invoice).order_by(invoice.c.id))
    return [f"{row['source_key']} {row['state']}" for row in rows if InvoiceState(row["state"]) in _ON_THEIR_WAY]


def judge(flow: Rehearsal, scene: Scene) -> None:
    """Nothing lost, nothing twice, everything accounted for, nothing sent again without proof."""
    assert_books(flow, *scene.books)
    assert_adds_up(flow, **scene.buckets)
    assert_sent_with_proof(flow.fusion)
    rows = attempts(flow)
    for key in {row["invoice_pk"] for row in rows}:
        for before, _ in itertools.pairwise(row for row in rows if row["invoice_pk"] == key):
            phase = Phase(before["phase"])
            assert phase in (Phase.ABSENT, Phase.REFUSED, Phase.REJECTED, Phase.RELEASED), (key, phase)
            if phase is Phase.ABSENT:
                assert before["absences"] >= 2, f"invoice {key}: sent again after {before['absences']} look-ups"

"""Signatures that were taken away, a key that came later, and links where no chain has any."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_rows import append_links
from mlc_dagster.ledger.audit_sealing import make_checkpoints, take_new_key
from mlc_dagster.ledger.checkpoints import Checkpointing, CheckpointRefused
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.types import canonical_json
from mlc_dagster_tests.ledger.checkpointed import APPROVAL, checkpointing, seal_with, tamper, write
from mlc_dagster_tests.ledger.population import WINDOW, events


@pytest.fixture
def place(tmp_path: Path) -> Checkpointing:
    return checkpointing(tmp_path)


def strip(ledger: Ledger, place: Checkpointing) -> None:
    """Take the signatures away in both places, as who rebuilt the chain has to."""
    tamper(ledger, "update audit_checkpoint set key_id = null, signature = null")
    lines = [json.loads(line) for line in place.file.path.read_text().splitlines()]
    bare = [canonical_json(line | {"key_id": None, "signature": None}) for line in lines]
    place.file.path.write_text("".join(f"{line}\n" for line in bare))


def test_signatures_that_were_taken_away_are_found(ledger: Ledger, place: Checkpointing) -> None:
    """With a key configured; else a rebuilt chain would only need its hashes replaced."""
    seal_with(ledger, place, *"abcdef")
    strip(ledger, place)
    [fault] = verify(ledger, place).faults
    assert fault.startswith("no checkpoint is signed, the newest is of link 6, although a key is configured")


def test_nothing_is_signed_on_top_of_missing_signatures(ledger: Ledger, place: Checkpointing) -> None:
    """The next run's signature would cover what somebody made up, and hide that the older ones are gone."""
    seal_with(ledger, place, *"abcdef")
    strip(ledger, place)
    write(ledger, *"gh")
    seal(ledger)
    with pytest.raises(CheckpointRefused, match=r"of link 6, has no signature.*`mlc audit new-key`"):
        make_checkpoints(ledger, place, now=True)
    assert len(place.file.read()[0]) == 2


def test_a_key_that_came_later_is_taken_by_two_people(ledger: Ledger, tmp_path: Path, place: Checkpointing) -> None:
    """The checkpoints from before it hold unsigned; who said so is under the first signature."""
    assert place.key is not None
    seal_with(ledger, checkpointing(tmp_path, signed=False), *"abcd")
    assert take_new_key(ledger, place, APPROVAL) > 0
    found = verify(ledger, place)
    assert (found.faults, found.unsealed, found.checkpoints.signed) == ((), 0, 1)
    taken = events(ledger)[-1]
    assert (taken["kind"], taken["detail"]["after"]) == ("audit.key_taken", {"key_id": place.key.key_id})
    assert (taken["detail"]["by"], taken["detail"]["approved_by"]) == ("Ada Lovelace", "Grace Hopper")
    assert seal_with(ledger, place, *"efghi") > 0
    assert verify(ledger, place).faults == ()


def test_a_new_key_does_not_replace_one_in_use(ledger: Ledger, tmp_path: Path, place: Checkpointing) -> None:
    """Two people may say that there was no key; they may not sign over the checkpoints of one."""
    seal_with(ledger, place, *"abc")
    with pytest.raises(CheckpointRefused, match="does not hold without the key"):
        take_new_key(ledger, checkpointing(tmp_path), APPROVAL)


def insert_link(ledger: Ledger, seq: int, event_id: int) -> None:
    with ledger.transaction() as transaction:
        append_links(transaction, [(seq, event_id, "x", "y")])


def insert_event(ledger: Ledger, event_id: int) -> None:
    with ledger.transaction() as transaction:
        transaction.execute(
            sa.insert(schema.audit_event).values(
                id=event_id, at=WINDOW, actor="ann", kind="invoice.released", subject="invoice:5", detail={}
            )
        )


@pytest.mark.parametrize("seq", [0, -3])
def test_a_link_below_the_first_hides_no_event(ledger: Ledger, place: Checkpointing, seq: int) -> None:
    """It would count as the link of an event that somebody put in, where the walk does not come by."""
    seal_with(ledger, place, *"abc")
    insert_event(ledger, -7)
    assert verify(ledger, place).faults == (
        "event -7 was inserted: events are numbered from 1 (invoice.released of invoice:5)",
    )
    insert_link(ledger, seq, -7)
    found = verify(ledger, place)
    assert found.faults[0] == f"link {seq} was put in with event -7: links are numbered from 1"
    assert (found.unsealed, len(found.faults)) == (1, 2)
    assert seal_with(ledger, place, "d") == 0
    assert verify(ledger, place).unsealed == 1


@pytest.mark.parametrize("seq", [9_000_000, 2**63 - 1])
def test_a_link_far_away_does_not_stop_the_sealing(ledger: Ledger, place: Checkpointing, seq: int) -> None:
    """One row of whoever may append would otherwise leave everything after it unproven for good."""
    seal_with(ledger, place, *"abc")
    insert_link(ledger, seq, 77)
    write(ledger, *"def")
    assert seal(ledger) == 3
    assert make_checkpoints(ledger, place) == 1
    found = verify(ledger, place)
    assert found.sealed == 6
    assert f"the chain goes on with {seq}" in found.faults[0]


def test_links_that_leave_no_number_are_named(ledger: Ledger) -> None:
    """Not a database's error about integers."""
    insert_event(ledger, 2**63 - 2)
    insert_link(ledger, 2**63 - 3, 77)
    insert_link(ledger, 2**63 - 2, 78)
    with pytest.raises(LedgerError, match=r"was put in far behind the chain's end; run `mlc audit verify`"):
        seal(ledger)


def test_an_event_removed_before_it_was_sealed_leaves_its_number(ledger: Ledger) -> None:
    """SQLite gives numbers without gaps, so that even what no link covers yet cannot go unseen, before or after."""
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's numbers have honest gaps")
    write(ledger, *"abc")
    seal(ledger)
    write(ledger, *"defg")
    tamper(ledger, "delete from audit_event where id in (4, 5)")
    told = "events 4 to 5 are missing, and in no link: removed before it was sealed, or a later one was put in"
    assert verify(ledger).faults == (told,)
    seal(ledger)
    assert verify(ledger).faults == (told,)
    with suppress(ZeroDivisionError), ledger.transaction() as transaction:
        transaction.audit("test.happened", "h")
        transaction.flush_audit()
        transaction.audit("test.undone", str(1 // 0))
    write(ledger, "i")
    assert verify(ledger).faults == (told,)


def test_the_newest_event_removed_is_found(ledger: Ledger) -> None:
    """There is no later one that shows the gap; the number that was given last does."""
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's numbers have honest gaps")
    write(ledger, *"abc")
    tamper(ledger, "delete from audit_event where id = 3")
    told = "event 3 is missing, and in no link: removed before it was sealed, or a later one was put in"
    assert verify(ledger).fault == told

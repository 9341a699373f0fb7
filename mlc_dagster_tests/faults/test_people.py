"""People work in Fusion and in Stampli while invoices are posted: nothing is doubled, and what they did stands.

Proven elsewhere and not repeated: a clerk enters the invoice before, between look-up and POST, or after a time-out
(C2, C3, C5); deletes or cancels it after posting (C6); a crosswalk changes after posting (B2); a correction before and
after posting, and while an outcome is unknown (B4); a supplier renamed or inactive at the POST (H5, B3); each in
``protocols/``. Here: the same people at the moments in between, and the ledger of yesterday.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    beside,
    clerk,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    only,
    ours,
    phases,
    posts,
    states,
    until,
)
from mlc_dagster_tests.servers.postgres import PostgresServer
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.runner import RunProcess
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv

OTHER_SUPPLIER = "30014"
REVISED = {"invoice_revision": "2", "approved_at": "2026-11-01T16:02:11Z"}


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    """Both remote sides and the flow; a clerk's invoice is there, so that absence can be proven."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        clerk(running)
        yield running


def booked(flow: Rehearsal, number: str) -> int:
    [found] = flow.fusion.books.invoices(number=number)
    return found.invoice_id


def lost_answer(flow: Rehearsal, *rows: dict[str, str], count: int = 1) -> None:
    """Posted and stored; so many answers were lost, and nobody has looked yet."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=count)
    drop(flow, list(rows))
    flow.process()
    flow.change_config({"fusion": {"wait_in_run": 5}})


# A clerk at the invoice.


def test_c6_an_invoice_deleted_before_it_was_looked_for_is_posted_once_more_and_stands_once(flow: Rehearsal) -> None:
    """Nobody knows that it was there: two absences prove that it is not, and one stands in the end."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    finish(flow)
    assert phases(flow) == ["ABSENT", "CREATED"]
    assert [each.deleted for each in flow.fusion.books.invoices(number="INV-1")] == [True, False]
    assert states(flow) == {"INV-1": "CONFIRMED"}


def test_c6_an_invoice_cancelled_before_it_was_looked_for_is_not_sent_again(flow: Rehearsal) -> None:
    """Cancelled, it keeps its number in Fusion: that is somebody's decision and no absence."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.cancel_invoice(booked(flow, "INV-1"))
    finish(flow)
    assert posts(flow) == 1
    assert states(flow)["INV-1"] in ("VOIDED_IN_FUSION", "ALREADY_IN_FUSION")
    assert invoices(flow)["INV-1"]["fusion_invoice_id"] == booked(flow, "INV-1")


def test_c6_cancelled_between_answer_and_read_back_is_seen_in_the_same_run(flow: Rehearsal) -> None:
    """Its creation is known: whatever became of it, it does not return to sending."""
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.cancel_invoice(booked(flow, "INV-1"))
        gate.release()
        run.result(30)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "VOIDED_IN_FUSION"}


def test_c6_a_renumbered_invoice_is_followed_by_its_id(flow: Rehearsal) -> None:
    """A clerk corrects the number of what we posted: it is told as a difference, and is no missing invoice."""
    drop(flow, many(2))
    flow.process()
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.renumber_invoice(invoice_id, "INV-1A")
    observe_step(flow.inbound)
    drop(flow, one("INV-1"), 2)
    flow.clock.advance(1000)
    flow.process()
    assert posts(flow) == 2
    row = invoices(flow)["INV-1"]
    assert (row["fusion_invoice_id"], row["state"] in ("CONFIRMED", "CREATED")) == (invoice_id, True)
    assert_books(flow, "INV-1A", "INV-2")
    assert_adds_up(flow, created=2, duplicate=1)


def test_c6_a_renumbered_invoice_frees_its_number_for_nobody_here(flow: Rehearsal) -> None:
    """Another document of Stampli's under the old number may be the same purchase: the claim holds it for a person."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    drop(flow, one("INV-1", invoice_id="another"), 2)
    flow.clock.advance(1000)
    flow.process()
    assert posts(flow) == 1
    assert_adds_up(flow, created=1, parked=1)


def test_c3_an_invoice_renumbered_before_it_was_looked_for_is_not_sent_again(flow: Rehearsal) -> None:
    """Stored, not answered, and renumbered within the wait: under its old number it is absent, and yet it is there."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    finish(flow)
    assert [each.number for each in ours(flow)] == ["INV-1A"]
    assert posts(flow) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("CREATED", "READ_BACK_DIFFERS")
    assert_adds_up(flow, created=1)


def test_c3_two_of_one_amount_renumbered_before_they_were_looked_for_are_for_a_person(flow: Rehearsal) -> None:
    """Which is which nobody can tell from here; nothing is sent, and both ids are named."""
    lost_answer(flow, *many(2), count=2)
    for number in numbers(2):
        flow.fusion.world.renumber_invoice(booked(flow, number), f"{number}A")
    finish(flow)
    assert posts(flow) == 2
    assert {row["reason"] for row in invoices(flow).values()} == {"SUBMIT_UNKNOWN"}
    told = str(invoices(flow)["INV-1"]["problems"])
    assert all(str(each.invoice_id) in told for each in ours(flow))


def test_c3_one_renumbered_beside_one_of_the_same_amount(flow: Rehearsal) -> None:
    """The other one's answer was lost too: it is found by its own number, and is not taken for the renumbered one."""
    lost_answer(flow, *many(2), count=2)
    renumbered, other = booked(flow, "INV-1"), booked(flow, "INV-2")
    flow.fusion.world.renumber_invoice(renumbered, "INV-1A")
    finish(flow)
    assert posts(flow) == 2
    assert {number: row["fusion_invoice_id"] for number, row in invoices(flow).items()} == {
        "INV-1": renumbered,
        "INV-2": other,
    }


def test_c3_a_clerks_other_invoice_renumbered_to_ours_is_not_posted_beside_it(flow: Rehearsal) -> None:
    """Between look-up and POST somebody corrects a typing error, and the number is taken."""
    wrong = clerk(flow, "INV-l", SupplierNumber=SUPPLIER)
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.world.renumber_invoice(wrong, "INV-1")
        gate.release()
        run.result(30)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", wrong)
    assert ours(flow) == []
    assert_adds_up(flow, already_in_fusion=1)


# A correction while the first version is on its way.


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("sequence", [1, 2], ids=["the same file", "another file"])
def test_b4_a_correction_while_the_request_is_under_way_waits_and_is_for_a_person(
    flow: Rehearsal, stage: str, sequence: int
) -> None:
    """Before or after Fusion stored it, nobody here knows: the correction waits, and is never a second invoice."""
    flow.change_config({"fusion": {"request_timeout": 30}})
    drop(flow, [*one("INV-1"), *one("INV-2")])
    first = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage=stage)
    with RunProcess(flow, first) as run:
        assert gate.wait_held(30, requests=2)
        flow.clock.advance(1000)
        flow.drop(file_name(sequence), invoice_csv([*one("INV-1", "150.00", **REVISED), *one("INV-2")]))
        for wanted in flow.poll_settled().runs:
            if wanted.window_start != first.window_start:
                flow.run(wanted)
        assert states(flow) == {"INV-1": "SENDING", "INV-2": "SENDING"}
        gate.release()
        assert run.result()["created"] == 2
    finish(flow)
    assert posts(flow) == 2
    assert str(flow.fusion.books.invoices(number="INV-1")[0].amount) == "100.00"
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2, parked=1, duplicate=1)


# A supplier.


def test_b3_a_supplier_merged_after_posting_makes_no_new_invoice(flow: Rehearsal) -> None:
    """Its invoices are another supplier's now: ours is followed by its id, and what Stampli sends again is known."""
    drop(flow, one("INV-1"))
    flow.process()
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(2 * 3600)
    drop(flow, [*one("INV-1"), *one("INV-2", vendor_id=OTHER_SUPPLIER)], 2)
    flow.process()
    assert posts(flow) == 2
    assert invoices(flow)["INV-1"]["fusion_invoice_id"] == invoice_id
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2, duplicate=1)


def test_b3_a_number_that_came_with_a_merged_supplier_is_taken(flow: Rehearsal) -> None:
    """Another document of Stampli's, now of the supplier that is left: what the merge brought is in Fusion already."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(2 * 3600)
    drop(flow, one("INV-1", invoice_id="another", vendor_id=OTHER_SUPPLIER), 2)
    flow.process()
    finish(flow)
    assert posts(flow, 201) == 1
    assert len(ours(flow)) == 1
    assert flow.fusion.books.duplicates() == []


def test_b3_an_invoice_of_a_supplier_merged_before_posting_waits_for_a_person(flow: Rehearsal) -> None:
    """Stampli still names the old one, who is inactive: nothing is posted under a supplier that nobody chose."""
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    drop(flow, one("INV-1"))
    flow.process()
    finish(flow)
    assert posts(flow, 201) == 0
    assert_adds_up(flow, parked=1)


def test_b3_a_supplier_merged_before_his_invoice_was_looked_for(flow: Rehearsal) -> None:
    """Stored, not answered, and handed over within the wait: it is in Fusion under another supplier, once."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow)["INV-1"] == "CREATED"
    assert len(ours(flow)) == 1


def test_d3_an_invoice_of_an_inactive_supplier_goes_through_once_he_is_active(flow: Rehearsal) -> None:
    """Deactivated and brought back by people: the invoice waits in between and is posted once, by itself."""
    flow.fusion.change_supplier(SUPPLIER, active=False)
    drop(flow, one("INV-1"))
    flow.process()
    assert (posts(flow), states(flow)) == (0, {"INV-1": "PARKED"})
    flow.fusion.change_supplier(SUPPLIER, active=True)
    flow.clock.advance(2 * 3600)
    observe_step(flow.inbound)
    later(flow)
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


# The ledger of yesterday.


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["Kept"]:
    """The flow with a ledger of either kind, and a way to keep a copy of it."""
    postgres: PostgresServer | None = None
    url: str | None = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        postgres, url = server, server.url(server.create_database())
    with rehearsal(tmp_path, ledger_url=url, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        clerk(running)
        yield Kept(running, postgres)


class Kept:
    """``back_up`` gives what brings the ledger of that moment back."""

    def __init__(self, flow: Rehearsal, postgres: PostgresServer | None) -> None:
        self.flow = flow
        self._postgres = postgres

    def know_by_config(self) -> None:
        """Lets a process of its own open the same ledger."""
        url = self.flow.ledger.engine.url.render_as_string(hide_password=False)
        self.flow.change_config({"ledger": {"url": url}})

    def back_up(self) -> Callable[[], None]:
        url = self.flow.ledger.engine.url
        assert url.database is not None
        if self._postgres is not None:
            # A template must have nobody connected to it.
            self.flow.ledger.engine.dispose()
            template = self._postgres.url(self._postgres.create_database(url.database))
            return lambda: self._open(template)
        there, copy = Path(url.database), self.flow.folder / "backup.sqlite"
        with closing(sqlite3.connect(there)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

        def restore() -> None:
            self.flow.ledger.close()
            for left in there.parent.glob(f"{there.name}-*"):
                left.unlink()
            shutil.copyfile(copy, there)
            self._open(url.render_as_string())

        return restore

    def _open(self, url: str) -> None:
        self.flow.ledger.close()
        self.flow.ledger = open_ledger(url, clock=self.flow.clock)


def known_as(flow: Rehearsal) -> dict[str, int | None]:
    return {number: row["fusion_invoice_id"] for number, row in invoices(flow).items()}


def test_g6_a_ledger_of_yesterday_posts_nothing_again(kept: Kept) -> None:
    """Today's files are read again: Fusion shows their invoices, which are told with their ids and are left alone."""
    flow = kept.flow
    drop(flow, many(2))
    flow.process()
    restore = kept.back_up()
    flow.clock.advance(1000)
    drop(flow, many(2, "NEW"), 2)
    flow.process()
    before = known_as(flow)
    restore()
    flow.clock.advance(1000)
    flow.process()
    finish(flow)
    assert posts(flow) == 4
    assert known_as(flow) == before
    assert {states(flow)[number] for number in numbers(2, "NEW")} == {"ALREADY_IN_FUSION"}
    assert_books(flow, *numbers(2), *numbers(2, "NEW"))
    assert verify(flow.ledger).fault is None


def test_g6_intents_of_yesterday_are_adopted(kept: Kept) -> None:
    """Backed up while requests were under way: what the ledger meant to create is found, and is ours."""
    flow = kept.flow
    kept.know_by_config()
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30, requests=3)
        run.kill()
    restore = kept.back_up()
    gate.release()
    until(lambda: len(ours(flow)) == 3)
    finish(flow)
    restore()
    finish(flow)
    assert posts(flow) == 3
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_g6_what_was_parked_yesterday_and_posted_since_is_not_posted_again(kept: Kept) -> None:
    """Its supplier came in the meantime: the restored ledger finds the cure again, and Fusion shows the invoice."""
    flow = kept.flow
    drop(flow, one("INV-1", vendor_id="39999"))
    flow.process()
    restore = kept.back_up()
    flow.fusion.create_supplier("39999", "Late Ltd")
    observe_step(flow.inbound)
    later(flow)
    assert_books(flow, "INV-1")
    restore()
    flow.clock.advance(2 * 3600)
    observe_step(flow.inbound)
    later(flow)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}
    assert_books(flow, "INV-1")


def test_g6_a_correction_that_yesterday_does_not_know_of_is_not_posted_beside_the_first(kept: Kept) -> None:
    """Revision 1 was posted after the copy was made; revision 2 came, and both files are read again at once."""
    flow = kept.flow
    restore = kept.back_up()
    drop(flow, one("INV-1"))
    flow.process()
    flow.clock.advance(1000)
    drop(flow, one("INV-1", "150.00", **REVISED), 2)
    flow.process()
    restore()
    flow.clock.advance(1000)
    flow.process()
    finish(flow)
    assert posts(flow) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", booked(flow, "INV-1"))
    assert "InvoiceAmount" in row["differences"]
    assert_books(flow, "INV-1")

"""A ledger that knows of no creation: an old one put back, or the first on its pod."""

from urllib.parse import parse_qs

from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, REVISED, Kept, booked, told
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.faults.test_people_restore import release
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name


def asked_by_group(flow: Rehearsal) -> int:
    """How many questions Fusion was asked for what was created in our groups; further pages are none."""
    asked = [parse_qs(entry.query) for entry in flow.fusion.books.requests(method="GET", route="invoices")]
    return sum("InvoiceGroup like" in str(each.get("q")) and each["offset"] == ["0"] for each in asked)


def test_g6_a_ledger_of_before_the_first_invoice_posts_no_purchase_twice(kept: Kept) -> None:
    """Posted, the ledger of before then put back, and the purchase comes again under another number: for people."""
    flow = kept.flow
    restore = kept.back_up()
    flow.clock.advance(1000)
    drop(flow, one("INV-1", invoice_id="x"), 2)
    flow.process()
    restore()
    flow.clock.advance(1000)
    (flow.outbound / file_name(2)).unlink()
    drop(flow, [*one("INV-1B", invoice_id="x", **REVISED), *one("ELSE-1", "55.00", vendor_id=OTHER_SUPPLIER)], 3)
    flow.process()
    finish(flow)
    assert_books(flow, "INV-1", "ELSE-1")
    assert invoices(flow)["INV-1B"]["reason"] == "POSTED_BEFORE_RESTORE"
    assert f"InvoiceId {booked(flow, 'INV-1')}" in told(flow, "INV-1B")
    release(flow, "INV-1B")
    later(flow)
    finish(flow)
    assert_books(flow, "INV-1", "ELSE-1", "INV-1B")


def test_g6_a_new_installation_is_not_held_up(flow: Rehearsal) -> None:
    """Nothing of ours is there: one question in a run, and everything goes on, in the next run as well."""
    drop(flow, many(5))
    flow.process()
    assert asked_by_group(flow) == 1
    drop(flow, many(5, "NEXT"), 2)
    flow.process()
    assert asked_by_group(flow) == 2
    assert posts(flow) == 10
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_books(flow, *numbers(5), *numbers(5, "NEXT"))
    assert_adds_up(flow, created=10)

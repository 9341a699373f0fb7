"""D3: the cause of a parked invoice is probed in bulk, and what is cured goes through by itself, alone."""

from mlc_dagster.ledger.releases import release_hold
from mlc_dagster.ledger.windows import GenerationKind
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.intake import bill, deliver, invoice_row, posted_numbers, prove_books, verdict
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_d3_a_parked_invoice_goes_through_by_itself_once_its_supplier_exists(flow: Rehearsal) -> None:
    """And nothing else is posted, on that day or any other."""
    deliver(flow, 1, bill("1", "10.00"), bill("2", "20.00", vendor_id="39001"), bill("3", "30.00", vendor_id="39002"))
    assert [verdict(flow, key) for key in ("1", "2", "3")] == ["CONFIRMED", *["PARKED VENDOR_UNKNOWN"] * 2]
    home = invoice_row(flow, "2")["window_start"]
    observe_step(flow.inbound)
    flow.clock.advance(86_400)
    assert flow.poll().runs == ()
    flow.fusion.create_supplier("39001", "Late Ltd")
    assert observe_step(flow.inbound).cured == 1
    (retry,) = flow.poll().runs
    assert (retry.window_start, retry.kind) == (home, GenerationKind.RETRY)
    flow.run(retry)
    assert flow.poll().runs == ()
    prove_books(flow, "N-1", "N-2")


def test_d3_probing_asks_once_for_the_distinct_missing_keys(flow: Rehearsal) -> None:
    """200 parked invoices of three vendors: three keys, one question about suppliers."""
    bills = [bill(str(n), "1.00", vendor_id=f"3900{n % 3}") for n in range(200)]
    deliver(flow, 1, *bills)
    assert posted_numbers(flow) == []
    flow.clock.advance(7200)
    flow.fusion.books.forget_requests()
    found = observe_step(flow.inbound)
    assert (found.probed, found.cured) == (200, 0)
    assert flow.fusion.books.count("GET", "suppliers") == 1
    # Besides: token, ledger, combinations, and periods of two applications, each paged to its empty page.
    assert flow.fusion.books.count() <= 12


def test_d3_an_opened_period_cures(flow: Rehearsal) -> None:
    """A closed period is probed like a missing supplier."""
    deliver(flow, 1, bill("1", "10.00", invoice_date="2026-09-15"))
    assert verdict(flow, "1") == "PARKED PERIOD_CLOSED"
    flow.fusion.set_period("Sep-26", "O")
    assert observe_step(flow.inbound).cured == 1
    flow.process()
    prove_books(flow, "N-1")


def test_d3_a_changed_setting_cures(flow: Rehearsal) -> None:
    """BU_UNMAPPED says: add the company. Then nobody has to send the file again."""
    from mlc_dagster_tests.servers.rehearsal import COMPANIES

    deliver(flow, 1, bill("1", "10.00", company_id="C101"))
    assert verdict(flow, "1") == "PARKED BU_UNMAPPED"
    flow.change_config({"stampli": {"companies": {"C101": dict(COMPANIES["C100"])}}})
    assert observe_step(flow.inbound).cured == 1
    flow.process()
    prove_books(flow, "N-1")


def test_d3_what_fusion_refused_is_not_sent_again_by_itself(flow: Rehearsal) -> None:
    """Our own checks found nothing wrong with it, so every probe would call it cured, and every poll would send it."""
    deliver(flow, 1, bill("1", "10.00"), bill("2", "20.00", payment_terms="Net 999"))
    assert verdict(flow, "2").startswith("PARKED FUSION_REJECTED")
    sent = flow.fusion.books.count("POST", "invoices")
    for _ in range(3):
        flow.clock.advance(3600)
        observe_step(flow.inbound)
        for wanted in flow.poll().runs:
            flow.run(wanted)
    row = invoice_row(flow, "2")
    flow.run(row["window_start"])
    assert flow.fusion.books.count("POST", "invoices") == sent
    prove_books(flow, "N-1")
    # A person, who saw Fusion's text, may have it sent once more.
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, row["id"], row["reason"], BOTH)
    flow.process()
    assert flow.fusion.books.count("POST", "invoices") == sent + 1
    assert verdict(flow, "2") == "PARKED FUSION_REJECTED(AP-810302)"
    assert flow.poll().runs == ()


def test_d3_a_cure_that_does_not_hold_parks_again_and_is_probed_again(flow: Rehearsal) -> None:
    """Closed again between probe and poll: back to parked, without a loop, and cured for good the next day."""
    deliver(flow, 1, bill("1", "10.00", invoice_date="2026-09-15"))
    flow.fusion.set_period("Sep-26", "O")
    observe_step(flow.inbound)
    flow.fusion.set_period("Sep-26", "C")
    flow.clock.advance(600)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    assert verdict(flow, "1") == "PARKED PERIOD_CLOSED"
    assert flow.poll().runs == ()
    flow.fusion.set_period("Sep-26", "O")
    observe_step(flow.inbound)
    flow.process()
    prove_books(flow, "N-1")


def test_d3_validating_and_posting_take_no_request_per_invoice_beside_its_post(flow: Rehearsal) -> None:
    """300 valid invoices of 10 suppliers: one request each, and a tenth of one for everything else."""
    numbers = flow.fusion.seed.ordinary_suppliers()[:10]
    deliver(flow, 1, bill("first", "1.00"))
    flow.fusion.books.forget_requests()
    deliver(flow, 2, *(bill(str(n), "1.00", vendor_id=numbers[n % 10]) for n in range(300)))
    assert flow.fusion.books.count() <= 330, flow.fusion.books.counts()
    prove_books(flow, "N-first", *(f"N-{n}" for n in range(300)))

"""Rules G2 and C10: exact money in body, books and ledger, and the one equation in count and in every currency."""

from decimal import Decimal

from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    clerk,
    drop,
    invoices,
    later,
    one,
    ours,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal

AMOUNTS = [
    ("USD", "1082.50"),
    ("USD", "0.10"),
    ("USD", "9007199254740993.01"),
    ("USD", "5000000000000000.00"),
    ("JPY", "1234567"),
    ("JPY", "9007199254740993"),
    ("KWD", "1.005"),
    ("KWD", "4503599627370.497"),
]


def test_g2_amounts_reach_fusion_digit_by_digit(flow: Rehearsal) -> None:
    """Neither a float (2^53, 1.005) nor an exponent (5E+15) nor a string on the way into the books."""
    rows = [one(f"INV-{place}", amount, currency=currency) for place, (currency, amount) in enumerate(AMOUNTS)]
    drop(flow, [row for lines in rows for row in lines])
    flow.process()
    stored = {booked.number: booked for booked in ours(flow)}
    for place, (currency, amount) in enumerate(AMOUNTS):
        number = f"INV-{place}"
        booked = stored[number]
        exact = Decimal(amount)
        assert (booked.currency, booked.amount, booked.lines[0].amount) == (currency, exact, exact)
        body = attempts(flow, number)[0]["body"]
        assert f'"InvoiceAmount":{amount},'.encode() in body
        assert f'"LineAmount":{amount},'.encode() in body
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_adds_up(flow, created=len(AMOUNTS))


def test_g2_cents_off_by_one_are_seen_at_read_back(flow: Rehearsal) -> None:
    """Beyond 2^53 two neighbouring amounts are one float; the comparison must tell them apart."""
    drop(flow, one("INV-1", "9007199254740993.01"))
    flow.process()
    with flow.fusion.world.lock:
        table = flow.fusion.world.tables["invoices"]
        table.change(table.rows[ours(flow)[0].invoice_id], {"InvoiceAmount": Decimal("9007199254740993.02")})
    flow.run(invoices(flow)["INV-1"]["window_start"])
    assert invoices(flow)["INV-1"]["differences"] == {"InvoiceAmount": ["9007199254740993.01", "9007199254740993.02"]}


def test_c10_equation_holds_in_count_and_currency_whatever_became_of_each(flow: Rehearsal) -> None:
    """One of every fate in four currencies; created equals Fusion's own books to the cent."""
    flow.change_config({"fusion": {"wait_in_run": 1}})
    clerk(flow)
    clerk(flow, "THERE")
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, retry_after="300", count=1)
    drop(
        flow,
        [
            *one("BUSY", "10.00"),
            *one("USD-1", "1082.50"),
            *one("MEMO", "-200.00", invoice_type="CREDIT_MEMO"),
            *one("JPY-1", "500", currency="JPY"),
            *one("KWD-1", "1.234", currency="KWD"),
            *one("EUR-1", "99.99", currency="EUR"),
            *one("THERE", "7.00"),
            *one("NOBODY", "3.33", vendor_id="99999"),
        ],
    )
    flow.process()
    assert_adds_up(flow, created=5, already_in_fusion=1, parked=1, unknown=1)
    drop(flow, [*one("USD-1", "1082.50"), *one("KWD-1", "9.999", currency="KWD", invoice_revision="2")], sequence=2)
    flow.process()
    assert_adds_up(flow, created=5, already_in_fusion=1, parked=2, unknown=1, duplicate=1)
    later(flow)
    assert_adds_up(flow, created=6, already_in_fusion=1, parked=2, duplicate=1)
    assert_books(flow, "BUSY", "USD-1", "MEMO", "JPY-1", "KWD-1", "EUR-1")
    assert posts(flow, 201) == 6
    totals = flow.fusion.books.totals(created_by=flow.fusion.client_id)
    assert totals == {
        "USD": Decimal("892.50"),
        "JPY": Decimal(500),
        "KWD": Decimal("1.234"),
        "EUR": Decimal("99.99"),
    }


def test_c10_reconciling_a_window_twice_posts_nothing(flow: Rehearsal) -> None:
    """By hand, at any time: unchanged."""
    drop(flow, [*one("INV-1"), *one("MEMO", "-5.00", invoice_type="CREDIT_MEMO")])
    flow.process()
    for _ in range(2):
        report = flow.run(invoices(flow)["INV-1"]["window_start"])[2]
        assert report.confirmation.unchanged == 2
    assert posts(flow) == 2
    assert_adds_up(flow, created=2)

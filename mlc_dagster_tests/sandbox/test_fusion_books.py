"""The books, what people do by hand in Fusion, the enterprise itself, and the process of its own."""

import datetime as dt
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_dagster.sandbox import seed
from mlc_dagster.sandbox.fusion.app import route
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.conftest import TODAY, midday
from mlc_dagster_tests.sandbox.fusion_caller import Caller, codes, exact, invoice, line


@pytest.fixture
def admin(fusion: FusionSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{fusion.base_url}/sandbox", timeout=15) as client:
        yield client


def test_every_request_is_booked(fusion: FusionSandbox, caller: Caller) -> None:
    """Method, path, query, status and time; the route leaves keys out so that it can be counted."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    caller.get(f"invoices/{invoice_id}/child/invoiceLines", limit=3)
    entry = fusion.books.requests()[-1]
    assert (entry.method, entry.status, entry.route) == ("GET", 200, "invoices/{id}/child/invoiceLines")
    assert (entry.path.rpartition("/")[2], entry.query) == ("invoiceLines", "limit=3")
    assert entry.seconds > 0
    assert fusion.books.count("POST", "invoices", 201) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("invoices", "invoices"),
        ("invoices/300000900000002", "invoices/{id}"),
        ("invoices/00020000000EACED000577085DEFDEBFB630EC65/child/attachments", "invoices/{id}/child/attachments"),
        ("invoices/action/validateInvoice", "invoices/action/validateInvoice"),
        ("valueSets/US1 Cost Center/child/values", "valueSets/{id}/child/values"),
        ("oauth2/v1/token", "oauth2/v1/token"),
    ],
)
def test_routes_leave_keys_out(path: str, expected: str) -> None:
    """Otherwise every invoice would be counted apart."""
    assert route(path) == expected


def test_the_books_can_be_read_over_http(caller: Caller, admin: httpx.Client) -> None:
    """For a demonstration in another process; money is text there."""
    caller.post(invoice("A", "10.10"))
    caller.post(invoice("B", "20.20"))
    books = admin.get("/books").json()
    assert (books["invoices"], books["posts"], books["totals"]) == (2, 2, {"USD": "30.30"})
    assert [entry["amount"] for entry in books["invoices_stored"]] == ["10.10", "20.20"]
    listed = admin.get("/requests", params={"method": "POST", "route": "invoices"}).json()
    assert [entry["status"] for entry in listed["requests"]] == [201, 201]


def test_admin_requests_are_not_booked(fusion: FusionSandbox, admin: httpx.Client) -> None:
    """Looking at the books must not change them."""
    admin.get("/books")
    assert fusion.books.count() == 0


def test_totals_leave_deleted_invoices_out(fusion: FusionSandbox, caller: Caller) -> None:
    """They are still listed."""
    invoice_id = caller.post(invoice("A", "10.00")).json()["InvoiceId"]
    caller.post(invoice("B", "20.00"))
    fusion.delete_invoice(invoice_id)
    assert fusion.books.totals() == {"USD": Decimal("20.00")}
    assert [booked.deleted for booked in fusion.books.invoices()] == [True, False]


def test_a_supplier_created_by_a_buyer_takes_invoices(caller: Caller, admin: httpx.Client) -> None:
    """The cure for an unknown supplier."""
    body = invoice(SupplierNumber="40001", Supplier="New Supplier LLC")
    assert caller.post(body).status_code == 400
    assert admin.post("/suppliers", json={"number": "40001", "name": "New Supplier LLC"}).status_code == 200
    assert caller.post(body).status_code == 201
    assert admin.post("/suppliers", json={"number": "40001", "name": "Another"}).status_code == 400


def test_a_supplier_can_be_renamed_and_deactivated(caller: Caller, admin: httpx.Client) -> None:
    """The id survives a new name."""
    (before,) = caller.items("suppliers", q="SupplierNumber='30012'")
    admin.patch("/suppliers/30012", json={"name": "Acme Holdings"})
    (after,) = caller.items("suppliers", q="Supplier='Acme Holdings'")
    assert after["SupplierId"] == before["SupplierId"]
    assert codes(caller.post(invoice())) == {"AP-810202"}
    admin.patch("/suppliers/30012", json={"active": False})
    assert codes(caller.post(invoice(Supplier=None))) == {"AP-810203"}


def test_periods_are_set_over_http(caller: Caller, admin: httpx.Client) -> None:
    """By name, for both applications unless told."""
    assert admin.post("/periods", json={"name": "Nov-26", "status": "C"}).json() == {"changed": 4}
    assert codes(caller.post(invoice())) == {"AP-810401"}
    assert admin.post("/periods", json={"name": "Nov-26", "status": "X"}).status_code == 400


def test_a_clerk_enters_an_invoice_by_hand(caller: Caller, admin: httpx.Client) -> None:
    """Somebody else's document with our number."""
    invoice_id = admin.post("/invoices", json=invoice("M-1", InvoiceSource=None)).json()["invoice_id"]
    row = exact(caller.get(f"invoices/{invoice_id}"))
    assert (row["CreatedBy"], row["InvoiceSource"]) == ("AP.CLERK", "Manual invoice entry")
    assert codes(caller.post(invoice("M-1"))) == {"AP-810776"}


def test_invoices_are_cancelled_and_deleted_over_http(caller: Caller, admin: httpx.Client) -> None:
    """By a person in Fusion, behind our back."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    assert admin.post(f"/invoices/{invoice_id}/cancel").status_code == 200
    assert exact(caller.get(f"invoices/{invoice_id}"))["CanceledFlag"] is True
    assert admin.post(f"/invoices/{invoice_id}/delete").status_code == 200
    assert caller.get(f"invoices/{invoice_id}").status_code == 404
    assert admin.post(f"/invoices/{invoice_id}/delete").status_code == 404


def test_validation_and_accounting_over_http(fusion: FusionSandbox, caller: Caller, admin: httpx.Client) -> None:
    """What a customer's own schedule does later."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    admin.post(f"/invoices/{invoice_id}/validate")
    assert admin.post("/accounting", json={}).json() == {"accounted": 1}
    assert fusion.books.invoices()[0].accounting_status == "Accounted"


def test_faults_are_set_and_cleared_over_http(caller: Caller, admin: httpx.Client) -> None:
    """One by one, or a whole document."""
    fault_id = admin.post("/faults", json={"kind": "status", "status": 429}).json()["fault_id"]
    assert caller.get("invoices").status_code == 429
    admin.delete(f"/faults/{fault_id}")
    assert caller.get("invoices").status_code == 200
    admin.post("/faults", json={"faults": [{"kind": "status"}], "quirks": ["shuffled_pages"]})
    assert caller.get("invoices").status_code == 503
    admin.delete("/faults")
    assert admin.get("/faults").json() == {"faults": [], "gates": [], "quirks": []}
    assert admin.post("/faults", json={"kind": "gremlin"}).status_code == 400


def test_gates_work_over_http(caller: Caller, admin: httpx.Client) -> None:
    """Waiting for a held request does not stop the server."""
    gate_id = admin.post("/gates", json={"method": "POST", "path": "invoices", "stage": "after"}).json()["gate_id"]
    assert admin.get(f"/gates/{gate_id}/wait", params={"timeout": 0.05}).json() == {"reached": False, "held": 0}
    with pytest.raises(httpx.ReadTimeout):
        caller.client.post("/invoices", json=invoice(), timeout=0.2)
    assert admin.get(f"/gates/{gate_id}/wait").json()["reached"] is True
    assert admin.post(f"/gates/{gate_id}/release").status_code == 200
    assert admin.get("/gates/99999/wait").status_code == 404


def test_tokens_expire_and_everything_resets_over_http(
    fusion: FusionSandbox, caller: Caller, admin: httpx.Client
) -> None:
    """Back to the seed."""
    caller.post(invoice())
    admin.post("/tokens/expire")
    assert caller.get("invoices").status_code == 401
    admin.post("/reset")
    assert (fusion.books.invoices(), fusion.books.count()) == ([], 0)


def test_a_restarted_sandbox_still_knows_everything(tmp_path: Path) -> None:
    """Invoices with their states, suppliers, periods, holds; and their numbers stay taken."""

    def started() -> FusionSandbox:
        return FusionSandbox(Seed(today=TODAY), books=tmp_path / "books.sqlite", clock=midday)

    with started() as fusion, Caller(fusion) as caller:
        kept = caller.post(invoice("KEPT", "99999999999999999.99")).json()["InvoiceId"]
        caller.post(invoice("HELD", invoiceLines=[line(1, "1.00")]))
        caller.act("validateInvoice", InvoiceNumber="HELD")
        gone = caller.post(invoice("GONE")).json()["InvoiceId"]
        fusion.delete_invoice(gone)
        fusion.cancel_invoice(caller.post(invoice("VOID", "5.00")).json()["InvoiceId"])
        fusion.create_supplier("40001", "New Supplier LLC")
        fusion.change_supplier("30001", name="Renamed")
        fusion.set_period("Oct-26", "C")
        before = fusion.books.invoices()
        totals = fusion.books.totals()
    with started() as fusion, Caller(fusion) as caller:
        assert fusion.books.invoices() == before
        assert fusion.books.totals() == totals
        assert exact(caller.get(f"invoices/{kept}"))["InvoiceAmount"] == Decimal("99999999999999999.99")
        assert caller.get(f"invoices/{gone}").status_code == 404
        assert codes(caller.post(invoice("KEPT"))) == {"AP-810776"}
        assert [hold["HoldName"] for hold in caller.items("invoiceHolds")] == ["Line Variance"]
        assert caller.post(invoice("N", SupplierNumber="40001", Supplier=None)).json()["InvoiceId"] > gone
        assert caller.items("suppliers", q="Supplier='Renamed'")[0]["SupplierNumber"] == "30001"
        assert codes(caller.post(invoice("P", AccountingDate="2026-10-10"))) == {"AP-810401"}


@pytest.mark.parametrize("today", [dt.date(2026, 11, 21), dt.date(2027, 1, 5), dt.date(2028, 2, 29)])
def test_periods_follow_the_day(today: dt.date) -> None:
    """The demonstration must also work next year: this month and the last are open, the next may be entered."""
    first = seed.month_start(today)
    status = {
        row["StartDate"]: row["ClosingStatus"]
        for row in Seed(today=today).period_rows()
        if row["ApplicationId"] == 200 and row["LedgerId"] == seed.BUSINESS_UNITS[0].ledger_id
    }
    around = [status[seed.month_start(first, offset).isoformat()] for offset in (-2, -1, 0, 1, 2)]
    assert around == ["C", "O", "O", "F", "N"]


def test_single_periods_and_the_open_months_can_be_set() -> None:
    """For one application or for both."""
    rows = Seed(today=TODAY, open_months=8, periods={"Mar-26": "O", "101:Apr-26": "C"}).period_rows()
    status = {(row["ApplicationId"], row["PeriodNameId"]): row["ClosingStatus"] for row in rows}
    assert (status[200, "Mar-26"], status[101, "Apr-26"], status[200, "Apr-26"]) == ("O", "C", "O")


def test_the_seed_is_the_same_every_time_at_any_size() -> None:
    """A larger enterprise begins with the smaller one."""
    small = list(Seed(suppliers=20, today=TODAY).supplier_rows())
    large = list(Seed(suppliers=500, today=TODAY).supplier_rows())
    assert large[:20] == small
    assert len({row["Supplier"] for row in large}) == 500


def test_ordinary_suppliers_can_be_paid_at_hq(caller: Caller, fusion: FusionSandbox) -> None:
    """What other tests take their suppliers from."""
    for number in fusion.seed.ordinary_suppliers():
        answer = caller.post(invoice(f"S-{number}", SupplierNumber=number, Supplier=None))
        assert answer.status_code == 201, number


def test_the_process_announces_itself_and_keeps_its_books(tmp_path: Path) -> None:
    """One JSON line when it is ready; ended by a signal, it has written the requests it answered."""
    books = tmp_path / "books.sqlite"
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{kind: status, status: 429, path: ledgersLOV, count: 1}]\n")
    command = [sys.executable, "-m", "mlc_dagster.sandbox.fusion", "--today", TODAY.isoformat()]
    command += ["--seed-suppliers", "100", "--books", str(books), "--faults", str(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            addresses: dict[str, Any] = json.loads(process.stdout.readline())
            token = httpx.post(
                addresses["token_url"],
                auth=(addresses["client_id"], addresses["client_secret"]),
                data={"grant_type": "client_credentials", "scope": addresses["scope"]},
            ).json()["access_token"]
            url = f"{addresses['base_url']}/fscmRestApi/resources/11.13.18.05/ledgersLOV"
            statuses = [httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code for _ in range(2)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
    assert statuses == [429, 200]
    with FusionSandbox(Seed(today=TODAY), books=books) as fusion:
        assert fusion.books._database is not None
        (written,) = fusion.books._database.execute("SELECT count(*) FROM requests").fetchone()
    assert written == 3

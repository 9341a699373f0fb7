"""What happens to invoices after their creation: tax, holds, accounting, cancelling, attachments, jobs."""

import base64
from decimal import Decimal

from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, codes, exact, invoice, line

PACKAGE = "/oracle/apps/ess/financials/subledgerAccounting/shared"


def status_of(caller: Caller, number: str = "INV-1") -> str:
    (row,) = caller.items("invoices", q=f"InvoiceNumber='{number}'", fields="ValidationStatus")
    return row["ValidationStatus"]


def test_a_sound_invoice_becomes_validated(fusion: FusionSandbox, caller: Caller) -> None:
    """The action answers with a text; the status is read again."""
    caller.post(invoice())
    answer = caller.act("validateInvoice", InvoiceNumber="INV-1")
    assert answer.json() == {"result": "The current action Validate Invoice has completed successfully."}
    assert status_of(caller) == "Validated"
    assert fusion.books.invoices()[0].validation_status == "Validated"


def test_a_variance_is_a_hold_although_the_action_succeeds(caller: Caller) -> None:
    """Success says that the action ran, not that the invoice is valid."""
    caller.post(invoice(invoiceLines=[line(1, "29.99")]))
    assert caller.act("validateInvoice", InvoiceNumber="INV-1").status_code == 200
    assert status_of(caller) == "Needs revalidation"
    (hold,) = caller.items("invoiceHolds", q="InvoiceNumber='INV-1'")
    assert (hold["HoldName"], hold["ReleaseName"]) == ("Line Variance", None)


def test_a_foreign_currency_without_a_rate_is_held(caller: Caller) -> None:
    """A rate type is enough to find a rate."""
    caller.post(invoice("A", InvoiceCurrency="EUR"))
    caller.post(invoice("B", InvoiceCurrency="EUR", ConversionRateType="Corporate"))
    for number in ("A", "B"):
        caller.act("validateInvoice", InvoiceNumber=number)
    assert (status_of(caller, "A"), status_of(caller, "B")) == ("Needs revalidation", "Validated")


def test_a_released_hold_keeps_its_row(fusion: FusionSandbox, caller: Caller) -> None:
    """After the cause is gone the hold has a release name."""
    invoice_id = caller.post(invoice(amount="33.00", invoiceLines=[line(1, "30.00")])).json()["InvoiceId"]
    caller.act("validateInvoice", InvoiceNumber="INV-1")
    fusion.policies.tax_rate = Decimal("0.1")
    caller.act("calculateTax", InvoiceNumber="INV-1")
    caller.act("validateInvoice", InvoiceNumber="INV-1")
    (hold,) = caller.items("invoiceHolds", q="InvoiceNumber='INV-1'")
    assert hold["ReleaseName"] == "Variance corrected"
    assert exact(caller.get(f"invoices/{invoice_id}"))["ValidationStatus"] == "Validated"


def test_calculated_tax_is_a_line_of_its_own(fusion: FusionSandbox, caller: Caller) -> None:
    """Generated once however often it is asked for; the books list what we sent apart from it."""
    fusion.policies.tax_rate = Decimal("0.0825")
    caller.post(invoice(amount="1082.50", invoiceLines=[line(1, "1000.00")]))
    for _ in range(2):
        assert caller.act("calculateTax", InvoiceNumber="INV-1").status_code == 200
    (row,) = caller.items("invoices", expand="invoiceLines")
    lines = [(one["LineNumber"], one["LineType"], one["LineAmount"]) for one in row["invoiceLines"]["items"]]
    assert lines == [(1, "Item", 1000), (2, "Tax", Decimal("82.5"))]
    assert len(fusion.books.invoices()[0].lines) == 1


def test_without_a_rate_tax_changes_nothing(caller: Caller) -> None:
    """The default enterprise calculates none."""
    caller.post(invoice())
    assert caller.act("calculateTax", InvoiceNumber="INV-1").status_code == 200
    (row,) = caller.items("invoices", expand="invoiceLines")
    assert row["invoiceLines"]["count"] == 1


def test_cancelling_zeroes_the_invoice_but_not_the_books(fusion: FusionSandbox, caller: Caller) -> None:
    """Fusion shows zero; the books remember what was stored."""
    caller.post(invoice())
    assert caller.act("cancelInvoice", InvoiceNumber="INV-1").status_code == 200
    (row,) = caller.items("invoices", expand="invoiceLines")
    assert (row["CanceledFlag"], row["InvoiceAmount"], row["ValidationStatus"]) == (True, 0, "Canceled")
    (booked,) = fusion.books.invoices()
    assert (booked.canceled, booked.amount, booked.lines[0].amount) == (True, Decimal("30.00"), Decimal("30.00"))
    assert codes(caller.act("validateInvoice", InvoiceNumber="INV-1")) == {"AP-810701"}


def test_actions_ask_for_their_content_type(caller: Caller) -> None:
    """Plain JSON is 415."""
    caller.post(invoice())
    body = {"InvoiceNumber": "INV-1", "Supplier": "Acme, Inc."}
    assert caller.post(body, "invoices/action/calculateTax").status_code == 415


def test_actions_refuse_what_they_do_not_know(caller: Caller) -> None:
    """Invoice, parameter, process action and the action itself."""
    caller.post(invoice())
    assert codes(caller.act("validateInvoice", InvoiceNumber="OTHER")) == {"AP-810700"}
    assert caller.act("validateInvoice", InvoiceNumber="INV-1", Reason="x").status_code == 400
    assert caller.act("validateInvoice", InvoiceNumber="INV-1", ProcessAction="Guess").status_code == 400
    assert caller.act("validateInvoice").status_code == 400
    assert caller.act("payInvoice", InvoiceNumber="INV-1").status_code == 404


def test_create_accounting_accounts_validated_invoices_only(fusion: FusionSandbox, caller: Caller) -> None:
    """The job that makes an invoice reach the general ledger."""
    caller.post(invoice("A"))
    caller.post(invoice("B"))
    caller.act("validateInvoice", InvoiceNumber="A")
    body = {
        "OperationName": "submitESSJobRequest",
        "JobPackageName": PACKAGE,
        "JobDefName": "XLAFSNAPRPT",
        "ESSParameters": "200,300000046975971,#NULL",
    }
    answer = caller.post(body, "erpintegrations")
    assert answer.status_code == 201
    number = answer.json()["ReqstId"]
    seen = [
        caller.items("erpintegrations", finder=f"ESSJobStatusRF;requestId={number}")[0]["RequestStatus"]
        for _ in range(4)
    ]
    assert seen == ["RUNNING", "PAUSED", "SUCCEEDED", "SUCCEEDED"]
    rows = caller.items("invoices", orderBy="InvoiceNumber:asc", fields="AccountingStatus", onlyData="true")
    assert [row["AccountingStatus"] for row in rows] == ["Accounted", "Unaccounted"]
    assert [booked.accounting_status for booked in fusion.books.invoices()] == ["Accounted", "Unaccounted"]


def test_a_refused_job_is_a_success_to_http(caller: Caller) -> None:
    """200 with request id -1: the body has to be read."""
    body = {"OperationName": "submitESSJobRequest", "JobPackageName": PACKAGE, "JobDefName": "NoSuchJob"}
    answer = caller.post(body, "erpintegrations")
    assert (answer.status_code, answer.json()["ReqstId"]) == (200, "-1")


def test_the_status_of_a_foreign_job_is_empty(caller: Caller) -> None:
    """Jobs that were not submitted this way are not known."""
    (row,) = caller.items("erpintegrations", finder="ESSJobStatusRF;requestId=12345")
    assert row["RequestStatus"] is None


def test_attachments_are_listed_and_added(fusion: FusionSandbox, caller: Caller) -> None:
    """Listing first is how a client avoids adding one twice; Fusion itself does not mind."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    path = f"invoices/{invoice_id}/child/attachments"
    assert caller.items(path) == []
    contents = base64.b64encode(b"%PDF-1.7").decode()
    body = {
        "Type": "File",
        "FileName": "1.pdf",
        "Title": "1.pdf",
        "Category": "From Supplier",
        "FileContents": contents,
    }
    assert caller.post(body, path).json()["AttachedDocumentId"] > 0
    assert caller.post(body, path).status_code == 201
    rows = caller.items(path, fields="FileName,UploadedFileLength", onlyData="true")
    assert rows == [{"FileName": "1.pdf", "UploadedFileLength": 8}] * 2
    assert fusion.books.invoices()[0].attachments == 2
    assert caller.post(body | {"FileContents": "not base64!"}, path).status_code == 400
    assert caller.post(body | {"Folder": "x"}, path).status_code == 400

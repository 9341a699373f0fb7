"""Creating invoices: what is stored, what is answered, what is refused and with which code."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from mlc_dagster.sandbox import seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, codes, exact, invoice, line


def raw(caller: Caller, text: str) -> httpx.Response:
    return caller.client.post("/invoices", content=text, headers={"Content-Type": "application/json"})


def test_a_created_invoice_is_answered_with_its_id_and_empty_statuses(caller: Caller) -> None:
    """Derived attributes are null in the answer to the POST and filled when read again."""
    answer = caller.post(invoice())
    created = exact(answer)
    assert answer.status_code == 201
    assert created["InvoiceId"] > 300_000_000_000_000
    assert (created["LegalEntity"], created["TermsDate"]) == ("US1 Legal Entity", "2026-11-10")
    assert created["LiabilityDistribution"] == "101-0000-22100-000-000-000"
    for name in ("ValidationStatus", "ApprovalStatus", "PaidStatus", "AccountingStatus", "InvoiceType", "CanceledFlag"):
        assert created[name] is None, name
    again = exact(caller.get(f"invoices/{created['InvoiceId']}"))
    assert (again["ValidationStatus"], again["PaidStatus"]) == ("Not validated", "Unpaid")
    assert (again["AccountingStatus"], again["InvoiceType"], again["CanceledFlag"]) == (
        "Unaccounted",
        "Standard",
        False,
    )


def test_full_statuses_at_create_are_a_policy(fusion: FusionSandbox, caller: Caller) -> None:
    """Not every pod leaves them null."""
    fusion.policies.null_statuses_on_create = False
    assert caller.post(invoice()).json()["ValidationStatus"] == "Not validated"


def test_the_answer_carries_the_lines_that_were_sent(caller: Caller) -> None:
    """An array before version 3, a collection from then on."""
    created = caller.post(invoice("A"), **{"REST-Framework-Version": "1"})
    assert created.json()["invoiceLines"][0]["LineNumber"] == 1
    assert caller.post(invoice("B")).json()["invoiceLines"]["items"][0]["LineNumber"] == 1


def test_the_books_keep_what_was_stored(fusion: FusionSandbox, caller: Caller) -> None:
    """Tests judge the product by these, to the cent."""
    body = invoice("BK-1", "30.10", InvoiceGroup="w1-g1", invoiceLines=[line(1, "10.05"), line(2, "20.05")])
    created = caller.post(body).json()
    (booked,) = fusion.books.invoices()
    assert (booked.invoice_id, booked.number, booked.amount) == (created["InvoiceId"], "BK-1", Decimal("30.10"))
    assert [(one.number, one.amount) for one in booked.lines] == [(1, Decimal("10.05")), (2, Decimal("20.05"))]
    assert (booked.invoice_group, booked.created_by) == ("w1-g1", fusion.client_id)
    assert fusion.books.totals() == {"USD": Decimal("30.10")}


def test_a_supplier_is_named_by_number_or_by_name(caller: Caller) -> None:
    """Either is enough."""
    assert caller.post(invoice("A", Supplier=None)).json()["Supplier"] == "Acme, Inc."
    assert caller.post(invoice("B", SupplierNumber=None)).json()["SupplierNumber"] == "30012"


def test_the_accounting_date_defaults_to_the_invoice_date(caller: Caller) -> None:
    """And lines inherit it."""
    created = caller.post(invoice(AccountingDate=None, InvoiceDate="2026-10-14")).json()
    assert created["AccountingDate"] == "2026-10-14"
    assert created["invoiceLines"]["items"][0]["AccountingDate"] == "2026-10-14"


@pytest.mark.parametrize(
    "name", ["InvoiceNumber", "InvoiceCurrency", "InvoiceAmount", "InvoiceDate", "BusinessUnit", "SupplierSite"]
)
def test_required_attributes_are_required(fusion: FusionSandbox, caller: Caller, name: str) -> None:
    """JBO-27014 with the attribute in the path."""
    body = invoice()
    del body[name]
    answer = caller.post(body)
    assert answer.status_code == 400
    assert answer.json()["o:errorDetails"][0]["o:errorPath"] == f"/invoices/{name}"
    assert fusion.books.invoices() == []


def test_every_fault_is_reported_at_once(caller: Caller) -> None:
    """One refusal may hold several entries."""
    answer = caller.post(invoice(InvoiceAmount=None, InvoiceDate="10.11.2026", Foo=1, invoiceLines=[{"LineNumber": 1}]))
    paths = {detail["o:errorPath"] for detail in answer.json()["o:errorDetails"]}
    assert paths == {
        "/invoices/InvoiceAmount",
        "/invoices/InvoiceDate",
        "/invoices/Foo",
        "/invoices/invoiceLines/0/LineAmount",
    }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BusinessUnit": "Nowhere"}, "AP-810101"),
        ({"Supplier": "Acme Inc"}, "AP-810202"),
        ({"SupplierNumber": "99999", "Supplier": None}, "AP-810202"),
        ({"SupplierNumber": seed.INACTIVE_SUPPLIER, "Supplier": None}, "AP-810203"),
        ({"SupplierSite": "NOWHERE"}, "AP-810204"),
        ({"SupplierNumber": seed.UNASSIGNED_SUPPLIER, "Supplier": None}, "AP-810204"),
        ({"SupplierNumber": seed.INACTIVE_SITE_SUPPLIER, "Supplier": None}, "AP-810204"),
        ({"SupplierNumber": "30003", "Supplier": None, "SupplierSite": "PLANT"}, "AP-810204"),
        ({"SupplierNumber": seed.UK_SUPPLIER, "Supplier": None}, "AP-810204"),
        ({"InvoiceCurrency": "XXX"}, "AP-810301"),
        ({"InvoiceType": "Gift"}, "AP-810302"),
        ({"InvoiceSource": "Nobody"}, "AP-810302"),
        ({"PaymentTerms": "Never"}, "AP-810302"),
        ({"InvoiceAmount": "10.001"}, "AP-810303"),
        ({"InvoiceCurrency": "JPY", "InvoiceAmount": "10.5"}, "AP-810303"),
        ({"InvoiceAmount": "-30.00"}, "AP-810304"),
        ({"InvoiceType": "Credit memo"}, "AP-810304"),
        ({"ConversionRateType": "User"}, "AP-810305"),
        ({"AccountingDate": "2026-03-10"}, "AP-810401"),
        ({"AccountingDate": "2027-03-10"}, "AP-810401"),
        ({"InvoiceId": 5}, "JBO-27008"),
        ({"InvoiceNumber": "x" * 51}, "JBO-27028"),
        ({"Description": "x" * 241}, "JBO-27028"),
        ({"InvoiceAmount": "ten"}, "JBO-25009"),
        ({"InvoiceAmount": True}, "JBO-25009"),
        ({"InvoiceDate": "2026-02-30"}, "JBO-25009"),
        ({"invoiceLines": [{"LineNumber": 1}]}, "AP-810879"),
        ({"invoiceLines": [line(1, "15"), line(1, "15")]}, "AP-810880"),
        ({"invoiceLines": [line(1, "30", LineType="Gift")]}, "AP-810881"),
        ({"invoiceLines": [line(1, "30.005")]}, "AP-810303"),
    ],
)
def test_business_rules_refuse_with_their_code(
    fusion: FusionSandbox, caller: Caller, changes: dict[str, Any], code: str
) -> None:
    """400 and nothing stored."""
    answer = caller.post(invoice(**changes))
    assert answer.status_code == 400
    assert codes(answer) == {code}
    assert fusion.books.invoices() == []


@pytest.mark.parametrize(
    "account",
    [
        "101-4410-99999-000-000-000",
        "101-4410-61200",
        f"101-4410-{seed.DISABLED_ACCOUNT}-000-000-000",
        f"101-4410-{seed.ENDED_ACCOUNT}-000-000-000",
        f"101-4410-{seed.NOT_POSTABLE_ACCOUNT}-000-000-000",
        f"101-4410-{seed.SUMMARY_ACCOUNT}-000-000-000",
        f"101-4410-{seed.FUTURE_ACCOUNT}-000-000-000",
        "201-4410-61200-000-000-000",
    ],
)
def test_line_accounts_must_be_open_for_posting(caller: Caller, account: str) -> None:
    """Unknown, disabled, ended, not postable, summary, not yet valid, or of another chart."""
    answer = caller.post(invoice(invoiceLines=[line(1, "30.00", DistributionCombination=account)]))
    assert codes(answer) == {"AP-810501"}


def test_dynamic_insertion_is_a_policy(fusion: FusionSandbox, caller: Caller) -> None:
    """A combination of known values may be legal although no list shows it."""
    fusion.policies.dynamic_insertion = True
    known = invoice(invoiceLines=[line(1, "30.00", DistributionCombination="101-4490-61200-000-000-000")])
    assert caller.post(known).status_code == 400
    table = fusion.world.tables["accountCombinationsLOV"]
    row = fusion.world.combinations[5237, "101-4430-62100-000-000-000"]
    table.remove(row)
    del fusion.world.combinations[5237, "101-4430-62100-000-000-000"]
    fresh = invoice(invoiceLines=[line(1, "30.00", DistributionCombination="101-4430-62100-000-000-000")])
    assert caller.post(fresh).status_code == 201


def test_unknown_attributes_are_refused_by_name(caller: Caller) -> None:
    """Also in lines; a typo must never be ignored."""
    answer = caller.post(invoice(VendorName="x"))
    assert answer.json()["o:errorDetails"][0]["detail"] == 'Invalid attribute "VendorName" in the payload.'
    answer = caller.post(invoice(invoiceLines=[line(1, "30.00", ProjectNumber="1")]))
    assert "ProjectNumber" in answer.text


@pytest.mark.parametrize("text", ["", "[]", "{", '{"InvoiceAmount": NaN}', "x", '{"invoiceLines": [1]}'])
def test_what_is_not_a_json_object_is_refused(caller: Caller, text: str) -> None:
    """400, not a crash."""
    assert raw(caller, text).status_code == 400


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1E+3", "1000"), ("30.10", "30.10"), ('"130.80"', "130.80"), ("1.2E1", "12"), ("0.10", "0.10")],
)
def test_amounts_are_read_exactly_in_every_json_form(
    fusion: FusionSandbox, caller: Caller, text: str, amount: str
) -> None:
    """Numbers, numbers with an exponent, and text."""
    body = (
        f'{{"InvoiceNumber":"N","InvoiceCurrency":"USD","InvoiceAmount":{text},"InvoiceDate":"2026-11-10",'
        '"BusinessUnit":"US1 Business Unit","SupplierNumber":"30012","SupplierSite":"HQ"}'
    )
    assert raw(caller, body).status_code == 201
    assert fusion.books.totals() == {"USD": Decimal(amount)}


def test_currencies_keep_their_own_decimals(fusion: FusionSandbox, caller: Caller) -> None:
    """None for yen, three for Kuwaiti dinar."""
    assert caller.post(invoice("J", "3000", InvoiceCurrency="JPY")).status_code == 201
    assert caller.post(invoice("K", "1.234", InvoiceCurrency="KWD")).status_code == 201
    assert fusion.books.totals() == {"JPY": Decimal(3000), "KWD": Decimal("1.234")}


def test_credit_memos_are_negative(caller: Caller) -> None:
    """Header and lines."""
    assert caller.post(invoice(amount="-200.00", InvoiceType="Credit memo")).status_code == 201


def test_header_and_lines_need_not_agree_at_create(caller: Caller) -> None:
    """Fusion leaves that to validation."""
    assert caller.post(invoice(invoiceLines=[line(1, "1.00")])).status_code == 201


def test_a_second_invoice_with_the_number_is_a_duplicate(fusion: FusionSandbox, caller: Caller) -> None:
    """Blanks around it and letter case make no other number."""
    caller.post(invoice("Dup-1"))
    for number in ("Dup-1", " dup-1 ", "DUP-1"):
        answer = caller.post(invoice(number))
        assert (answer.status_code, codes(answer)) == (400, {"AP-810776"})
    assert len(fusion.books.invoices()) == 1


def test_another_supplier_or_business_unit_may_use_the_number(caller: Caller) -> None:
    """Default scope: supplier, number and business unit."""
    caller.post(invoice("N"))
    assert caller.post(invoice("N", SupplierNumber="30001", Supplier=None)).status_code == 201
    uk = invoice("N", BusinessUnit="UK1 Business Unit", InvoiceCurrency="GBP")
    uk["invoiceLines"] = [line(1, "30.00", DistributionCombination="201-4410-61200-000-000-000")]
    assert caller.post(uk).status_code == 201


def test_the_duplicate_scope_is_a_policy(fusion: FusionSandbox, caller: Caller) -> None:
    """Some pods refuse the number across business units."""
    fusion.policies.duplicate_scope = ("supplier", "number")
    fusion.policies.duplicate_code = "AP-810245"
    caller.post(invoice("N"))
    uk = invoice("N", BusinessUnit="UK1 Business Unit", invoiceLines=None)
    assert codes(caller.post(uk)) == {"AP-810245"}


def test_a_cancelled_invoice_keeps_its_number(fusion: FusionSandbox, caller: Caller) -> None:
    """Cancelling frees nothing; deleting does."""
    invoice_id = caller.post(invoice("N")).json()["InvoiceId"]
    fusion.cancel_invoice(invoice_id)
    assert codes(caller.post(invoice("N"))) == {"AP-810776"}
    fusion.delete_invoice(invoice_id)
    assert caller.get(f"invoices/{invoice_id}").status_code == 404
    assert caller.post(invoice("N")).status_code == 201


def test_periods_open_and_close(fusion: FusionSandbox, caller: Caller) -> None:
    """The future-enterable month takes invoices; a closed one does not."""
    assert caller.post(invoice("A", AccountingDate="2026-12-05")).status_code == 201
    fusion.set_period("Nov-26", "C", application=200)
    assert codes(caller.post(invoice("B"))) == {"AP-810401"}
    fusion.set_period("Nov-26", "O", application=200)
    assert caller.post(invoice("B")).status_code == 201


def test_a_wrong_content_type_is_415(fusion: FusionSandbox, caller: Caller) -> None:
    """And stores nothing."""
    answer = caller.client.post("/invoices", content="{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert fusion.books.invoices() == []


def test_the_item_media_type_is_accepted(caller: Caller) -> None:
    """Both content types are in use for creating."""
    media = "application/vnd.oracle.adf.resourceitem+json"
    assert caller.post(invoice(), **{"Content-Type": media}).status_code == 201


def test_parameters_do_not_belong_on_a_post(caller: Caller) -> None:
    """Refused, not ignored."""
    assert caller.client.post("/invoices?onlyData=true", json=invoice()).status_code == 400


def test_given_distributions_split_a_line(caller: Caller) -> None:
    """Instead of one account for the whole line."""
    parts = [
        {"DistributionLineNumber": place, "DistributionAmount": amount, "DistributionCombination": account}
        for place, amount, account in (
            (1, "10.00", "101-4410-61200-000-000-000"),
            (2, "20.00", "101-4420-61200-000-000-000"),
        )
    ]
    body = invoice(invoiceLines=[{"LineNumber": 1, "LineAmount": "30.00", "invoiceDistributions": parts}])
    assert caller.post(body).status_code == 201
    (row,) = caller.items("invoices", expand="invoiceLines.invoiceDistributions")
    found = row["invoiceLines"]["items"][0]["invoiceDistributions"]["items"]
    assert [part["DistributionAmount"] for part in found] == [10, 20]

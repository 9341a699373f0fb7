"""What two refusals have in common when the invoice itself is taken out of their text."""

import json

import pytest

from mlc_dagster.fusion.errors import BusinessRefusal, ErrorDetail
from mlc_dagster.stampli.posting.refusals import answer_text, likeness, problem_of, reason_of


def body(number: str, supplier: str = "Acme Ltd", amount: str = "100.00", account: str = "101-10-51000") -> bytes:
    fields = {
        "InvoiceNumber": number, "Supplier": supplier, "SupplierNumber": "30012", "SupplierSite": "HQ",
        "InvoiceDate": f"2026-11-{len(number) + 9}",
        "invoiceLines": [{"LineNumber": len(number), "LineAmount": 7, "DistributionCombination": account}],
    }  # fmt: skip
    return json.dumps(fields)[:-1].encode() + f', "InvoiceAmount": {amount}}}'.encode()


@pytest.mark.parametrize(
    "text",
    [
        "You cannot create invoice {number} for supplier {supplier}. (AP-810999)",
        "AP-810999: invoice {number} of {amount} is refused; {supplier} has no site in the business unit",
        "Der Benutzer darf \u201e{number}\u201c f\u00fcr {supplier} nicht anlegen.",
        "User isn't allowed to enter '{number}' at site 'HQ'.",
        "Line {line}: no access to the ledger of {day}.",
        "Request {request} at {time} was refused: no role.",
    ],
)
def test_the_same_fault_says_the_same_of_every_invoice(text: str) -> None:
    """Number, supplier, site and amount are the invoice's; all else is the fault's."""
    first = text.format(
        number="INV-00417/A", supplier="Acme Ltd", amount="1,100.00", line=11, day="2026-11-20",
        request=300100987654321, time="23:04:11",
    )  # fmt: skip
    second = text.format(
        number="X", supplier="M\u00fcller & S\u00f6hne", amount="75.5", line=1, day="2026-11-10",
        request=300100987654399, time="23:04:12",
    )  # fmt: skip
    assert likeness(first, body("INV-00417/A", amount="1100.00")) == likeness(
        second, body("X", "M\u00fcller & S\u00f6hne", "75.50")
    )


@pytest.mark.parametrize(
    "text", ["The account {account} is closed.", "The account '{account}' is closed.", "Account {segment} is closed."]
)
def test_another_account_is_another_fault(text: str) -> None:
    """Fifteen invoices on accounts that were closed are faulty each by itself; nothing else must wait for them."""
    said = {
        likeness(text.format(account=account, segment=account[-5:]), body("INV-1", account=account))
        for account in ("101-10-51000", "101-10-52000")
    }
    assert len(said) == 2


def test_a_number_that_is_not_the_invoices_is_the_faults() -> None:
    """A cost centre, a tax code or an error's own number, which Fusion found out by itself."""
    assert likeness("Cost center 4410 is closed.", body("A-1")) != likeness("Cost center 4420 is closed.", body("A-2"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The terms are not valid.", "The pay group is not valid."),
        ("The value is not valid. (AP-810401)", "The value is not valid. (AP-810402)"),
        ("AP-810401: The value is not valid.", "AP-810402: The value is not valid."),
        ("The user's role isn't there", "The user's unit isn't there"),
    ],
)
def test_different_faults_stay_different(one: str, other: str) -> None:
    """Other words or another code of Fusion's, and it is another fault."""
    assert likeness(one, body("INV-1")) != likeness(other, body("INV-1"))


def test_a_number_within_a_word_is_not_taken_out() -> None:
    """An invoice that is called like a part of a word must not make two texts equal, or one different."""
    assert likeness("The role is missing.", body("ole")) == likeness("The role is missing.", body("INV-1"))


def test_a_body_that_was_erased_can_still_be_compared() -> None:
    """What the retention rules left is the answer."""
    assert likeness("No role for 30012.", b"") == likeness("No role for 30012.", body("INV-1"))


def test_a_code_that_the_text_does_not_name_is_kept_with_it_and_told_once() -> None:
    """The ledger keeps the answer, and the next run compares by it."""
    bare = BusinessRefusal(400, (ErrorDetail("JBO-27024", None, "Failed to validate."),))
    named = BusinessRefusal(400, (ErrorDetail("AP-1234", None, "No access. (AP-1234)"), ErrorDetail(None, None, "x")))
    assert answer_text(bare) == "JBO-27024 Failed to validate."
    assert likeness(answer_text(bare), b"").startswith("JBO-27024 ")
    assert answer_text(named) == "No access. (AP-1234); x"
    assert (problem_of(bare, None).field, problem_of(bare, None).value) == ("JBO-27024", "Failed to validate.")
    assert reason_of(bare) == "FUSION_REJECTED(JBO-27024)"
    assert reason_of(BusinessRefusal(422, (ErrorDetail(None, None, "no"),))) == "FUSION_REJECTED(HTTP 422)"

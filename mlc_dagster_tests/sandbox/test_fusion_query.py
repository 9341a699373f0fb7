"""Both dialects of ``q``, as the framework version decides."""

import pytest

from mlc_dagster.sandbox.fusion.query import (
    And,
    Compare,
    InList,
    Literal,
    Nothing,
    Operand,
    Or,
    QuerySyntaxError,
    parse_example,
    parse_expression,
)
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, codes, invoice, line

CHART = "_CHART_OF_ACCOUNTS_ID=5237"


def equal(name: str, text: str, *, quoted: bool = True) -> Compare:
    return Compare(Operand((name,)), "=", Literal(text, quoted=quoted))


def test_and_binds_tighter_than_or() -> None:
    """Otherwise a look-up with a control row would mean something else."""
    node = parse_expression("A='1' and B='2' or C='3'")
    assert node == Or((And((equal("A", "1"), equal("B", "2"))), equal("C", "3")))


def test_parentheses_change_the_binding() -> None:
    """(supplier and date) or control is how absence is proven."""
    node = parse_expression("A='1' and (B='2' or C='3')")
    assert node == And((equal("A", "1"), Or((equal("B", "2"), equal("C", "3")))))


def test_a_doubled_quote_is_one_quote() -> None:
    """The habit of SQL, kept inside a value."""
    assert parse_expression("A='O''Neill'") == equal("A", "O'Neill")


def test_keywords_are_read_in_any_case() -> None:
    """Oracle's own examples mix them."""
    assert parse_expression("A IN ('1','2')") == InList(
        Operand(("A",)), (Literal("1", quoted=True), Literal("2", quoted=True))
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "A=",
        "A='x",
        "A='O'Neill'",
        "A='1';B='2'",
        "A='1' and",
        "(A='1'",
        "A in ()",
        "A in ('1' '2')",
        "A=Y",
        "A like 3",
        "A between 1",
        "A is 3",
        "A not 3",
        "A='1' B='2'",
    ],
)
def test_what_is_not_an_expression_is_a_syntax_error(text: str) -> None:
    """A query that is half understood would find the wrong rows."""
    with pytest.raises(QuerySyntaxError):
        parse_expression(text)


def test_version_1_reads_an_and_as_part_of_the_value() -> None:
    """The trap that answers 200 with no rows."""
    assert parse_example("A=1 and B=2", narrow=True) == Nothing()


def test_version_1_has_ranges_on_one_attribute() -> None:
    """The one meaning that `` and `` has there."""
    node = parse_example("A>1 and <=5", narrow=False)
    low = Compare(Operand(("A",)), ">", Literal("1", quoted=False))
    assert node == And((low, Compare(Operand(("A",)), "<=", Literal("5", quoted=False))))


def test_semicolons_join_conditions_in_version_1(caller: Caller) -> None:
    """The documented way for the lists of values."""
    rows = caller.items("accountCombinationsLOV", version=1, q=f"{CHART};account=61200;EnabledFlag='Y'")
    assert {row["department"] for row in rows} == {"0000", "4410", "4420", "4430"}


@pytest.mark.parametrize("text", [f"{CHART} and EnabledFlag='Y'", "EnabledFlag='Y' and AccountType='E'"])
def test_and_in_version_1_finds_nothing_and_says_nothing(caller: Caller, text: str) -> None:
    """Absence proven with the wrong dialect would be a lie: 200 and zero rows."""
    assert caller.items("accountCombinationsLOV", version=1, q=text) == []


def test_the_version_header_decides_the_dialect(caller: Caller) -> None:
    """The same text is an expression from version 2 on."""
    text = f"{CHART} and account='61200' and AccountType!='O'"
    assert len(caller.items("accountCombinationsLOV", version=2, q=text)) == 4


def test_without_the_header_it_is_version_1(fusion: FusionSandbox) -> None:
    """A client that forgets the header meets the trap."""
    with Caller(fusion, version=None) as caller:
        assert caller.items("accountCombinationsLOV", q=f"{CHART} and EnabledFlag='Y'") == []


def test_semicolons_are_a_syntax_error_from_version_2(caller: Caller) -> None:
    """Code 29140, in the structured form."""
    answer = caller.get("accountCombinationsLOV", q=f"{CHART};EnabledFlag='Y'")
    assert (answer.status_code, codes(answer)) == (400, {"29140"})


@pytest.mark.parametrize("version", [1, 4])
def test_an_unknown_attribute_is_refused(caller: Caller, version: int) -> None:
    """PeriodName for PeriodNameId is the classic; the text does not say which one it was."""
    answer = caller.get("accountingPeriodStatusLOV", version=version, q="PeriodName='Nov-26'")
    assert answer.status_code == 400
    assert "PeriodName" not in answer.text


def test_periods_are_found_by_ledger_name_and_application(caller: Caller) -> None:
    """Without ApplicationId rows of both applications come back."""
    text = "LedgerId=300000046975971;PeriodNameId=Nov-26"
    assert len(caller.items("accountingPeriodStatusLOV", version=1, q=text)) == 2
    rows = caller.items("accountingPeriodStatusLOV", version=1, q=f"{text};ApplicationId=200")
    assert [row["ClosingStatus"] for row in rows] == ["O"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("InvoiceNumber='A-1'", ["A-1"]),
        ("InvoiceNumber in ('A-1','C-3','NONE')", ["A-1", "C-3"]),
        ("InvoiceNumber not in ('A-1')", ["B-2", "C-3"]),
        ("InvoiceNumber != 'A-1'", ["B-2", "C-3"]),
        ("InvoiceNumber <> 'A-1' and InvoiceAmount >= 20", ["B-2", "C-3"]),
        ("InvoiceAmount between 15 and 25", ["B-2"]),
        ("InvoiceAmount > 10 and InvoiceAmount < '30'", ["B-2"]),
        ("InvoiceNumber like '%-2'", ["B-2"]),
        ("InvoiceNumber not like '_-2'", ["A-1", "C-3"]),
        ("UPPER(InvoiceNumber) = 'A-1'", ["A-1"]),
        ("LOWER(InvoiceNumber) in ('a-1','b-2')", ["A-1", "B-2"]),
        ("Description is null", ["A-1", "C-3"]),
        ("Description is not null", ["B-2"]),
        ("Description != 'x'", ["B-2"]),
        ("not (InvoiceNumber='A-1' or InvoiceNumber='B-2')", ["C-3"]),
        ("(SupplierNumber='30012' and InvoiceDate='2026-11-11') or InvoiceNumber='A-1'", ["A-1", "B-2"]),
        ("CanceledFlag = false", ["A-1", "B-2", "C-3"]),
        ("invoiceLines.LineNumber = 2", ["C-3"]),
        ("invoiceLines.invoiceDistributions.DistributionAmount = 20", ["B-2"]),
        ("InvoiceNumber='a-1'", []),
        ("LastUpdateDate >= '2020-01-01T00:00:00.000Z' and CreationDate < '2099-01-01'", ["A-1", "B-2", "C-3"]),
    ],
)
def test_expressions_select_invoices(caller: Caller, text: str, numbers: list[str]) -> None:
    """Every operator of version 2, with nulls as in SQL and case kept."""
    caller.post(invoice("A-1", "10.00"))
    caller.post(invoice("B-2", "20.00", InvoiceDate="2026-11-11", Description="paper"))
    caller.post(invoice("C-3", "30.00", invoiceLines=[line(1, "10.00"), line(2, "19.00"), line(3, "1.00")]))
    found = caller.items("invoices", q=text, orderBy="InvoiceId:asc", fields="InvoiceNumber", onlyData="true")
    assert [row["InvoiceNumber"] for row in found] == numbers


def test_ids_select_by_equality_list_and_range(caller: Caller) -> None:
    """Reading back, and paging by key."""
    ids = [caller.post(invoice(number)).json()["InvoiceId"] for number in ("A", "B", "C")]
    found = caller.items("invoices", q=f"InvoiceId in ({ids[0]},{ids[2]},1)", fields="InvoiceId")
    assert [row["InvoiceId"] for row in found] == [ids[0], ids[2]]
    found = caller.items("invoices", q=f"InvoiceId > {ids[0]}", fields="InvoiceId")
    assert [row["InvoiceId"] for row in found] == ids[1:]


def test_child_attributes_need_version_2(caller: Caller) -> None:
    """Query by example does not reach children."""
    assert caller.get("invoices", version=1, q="invoiceLines.LineNumber=1").status_code == 400


def test_a_value_of_the_wrong_kind_is_refused(caller: Caller) -> None:
    """A date that is none, a number that is none."""
    for text in ("InvoiceDate='11/10/2026'", "InvoiceAmount='ten'", "InvoiceId='x'"):
        assert caller.get("invoices", q=text).status_code == 400


def test_version_1_still_reads_null_and_like_on_suppliers(caller: Caller) -> None:
    """Reported from live pods although the documents do not promise it."""
    rows = caller.items(
        "suppliers", version=1, q="Supplier LIKE '%Acme%' OR Supplier LIKE '%Neill%'", fields="Supplier"
    )
    assert [row["Supplier"] for row in rows] == ["O'Neill & Sons", "Acme, Inc."]
    rows = caller.items("suppliers", version=1, q="InactiveDate is not null", fields="SupplierNumber")
    assert [row["SupplierNumber"] for row in rows] == ["30005"]

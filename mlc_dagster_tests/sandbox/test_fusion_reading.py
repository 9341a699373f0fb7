"""Pages, fields, children, links, media types: what the framework lets a GET ask for."""

import httpx
import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.conftest import TODAY
from mlc_dagster_tests.sandbox.fusion_caller import ERROR, Caller, codes, exact, invoice, line


def test_a_page_has_25_rows_unless_asked(caller: Caller) -> None:
    """The default that clients forget."""
    page = caller.get("accountCombinationsLOV").json()
    assert (page["count"], page["limit"], page["offset"], page["hasMore"]) == (25, 25, 0, True)


def test_limit_is_capped_silently_and_told(caller: Caller) -> None:
    """The answer's limit is the one that counts: 499 for invoices, 500 elsewhere."""
    assert caller.get("invoices", limit=5000).json()["limit"] == 499
    assert caller.get("suppliers", limit=5000).json()["limit"] == 500


def test_offset_walks_to_the_empty_page(caller: Caller) -> None:
    """Every row once, then nothing."""
    numbers: list[str] = []
    offset = 0
    while rows := caller.items("suppliers", limit=7, offset=offset, orderBy="SupplierId:asc", fields="SupplierNumber"):
        numbers += [row["SupplierNumber"] for row in rows]
        offset += len(rows)
    assert numbers == [str(number) for number in range(30000, 30020)]


def test_the_last_page_says_that_there_is_no_more(caller: Caller) -> None:
    """Also when it is exactly full."""
    assert caller.get("suppliers", limit=20).json()["hasMore"] is False


def test_total_results_come_only_when_asked(caller: Caller) -> None:
    """Counting costs Fusion a query."""
    assert "totalResults" not in caller.get("suppliers").json()
    assert caller.get("suppliers", limit=1, totalResults="true").json()["totalResults"] == 20


def test_order_by_sorts_both_ways_with_nulls_last(caller: Caller) -> None:
    """Several attributes, each with its direction."""
    caller.post(invoice("A", "10.00", Description="x"))
    caller.post(invoice("B", "20.00"))
    caller.post(invoice("C", "20.00", Description="y"))
    rows = caller.items("invoices", orderBy="InvoiceAmount:desc,InvoiceNumber:desc", fields="InvoiceNumber")
    assert [row["InvoiceNumber"] for row in rows] == ["C", "B", "A"]
    rows = caller.items("invoices", orderBy="Description:desc", fields="InvoiceNumber")
    assert [row["InvoiceNumber"] for row in rows] == ["C", "A", "B"]


@pytest.mark.parametrize(
    "params",
    [
        {"limt": "5"},
        {"limit": "-1"},
        {"limit": "many"},
        {"offset": "x"},
        {"orderBy": "Nothing:asc"},
        {"orderBy": "SupplierId:up"},
        {"fields": "Nothing"},
        {"fields": "sites:Nothing"},
        {"expand": "nothing"},
        {"onlyData": "maybe"},
        {"finder": "NoSuchFinder;a=1"},
        {"dependency": "a=1"},
    ],
)
def test_unknown_or_unfit_parameters_are_refused(caller: Caller, params: dict[str, str]) -> None:
    """A typo must not read as a wish for everything."""
    assert caller.client.get("/suppliers", params=params).status_code == 400


def test_query_parameters_belong_to_collections(caller: Caller) -> None:
    """On one item they are refused."""
    assert caller.get("suppliers/300000100000000", q="SupplierId=1").status_code == 400


def test_fields_show_what_they_name_and_nothing_else(caller: Caller) -> None:
    """Children too, to any depth."""
    fields = "SupplierNumber;sites:SupplierSite;sites.assignments:ClientBU"
    params = {"q": "SupplierNumber='30012'", "fields": fields, "onlyData": "true"}
    (row,) = caller.items("suppliers", version=2, **params)
    sites = [
        {"SupplierSite": "HQ", "assignments": [{"ClientBU": "US1 Business Unit"}, {"ClientBU": "UK1 Business Unit"}]}
    ]
    assert row == {"SupplierNumber": "30012", "sites": sites}


def test_fields_win_over_expand(caller: Caller) -> None:
    """Documented: given both, only fields counts."""
    (row,) = caller.items("suppliers", q="SupplierNumber='30012'", fields="Supplier", expand="sites", onlyData="true")
    assert row == {"Supplier": "Acme, Inc."}


def test_expand_opens_the_parents_of_a_nested_child(caller: Caller) -> None:
    """``sites.assignments`` shows the sites as well."""
    (row,) = caller.items("suppliers", q="SupplierNumber='30012'", expand="sites.assignments")
    site = row["sites"]["items"][0]
    assert site["SupplierSite"] == "HQ"
    assert site["assignments"]["items"][0]["ClientBU"] == "US1 Business Unit"


@pytest.mark.parametrize(("version", "kind"), [(1, list), (2, list), (3, dict), (9, dict)])
def test_nested_children_are_arrays_then_collections(caller: Caller, version: int, kind: type) -> None:
    """The shape changes with version 3."""
    (row,) = caller.items("suppliers", version=version, q="SupplierNumber='30012'", expand="sites")
    assert isinstance(row["sites"], kind)


def test_a_nested_collection_has_a_page_of_its_own(caller: Caller) -> None:
    """Thirty lines: 25 in the parent, the rest behind the child's address."""
    lines = [line(number, "1.00") for number in range(1, 31)]
    created = exact(caller.post(invoice(invoiceLines=lines)))
    (row,) = caller.items("invoices", q="InvoiceNumber='INV-1'", expand="invoiceLines")
    nested = row["invoiceLines"]
    assert (nested["count"], nested["hasMore"], nested["limit"]) == (25, True, 25)
    rest = caller.items(f"invoices/{created['InvoiceId']}/child/invoiceLines", offset=25, orderBy="LineNumber:asc")
    assert [row["LineNumber"] for row in rest] == [26, 27, 28, 29, 30]


def test_version_9_writes_numbers_as_text(caller: Caller) -> None:
    """Ids and amounts; the paging attributes stay numbers."""
    caller.post(invoice(amount="1180.50"))
    page = caller.get("invoices", version=9, fields="InvoiceId,InvoiceAmount").json()
    row = page["items"][0]
    assert row["InvoiceId"].isdigit()
    assert (row["InvoiceAmount"], page["count"]) == ("1180.5", 1)


def test_amounts_are_exact_numbers(caller: Caller) -> None:
    """Beyond what a float can hold, and without an exponent."""
    caller.post(invoice(amount="99999999999999999.99"))
    answer = caller.get("invoices", fields="InvoiceAmount", onlyData="true")
    assert '"InvoiceAmount":99999999999999999.99}' in answer.text


def test_links_name_port_443_and_opaque_keys(fusion: FusionSandbox, caller: Caller) -> None:
    """The key in a link is not the id; both open the invoice."""
    created = caller.post(invoice())
    links = {(link["rel"], link["name"]): link for link in created.json()["links"]}
    href = links["self", "invoices"]["href"]
    assert href == created.headers["Location"]
    assert href.startswith("https://127.0.0.1:443/fscmRestApi/resources/11.13.18.05/invoices/00020000000EACED")
    assert ("child", "invoiceLines") in links
    opaque = href.rpartition("/")[2]
    invoice_id = created.json()["InvoiceId"]
    assert caller.get(f"invoices/{opaque}").json()["InvoiceId"] == invoice_id
    assert caller.get(f"invoices/{invoice_id}").json()["InvoiceId"] == invoice_id


def test_only_data_drops_every_link(caller: Caller) -> None:
    """Links of children as well."""
    caller.post(invoice())
    (row,) = caller.items("invoices", expand="invoiceLines", onlyData="true")
    assert "links" not in row
    assert "links" not in row["invoiceLines"]["items"][0]


def test_lines_and_distributions_are_reached_by_the_links(caller: Caller) -> None:
    """A line's key is opaque only, so a client has to follow its link."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    (row,) = caller.items(f"invoices/{invoice_id}/child/invoiceLines")
    address = next(link["href"] for link in row["links"] if link["name"] == "invoiceDistributions")
    (distribution,) = caller.items(address.partition("/11.13.18.05/")[2])
    assert (distribution["DistributionAmount"], distribution["DistributionCombination"]) == (
        30,
        "101-4410-61200-000-000-000",
    )


def test_supplier_children_are_reached_by_plain_ids(caller: Caller) -> None:
    """Sites and assignments do not repeat the supplier's id."""
    (site,) = caller.items("suppliers/300000100000120/child/sites")
    assert "SupplierId" not in site
    path = f"suppliers/300000100000120/child/sites/{site['SupplierSiteId']}/child/assignments"
    assert [row["ClientBU"] for row in caller.items(path)] == ["US1 Business Unit", "UK1 Business Unit"]


def test_value_sets_are_reached_by_their_code(caller: Caller) -> None:
    """Blanks in the code are percent-encoded."""
    rows = caller.items("valueSets/US1%20Cost%20Center/child/values")
    assert [row["Value"] for row in rows] == ["0000", "4410", "4420", "4430", "4490", "4499"]
    rows = caller.items("valueSets/US1%20Cost%20Center/child/values", q="Value in ('4490','4499')")
    assert [(row["EnabledFlag"], row["EndDateActive"]) for row in rows] == [("Y", "2026-07-31"), ("N", None)]


def test_the_primary_key_finder_finds_one(caller: Caller) -> None:
    """``finder=Name;Variable=value``."""
    rows = caller.items("ledgersLOV", finder="PrimaryKey;LedgerId=300000046975971")
    assert [row["Name"] for row in rows] == ["US Primary Ledger"]


@pytest.mark.parametrize("path", ["nothing", "ledgers", "invoices/1", "invoices/1/child/invoiceLines", "suppliers/x/y"])
def test_what_is_not_there_is_404_in_plain_text(caller: Caller, path: str) -> None:
    """Not even version 4 makes it structured."""
    answer = caller.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")


def test_latest_is_another_name_of_the_version(fusion: FusionSandbox, caller: Caller) -> None:
    """As on a real pod; any other version is not found."""
    base = f"{fusion.base_url}/fscmRestApi/resources"
    assert caller.client.get(f"{base}/latest/ledgersLOV").status_code == 200
    assert caller.client.get(f"{base}/11.0/ledgersLOV").status_code == 404


@pytest.mark.parametrize(("version", "accept", "structured"), [(4, None, True), (1, None, False), (1, ERROR, True)])
def test_errors_are_structured_by_version_or_accept(
    caller: Caller, version: int, accept: str | None, structured: bool
) -> None:
    """Older requests get the bare text of the same refusal."""
    caller.post(invoice())
    headers = {"REST-Framework-Version": str(version)} | ({"Accept": accept} if accept else {})
    answer = caller.post(invoice(), **headers)
    assert answer.status_code == 400
    if structured:
        assert codes(answer) == {"AP-810776"}
    else:
        assert answer.text.endswith("(AP-810776)")
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("accept", ["text/xml", "application/vnd.oracle.adf.resourceitem+json"])
def test_an_accept_that_fits_nothing_is_406_and_empty(caller: Caller, accept: str) -> None:
    """An item type does not fit a collection."""
    answer = caller.get("invoices", accept=accept)
    assert (answer.status_code, answer.content) == (406, b"")


def test_the_adf_media_type_comes_back_when_asked_for(caller: Caller) -> None:
    """Clients that ask for it check it."""
    media = "application/vnd.oracle.adf.resourcecollection+json"
    assert caller.get("invoices", accept=media).headers["content-type"] == media


def test_an_unknown_framework_version_is_refused(caller: Caller) -> None:
    """1 to 9 exist."""
    assert caller.get("invoices", version=10).status_code == 400


def test_collections_without_create_refuse_a_post(caller: Caller) -> None:
    """405 names what is allowed."""
    answer = caller.post({}, "ledgersLOV")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert caller.client.delete("/invoices").status_code == 405


def test_entity_tags_tell_of_changes(caller: Caller) -> None:
    """304 while unchanged; 412 for a change based on an older state."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    tag = caller.get(f"invoices/{invoice_id}").headers["ETag"]
    address = f"/invoices/{invoice_id}"
    assert caller.client.get(address, headers={"If-None-Match": tag}).status_code == 304
    changed = caller.client.patch(address, json={"Description": "new"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["Description"]) == (200, "new")
    late = caller.client.patch(address, json={"Description": "late"}, headers={"If-Match": tag})
    assert (late.status_code, codes(late)) == (412, {"JBO-25014"})


def test_fixed_attributes_cannot_be_patched(caller: Caller) -> None:
    """The accounting date is one of them."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    answer = caller.client.patch(f"/invoices/{invoice_id}", json={"AccountingDate": "2026-11-11"})
    assert (answer.status_code, codes(answer)) == (400, {"JBO-27008"})


def test_describe_and_catalogue_name_attributes_and_versions(caller: Caller) -> None:
    """What a client may ask before it relies on a name."""
    described = caller.get("suppliers/describe").json()["Resources"]["suppliers"]
    assert {"name": "SupplierNumber", "type": "string", "queryable": True} in described["attributes"]
    assert caller.get("").json()["items"][0]["version"] == "11.13.18.05"


def test_fifty_thousand_suppliers_are_looked_up_by_index() -> None:
    """A bulk look-up of fifty numbers touches fifty rows, not fifty thousand."""
    with FusionSandbox(Seed(suppliers=50_000, today=TODAY)) as fusion, Caller(fusion) as caller:
        numbers = ",".join(f"'{number}'" for number in range(79_950, 80_000))
        rows = caller.items("suppliers", q=f"SupplierNumber in ({numbers})", limit=500, fields="SupplierNumber")
        assert len(rows) == 50
        assert fusion.books.requests(route="suppliers")[-1].seconds < 0.1


def test_every_collection_answers(caller: Caller) -> None:
    """The names that a client is given."""
    for name in (
        "suppliers",
        "accountCombinationsLOV",
        "accountingPeriodStatusLOV",
        "ledgersLOV",
        "finBusinessUnitsLOV",
        "valueSets",
        "invoices",
        "invoiceHolds",
    ):
        answer: httpx.Response = caller.get(name, limit=1)
        assert answer.status_code == 200, name

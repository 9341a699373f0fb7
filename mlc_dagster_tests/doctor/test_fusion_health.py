"""Fusion, step by step, against the embedded one with something wrong in it: each line names cause and remedy."""

import datetime as dt
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.doctor.findings import Cause, State, Warned
from mlc_dagster.doctor.network import certificate
from mlc_dagster.fusion.tls import trusted_context
from mlc_dagster.settings_file import load_settings
from mlc_dagster_tests.doctor.conftest import Told, examined
from mlc_dagster_tests.protocols.posting import clerk
from mlc_dagster_tests.servers.certificates import DAY, Authority, refusing_server, server_context
from mlc_dagster_tests.servers.partner_rehearsal import partner_rehearsal
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

SUPPLIERS = "suppliers with sites.assignments"


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path) as running:
        yield running


def fusion_of(flow: Rehearsal, **change: Any) -> Told:
    """What is said of Fusion with these keys of ``fusion:`` changed."""
    if change:
        flow.change_config({"fusion": change})
    return examined(flow.config, "fusion")


def test_nothing_is_wrong_with_a_good_environment(flow: Rehearsal) -> None:
    """A doctor who finds faults in the healthy is not asked again; and it only reads."""
    told = fusion_of(flow)
    assert told.wrong == []
    assert told.of("clock").state is State.OK
    assert "US Primary Ledger (USD)" in told.of("ledgers").text
    assert "suppliers" in told.of("query dialect").text
    requests = flow.fusion.books.requests()
    assert {entry.method for entry in requests if "token" not in entry.path} == {"GET"}


def test_each_resource_is_asked_as_the_flows_ask(flow: Rehearsal) -> None:
    """A list of resources kept here would miss the next one that a flow needs."""
    steps = fusion_of(flow).states("Fusion")
    asked = {"ledgersLOV", "accountingPeriodStatusLOV", SUPPLIERS, "accountCombinationsLOV", "invoices", "invoiceHolds"}
    assert asked <= set(steps)


def test_a_wrong_secret_is_told_at_the_sign_in(flow: Rehearsal) -> None:
    """Everything after it would fail too, and would only hide the cause."""
    (flow.folder / "fusion_secret").write_text("not-the-secret-of-this-client")
    told = fusion_of(flow)
    assert told.wrong == ["sign-in"]
    assert "invalid_client" in told.of("sign-in").text
    assert "client_secret" in told.of("sign-in").text
    assert told.of("sign-in").cause is Cause.HERE
    assert told.of("resources").text == "because sign-in is wrong"


def test_a_scope_of_another_environment_is_told(flow: Rehearsal) -> None:
    """It is copied by hand, and one digit is another pod."""
    assert "invalid_scope" in fusion_of(flow, scope="urn:opc:resource:fa:instanceid=9").of("sign-in").text


def test_a_token_endpoint_that_is_down_is_not_our_fault(flow: Rehearsal) -> None:
    """Exit code 3 says: wait. It is asked once, for a doctor is waited for."""
    flow.fusion.faults.add("token_down", status=503)
    told = fusion_of(flow)
    assert told.of("sign-in").cause is Cause.REMOTE
    assert "HTTP 503" in told.of("sign-in").text
    assert len([entry for entry in flow.fusion.books.requests() if "token" in entry.path]) == 1


def test_a_name_that_does_not_exist_leaves_out_what_needs_it(flow: Rehearsal) -> None:
    """One typing error must be one line, not twenty."""
    told = fusion_of(flow, base_url="https://no-such-pod.invalid")
    assert told.wrong == ["DNS"]
    states = told.states("Fusion")
    assert (states["TCP"], states["TLS"], states["sign-in"]) == (State.SKIPPED,) * 3
    assert told.of("TCP").text == "because DNS is wrong"
    assert states["identity DNS"] is State.OK


def test_a_closed_port_is_told(flow: Rehearsal) -> None:
    """Refused is not the same as unknown, and a firewall is another department."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = fusion_of(flow, base_url=f"http://127.0.0.1:{port}")
    assert told.wrong == ["TCP"]
    assert told.of("TCP", "Fusion").cause is Cause.REMOTE
    assert "firewall" in told.of("TCP", "Fusion").fix


def test_an_expired_certificate_is_named_before_anything_is_sent(flow: Rehearsal, tmp_path: Path) -> None:
    """Neither secret nor token goes to a server that cannot prove who it is."""
    authority = Authority(tmp_path)
    expired = authority.issue(begins=-2 * DAY, ends=-dt.timedelta(hours=1))
    with refusing_server(server_context(expired)) as url:
        told = fusion_of(flow, base_url=url, token_url=f"{url}/token", ca_bundle=str(authority.bundle))
    assert told.wrong == ["TLS"]
    assert "certificate expired" in told.of("TLS", "Fusion").text
    assert told.of("TLS", "Fusion").cause is Cause.HERE
    assert told.of("sign-in").text == "because there is no trusted connection"


def test_a_certificate_that_ends_soon_is_told_beforehand(flow: Rehearsal, tmp_path: Path) -> None:
    """Renewals take weeks where another company makes them."""
    authority = Authority(tmp_path)
    settings = load_settings(flow.config).fusion.model_copy(update={"ca_bundle": authority.bundle})
    now = dt.datetime.now(dt.UTC)
    with refusing_server(server_context(authority.issue(ends=20 * DAY))) as url:
        soon = certificate(url, lambda: trusted_context(settings, None, None), 5, now)
    with refusing_server(server_context(authority.issue(ends=25 * DAY))) as url:
        later = certificate(url, lambda: trusted_context(settings, None, None), 5, now)
    assert isinstance(soon, Warned)
    assert "issued by Test Authority" in soon.text
    assert isinstance(later, str)
    assert later.startswith("TLSv1")


def test_a_revoked_role_is_told_for_its_resource_alone(flow: Rehearsal) -> None:
    """Roles are given by resource; the others are looked at all the same."""
    flow.fusion.faults.add("revoked", path="suppliers")
    told = fusion_of(flow)
    assert told.wrong == [SUPPLIERS]
    assert "lacks the function privilege" in told.of(SUPPLIERS).text
    assert "mlc-sandbox-client" in told.of(SUPPLIERS).fix
    assert told.of("accountCombinationsLOV").state is State.OK


def test_zero_rows_are_data_access_and_not_a_role(flow: Rehearsal) -> None:
    """The answer is 200, so everybody looks for the fault in the wrong place."""
    flow.fusion.faults.add("zero_rows", path="suppliers")
    found = fusion_of(flow).of(SUPPLIERS)
    assert found.state is State.WRONG
    assert "200 with zero rows" in found.text
    assert "data security shows it nothing" in found.fix


def test_zero_invoices_are_a_warning(flow: Rehearsal) -> None:
    """A new business unit has none, and that is no fault; that nothing can be proven there is to be known."""
    told = fusion_of(flow)
    assert told.of("invoices").state is State.WARN
    assert "cannot prove" in told.of("invoices of US1 Business Unit").fix


def test_an_unknown_user_is_told_once(flow: Rehearsal) -> None:
    """A token is granted to a client that Fusion has no user for: the commonest fault of a first set-up."""
    flow.fusion.faults.add("status", status=401)
    told = fusion_of(flow)
    assert told.wrong == ["ledgersLOV"]
    assert "a user named exactly mlc-sandbox-client" in told.of("ledgersLOV").fix
    [rest] = [each for each in told.findings if each.step.endswith("more resources")]
    assert rest.state is State.SKIPPED


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "fusion.base_url"), (406, "fusion.framework_version")],
)
def test_other_refusals_name_the_setting(flow: Rehearsal, status: int, words: str) -> None:
    """Whoever reads the line must know which line of mlc.yaml to look at."""
    flow.fusion.faults.add("status", path="invoiceHolds", status=status)
    found = fusion_of(flow).of("invoiceHolds")
    assert found.text.startswith(str(status))
    assert words in found.fix


def test_a_wrong_segment_name_is_found_before_the_first_invoice(flow: Rehearsal) -> None:
    """The names come from the customer's chart and are written into mlc.yaml by hand."""
    chart = {
        "ledgers": ["US Primary Ledger"],
        "segments": ["entity", "dept", "account", "subAccount", "location", "future1"],
        "natural_account": "account",
        "cost_center": "dept",
    }
    found = fusion_of(flow, charts={"US1": chart}).of("accountCombinationsLOV")
    assert found.state is State.WRONG
    assert "fusion.charts.US1.segments" in found.fix


@pytest.mark.parametrize(("seconds", "state"), [(10, State.OK), (-120, State.WARN), (3600, State.WRONG)])
def test_clocks_are_compared_by_the_date_header(flow: Rehearsal, seconds: int, state: State) -> None:
    """Windows are closed by Fusion's clock, assertions are dated by ours."""
    flow.fusion.world.move_clock(dt.timedelta(seconds=seconds))
    found = fusion_of(flow).of("clock")
    assert found.state is state
    assert state is State.OK or ("ahead of" if seconds > 0 else "behind") in found.text


def test_a_question_that_does_not_find_the_row_just_seen_is_told(flow: Rehearsal) -> None:
    """Taken as absence, such an answer would have every invoice posted twice."""
    flow.fusion.faults.add("zero_rows", path="suppliers", skip=1)
    found = fusion_of(flow).of("query dialect")
    assert found.state is State.WRONG
    assert "does not find the row" in found.text


def test_business_units_and_ledgers_that_are_not_visible_are_named(flow: Rehearsal) -> None:
    """A trailing word in a name is found by the first invoice otherwise, days later."""
    flow.change_config(
        {
            "fusion": {"charts": {"US1": {"ledgers": ["US Ledger"]}}},
            "stampli": {"companies": {"C100": {"business_unit": "US One", "ledger": "US Ledger"}}},
        }
    )
    told = fusion_of(flow)
    assert told.of("business units").text == "not visible: US One"
    assert told.of("ledgers").text == "not visible: US Ledger"


def test_feeds_bring_their_resources_with_them(tmp_path: Path) -> None:
    """Journals are another role than Payables, given by another person."""
    with partner_rehearsal(tmp_path) as partner:
        partner.change_feed("orders", source="purchase_orders", layout="purchase_orders_csv")
        partner.fusion.faults.add("revoked", path="purchaseOrders")
        # The second question to journalBatches is by the dates of children.
        partner.fusion.faults.add("status", path="journalBatches", status=400, skip=1)
        told = examined(partner.config, "fusion")
    orders, children = "purchaseOrders with lines.schedules.distributions", "journalBatches by dates of children"
    assert told.of("journalBatches with journalHeaders.journalLines").state is State.OK
    assert "read for orders" in told.of(orders).text
    assert told.of(orders).state is State.WRONG
    assert "outbound.child_dates: false" in told.of(children).fix
    assert "suppliers" not in told.states("Fusion")


def test_attachments_are_asked_of_an_invoice_that_is_there(flow: Rehearsal) -> None:
    """They have a privilege of their own."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    without = fusion_of(flow).of("attachments")
    clerk(flow)
    there = fusion_of(flow)
    flow.fusion.faults.add("revoked", path="invoices/*/child/attachments")
    revoked = fusion_of(flow).of("attachments")
    assert (without.state, revoked.state) == (State.SKIPPED, State.WRONG)
    assert there.of("attachments").state is State.OK
    assert there.of("invoices of US1 Business Unit").state is State.OK
    assert "invoices" in there.of("query dialect").text


def test_a_server_that_says_nothing_ends_after_the_timeout(flow: Rehearsal) -> None:
    """A doctor that hangs is no help."""
    flow.fusion.faults.add("hang", path="suppliers")
    told = examined(flow.config, "fusion", timeout=0.5)
    assert told.of(SUPPLIERS).cause is Cause.REMOTE
    assert "0.5 s" in told.of(SUPPLIERS).text


def test_a_secret_that_cannot_be_had_leaves_out_the_sign_in(flow: Rehearsal) -> None:
    """The network is looked at all the same: two faults take one run to find."""
    told = fusion_of(flow, client_secret="env:NOT_SET_HERE")
    assert told.of("TCP", "Fusion").state is State.OK
    assert told.of("sign-in").text == "because fusion.client_secret leads to no secret"
    assert told.of("fusion.client_secret").state is State.WRONG

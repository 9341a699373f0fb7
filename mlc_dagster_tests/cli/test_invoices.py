"""``mlc invoices``: everything of an invoice on one page, and what a person may change about a parked one."""

import getpass
import socket
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster_tests.cli.conftest import BOTH, Polled, json_of, run_mlc

RELEASE = ("--hold", "DUP_NORMALISED", *BOTH)


def listed(config: Path, *filters: str) -> list[dict[str, Any]]:
    return json_of(run_mlc("--config", config, "invoices", "list", "--json", *filters))["invoices"]


def parked_for(config: Path, reason: str) -> dict[str, Any]:
    [found] = [invoice for invoice in listed(config, "--state", "PARKED") if invoice["reason"] == reason]
    return found


def shown(config: Path, invoice: object) -> dict[str, Any]:
    [found] = json_of(run_mlc("--config", config, "invoices", "show", str(invoice), "--json"))["invoices"]
    return found


def test_list_can_be_narrowed(polled: Polled) -> None:
    """By state, number, Stampli's id and window: the ways in which people ask."""
    config = polled.config
    every = listed(config)
    some = every[0]
    assert {invoice["state"] for invoice in listed(config, "--state", "parked")} == {"PARKED"}
    assert [invoice["id"] for invoice in listed(config, "--number", some["number"])] == [some["id"]]
    assert [invoice["id"] for invoice in listed(config, "--number", some["stampli_id"])] == [some["id"]]
    assert len(listed(config, "--window", some["window"])) == len(every)
    assert listed(config, "--window", "2026-01-01-00:00") == []


def test_list_shows_amounts_with_their_currency(polled: Polled) -> None:
    """An amount without its currency is not an amount."""
    text = run_mlc("--config", polled.config, "invoices", "list").stdout
    assert "140,800 JPY" in text
    assert "-200.00 USD" in text


def test_show_tells_the_whole_life(polled: Polled) -> None:
    """From the row of the file to the answer of Fusion, with who and when: what an auditor asks for."""
    posted = listed(polled.config, "--state", "CONFIRMED")[0]
    page = shown(polled.config, posted["id"])
    [appearance] = page["appearances"]
    [attempt] = page["attempts"]
    kinds = [event["kind"] for event in page["events"]]
    assert appearance["rows"]
    assert (attempt["phase"], attempt["http_status"]) == ("CREATED", 201)
    assert attempt["body"].startswith("{")
    assert kinds[0] == "invoice.received"
    assert {"supplier.matched", "account.matched", "submission.intent", "submission.created"} <= set(kinds)
    text = run_mlc("--config", polled.config, "invoices", "show", posted["number"]).stdout
    assert f"{posted['number']}, {page['fusion_invoice_id']}" in text


def test_show_tells_what_to_do(polled: Polled) -> None:
    """A reason code alone helps nobody; the sentence names place, value and remedy."""
    parked = parked_for(polled.config, "VENDOR_UNKNOWN")
    text = run_mlc("--config", polled.config, "invoices", "show", parked["id"]).stdout
    assert "VENDOR_UNKNOWN: supplier master decides" in text
    assert "Create supplier 39001 (Fabrikam Facilities) in Fusion" in text


def test_show_of_an_unknown_invoice_is_one_line(polled: Polled) -> None:
    """Not found is an answer, with the way to what is there."""
    result = run_mlc("--config", polled.config, "invoices", "show", "NOPE")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "mlc: invoice NOPE: the ledger has none with this ID, number or Stampli id; see `mlc invoices list`\n"
    )


def test_release_records_who_and_why(private: Path) -> None:
    """Two people, the reason, before and after, and who ran the process where: in one audit event."""
    held = parked_for(private, "DUP_NORMALISED")
    assert run_mlc("--config", private, "invoices", "release", held["id"], *RELEASE).exit_code == 0
    page = shown(private, held["id"])
    assert page["released_reasons"] == ["DUP_NORMALISED"]
    assert page["cured_at"] is not None
    event = page["events"][-1]
    assert event["kind"] == "invoice.released"
    assert event["actor"] == f"{getpass.getuser()}@{socket.gethostname()} (mlc)"
    assert event["detail"]["by"] == "Ada"
    assert event["detail"]["approved_by"] == "Grace"
    assert event["detail"]["reason"] == "the partner said so"
    assert event["detail"]["hold"] == "DUP_NORMALISED"
    standing = {"state": "PARKED", "reason": "DUP_NORMALISED"}
    assert event["detail"]["before"] == {**standing, "released_reasons": []}
    assert event["detail"]["after"] == {**standing, "released_reasons": ["DUP_NORMALISED"], "judged_again": True}


def test_a_released_invoice_is_posted_by_the_next_poll(private: Path, polled: Polled) -> None:
    """A release that the next validation undoes would be no release."""
    held = parked_for(private, "DUP_NORMALISED")
    run_mlc("--config", private, "invoices", "release", held["id"], *RELEASE)
    result = run_mlc("--config", private, "run", "inbound", "--no-wait", "--json")
    assert json_of(result)["posted"] == 1
    assert shown(private, held["id"])["state"] == "CONFIRMED"
    assert [booked["number"] for booked in polled.sandbox.books()["invoices_stored"]].count(held["number"]) == 1


def test_release_of_all_that_are_held_for_the_same(private: Path) -> None:
    """After a restore people compare many at once; each release is on record, and nothing else is released."""
    held = [each["id"] for each in listed(private, "--state", "PARKED") if each["reason"] == "DUP_NORMALISED"]
    others = [each["id"] for each in listed(private, "--state", "PARKED") if each["reason"] != "DUP_NORMALISED"]
    result = run_mlc("--config", private, "invoices", "release", "--all", *RELEASE)
    assert (result.exit_code, f"{len(held)} invoices released" in result.stdout) == (0, True)
    for each in held:
        page = shown(private, str(each))
        assert page["released_reasons"] == ["DUP_NORMALISED"]
        assert (page["events"][-1]["kind"], page["events"][-1]["detail"]["approved_by"]) == (
            "invoice.released",
            "Grace",
        )
    assert others
    assert all(shown(private, str(each))["released_reasons"] is None for each in others)
    assert run_mlc("--config", private, "invoices", "release", "--all", *RELEASE).exit_code == 2


@pytest.mark.parametrize("hold", ["AMOUNT_MISMATCH", "POSTED_BEFORE_RESTORE"], ids=["no hold", "nothing held"])
def test_release_of_all_changes_nothing_else(private: Path, hold: str) -> None:
    """What no person may overrule is not overruled by the dozen either."""
    result = run_mlc("--config", private, "invoices", "release", "--all", "--hold", hold, *BOTH)
    assert result.exit_code == 2
    assert all(shown(private, str(each["id"]))["released_reasons"] is None for each in listed(private))


@pytest.mark.parametrize("arguments", [[], ["1", "--all"]], ids=["nothing", "both"])
def test_release_wants_one_invoice_or_all(private: Path, arguments: list[str]) -> None:
    """A forgotten number is not every number."""
    result = run_mlc("--config", private, "invoices", "release", *arguments, *RELEASE)
    assert result.exit_code == 2
    assert "nothing was changed" in result.stderr


@pytest.mark.parametrize("other", ["Ada", " ada@corp "])
def test_release_takes_two_different_people(private: Path, other: str) -> None:
    """One person with two spellings is one person; the invoice stays held."""
    held = parked_for(private, "DUP_NORMALISED")
    arguments = [other if argument == "Grace" else argument for argument in RELEASE]
    result = run_mlc("--config", private, "invoices", "release", held["id"], *arguments)
    assert result.exit_code == 2
    assert "two different people" in result.stderr
    assert shown(private, held["id"])["released_reasons"] is None


def test_release_takes_two_who_are_listed_where_there_is_a_list(private: Path) -> None:
    """Names are claimed; a list leaves the claim to those who may approve."""
    held = parked_for(private, "DUP_NORMALISED")
    private.write_text(private.read_text(encoding="utf-8") + "\napprovers: [Ada, Carla]\n", encoding="utf-8")
    result = run_mlc("--config", private, "invoices", "release", held["id"], *RELEASE)
    assert (result.exit_code, result.stderr) == (2, "mlc: approved_by: Grace is not among approvers in mlc.yaml\n")
    assert shown(private, held["id"])["released_reasons"] is None


@pytest.mark.parametrize("reason", ["DUP_EXACT", "VENDOR_UNKNOWN", "SUBMIT_UNKNOWN"])
def test_only_look_alike_holds_can_be_released(private: Path, reason: str) -> None:
    """Releasing an exact duplicate or an unknown outcome would pay twice."""
    held = parked_for(private, "DUP_NORMALISED")
    arguments = [reason if argument == "DUP_NORMALISED" else argument for argument in RELEASE]
    result = run_mlc("--config", private, "invoices", "release", held["id"], *arguments)
    assert result.exit_code == 2
    assert shown(private, held["id"])["state"] == "PARKED"


def test_release_of_an_invoice_parked_for_something_else_is_refused(private: Path) -> None:
    """The person who approved had another hold in mind."""
    parked = parked_for(private, "PERIOD_CLOSED")
    result = run_mlc("--config", private, "invoices", "release", parked["id"], *RELEASE)
    assert result.exit_code == 2
    assert "cannot be released from DUP_NORMALISED: it is PARKED for PERIOD_CLOSED" in result.stderr


def test_retry_marks_the_cause_as_cured_on_record(private: Path) -> None:
    """The next poll judges it again; who said so is in the audit trail."""
    parked = parked_for(private, "AMOUNT_MISMATCH")
    assert run_mlc("--config", private, "invoices", "retry", parked["id"]).exit_code == 0
    page = shown(private, parked["id"])
    assert page["cured_at"] is not None
    event = page["events"][-1]
    assert event["kind"] == "invoice.retried"
    assert event["detail"]["by"] == event["actor"]
    assert event["detail"]["reason"] == "its cause is believed to be gone"
    assert event["detail"]["before"] == {"state": "PARKED", "reason": "AMOUNT_MISMATCH", "judged_again": False}
    assert event["detail"]["after"] == {"state": "PARKED", "reason": "AMOUNT_MISMATCH", "judged_again": True}


def test_retry_of_all_that_are_parked_for_the_same(private: Path) -> None:
    """What a fault parked by the dozen is taken up again by one command, each on record; nothing else is."""
    parked = parked_for(private, "AMOUNT_MISMATCH")
    others = {each["id"] for each in listed(private, "--state", "PARKED") if each["reason"] != "AMOUNT_MISMATCH"}
    why = ("--reason", "the role was given back")
    result = run_mlc("--config", private, "invoices", "retry", "--parked-for", "AMOUNT_MISMATCH", *why)
    assert (result.exit_code, "AMOUNT_MISMATCH: the next poll takes them up again" in result.stdout) == (0, True)
    page = shown(private, parked["id"])
    assert page["cured_at"] is not None
    assert (page["events"][-1]["kind"], page["events"][-1]["detail"]["reason"]) == ("invoice.retried", why[1])
    assert others
    assert all(shown(private, str(each))["cured_at"] is None for each in others)
    again = run_mlc("--config", private, "invoices", "retry", "--parked-for", "AMOUNT_MISMATCH")
    assert again.exit_code == 2


@pytest.mark.parametrize("arguments", [[], ["1", "--parked-for", "AMOUNT_MISMATCH"]], ids=["nothing", "both"])
def test_retry_wants_one_invoice_or_one_reason(private: Path, arguments: list[str]) -> None:
    """Never everything that is parked."""
    result = run_mlc("--config", private, "invoices", "retry", *arguments)
    assert result.exit_code == 2
    assert "nothing was changed" in result.stderr


def test_retry_of_a_posted_invoice_is_refused(private: Path) -> None:
    """Created stays created: no command of one person leads back to sending."""
    posted = listed(private, "--state", "CONFIRMED")[0]
    result = run_mlc("--config", private, "invoices", "retry", posted["id"])
    assert result.exit_code == 2
    assert "is CONFIRMED, not PARKED" in result.stderr


def test_abandon_gives_a_parked_invoice_up(private: Path) -> None:
    """It leaves the list of exceptions, and two people are on record for it."""
    parked = parked_for(private, "AMOUNT_MISMATCH")
    result = run_mlc("--config", private, "invoices", "abandon", parked["id"], *BOTH)
    assert (result.exit_code, "never posted" in result.stdout) == (0, True)
    page = shown(private, parked["id"])
    assert (page["state"], page["reason"]) == ("REJECTED", "ABANDONED")
    event = page["events"][-1]
    assert (event["kind"], event["detail"]["approved_by"]) == ("invoice.abandoned", "Grace")
    found = json_of(run_mlc("--config", private, "exceptions", "--json"))["exceptions"]
    assert parked["id"] not in [each["id"] for each in found]


@pytest.mark.parametrize("command", [("repost",), ("abandon",), ("mark-posted", "--fusion-id", "300001")])
def test_a_posted_invoice_takes_no_decision(private: Path, command: tuple[str, ...]) -> None:
    """Created stays created, whoever approves; one line says why."""
    posted = listed(private, "--state", "CONFIRMED")[0]
    result = run_mlc("--config", private, "invoices", *command, posted["id"], *BOTH)
    assert result.exit_code == 2
    assert f"invoice {posted['id']} is CONFIRMED; " in result.stderr
    assert shown(private, posted["id"])["state"] == "CONFIRMED"

"""``mlc doctor``: what it prints, its exit codes, and pinning a host key after a person's yes."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.cli.context import operator
from mlc_dagster_tests.cli.conftest import Polled, json_of, run_mlc
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

OLD = "SHA256:" + "B" * 42 + "A"


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path) as running:
        yield running


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    with partner_rehearsal(tmp_path) as running:
        yield running


def pinned(flow: Rehearsal) -> list[str]:
    assert flow.settings.stampli is not None
    return flow.settings.stampli.sftp.host_keys


def events(flow: Rehearsal) -> list[dict[str, Any]]:
    """Pinning on the audit trail."""
    with flow.ledger.engine.connect() as connection:
        statement = sa.text("select subject, detail from audit_event where kind = 'sftp.host_key_pinned'")
        return [{"subject": row.subject, **json.loads(row.detail)} for row in connection.execute(statement)]


def with_key(flow: Rehearsal, pin: str | list[str]) -> None:
    flow.change_config({"stampli": {"sftp": {"host_key": pin}}})


def test_the_sandbox_is_healthy(polled: Polled) -> None:
    """The first thing that a user runs after `mlc sandbox` must end well, with a line for each system."""
    result = run_mlc("--config", polled.config, "doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    for system in (
        "configuration",
        "vault",
        "ledger",
        "disk",
        "versions",
        "Fusion ",
        "Stampli at ",
        "feeds ",
        "alerts",
    ):
        assert f"\n{system}" in f"\n{result.stdout}"
    assert " 0 WRONG, " in result.stdout


def test_json_has_each_finding_with_its_cause(flow: Rehearsal) -> None:
    """Monitoring reads it: state and cause are words that stay."""
    (flow.folder / "fusion_secret").write_text("not-the-secret-of-this-client")
    result = run_mlc("--config", flow.config, "doctor", "--only", "fusion", "--json")
    document = json_of(result)
    [wrong] = [each for each in document["findings"] if each["state"] == "WRONG"]
    assert result.exit_code == document["exit_code"] == 2
    assert (wrong["step"], wrong["cause"]) == ("sign-in", "here")
    assert {each["state"] for each in document["findings"]} == {"ok", "WRONG", "skipped"}


def test_a_remote_side_that_is_down_is_exit_code_three(flow: Rehearsal) -> None:
    """Nothing here is to be changed: who is paged looks elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flow.change_config({"stampli": {"sftp": {"port": port}}})
    result = run_mlc("--config", flow.config, "doctor", "--only", "stampli")
    assert result.exit_code == 3
    assert "  WRONG   TCP" in result.stdout
    assert "-> " in result.stdout


def test_what_is_wrong_here_decides_over_what_is_down(flow: Rehearsal) -> None:
    """Waiting would not mend it."""
    flow.fusion.faults.add("token_down", status=503)
    with_key(flow, OLD)
    assert run_mlc("--config", flow.config, "doctor", "--json").exit_code == 2


def test_a_configuration_that_cannot_be_read_is_told_by_key(tmp_path: Path) -> None:
    """Also by the doctor: it is where people look first."""
    (tmp_path / "mlc.yaml").write_text("fusion: {}\npoll: {strat: 2026-01-01}\n")
    result = run_mlc("--config", tmp_path / "mlc.yaml", "doctor")
    assert result.exit_code == 2
    assert "did you mean 'start'?" in result.stdout
    assert "because mlc.yaml cannot be used" in result.stdout


def test_only_names_a_system_that_there_is(flow: Rehearsal) -> None:
    """A feed typed wrong must not pass for a healthy one."""
    result = run_mlc("--config", flow.config, "doctor", "--only", "journal")
    assert result.exit_code == 2
    assert result.stderr == "mlc: --only journal: is none of fusion, stampli\n"


def test_a_test_alert_is_sent_when_it_is_asked_for(polled: Polled) -> None:
    """An address that parses may still lead nowhere; only one that arrives is proof."""
    before = len(polled.sandbox.ask("/alerts")["alerts"])
    result = run_mlc("--config", polled.config, "doctor", "--only", "stampli", "--send-test-alert")
    assert result.exit_code == 0
    assert "sent to 1" in result.stdout
    assert len(polled.sandbox.ask("/alerts")["alerts"]) == before + 1


def test_pin_writes_the_key_after_a_typed_yes(flow: Rehearsal) -> None:
    """With who, why, before and after on the audit trail; the next run trusts it."""
    with_key(flow, OLD)
    result = run_mlc("--config", flow.config, "doctor", "--pin", "--reason", "read to me by phone", input="yes\n")
    assert result.exit_code == 0
    assert f"ssh-ed25519          {flow.sftp.fingerprint}" in result.stdout
    assert "it was changed, or somebody stands in between" in result.stdout
    assert pinned(flow) == [flow.sftp.fingerprint]
    [event] = events(flow)
    assert event["subject"] == "account:stampli"
    assert (event["by"], event["reason"]) == (operator(), "read to me by phone")
    assert (event["before"], event["after"]) == ({"host_key": [OLD]}, {"host_key": [flow.sftp.fingerprint]})
    flow.poll()


def test_a_new_account_without_a_pin_gets_its_first(flow: Rehearsal) -> None:
    """Everything else refuses such a file; comments in it stay."""
    text = flow.config.read_text().replace(f"    host_key: {flow.sftp.fingerprint}\n", "    # no key yet\n")
    flow.config.write_text(text)
    assert run_mlc("--config", flow.config, "doctor").exit_code == 2
    result = run_mlc("--config", flow.config, "doctor", "--pin", input="yes\n")
    assert result.exit_code == 0
    assert "nothing is pinned so far" in result.stdout
    assert pinned(flow) == [flow.sftp.fingerprint]
    assert "    # no key yet\n" in flow.config.read_text()
    assert events(flow)[0]["before"] == {"host_key": []}


@pytest.mark.parametrize("typed", ["y\n", "\n", "no\n", "YES\n"])
def test_anything_but_yes_pins_nothing(flow: Rehearsal, typed: str) -> None:
    """A key that is pinned by habit is trust on first use after all."""
    with_key(flow, OLD)
    before = flow.config.read_text()
    result = run_mlc("--config", flow.config, "doctor", "--pin", input=typed)
    assert result.exit_code == 2
    assert "not pinned: stampli" in result.stderr
    assert flow.config.read_text() == before
    assert events(flow) == []


def test_yes_alone_is_refused(flow: Rehearsal) -> None:
    """A script that agrees to whatever is offered has compared nothing."""
    with_key(flow, OLD)
    result = run_mlc("--config", flow.config, "doctor", "--pin", "--yes")
    assert result.exit_code == 2
    assert "--expect SHA256:" in result.stderr
    assert pinned(flow) == [OLD]


def test_yes_with_what_is_expected_asks_nothing(flow: Rehearsal) -> None:
    """For set-ups by script: the fingerprint came by another way than this connection."""
    with_key(flow, OLD)
    arguments = ("doctor", "--pin", "--yes", "--expect", flow.sftp.fingerprint)
    assert run_mlc("--config", flow.config, *arguments).exit_code == 0
    assert pinned(flow) == [flow.sftp.fingerprint]
    again = run_mlc("--config", flow.config, *arguments)
    assert "pinned already" in again.stdout
    assert len(events(flow)) == 1


def test_another_key_than_the_expected_one_is_not_pinned(flow: Rehearsal) -> None:
    """Then somebody stands in between, or the fingerprint is of another server."""
    with_key(flow, OLD)
    other = "SHA256:" + "D" * 42 + "A"
    result = run_mlc("--config", flow.config, "doctor", "--pin", "--yes", "--expect", other)
    assert result.exit_code == 2
    assert "not what --expect says" in result.stdout
    assert pinned(flow) == [OLD]


def test_the_old_pin_is_kept_beside_the_new_one_for_a_rotation(flow: Rehearsal) -> None:
    """A server behind two addresses changes over one after the other."""
    with_key(flow, OLD)
    assert run_mlc("--config", flow.config, "doctor", "--pin", "--keep-old", input="yes\n").exit_code == 0
    assert pinned(flow) == [flow.sftp.fingerprint, OLD]
    assert "host_key" in flow.config.read_text()


def test_a_server_that_is_down_is_not_pinned_and_others_are(flow: Rehearsal) -> None:
    """Exit code 3: try again later."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        flow.change_config({"stampli": {"sftp": {"port": free.getsockname()[1]}}})
    result = run_mlc("--config", flow.config, "doctor", "--pin", "--timeout", "1", input="yes\n")
    assert result.exit_code == 3
    assert "not pinned: stampli" in result.stderr


def test_feeds_that_share_an_account_are_asked_about_once(partner: PartnerRehearsal) -> None:
    """The same question five times is answered without reading."""
    account = {**partner.account()["sftp"], "host_key": OLD}
    partner.change_feed("journals", sftp=account)
    partner.change_feed("orders", source="purchase_orders", layout="purchase_orders_csv", sftp=account)
    result = run_mlc("--config", partner.config, "doctor", "--pin", input="yes\n")
    assert result.exit_code == 0
    assert result.stdout.count("Type yes") == 1
    assert [entry.sftp.host_keys for entry in partner.settings.exports] == [[partner.sftp.fingerprint]] * 2

"""Alerts reach a real receiver, and one that fails neither stops the run nor shows its password."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.alerts import Alerts
from mlc_dagster.settings import AlertSettings
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.alerts.receiver import receiving


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def alerts(*to: str, within: float = 20.0, environ: dict[str, str] | None = None, root: Path = Path()) -> Alerts:
    return Alerts(
        AlertSettings(to=list(to), prefix="EU pod"), SecretResolver(environ or {}, root).resolve, within=within
    )


def test_an_alert_arrives_with_title_and_body() -> None:
    """What the messages say is what people read; the prefix names the installation among several."""
    with receiving() as receiver:
        assert alerts(f"json://127.0.0.1:{receiver.port}/hook").send("file waits", "line one\nline two") == []
    [sent] = receiver.received
    assert sent["title"] == "EU pod: file waits"
    assert sent["message"] == "line one\nline two"


def test_nobody_to_tell_is_no_failure() -> None:
    """``alerts:`` may be absent."""
    nobody = alerts()
    assert not nobody
    assert nobody.send("title", "body") == []


def test_references_are_resolved_when_the_alert_is_sent(tmp_path: Path) -> None:
    """Addresses hold tokens; they belong where the other secrets are, and may be rotated."""
    with receiving() as receiver:
        environ = {"TEAM_HOOK": f"json://127.0.0.1:{receiver.port}/one"}
        secret = tmp_path / "hook"
        secret.touch(mode=0o600)
        sender = alerts("env:TEAM_HOOK", "file:hook", environ=environ, root=tmp_path)
        secret.write_text(f"json://127.0.0.1:{receiver.port}/two\n")
        assert sender.send("title", "body") == []
    assert len(receiver.received) == 2


def test_a_refusal_is_told_without_user_password_or_token() -> None:
    """The failure ends up in logs and on screens; the address's secrets must not."""
    with receiving(status=403) as receiver:
        address = f"json://ada:hunter22@127.0.0.1:{receiver.port}/t0kenT0ken?k=s3cr3t77"
        [failure] = alerts(address).send("title", "body")
    assert failure.startswith(f"json://127.0.0.1:{receiver.port}: ")
    assert "403" in failure
    for secret in ("ada", "hunter22", "t0kenT0ken", "s3cr3t77"):
        assert secret not in failure


def test_one_that_fails_does_not_keep_the_others_from_hearing() -> None:
    """The mail server is down on the same day as the partner's; the chat still tells."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with receiving() as receiver:
        failures = alerts(f"json://127.0.0.1:{port}", f"json://127.0.0.1:{receiver.port}").send("title", "body")
    assert len(failures) == 1
    assert f"json://127.0.0.1:{port}: " in failures[0]
    assert len(receiver.received) == 1


def test_one_that_hangs_is_given_up(silent_port: int) -> None:
    """An alert service that hangs must not hold up the delivery of the next file."""
    [failure] = alerts(f"json://127.0.0.1:{silent_port}?rto=60", within=0.5).send("title", "body")
    assert f"json://127.0.0.1:{silent_port}" in failure or "alerts.to[0]" in failure


@pytest.mark.parametrize(
    ("address", "shown"),
    [("slakc://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr", "slakc://…"), ("hunter2hunter2", "(not shown)")],
)
def test_an_address_that_is_none_is_told_by_its_scheme_only(address: str, shown: str) -> None:
    """A typing error in a Slack address must not print its token."""
    [failure] = alerts(address).send("title", "body")
    assert failure.startswith(f"alerts.to[0]: {shown} is not an address that apprise understands")
    assert address.rpartition("/")[2] not in failure


def test_a_reference_that_cannot_be_resolved_is_told() -> None:
    """Nobody is told anything otherwise, and nobody knows."""
    [failure] = alerts("env:NOT_SET").send("title", "body")
    assert failure == "env:NOT_SET: environment variable NOT_SET is not set; set it where mlc runs"


def test_apprise_says_nothing_in_the_log_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Its own lines may show addresses; the failure that is returned says the same without them."""
    with receiving(status=500) as receiver, caplog.at_level(logging.DEBUG):
        failures = alerts(f"json://127.0.0.1:{receiver.port}/t0kenT0ken").send("title", "body")
    assert len(failures) == 1
    assert "t0kenT0ken" not in caplog.text

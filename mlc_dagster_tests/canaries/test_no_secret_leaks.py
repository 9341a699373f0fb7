"""Both flows with failures at every step and secrets that are canaries: none is found in anything that is left behind.

The remote side repeats what it is sent, the product itself crashes with secrets in its errors. All that it writes is
searched: run storage, event log, snapshots, ticks, compute logs, ledger, trail, packs, and what it prints.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.exports import reading
from mlc_dagster.exports import steps as export_steps
from mlc_dagster.fusion import backoff
from mlc_dagster.ledger import audit_sealing
from mlc_dagster.sftp import account
from mlc_dagster.stampli import steps as inbound_steps
from mlc_dagster.stampli.intake import feed
from mlc_dagster_tests.canaries.echoing import (
    Answering,
    Reply,
    as_error,
    as_nonsense,
    as_page,
    as_redirect,
    as_rows,
    as_text,
)
from mlc_dagster_tests.canaries.scanner import canary
from mlc_dagster_tests.canaries.site import Auth, Site, canary_site, running_daemon

WHO = ("--by", "Ada", "--reason", "quarterly review")
GOOD, CONFIGURATION, REMOTE_DOWN = 0, 2, 3
ANOTHER_KEY = "SHA256:" + "A" * 43


@pytest.fixture(autouse=True)
def never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once, and a connection that is refused is not tried again."""
    monkeypatch.setattr(backoff, "BASE", 0.0)
    monkeypatch.setattr(account, "_CONNECTS", 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Signs in as an OAuth client; the ledger is an SQLite file. Each test searches what all before it left behind."""
    with canary_site(tmp_path_factory.mktemp("canaries")) as running:
        assert running.mlc("run", "inbound") == GOOD
        assert running.both_flows() == [GOOD, GOOD]
        yield running


def in_turn(*answers: Answering) -> Answering:
    """One answer after another, the last for ever."""
    following = itertools.chain(answers, itertools.repeat(answers[-1]))

    def answer(sent: str) -> Reply:
        return next(following)(sent)

    return answer


def crashing_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, text: Callable[[], str]) -> None:
    """A fault of the product: what was done right ends in an error that shows secrets, with a cause and a note."""
    real = getattr(module, name)

    def crashing(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        try:
            raise ValueError(text())
        except ValueError as cause:
            error = RuntimeError(f"cannot go on with {text()}")
            error.add_note(text())
            raise error from cause

    monkeypatch.setattr(module, name, crashing)


def nothing_is_found(site: Site) -> None:
    """The search, with all that it found in the message."""
    leaks = site.scan()
    assert not leaks, "\n".join(leaks)


OF_FUSION = ("client secret", "password in use", "assertion passphrase", "ledger password")


def known_inside(site: Site, *names: str) -> str:
    """What the process holds in its hands at that place: these secrets, and the token that it was given last."""
    values = [value for name, value in site.planted.items() if name in names]
    if names[0] not in OF_FUSION:
        return " and ".join(repr(value) + value for value in values)
    return " and ".join(repr(value) + value for value in [*values, *site.echo.tokens[-1:]])


def test_fusion_that_repeats_what_it_is_sent(site: Site) -> None:
    """Gateways and error pages do: in headers, bodies and redirects, and the ledger keeps what Fusion said."""
    echo = site.echo
    site.something_new()
    token = r"/oauth2/"
    with site.wrong("fusion/secret"):
        assert site.mlc("run", "outbound") == REMOTE_DOWN
    with echo.answers("POST", token, in_turn(as_page(500), as_nonsense, as_error(401))):
        assert site.mlc("run", "outbound") == REMOTE_DOWN
    with echo.answers("POST", token, as_redirect):
        assert site.mlc("run", "inbound") == REMOTE_DOWN
    journals = r"/journalBatches"
    for answer in (as_error(403), as_page(500), as_rows, as_nonsense):
        with echo.answers("GET", journals, answer):
            assert site.mlc("run", "outbound") != GOOD
    with echo.answers("GET", r"LOV|suppliers", in_turn(as_page(401), as_redirect)):
        site.something_new()
        assert site.mlc("run", "inbound") != GOOD
    for _ in range(5):
        site.something_new()
    refusals = in_turn(as_error(400), as_text(500), as_error(403), as_redirect, as_nonsense)
    with echo.answers("POST", r"/invoices$", refusals):
        assert site.mlc("run", "inbound") != GOOD
    with echo.answers("GET", r"/fscmRestApi/", as_error(403)):
        assert site.mlc("doctor") != GOOD
    assert site.mlc("invoices", "list") == GOOD
    assert site.mlc("exceptions") == GOOD
    site.mlc("audit", "export", "--from", "2026-01-01", "--to", "2027-01-01", "--out", site.folder / "evidence", *WHO)
    assert (site.folder / "evidence").is_dir()
    nothing_is_found(site)


def test_servers_that_are_down_or_refuse(site: Site) -> None:
    """Logins, host keys, uploads, the vault and the receiver of alerts: each failure is told, none with its secret."""
    site.something_new()
    site.receiver.status = 500
    with site.wrong("stampli/password"):
        assert site.mlc("run", "inbound") == REMOTE_DOWN
    with site.configured("stampli", "sftp", "host_key", value=ANOTHER_KEY):
        assert site.mlc("run", "inbound") == REMOTE_DOWN
    site.sftp.faults.add("refuse_upload", count=None, username="partner")
    assert site.mlc("run", "outbound") == REMOTE_DOWN
    site.sftp.faults.clear()
    site.sftp.faults.add("down", count=None)
    site.receiver.status = 200
    assert site.both_flows() == [REMOTE_DOWN, REMOTE_DOWN]
    site.sftp.faults.clear()
    site.vault.sealed = True
    assert site.mlc("run", "outbound") == REMOTE_DOWN
    site.vault.sealed = False
    token, site.vault.token = site.vault.token, "another"
    assert site.mlc("run", "outbound") == CONFIGURATION
    site.vault.token = token
    right, site.vault.secrets["secret/partner"] = site.vault.secrets["secret/partner"], {"passphrase": canary()}
    assert site.mlc("run", "outbound") == CONFIGURATION
    assert site.mlc("secrets", "check") == GOOD
    assert site.mlc("config", "check") == CONFIGURATION
    site.vault.secrets["secret/partner"] = right
    site.mlc("secrets", "list")
    site.mlc("secrets", "rotate", "--drop-old")
    site.mlc("exports", "list")
    site.mlc("exports", "show", "1")
    site.mlc("invoices", "show", "NW-1")
    assert site.receiver.received
    nothing_is_found(site)


def test_faults_of_the_product_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw has anything in its text; it reaches the event log, the ledger and the terminal."""
    for module, name, flow, names in (
        (inbound_steps, "post_step", "inbound", (*OF_FUSION, "SFTP password")),
        (export_steps, "deliver_feed", "outbound", (*OF_FUSION, "SFTP passphrase")),
        (feed, "poll_folder", "inbound", ("SFTP password",)),
        (reading, "fusion_now", "outbound", OF_FUSION),
        (audit_sealing, "seal_and_checkpoint", "outbound", ("signing key",)),
    ):
        site.something_new()
        with monkeypatch.context() as patched:
            crashing_after(patched, module, name, lambda names=names: known_inside(site, *names))
            ended = site.mlc("run", flow)
        # What fails after a run has ended changes nothing of what it did.
        assert ended != GOOD or name == "seal_and_checkpoint", name
        assert ended == GOOD or b"cannot go on with" in site.said[-1][1], name
    nothing_is_found(site)


@pytest.mark.parametrize("auth", ["jwt_assertion", "basic"])
def test_the_other_ways_to_sign_in(
    tmp_path: Path, postgres_url: str, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assertion is good for minutes, a Basic header for ever; the ledger's address has a password of its own."""
    with canary_site(tmp_path, auth=auth, ledger_url=postgres_url) as site:
        assert site.mlc("run", "inbound") == GOOD
        if auth == "jwt_assertion":
            with site.echo.answers("POST", r"/oauth2/", as_error(400)):
                assert site.mlc("run", "outbound") == REMOTE_DOWN
        with site.wrong("fusion/secret"):
            assert site.mlc("run", "outbound") == REMOTE_DOWN
        with site.echo.answers("GET", r"/journalBatches", as_error(403)):
            site.something_new()
            assert site.mlc("run", "outbound") == REMOTE_DOWN
        with monkeypatch.context() as patched:
            crashing_after(patched, inbound_steps, "post_step", lambda: known_inside(site, *OF_FUSION, "SFTP password"))
            assert site.mlc("run", "inbound") != GOOD
        with site.wrong("ledger/url"):
            site.mlc("run", "outbound")
        nothing_is_found(site)


def test_the_daemon(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Ticks, runs with logs on the terminal, snapshots of the definitions, and the sensor that tells of failures."""
    with running_daemon(site) as running:
        site.something_new()
        running.round()
        site.sftp.faults.add("down", count=None, username="partner")
        with site.echo.answers("GET", r"/journalBatches", as_error(403)):
            site.something_new()
            running.round()
        running.round()
        for module, name in ((inbound_steps, "post_step"), (reading, "fusion_now")):
            with monkeypatch.context() as patched:
                crashing_after(patched, module, name, lambda: known_inside(site, "client secret", "SFTP password"))
                site.something_new()
                running.round()
        with site.wrong("stampli/password"):
            running.round()
        assert running.daemon.instance.get_runs_count() > 3
    printed = capfd.readouterr()
    site.said.append(("the daemon", (printed.out + printed.err).encode()))
    assert site.receiver.received
    nothing_is_found(site)

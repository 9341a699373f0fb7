"""Resources: what the UI may see, what a launch may change, and what is closed at the end."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from pydantic import ValidationError

from mlc_dagster.automation.jobs import inbound_resources, wiring_of
from mlc_dagster.definitions import build_defs, definition_settings
from mlc_dagster.resources import InboundResource, SandboxDown, StampliSftpResource
from mlc_dagster.settings import LedgerSettings, Settings, SettingsError
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow, failure_of

SECRETS = {
    "FUSION_SECRET": "hunter2-fusion",
    "SFTP_PASSWORD": "hunter2-sftp",
    "LEDGER_URL": "sqlite:////tmp/hunter2.db",
}


def with_secrets(flow: DagsterFlow, **ledger: str) -> Settings:
    flow.remote.change_config(
        {
            "fusion": {"client_secret": "env:FUSION_SECRET"},
            "stampli": {"sftp": {"password": "env:SFTP_PASSWORD"}},
            "ledger": ledger,
        }
    )
    return flow.settings


def test_no_secret_is_in_what_the_ui_reads(flow: DagsterFlow) -> None:
    """The repository snapshot is stored in Dagster's database and shown to everybody who opens the UI."""
    defs = build_defs(with_secrets(flow, url_secret="env:LEDGER_URL"), environ=SECRETS)
    snapshot = serialize_value(RepositorySnap.from_def(defs.get_repository_def()))
    assert "env:FUSION_SECRET" in snapshot
    for secret in SECRETS.values():
        assert secret not in snapshot


def test_no_secret_is_in_a_repr(flow: DagsterFlow) -> None:
    """Tracebacks with local variables print reprs."""
    wiring = wiring_of(with_secrets(flow), environ=SECRETS)
    resources = inbound_resources(wiring)
    inbound = resources["inbound"]
    assert isinstance(inbound, InboundResource)
    inbound.wiring.secrets.resolve("env:FUSION_SECRET")
    shown = f"{resources} {inbound} {wiring!r} {wiring}"
    assert "hunter2" not in shown
    assert "127.0.0.1" in shown


def test_password_in_the_ledgers_address_is_refused() -> None:
    """The address is a field of a resource, and so on everybody's screen."""
    with pytest.raises(ValidationError, match="url_secret") as raised:
        LedgerSettings(url="postgresql+psycopg://mlc:hunter2@db/mlc")
    assert "hunter2" not in str(raised.value.errors(include_input=False))


def test_replaced_resource_is_where_a_run_connects_to(flow: DagsterFlow) -> None:
    """What the UI shows as the server's address is what is used; a field that changes nothing would be a lie."""
    flow.drop(1)
    flow.tick()
    [wanted] = flow.tick().run_requests
    sftp = flow.settings.stampli.sftp if flow.settings.stampli else None
    assert sftp is not None
    elsewhere = StampliSftpResource.of(sftp.model_copy(update={"port": 1}))
    defs = build_defs(flow.settings, resource_overrides={"stampli_sftp": elsewhere}, environ={})
    result = defs.resolve_job_def("stampli_to_fusion").execute_in_process(
        partition_key=wanted.partition_key,
        tags=wanted.tags,
        instance=flow.instance,
        run_config=QUIET,
        raise_on_error=False,
    )
    assert "127.0.0.1:1: connection failed" in failure_of(result, "stampli_invoice_files")


def test_secret_in_place_of_its_reference_is_refused_and_not_repeated(flow: DagsterFlow) -> None:
    """A password in place of its reference would be a field that everybody reads."""
    typed = StampliSftpResource(host="h", username="u", password="hunter2", host_key=["SHA256:x"])
    with pytest.raises(SettingsError, match="not a secret reference") as raised:
        typed.applied_to(flow.settings)
    assert "hunter2" not in str(raised.value)


def test_ledger_is_closed_after_the_execution(flow: DagsterFlow) -> None:
    """A tick every half minute would run out of connections within a day."""
    resources = {"inbound": inbound_resources(wiring_of(flow.settings, environ={}))["inbound"]}
    with dg.build_resources(resources) as built:
        inbound: InboundResource = built.inbound
        engine = inbound.connect().ledger.engine
        assert engine.pool.checkedin() > 0  # type: ignore[attr-defined]
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]


def test_tick_shortens_the_time_limits_of_sftp(flow: DagsterFlow) -> None:
    """Dagster ends a tick at 60 seconds and loses what it had asked for; the server must be given up before."""
    resources = {"inbound": inbound_resources(wiring_of(flow.settings, environ={}))["inbound"]}
    with dg.build_resources(resources) as built:
        sftp = built.inbound.connect(sftp_deadline=12.0).stampli.sftp
        assert (sftp.poll_deadline, sftp.channel_timeout, sftp.connect_timeout) == (12.0, 12.0, 12.0)


def test_sandbox_configuration_without_a_sandbox_says_so(tmp_path: Path) -> None:
    """A fresh clone shows the whole graph; who clicks Materialize there must learn what is missing."""
    settings = definition_settings({}, tmp_path)
    resources = {"inbound": inbound_resources(wiring_of(settings, environ={}))["inbound"]}
    with dg.build_resources(resources) as built, pytest.raises(SandboxDown, match=r"no mlc\.yaml found"):
        built.inbound.connect()
    assert list(tmp_path.iterdir()) == []


def test_run_on_the_sandbox_configuration_without_a_sandbox_fails_clearly(tmp_path: Path) -> None:
    """The same in the run's own words, without a stack trace."""
    defs = build_defs(definition_settings({}, tmp_path), environ={})
    result = defs.resolve_job_def("stampli_to_fusion").execute_in_process(
        partition_key=dt.datetime(2026, 3, 1, tzinfo=dt.UTC).strftime("%Y-%m-%d-%H:%M"),
        raise_on_error=False,
        run_config=QUIET,
    )
    assert "no mlc.yaml found" in failure_of(result, "stampli_invoice_files")

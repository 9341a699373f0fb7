"""The search itself: a secret that is written to any of the places on purpose is found there, in every form."""

import base64
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from mlc_dagster.alerts.sending import Alerts
from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.automation.outcome import RunFailure
from mlc_dagster.automation.run_alerts import tell_failures
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.checkpoints import Checkpoint, CheckpointFile
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.settings import AlertSettings
from mlc_dagster_tests.canaries.scanner import Scanner, canary
from mlc_dagster_tests.canaries.site import Site, canary_site


@pytest.mark.parametrize(
    "written",
    [
        str,
        quote,
        json.dumps,
        repr,
        lambda secret: json.dumps(json.dumps(secret)),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"u:{secret}".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"me:{secret}!".encode()).decode(),
        lambda secret: secret[: len(secret) // 2 - 4],
        lambda secret: secret[len(secret) // 2 + 5 :],
    ],
    ids=[
        "plain",
        "URL",
        "JSON",
        "repr",
        "JSON twice",
        "base64",
        "base64 + 2",
        "base64 + 3",
        "first half",
        "second half",
    ],
)
def test_every_form_is_found(written: Callable[[str], str]) -> None:
    """A search that looks for the plain text alone would find hardly any leak that there has been anywhere."""
    secret = canary()
    scanner = Scanner({"it": secret, "another": canary()})
    assert scanner.found_in(f"before {written(secret)} after".encode()) == {"it"}


def test_a_key_is_found_by_its_lines() -> None:
    """Error texts quote a line, seldom a whole file."""
    lines = [canary().encode().hex()[:64] for _ in range(5)]
    text = "\n".join(["-----BEGIN X-----", *lines, "-----END X-----"])
    assert Scanner({"key": text}).found_in(f"bad line: {lines[2]}".encode()) == {"key"}


def test_each_place_is_searched(tmp_path: Path, postgres_url: str) -> None:
    """One secret through each writer: if one is not found, that place is not searched."""
    with canary_site(tmp_path, ledger_url=postgres_url) as site:
        planted = {place: canary() for place in PLACES}
        for place, write in PLACES.items():
            write(site, planted[place])
        found = site.scan(Scanner(planted))
    assert {place for place in PLACES if any(line.endswith(f": {place}") for line in found)} == set(PLACES)
    assert any(line.startswith("PostgreSQL, table audit_event: ledger on PostgreSQL") for line in found)


def in_dagster(site: Site, secret: str, *, part: str) -> None:
    """A job that shows the secret in one part of what Dagster keeps."""

    def shown(wanted: str) -> str:
        return secret if part == wanted else "nothing"

    @dg.op(description=shown("job snapshot"))
    def leaking(context: dg.OpExecutionContext) -> None:
        context.log.info(shown("event log"))
        print(shown("compute log"))  # noqa: T201 - it is what ends up there
        if part == "failure":
            raise dg.Failure(secret)

    @dg.job(tags={"said": shown("run storage")}, executor_def=dg.in_process_executor)
    def leaking_job() -> None:
        leaking()

    with instance_of(site) as instance:
        leaking_job.execute_in_process(instance=instance, raise_on_error=False)


def instance_of(site: Site) -> dg.DagsterInstance:
    """The daemon's instance."""
    home = site.folder / "dagster_home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return dg.DagsterInstance.from_config(str(home))


def in_tick(site: Site, secret: str) -> None:
    """Why a sensor asked for nothing."""
    tick = TickData("origin", "sensor", InstigatorType.SENSOR, TickStatus.SKIPPED, time.time(), skip_reason=secret)
    with instance_of(site) as instance:
        instance.create_tick(tick)


def in_ledger(site: Site, secret: str, url: str) -> None:
    """An event of the audit trail; the ledger stays open, so that on SQLite it is in the write-ahead log."""
    ledger = open_ledger(url, actor="test")
    with ledger.transaction() as transaction:
        transaction.audit("test.leaked", "it", text=secret)


def in_archive(site: Site, secret: str) -> None:
    """As payloads are kept."""
    from mlc_dagster.ledger.archive import file_sha256

    path = site.folder / "payload"
    path.write_text(secret)
    LocalArchive(site.folder / "data" / "archive").put(path, file_sha256(path))


def in_file(site: Site, secret: str, *, place: str) -> None:
    path = site.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"x{secret}")


def in_pack(site: Site, secret: str) -> None:
    """As ``mlc audit export --out pack.zip`` writes it."""
    (site.folder / "evidence").mkdir()
    with zipfile.ZipFile(site.folder / "evidence" / "pack.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configuration.json", json.dumps({"secret": secret}))


def in_checkpoint(site: Site, secret: str) -> None:
    checkpoint = Checkpoint(1, 1, secret, "2026-11-21T09:30:00.000000Z")
    CheckpointFile(site.folder / "data-checkpoints").append([checkpoint])


def in_alert(site: Site, secret: str) -> None:
    alerts = Alerts(AlertSettings(to=[f"json://127.0.0.1:{site.receiver.port}"]), str)
    tell_failures(None, alerts, [RunFailure(FailureKind.REMOTE, secret, "step")], job="job")


def printed(site: Site, secret: str) -> None:
    """By a command, as an argument that it does not know."""
    site.mlc(f"no-such-command-{secret}")


PLACES: dict[str, Callable[[Site, str], None]] = {
    **{
        part: lambda site, secret, part=part: in_dagster(site, secret, part=part)
        for part in ("event log", "compute log", "run storage", "job snapshot", "failure")
    },
    "tick": in_tick,
    "ledger on SQLite": lambda site, secret: in_ledger(
        site, secret, f"sqlite:///{site.folder / 'data' / 'ledger.sqlite'}"
    ),
    "ledger on PostgreSQL": lambda site, secret: in_ledger(site, secret, site.ledger_url or ""),
    "archive": in_archive,
    "outbox": lambda site, secret: in_file(site, secret, place="data/outbox/journals/file.csv"),
    "scratch": lambda site, secret: in_file(site, secret, place="data/scratch/file"),
    "name of a file": lambda site, secret: in_file(
        site, "x", place=f"data/{base64.urlsafe_b64encode(secret.encode()).decode()}"
    ),
    "evidence pack": in_pack,
    "checkpoint": in_checkpoint,
    "alert": in_alert,
    "terminal": printed,
}

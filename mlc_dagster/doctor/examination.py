"""The order in which systems are looked at, and which of them: what comes first is what the later ones need."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlc_dagster.doctor.alerting import examine_alerts
from mlc_dagster.doctor.diagnosis import diagnosed
from mlc_dagster.doctor.findings import Cause, Finding, State, Steps, Tell
from mlc_dagster.doctor.fusion_health import examine_fusion
from mlc_dagster.doctor.ledger_health import examine_ledger
from mlc_dagster.doctor.local import examine_configuration, examine_disk, examine_secrets, examine_versions
from mlc_dagster.doctor.sftp_health import Account, accounts_of, examine_account
from mlc_dagster.settings import Settings, SettingsError, secret_references
from mlc_dagster.vault import SecretResolver

FUSION, STAMPLI = "fusion", "stampli"


@dataclass(frozen=True)
class Options:
    """``only`` names systems (fusion, stampli, a feed); empty: everything. ``timeout`` is in seconds, per question."""

    only: frozenset[str] = frozenset()
    timeout: float = 15.0
    send_test_alert: bool = False


def known_systems(settings: Settings) -> list[str]:
    """What ``only`` may name."""
    inbound = [STAMPLI] if settings.stampli is not None else []
    return [FUSION, *inbound, *(entry.name for entry in settings.exports)]


def unusable(error: SettingsError, tell: Tell) -> None:
    """The one finding where mlc.yaml itself cannot be read: there is nothing else to look at."""
    for problem in error.problems:
        tell(Finding("configuration", error.source, State.WRONG, problem, cause=Cause.HERE))
    because = "because mlc.yaml cannot be used"
    tell(Finding("everything else", "all steps", State.SKIPPED, because))


def examine(settings: Settings, path: Path, secrets: SecretResolver, options: Options, tell: Tell) -> None:
    """Look at everything; each finding is told as it is made."""

    def steps(system: str) -> Steps:
        return Steps(system, tell, diagnosed)

    everything = not options.only
    # Secrets are tried first, for the keys that mlc.yaml names are loaded with the rest, and told in their turn.
    held: list[Finding] = []
    values = examine_secrets(Steps("vault", held.append, diagnosed), settings, secrets, options.timeout)
    today = dt.datetime.now(dt.UTC).date()
    examine_configuration(steps("configuration"), settings, path, secrets, values, today)
    for finding in held:
        tell(finding)
    unresolved = [key for key in secret_references(settings) if key not in values]
    timeout = options.timeout
    if everything:
        found = steps("ledger")
        found.all(lambda: _ledger(found, settings, secrets, timeout, unresolved))
        examine_disk(settings, steps)
        examine_versions(steps("versions"))
    if everything or FUSION in options.only:
        fusion = steps(f"Fusion {settings.fusion.base_url}")
        fusion.all(lambda: examine_fusion(fusion, settings, secrets, timeout, unresolved=unresolved))
    for account in accounts_of(settings):
        if everything or _wanted(account, options.only):
            sftp = steps(f"{account.name} at {account.sftp.username}@{account.sftp.host}:{account.sftp.port}")
            examining = partial(examine_account, sftp, settings, account, secrets, timeout, unresolved=unresolved)
            sftp.all(examining)
    if everything or options.send_test_alert:
        send = options.send_test_alert
        alerts = steps("alerts")
        alerts.all(lambda: examine_alerts(alerts, settings, secrets, timeout, send=send, values=values))


def _ledger(
    steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float, unresolved: Collection[str]
) -> None:
    if "ledger.url_secret" in unresolved:
        steps.left_out("opens", "ledger.url_secret leads to no secret")
    else:
        examine_ledger(steps, settings, secrets, timeout)


def _wanted(account: Account, only: Collection[str]) -> bool:
    return (account.stampli is not None and STAMPLI in only) or any(entry.name in only for entry in account.feeds)

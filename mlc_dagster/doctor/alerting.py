"""Whether the addresses of ``alerts.to`` are ones, and, when it is asked for, whether an alert arrives."""

from importlib import import_module
from typing import Any

from mlc_dagster.alerts import Alerts
from mlc_dagster.doctor.findings import Cause, NotNeeded, Steps, Told, Warned, Wrong
from mlc_dagster.settings import Settings
from mlc_dagster.settings.values import is_secret_reference
from mlc_dagster.vault import SecretResolver


def examine_alerts(
    steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float, *, send: bool, values: dict[str, str]
) -> None:
    """One step for the addresses, one for sending.

    Args:
        steps: of the alerts.
        settings: mlc.yaml.
        secrets: resolves addresses that are references.
        timeout: seconds that all addresses have together.
        send: send an alert to everybody.
        values: the secrets that could be resolved, by their key in mlc.yaml.
    """
    to = settings.alerts.to
    if not to:
        steps.step("addresses", lambda: Warned("nobody is told when something needs a person", "set alerts.to"))
        return
    for number, entry in enumerate(to):
        key = f"alerts.to[{number}]"
        if is_secret_reference(entry) and key not in values:
            steps.left_out(key, f"{key} leads to no secret")
    steps.step("addresses", lambda: _parse(settings, values))
    if not send:
        steps.step("sending", lambda: NotNeeded("it was not asked for: --send-test-alert"))
    else:
        steps.step("sending", lambda: _sent(settings, secrets, timeout), needs=["addresses"])


def _parse(settings: Settings, values: dict[str, str]) -> str:
    apprise: Any = import_module("apprise")
    wrong: list[str] = []
    for number, entry in enumerate(settings.alerts.to):
        key = f"alerts.to[{number}]"
        address = values.get(key, "") if is_secret_reference(entry) else entry
        if address and apprise.Apprise.instantiate(address.strip()) is None:
            wrong.append(key)
    if wrong:
        # The address itself is not shown: it holds a token.
        fix = "compare it with apprise's list of services, and write special characters of a password as %40 and so on"
        raise Wrong(f"not an address that apprise understands: {', '.join(wrong)}", fix)
    count = len(settings.alerts.to)
    return f"{count} {'address is' if count == 1 else 'addresses are'} understood"


def _sent(settings: Settings, secrets: SecretResolver, timeout: float) -> Told:
    text = "Sent by `mlc doctor --send-test-alert`; nothing is wrong."
    failures = Alerts(settings.alerts, secrets.resolve, within=timeout).send("a test", text)
    if failures:
        raise Wrong("; ".join(failures), "check the address and its token", Cause.REMOTE)
    return f"sent to {len(settings.alerts.to)}; see whether it arrived"

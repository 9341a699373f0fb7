"""Examining a configuration, and finding what was told."""

from collections.abc import Iterable
from pathlib import Path

from mlc_dagster.doctor.examination import Options, examine
from mlc_dagster.doctor.findings import Finding, State
from mlc_dagster.settings_file import load_settings
from mlc_dagster.vault import SecretResolver


class Told:
    """The findings of one examination."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)

    def of(self, step: str, system: str = "") -> Finding:
        """The one finding of a step, of the system whose name begins so."""
        [found] = [each for each in self.findings if each.step == step and each.system.startswith(system)]
        return found

    def states(self, system: str = "") -> dict[str, State]:
        """State by step."""
        return {each.step: each.state for each in self.findings if each.system.startswith(system)}

    @property
    def wrong(self) -> list[str]:
        """Steps that are wrong."""
        return [each.step for each in self.findings if each.state is State.WRONG]


def examined(config: Path, *only: str, timeout: float = 5.0, environ: dict[str, str] | None = None) -> Told:
    """What a doctor says of an mlc.yaml."""
    findings: list[Finding] = []
    settings = load_settings(config, environ=environ or {})
    secrets = SecretResolver.of(settings, environ or {})
    examine(settings, config, secrets, Options(frozenset(only), timeout), findings.append)
    return Told(findings)

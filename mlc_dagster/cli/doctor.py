"""``mlc doctor``: what is wrong between here and there, and what to do; and pinning of host keys.

What belongs here: options, and how findings are shown. What does not: the steps and what they mean (``doctor``).
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, config_path
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import print_json
from mlc_dagster.settings import SettingsError
from mlc_dagster.settings_file import load_settings
from mlc_dagster.vault import mask
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.doctor.findings import Finding

_WIDTH = 120
_STEP = 22
_STATES = {"ok": typer.colors.GREEN, "WRONG": typer.colors.RED, "warn": typer.colors.YELLOW, "skipped": None}


def doctor(
    ctx: typer.Context,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only fusion, stampli or this feed; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that one question may take.")] = 15.0,
    send_test_alert: Annotated[
        bool, typer.Option("--send-test-alert", help="Also send an alert to every address of alerts.to.")
    ] = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Show the host keys of servers that are not pinned; pin after a yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --pin: do not ask; needs --expect.")] = False,
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", help="With --pin: the fingerprint (SHA256:…) that the server's owner told you."),
    ] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="With --pin: keep the pin so far beside the new one, for a rotation.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="With --pin: who confirmed the key, and how; goes on record.")
    ] = "compared by whoever ran `mlc doctor --pin`",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try every system of mlc.yaml in order and say what is wrong, why, and how to mend it.

    Nothing is changed anywhere, but for a small file where deliveries are written, which is removed again. Exit codes:
    0 all good (warnings allowed), 2 configuration or trust is wrong (key, secret, host key, login, permission), 3 only
    the other side is down.
    """
    path = config_path(ctx, config)
    if pin:
        if only or as_json or send_test_alert:
            raise CommandError(
                "--pin: looks at the host keys of all accounts; it goes without --only, --json and alerts"
            )
        from mlc_dagster.cli.doctor_pin import Answers, pin_host_keys

        pin_host_keys(path, Answers(yes, tuple(expect or ()), keep_old, reason), timeout)
        return
    if yes or expect or keep_old:
        raise CommandError("--yes, --expect and --keep-old belong to --pin")
    findings = _examined(path, only or [], timeout, send_test_alert=send_test_alert, quiet=as_json)
    code = _code(findings)
    if as_json:
        print_json({"exit_code": int(code), "findings": [_document(finding) for finding in findings]})
    else:
        _conclude(findings)
    if code is not Exit.GOOD:
        raise typer.Exit(code)


def _examined(path: Path, only: list[str], timeout: float, *, send_test_alert: bool, quiet: bool) -> "list[Finding]":
    from mlc_dagster.doctor.examination import Options, examine, known_systems, unusable

    findings: list[Finding] = []

    def tell(finding: "Finding") -> None:
        if not quiet:
            _show(finding, new=not findings or findings[-1].system != finding.system)
        findings.append(finding)

    try:
        settings = load_settings(path)
    except SettingsError as error:
        unusable(error, tell)
        return findings
    for name in only:
        if name not in known_systems(settings):
            raise CommandError(f"--only {name}: is none of {', '.join(known_systems(settings))}")
    workplace = Workplace(settings, path)
    options = Options(frozenset(only), timeout, send_test_alert)
    examine(settings, path, workplace.secrets, options, tell)
    return findings


def _code(findings: "list[Finding]") -> Exit:
    from mlc_dagster.doctor.findings import Cause, worst

    codes = {Cause.PRODUCT: Exit.FAILED, Cause.HERE: Exit.CONFIGURATION, Cause.REMOTE: Exit.REMOTE_DOWN}
    cause = worst(findings)
    return Exit.GOOD if cause is None else codes[cause]


def _document(finding: "Finding") -> dict[str, str | None]:
    return {
        "system": finding.system,
        "step": finding.step,
        "state": finding.state.value,
        "text": mask(finding.text),
        "fix": mask(finding.fix) or None,
        "cause": None if finding.cause is None else finding.cause.name.lower(),
    }


def _show(finding: "Finding", *, new: bool) -> None:
    if new:
        typer.secho(visible(finding.system), bold=True)
    state = typer.style(f"{finding.state.value:<8}", fg=_STATES[finding.state.value])
    text = f"({finding.text})" if finding.state.value == "skipped" else finding.text
    step = visible(finding.step)
    lines = _wrapped(text)
    if len(step) >= _STEP:
        typer.echo(f"  {state}{step}")
        step = ""
        lines_before = f"{'':10}{step:<{_STEP}}"
    else:
        lines_before = f"  {state}{step:<{_STEP}}"
    typer.echo(f"{lines_before}{lines[0]}")
    for line in lines[1:]:
        typer.echo(f"{'':{10 + _STEP}}{line}")
    for number, line in enumerate(_wrapped(finding.fix) if finding.fix else []):
        typer.echo(f"{'':{10 + _STEP}}{'-> ' if number == 0 else '   '}{line}")


def _wrapped(text: str) -> list[str]:
    width = _WIDTH - 10 - _STEP
    return textwrap.wrap(visible(mask(text)), width, break_long_words=False, break_on_hyphens=False) or [""]


def _conclude(findings: "list[Finding]") -> None:
    counts = {state: sum(1 for finding in findings if finding.state.value == state) for state in _STATES}
    typer.echo(f"{counts['ok']} ok, {counts['warn']} to know, {counts['WRONG']} WRONG, {counts['skipped']} skipped")

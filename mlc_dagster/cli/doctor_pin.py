"""``mlc doctor --pin``: host keys shown to a person, and pinned after a yes.

What belongs here: asking, and the audit event. What does not: the edit of mlc.yaml (``doctor.pinning``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlc_dagster.cli.context import Workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit, explain
from mlc_dagster.settings import SettingsError
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.doctor.pinning import Unpinned
    from mlc_dagster.sftp import OfferedHostKey


@dataclass(frozen=True)
class Answers:
    """What the command line already says: do not ask, the fingerprints that were told, keep the old pin, and why."""

    yes: bool = False
    expect: tuple[str, ...] = ()
    keep_old: bool = False
    reason: str = ""


def pin_host_keys(path: Path, answers: Answers, timeout: float) -> None:
    """Show every server whose keys are not pinned, and pin what is confirmed.

    Raises:
        CommandError: --yes without --expect, or a server is left without a pin.
    """
    from mlc_dagster.doctor.pinning import ask_server, by_server, needing_pins, places_of, settings_without_pins
    from mlc_dagster.sftp import SftpError

    expected = _expected(answers)
    settings = settings_without_pins(_text(path), path)
    left: list[str] = []
    code = Exit.REMOTE_DOWN
    for accounts in by_server(places_of(settings)):
        sftp = accounts[0][1]
        names = ", ".join(place.name for place, _ in accounts)
        try:
            found = needing_pins(accounts, ask_server(timeout)(sftp))
        except SftpError as error:
            typer.echo(f"mlc: {names}: {visible(str(error))}", err=True)
            left.append(names)
            continue
        if found is None:
            typer.echo(f"{names} ({sftp.host}:{sftp.port}): pinned already")
            continue
        chosen = _chosen(found, answers, expected)
        if not chosen:
            left.append(names)
            code = Exit.CONFIGURATION
            continue
        _pin(path, found, chosen, answers)
    if left:
        raise CommandError(f"not pinned: {'; '.join(left)}", code)


def _expected(answers: Answers) -> list[str]:
    from mlc_dagster.doctor.pinning import NO_PIN
    from mlc_dagster.sftp import PinUnreadable
    from mlc_dagster.sftp.keys import parse_pin

    if answers.yes and not answers.expect:
        raise CommandError("--yes: nobody would have compared the key; add --expect SHA256:… as its owner told you")
    if not answers.reason.strip():
        raise CommandError("--reason: is empty; it goes on record")
    try:
        told = [parse_pin(text).fingerprint for text in answers.expect]
    except PinUnreadable as error:
        raise CommandError(f"--expect: {error}") from None
    if NO_PIN in told:
        raise CommandError(f"--expect {NO_PIN}: is the starter's placeholder, no server's key")
    return told


def _text(path: Path) -> str:
    try:
        # newline="": the file's own line ends stay.
        with path.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None


def _chosen(found: "Unpinned", answers: Answers, expected: Sequence[str]) -> list[str]:
    """Fingerprints that somebody confirmed."""
    sftp = found.sftp
    before = f"pinned so far: {', '.join(found.pins)}" if found.pins else "nothing is pinned so far"
    typer.echo(f"{found.names} ({sftp.host}:{sftp.port}) offers, and {before}:")
    if found.pins:
        typer.echo("  Its key is not the one that was pinned: it was changed, or somebody stands in between.")
    return [key.fingerprint for key in found.offered if _confirmed(key, answers, expected)]


def _confirmed(key: "OfferedHostKey", answers: Answers, expected: Sequence[str]) -> bool:
    typer.echo(f"  {key.algorithm:<20} {key.fingerprint}")
    if expected and key.fingerprint not in expected:
        typer.echo("    not what --expect says: not pinned")
        return False
    if answers.yes:
        typer.echo("    as --expect says")
        return True
    typer.echo("    Compare it with what the server's owner tells you by another way than this network.")
    return str(typer.prompt("    Is it the same? Type yes to pin it", default="no", show_default=False)) == "yes"


def _pin(path: Path, found: "Unpinned", chosen: list[str], answers: Answers) -> None:
    """Write the pins and the audit event, both or neither."""
    from mlc_dagster.doctor.pinning import NotWritten, places_of, replace_file, settings_without_pins, with_pins

    pins = [*chosen, *(found.pins if answers.keep_old else [])]
    before = _text(path)
    edited = before
    try:
        for place in found.places:
            edited = with_pins(edited, place.path, pins)
    except NotWritten as error:
        raise CommandError(f"{path}: {found.names}: {error}") from None
    settings = settings_without_pins(edited, path)
    # A change of a shared part of the file is one of every account that uses it.
    were = dict(places_of(settings_without_pins(before, path)))
    touched = [place.name for place, sftp in places_of(settings) if sftp.host_keys != were[place].host_keys]
    workplace = Workplace(settings, path)
    try:
        with workplace.ledger(actor=operator()) as ledger, ledger.transaction() as transaction:
            for name in touched:
                transaction.audit_action(
                    "sftp.host_key_pinned", f"account:{name}", by=operator(), reason=answers.reason,
                    before={"host_key": found.pins}, after={"host_key": pins},
                    server=f"{found.sftp.host}:{found.sftp.port}",
                )  # fmt: skip
            replace_file(path, edited)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        text = f"{found.names}: not pinned, for it could not be put on record or written: {explained[1][0]}"
        raise CommandError(text, explained[0]) from None
    typer.echo(f"  {path}: host_key of {', '.join(touched)} is {', '.join(pins)}")

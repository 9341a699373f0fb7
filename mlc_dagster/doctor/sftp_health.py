"""One SFTP account, step by step: network, host key, login, listing, and where a flow writes there, a write probe."""

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlc_dagster.doctor.configuration import profile_of
from mlc_dagster.doctor.findings import NotNeeded, Steps, Told, Warned, Wrong
from mlc_dagster.doctor.network import reach
from mlc_dagster.doctor.write_probe import WriteProbe
from mlc_dagster.settings import ExportSettings, Settings, SftpSettings, StampliSettings
from mlc_dagster.sftp import OfferedHostKey, PermissionRefused, SftpSession, offered_host_keys
from mlc_dagster.sftp.account import open_account
from mlc_dagster.sftp.keys import parse_pins
from mlc_dagster.sftp.listing import join
from mlc_dagster.stampli.intake.feed import candidates, refused_entries
from mlc_dagster.vault import SecretResolver

PIN_IT = "ask the server's owner for the fingerprint by another way; if it is this one, run: mlc doctor --pin"
_ONCE_MORE = 0.5


@dataclass(frozen=True)
class Account:
    """One account and what is done there."""

    name: str
    """``Stampli``, or the feeds that use it."""
    keys: tuple[str, ...]
    """Where it stands in mlc.yaml: ``stampli.sftp``, ``exports.NAME.sftp``."""
    sftp: SftpSettings
    stampli: StampliSettings | None = None
    feeds: tuple[ExportSettings, ...] = ()


def accounts_of(settings: Settings) -> list[Account]:
    """Every account, those of several feeds once."""
    found: list[Account] = []
    if settings.stampli is not None:
        found.append(Account("Stampli", ("stampli.sftp",), settings.stampli.sftp, settings.stampli))
    groups: list[list[ExportSettings]] = []
    for entry in settings.exports:
        same = next((group for group in groups if group[0].sftp == entry.sftp), None)
        if same is None:
            groups.append([entry])
        else:
            same.append(entry)
    for group in groups:
        name = f"feed{'s' if len(group) > 1 else ''} {', '.join(entry.name for entry in group)}"
        keys = tuple(f"exports.{entry.name}.sftp" for entry in group)
        found.append(Account(name, keys, group[0].sftp, feeds=tuple(group)))
    return found


def examine_account(
    steps: Steps,
    settings: Settings,
    account: Account,
    secrets: SecretResolver,
    timeout: float,
    *,
    unresolved: Collection[str],
) -> None:
    """All steps of one account.

    Args:
        steps: of this account.
        settings: mlc.yaml.
        account: which.
        secrets: resolves its references.
        timeout: seconds for connecting and for each answer.
        unresolved: keys of mlc.yaml whose reference leads to no secret.
    """
    limits = {name: min(timeout, getattr(account.sftp, name)) for name in ("connect_timeout", "channel_timeout")}
    sftp = account.sftp.model_copy(update=limits)
    reach(steps, sftp.host, sftp.port, timeout)
    steps.step("host key", lambda: _host_key(sftp, timeout), needs=["TCP"])
    missing = [key for key in unresolved if key.rpartition(".")[0] in account.keys]
    if missing:
        steps.left_out("login", f"{missing[0]} leads to no secret")
    with ExitStack() as stack:
        opened: list[SftpSession] = []

        def login() -> Told:
            session = stack.enter_context(open_account(sftp, secrets, sleep=_shortly))
            opened.append(session)
            how = "private key" if sftp.private_key is not None else "password"
            return f"{sftp.username} by {how}, on {session.server_key}"

        if not missing:
            steps.step("login", login, needs=["host key"])

        def session() -> SftpSession:
            return opened[0]

        steps.step("listing", lambda: _listing(session(), settings, account), needs=["login"])
        for entry in account.feeds:
            _acknowledgements(steps, entry, session)
        _writing(steps, account, session)


def _shortly(seconds: float) -> None:
    time.sleep(min(seconds, _ONCE_MORE))


def judged(offered: list[OfferedHostKey], sftp: SftpSettings) -> Told:
    """What the keys that a server proves say about the pins.

    Raises:
        Wrong: none is pinned.
        PinUnreadable: a pin is none.
    """
    pins = [pin.fingerprint for pin in parse_pins(sftp.host_keys)]
    known = {key.fingerprint: key.algorithm for key in offered}
    shown = ", ".join(f"{key.algorithm} {key.fingerprint}" for key in offered)
    matching = [pin for pin in pins if pin in known]
    if not matching:
        raise Wrong(f"offered {shown}; pinned {', '.join(pins)}. Nothing secret was sent", PIN_IT)
    text = ", ".join(f"{known[pin]} {pin} is pinned" for pin in matching)
    gone = [pin for pin in pins if pin not in known]
    if gone:
        fix = "once the server's owner has changed over, take the pin out of mlc.yaml that is not offered"
        return Warned(f"{text}; not offered: {', '.join(gone)}", fix)
    return text


def _host_key(sftp: SftpSettings, timeout: float) -> Told:
    # One handshake per type of key.
    offered = offered_host_keys(sftp.host, sftp.port, 4 * timeout, allow_algorithms=sftp.allow_algorithms)
    told = judged(offered, sftp)
    if sftp.allow_algorithms and not isinstance(told, Warned):
        weak = ", ".join(sftp.allow_algorithms)
        return Warned(f"{told}; weak algorithms are allowed: {weak}", "ask the server's owner for newer ones")
    return told


def _listing(session: SftpSession, settings: Settings, account: Account) -> Told:
    directory = account.sftp.directory
    try:
        listing = session.list(directory)
    except PermissionRefused as error:
        if account.stampli is not None:
            raise
        return Warned(f"{error}", "deliveries do not need it; whoever looks into what arrived does")
    count = len(listing.files) + len(listing.others)
    text = f"{directory} has {count} {'entry' if count == 1 else 'entries'}"
    if account.stampli is None:
        return text
    profile = profile_of(settings, account.stampli)
    found = candidates(listing, profile)
    refused = refused_entries(listing, profile)
    text += f", {len(found.taken)} match profile {profile.name}"
    if found.unready:
        text += f", {len(found.unready)} wait for another file: {found.unready[0][0].name} {found.unready[0][1]}"
    if refused:
        return Warned(f"{text}; {refused[0]}", "rename or remove them there")
    return text


def _acknowledgements(steps: Steps, entry: ExportSettings, session: Callable[[], SftpSession]) -> None:
    wanted = entry.acknowledgement
    if wanted == "none":
        return

    def look() -> Told:
        files = session().list(wanted.directory).files
        fitting = sum(1 for file in files if fnmatchcase(file.name, wanted.pattern))
        return f"{wanted.directory} has {len(files)} files, {fitting} match {wanted.pattern}"

    steps.step(f"acknowledgements of {entry.name}", look, needs=["login"])


def _writing(steps: Steps, account: Account, session: Callable[[], SftpSession]) -> None:
    probes: dict[tuple[object, ...], tuple[str, WriteProbe]] = {}
    for entry in account.feeds:
        upload = entry.upload
        if upload.picked_up_at_once or upload.mode == "direct":
            because = "the partner takes every file that is complete, so a probe would be a delivery"
            steps.step(f"write probe for {entry.name}", lambda because=because: NotNeeded(because), needs=["login"])
            continue
        folder = upload.temp_directory if upload.mode == "tempdir" else account.sftp.directory
        probe = WriteProbe(folder or account.sftp.directory, account.sftp.directory, read_back=upload.verify)
        key = (probe.first_folder, probe.last_folder, probe.read_back)
        probes.setdefault(key, ("write probe" if not probes else f"write probe for {entry.name}", probe))
    stampli = account.stampli
    if stampli is not None:
        if stampli.after_read == "leave":
            steps.step("write probe", lambda: NotNeeded("files are left as they are (after_read: leave)"))
        else:
            folder = account.sftp.directory
            archive = join(folder, stampli.archive_directory) if stampli.after_read == "archive" else folder
            probes[("stampli",)] = ("write probe", WriteProbe(folder, archive, read_back="sha256"))
    for name, probe in probes.values():
        suffix = name.removeprefix("write probe")
        if steps.step(name, lambda probe=probe: probe.go(session()), needs=["login"]):
            steps.step(f"clock{suffix}", lambda probe=probe: probe.clock())
            steps.step(f"free names{suffix}", lambda probe=probe: probe.free_names())

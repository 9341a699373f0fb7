"""What needs no network: configuration, secrets, disk, versions."""

import datetime as dt
import os
import shutil
import ssl
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlc_dagster.doctor.configuration import UNUSABLE, checks, warnings
from mlc_dagster.doctor.findings import Steps, Told, Warned, Wrong, raised
from mlc_dagster.doctor.network import within
from mlc_dagster.settings import Settings, secret_references
from mlc_dagster.vault import SecretError, SecretResolver

LEAST_FREE = 1024**3
LEAST_SHARE = 0.05
"""Bytes and share of a disk below which it is told; a run refuses nothing, it fails when there is none left."""
FULL = 16 * 1024**2
"""Bytes below which the next file does not fit."""

Usage = Callable[[Path], tuple[int, int, int]]
"""Total, used and free bytes of the disk that holds a folder."""


def examine_secrets(steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float) -> dict[str, str]:
    """The keys of the encrypted store, and each reference; the values that could be had, by their key in mlc.yaml."""
    references = secret_references(settings)
    values: dict[str, str] = {}
    if secrets.store.path.exists() or any(reference.startswith("store:") for reference in references.values()):
        steps.step("keys", lambda: _keys(secrets))
    for key, reference in references.items():
        try:
            values[key] = within(timeout, partial(secrets.resolve, reference))
        except (SecretError, TimeoutError) as error:
            steps.step(key, partial(raised, error))
    if len(values) == len(references):
        steps.step("references", lambda: f"{len(values)} references lead to a secret (values are never shown)")
    return values


def _keys(secrets: SecretResolver) -> Told:
    ring = secrets.store.keys.read()
    names = f"{len(ring.ids)} {'key' if len(ring.ids) == 1 else 'keys'} from {secrets.store.keys.place}"
    unreadable = [entry.name for entry in secrets.store.entries() if entry.fault] if secrets.store.path.exists() else []
    if unreadable:
        return Warned(f"{names}; not readable: {', '.join(unreadable)}", "enter them again: mlc secrets set NAME")
    return f"{names}, the newest is {ring.newest}"


def examine_configuration(
    steps: Steps, settings: Settings, path: Path, secrets: SecretResolver, values: dict[str, str], today: dt.date
) -> None:
    """What mlc.yaml names: profile, crosswalks, layouts, calendars, pins and keys; one line for each that is wrong."""
    found = checks(settings, secrets, values)
    steps.step("mlc.yaml", lambda: str(path.resolve()))
    faults = 0
    for key, load in found:
        try:
            load()
        except UNUSABLE as error:
            faults += 1
            steps.step(key, partial(raised, Wrong(str(error), "correct it in mlc.yaml, or in the file it names")))
        except OSError as error:
            faults += 1
            steps.step(key, partial(raised, error))
    if not faults:
        steps.step("what it names", lambda: f"{len(found)} parts load: {_parts(settings)}")
    for text in warnings(settings, today):
        steps.step("calendar", partial(Warned, text))


def _parts(settings: Settings) -> str:
    feeds = len(settings.exports)
    inbound = ["profile", "crosswalks", "account templates"] if settings.stampli is not None else []
    outbound = [f"{feeds} {'feed' if feeds == 1 else 'feeds'} with layout, calendar and file name"] if feeds else []
    return ", ".join([*inbound, "pins", *outbound])


def examine_disk(settings: Settings, tell: Callable[[str], Steps], *, usage: Usage = shutil.disk_usage) -> None:
    """Room and rights of the folders that are written to."""
    steps = tell("disk")
    data = settings.data_path
    steps.step("data_dir", lambda: _folder(data, usage))
    steps.step("temporary files", lambda: _folder(Path(tempfile.gettempdir()), usage))
    steps.step("checkpoints", lambda: _second_place(settings))


def _folder(folder: Path, usage: Usage) -> Told:
    there = _nearest(folder)
    mode = stat.S_IMODE(there.stat().st_mode)
    # Unlinked at once; on a disk that is read-only or full this fails as a run would.
    with tempfile.TemporaryFile(dir=there) as probe:
        probe.write(b"mlc doctor\n")
        probe.flush()
        os.fsync(probe.fileno())
    total, _, free = usage(there)
    room = f"{_size(free)} of {_size(total)} free"
    text = f"{folder}, {room}" if there == folder else f"{folder} (made by the first run), {room}"
    if free < FULL:
        raise Wrong(f"{text}: the disk is full", "make room; nothing is lost, runs stop before they have to write")
    if free < LEAST_FREE or free < LEAST_SHARE * total:
        return Warned(text, "make room soon: files received, the ledger and Dagster's runs grow there")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return Warned(f"{text}; every user may write there (mode {mode:o})", f"chmod o-w {there}")
    return text


def _second_place(settings: Settings) -> Told:
    folder = settings.checkpoints_path
    there = _nearest(folder)
    # Not tried by writing: write-once storage would keep the probe for ever.
    if not os.access(there, os.W_OK | os.X_OK):
        raise Wrong(
            f"{there}: this user may not write there", "checkpoints of the audit trail are kept there: allow it"
        )
    same_disk = there.stat().st_dev == _nearest(settings.data_path).stat().st_dev
    where = f"{folder}{'' if there == folder else ' (made with the first checkpoint)'}"
    if settings.audit.checkpoints is None or same_disk:
        return f"{where}, on the disk of data_dir: another machine or write-once storage would prove more"
    return f"{where}, on another disk than data_dir"


def _nearest(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.0f} MiB"


def examine_versions(steps: Steps) -> None:
    """Who is speaking; told in every report of a problem."""
    steps.step("Python", lambda: f"{sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
    steps.step("packages", lambda: ", ".join(_version(name) for name in ("mlc-dagster", "dagster", "paramiko")))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise Wrong(f"{package} is not installed", "install the product with its dependencies") from None

"""The outbox: files that wait for delivery, under their own names, where a person can fetch them.

What belongs here: putting them there and taking them away. The archive keeps the bytes; nothing is read from here, so
whatever happens to this folder changes nothing of what is delivered.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger.archive import file_sha256

_INCOMING = ".incoming-"


def waiting_place(outbound: Outbound, feed: str, name: str) -> Path:
    """Where the file lies while it waits."""
    return outbound.outbox / feed / name


def put_out(outbound: Outbound, feed: str, contents: Mapping[str, str]) -> None:
    """Lays files (SHA-256 by name) into the feed's folder; those that are there with these bytes stay.

    Raises:
        ArchiveDamaged: the archive no longer has the bytes.
        OSError: our disk refused.
    """
    for name, sha256 in contents.items():
        place = waiting_place(outbound, feed, name)
        if place.exists() and file_sha256(place) == sha256:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        archived = outbound.archive.path(sha256)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=_INCOMING)) / name
        try:
            try:
                # The archive's entries are read-only, and so is their second name.
                os.link(archived, temporary)
            except OSError:
                # Another file system, or one without hard links.
                shutil.copyfile(archived, temporary)
            temporary.replace(place)
        finally:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def names_in(outbound: Outbound, feed: str) -> set[str]:
    """What lies in the feed's folder. Halves of a run that was killed are cleared away first."""
    folder = outbound.outbox / feed
    if not folder.is_dir():
        return set()
    for half in folder.glob(f"{_INCOMING}*"):
        shutil.rmtree(half, ignore_errors=True)
    return {path.name for path in folder.iterdir()}


def take_in(outbound: Outbound, feed: str, names: Iterable[str]) -> None:
    """Removes files that wait no longer; what cannot be removed stays, and is tried at the next delivery."""
    for name in names:
        with suppress(OSError):
            waiting_place(outbound, feed, name).unlink()

"""Which files of a folder are still needed by manifests that are not processed yet.

Belongs here: looking for such manifests and reading what they name. Does not: what follows for a file (``disposing``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.files import FileState
from mlc_dagster.sftp.download import Download, DownloadRequest
from mlc_dagster.sftp.listing import RemoteFile
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, Inbound
from mlc_dagster.stampli.intake.hidden_names import is_hidden
from mlc_dagster.stampli.parsing.deliveries import read_manifest
from mlc_dagster.stampli.parsing.file_ends import MAX_MANIFEST
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.transit import transit_folder

Identity = tuple[str, int | None, int | None]
"""Path, size and time of a file."""


@dataclass(frozen=True)
class Claims:
    """Files that manifests which are not processed yet name: they are still needed."""

    names: frozenset[str] = frozenset()
    unclear: str | None = None
    """Which of them cannot be read (yet), so that nobody knows which files it names; None where all can be."""


def claims_in(
    inbound: Inbound, session: SftpSession, folders: Iterable[str], *, ours: frozenset[Identity] = frozenset()
) -> dict[str, Claims]:
    """By folder, what manifests that are still to come name.

    Args:
        inbound: the wiring.
        session: over which the folders are listed.
        folders: each with its slash, or nothing.
        ours: manifests that are being put away and are still under their names.

    Raises:
        SftpError: a folder cannot be listed.
    """
    # The ledger first: what is taken up between the two looks is then found as still to come.
    with inbound.ledger.reading() as reading:
        known = ledger_files.known_files(reading, FEED)
        coming = {row["path"] for row in ledger_files.list_files(reading, states=[FileState.ASSIGNED], limit=100_000)}
    found: dict[str, Claims] = {}
    for folder in sorted(set(folders)):
        listed = [
            remote for remote in session.list(folder.rstrip("/") or folder or ".").files if not is_hidden(remote.name)
        ]
        others = [
            remote
            for remote in listed
            if inbound.profile.matches(remote.name)
            and (remote.path, remote.size, remote.mtime) not in ours
            and (remote.path in coming or (remote.path, remote.size, remote.mtime) not in known)
        ]
        if (written := _being_written(listed, inbound.profile)) is not None:
            found[folder] = Claims(unclear=f"{written} is being written")
        else:
            found[folder] = _named_by(session, inbound.profile, others, inbound.scratch)
    return found


def _being_written(listed: Sequence[RemoteFile], profile: Profile) -> str | None:
    """A file that will be a manifest under the name that it gets when it is whole."""
    rules = profile.file.in_flight
    for remote in listed:
        name = remote.name
        later = {name[len(prefix) :] for prefix in rules.prefixes if name.startswith(prefix)}
        later |= {
            each[: -len(suffix)]
            for each in (name, *later)
            for suffix in rules.suffixes
            if each.lower().endswith(suffix)
        }
        if any(profile.matches(each) for each in later):
            return name
    return None


def _named_by(session: SftpSession, profile: Profile, others: Sequence[RemoteFile], scratch: Path) -> Claims:
    names: set[str] = set()
    unclear: str | None = None
    with transit_folder(scratch) as folder:
        for number, remote in enumerate(others):
            target = folder / str(number)
            request = DownloadRequest(remote.path, target, remote.size, MAX_MANIFEST, remote.mtime)
            (answer,) = session.download_many([request])
            if not isinstance(answer, Download):
                unclear = f"{remote.name} cannot be read yet ({answer})"
                continue
            try:
                names.update(member.name for member in read_manifest(target.read_bytes(), remote.name, profile).members)
            except FileRejected as refusal:
                unclear = f"{remote.name} cannot be read yet ({refusal.text})"
    return Claims(frozenset(names), unclear)

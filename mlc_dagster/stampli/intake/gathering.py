"""All files of a delivery from the server, compared with their manifest, as one bundle for the archive.

Belongs here: what must be there before anything of a delivery is read. Does not: reading it (``deliveries``,
``split_rows``). One entry of the archive holds the whole delivery: kept, proven and erased together.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.ledger.files import Seen
from mlc_dagster.sftp.download import Download, DownloadRequest
from mlc_dagster.sftp.errors import FileChanged, FileVanished, PermissionRefused, ServerRefused
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.parsing.deliveries import BUNDLED_FILES, BUNDLED_MANIFEST, difference, read_manifest
from mlc_dagster.stampli.parsing.profile import Profile

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of all entries: the same files make the same bundle, whenever they are fetched."""


@dataclass(frozen=True)
class Gathered:
    """A whole delivery."""

    size: int
    """Bytes of the manifest."""
    parts: tuple[Seen, ...]
    """The files that it names, as they stood in the folder."""


def gather(session: SftpSession, profile: Profile, path: str, manifest: Path, *, max_bytes: int) -> Gathered | str:
    """Fetch what the manifest names and put everything into ``manifest``'s place, as a bundle.

    Args:
        path: of the manifest on the server; its files stand beside it.
        manifest: its bytes here; a bundle afterwards.
        max_bytes: that one file may have.

    Returns:
        The delivery, or why it is not whole yet.

    Raises:
        FileRejected: the manifest is no manifest.
        SftpError: the connection or our disk failed, or a file is larger than allowed.
    """
    folder, slash, name = path.rpartition("/")
    content = manifest.read_bytes()
    members = read_manifest(content, name, profile).members
    targets = [manifest.with_name(f"{manifest.name}-{number}") for number in range(len(members))]
    requests: list[DownloadRequest] = []
    parts: list[Seen] = []
    for member, target in zip(members, targets, strict=True):
        place = f"{folder}{slash}{member.name}"
        there = session.stat(place)
        if there is None:
            return f"{member.name} is named by {name} and not there yet"
        if there.size not in (None, member.size):
            return f"{member.name}: has {there.size} bytes, the manifest says {member.size}"
        parts.append(Seen(place, there.size, there.mtime))
        requests.append(DownloadRequest(place, target, member.size, max_bytes, there.mtime))
    try:
        for member, answer in zip(members, session.download_many(requests), strict=True):
            match answer:
                case Download():
                    if (fault := difference(member, answer.size, answer.sha256)) is not None:
                        return fault
                case FileVanished() | FileChanged() | PermissionRefused() | ServerRefused():
                    return str(answer)
                case _:
                    raise answer
        bundle = manifest.with_name(f"{manifest.name}-bundle")
        with zipfile.ZipFile(bundle, "w") as packed:
            packed.writestr(zipfile.ZipInfo(BUNDLED_MANIFEST, _EPOCH), content)
            for member, target in zip(members, targets, strict=True):
                entry = zipfile.ZipInfo(BUNDLED_FILES + member.name, _EPOCH)
                entry.file_size = member.size
                with target.open("rb") as source, packed.open(entry, "w") as sink:
                    while block := source.read(256 * 1024):
                        sink.write(block)
        bundle.replace(manifest)
    finally:
        for target in targets:
            target.unlink(missing_ok=True)
    return Gathered(len(content), tuple(parts))

"""Where a feed's files go by mlc.yaml, and whether two feeds could write the same path.

What belongs here: mlc.yaml alone. Where files went so far is ``ledger.places``'s.
"""

import datetime as dt
from collections.abc import Callable

from mlc_dagster.exports.companions import COMPRESSED_ENDING
from mlc_dagster.exports.naming import FileNameUnusable, NameParts, file_name
from mlc_dagster.exports.writing import Writer
from mlc_dagster.ledger.places import Place, plain_place
from mlc_dagster.settings import ExportSettings, Settings

_MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=dt.UTC)


class SharedPath(Exception):
    """Two feeds can give files the same path; the second would count the first's file as its own, or stand still."""

    def __init__(self, feed: str, other: str, directory: str, name: str) -> None:
        self.feed = feed
        self.other = other
        self.name = name
        super().__init__(
            f"exports.{feed} and exports.{other} can both write {name!r} into {directory} of the same server: put "
            "{feed} into file_name, or name another sftp.directory"
        )


def place_of(entry: ExportSettings) -> Place:
    """Where the feed's files go."""
    partner = entry.partner
    ids = None if partner is None else (partner.sender, partner.receiver, str(partner.usage))
    return plain_place(entry.sftp.host, entry.sftp.port, entry.sftp.directory, ids)


def refuse_shared_paths(
    settings: Settings, entry: ExportSettings, writer: Writer, writer_of: Callable[[ExportSettings], Writer | None]
) -> None:
    """Raise SharedPath when another feed of mlc.yaml can give a file the path of one of this feed's.

    Args:
        settings: mlc.yaml.
        entry: the feed.
        writer: the feed's.
        writer_of: of another feed; None where its layout cannot be used, which is told of that feed.
    """
    here = _account(entry)
    for other in settings.exports:
        if other.name == entry.name or _account(other) != here:
            continue
        theirs = writer_of(other)
        if theirs is not None and (name := _name(entry, writer)) is not None and name == _name(other, theirs):
            raise SharedPath(entry.name, other.name, entry.sftp.directory, name)


def _account(entry: ExportSettings) -> tuple[str, int, str, str]:
    place = place_of(entry)
    return place.host, place.port, entry.sftp.username, place.directory


def _name(entry: ExportSettings, writer: Writer) -> str | None:
    """A file's name with everything but the feed the same for all feeds."""
    parts = NameParts(entry.name, 1, _MOMENT, _MOMENT, _MOMENT, "0" * 64, writer.identity.extension)
    try:
        return file_name(entry.file_name or writer.file_name, parts, ending=COMPRESSED_ENDING[entry.upload.compress])
    except FileNameUnusable:
        # Told of the feed that it is.
        return None

"""Files that attempts at putting them away have left under hidden names, once nothing is to be put away any more.

Belongs here: finding them and giving them their names back. Does not: whose turn it is (``disposing``).
"""

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.archive import PayloadErased
from mlc_dagster.ledger.database import Row
from mlc_dagster.sftp.errors import TargetExists
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, Inbound
from mlc_dagster.stampli.intake.hidden_names import hidden, split_path, tag_of, taken_apart
from mlc_dagster.stampli.intake.newer_versions import NotTaken, give_back
from mlc_dagster.stampli.intake.putting_away import PuttingAway
from mlc_dagster.stampli.parsing.profile_files import Manifest


def give_names_back(inbound: Inbound, session: SftpSession) -> tuple[list[str], dict[int, str]]:
    """Give every file that we have hidden its name back; newer bytes among them are read by the next poll.

    Returns:
        (lines for people, why files are still hidden, by the key of what they belong to).

    Raises:
        SftpError: the server; the next attempt goes on from the names that it finds.
    """
    told: list[str] = []
    failed: dict[int, str] = {}
    for remote in session.list(inbound.stampli.sftp.directory).files:
        folder, lies_as = split_path(remote.path)
        if (parts := taken_apart(lies_as)) is None:
            continue
        path = folder + parts.name
        with inbound.ledger.reading() as reading:
            rows = disposal.versions_tagged(reading, FEED, parts.sha256, parts.version)
        # Another installation's, in the same folder, are none of ours.
        for row in [each for each in rows if each["path"] == path] or rows[:1]:
            try:
                line = _own(inbound, session, row) if row["path"] == path else _beside(session, row, path)
            except (TargetExists, NotTaken) as error:
                failed[row["id"]] = (
                    str(error)
                    if isinstance(error, NotTaken)
                    else f"{remote.path} belongs to {row['path']}, which was processed, and another file has its name "
                    "now; delete it or take it away"
                )
            else:
                told += [] if line is None else [line]
    return [*told, *failed.values()], failed


def _own(inbound: Inbound, session: SftpSession, row: Row) -> str | None:
    place = hidden(row["path"], tag_of(row))
    expected: str = row["sha256"]
    if isinstance(inbound.profile.file.end, Manifest):
        try:
            _, expected = PuttingAway(inbound, session).contents(row)
        except PayloadErased:
            session.rename(place, row["path"])
            return None
    if (found := session.sha256(place)) != expected:
        return give_back(inbound, session, row, found)
    session.rename(place, row["path"])
    return None


def _beside(session: SftpSession, row: Row, path: str) -> None:
    """A marker, or a file of a delivery."""
    session.rename(hidden(path, tag_of(row)), path)

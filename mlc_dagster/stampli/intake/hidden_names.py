"""Names that files have while they are put away, and the rules of their folders.

Belongs here: how a path is taken apart and hidden. Does not: moving anything (``putting_away``).
"""

import re
from typing import NamedTuple

from mlc_dagster.ledger.database import Row


def split_path(path: str) -> tuple[str, str]:
    """(folder with its slash, or nothing; name)."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


def tag_of(row: Row) -> str:
    """What tells this version of a file from all others of its path."""
    return f"{row['sha256'][:12]}.v{row['version']}"


def hidden(path: str, tag: str) -> str:
    """A name no profile matches: it says whose it is, and two versions of one path never meet."""
    folder, name = split_path(path)
    return f"{folder}.{name}.{tag}.mlc"


class TakenApart(NamedTuple):
    """What a hidden name says."""

    name: str
    """The file's own."""
    sha256: str
    """How the hash of the version begins to which it belongs."""
    version: int


def taken_apart(name: str) -> TakenApart | None:
    """What ``hidden`` made this name of; None where it did not."""
    match = re.fullmatch(r"\.(.+)\.([0-9a-f]{12})\.v([0-9]+)\.mlc", name)
    return None if match is None else TakenApart(match[1], match[2], int(match[3]))


def is_hidden(name: str) -> bool:
    """Whether ``hidden`` made this name, whatever a profile says of such names."""
    return taken_apart(name) is not None

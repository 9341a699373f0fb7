"""Names that files have while they are put away, and the rules of their folders.

Belongs here: how a path is taken apart and hidden. Does not: moving anything (``putting_away``).
"""

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

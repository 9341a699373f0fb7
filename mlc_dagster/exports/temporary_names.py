"""How a file is called on a partner's server while it is on its way.

The random part makes the whole path known to nobody but whoever noted it before writing.
"""

import posixpath
import re
import secrets


def temporary_of(name: str) -> str:
    """A new name for each attempt: some servers append to a file that is opened again."""
    return f".{name}.{secrets.token_hex(4)}.part"


def is_temporary_of(name: str, path: str) -> bool:
    """Whether a path ends in a name that ``temporary_of`` makes of this one."""
    return re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.part", posixpath.basename(path)) is not None

"""New ledgers in SQLite files, copied from one that was made once: building the tables takes ten times as long."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from mlc_dagster.ledger.database import open_ledger


@functools.cache
def migrated_file() -> Path:
    """The file of a new ledger, to be copied; kept as long as this test process."""
    folder = Path(tempfile.mkdtemp(prefix="mlc-ledger-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "ledger.sqlite"
    open_ledger(f"sqlite:///{path}").close()
    return path


def new_file(path: Path) -> str:
    """Address of a new ledger in ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated_file(), path)
    return f"sqlite:///{path}"

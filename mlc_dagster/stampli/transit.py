"""Files on their way in: a folder below data_dir while they are looked at, swept after runs that were killed."""

import contextlib
import datetime as dt
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "receiving-"
_ABANDONED = 86_400.0
"""Seconds after which a folder in transit belongs to nobody; no connection lives as long as its poll_deadline."""


@contextmanager
def transit_folder(scratch: Path) -> Generator[Path]:
    """An empty folder below ``scratch``, removed at the end; of a run that is killed, by ``sweep``."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=_PREFIX) as folder:
        yield Path(folder)


def sweep(scratch: Path, now: dt.datetime) -> None:
    """Remove what runs that were killed left in transit: invoices must not lie about, nor fill the disk."""
    for folder in scratch.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # Another run sweeps too.
            if now.timestamp() - folder.stat().st_mtime > _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)

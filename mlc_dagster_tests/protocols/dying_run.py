"""One receiving step in a process of its own that is killed at a named place: python -m … CONFIG OFFSET KEY GENERATION
PLACE. What belongs here: the places, each the moment at which SIGKILL strikes.
"""

import datetime as dt
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mlc_dagster.ledger.archive import Archive, LocalArchive, Stored
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import window_start
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.steps import receive_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster.stampli.wiring import connect_inbound
from mlc_dagster.vault import SecretResolver


def die() -> NoReturn:
    """As the kernel's out-of-memory killer does it: no clean-up runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


class DeadlyArchive(LocalArchive):
    """Dies before or after it has taken a file's bytes in."""

    def __init__(self, root: Path, place: str) -> None:
        super().__init__(root)
        self._dies = place

    def put(self, source: Path, sha256: str) -> Stored:
        if self._dies == "after download":
            die()
        stored = super().put(source, sha256)
        if self._dies == "after archive":
            die()
        return stored


def main(config: str, offset: str, key: str, generation: str, place: str) -> None:
    settings = load_settings(Path(config))
    ahead = dt.timedelta(seconds=float(offset))
    ledger = open_ledger(
        f"sqlite:///{settings.data_path / 'ledger.sqlite'}", clock=lambda: dt.datetime.now(dt.UTC) + ahead
    )
    inbound = connect_inbound(settings, SecretResolver({}, settings.root), ledger)
    archive: Archive = DeadlyArchive(settings.data_path / "archive", place)
    owner = f"{process_name(os.getpid())}|dying"

    def progress(stage: str, count: int) -> None:
        if stage == "read" and place == "in reading":
            die()

    with hold_window(ledger, window_start(key), int(generation), owner=owner, run_id="dying", last=False) as held:
        receive_step(replace(inbound, archive=archive), held, progress)


if __name__ == "__main__":
    main(*sys.argv[1:])

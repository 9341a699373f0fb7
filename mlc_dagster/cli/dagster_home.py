"""The Dagster instance that a command writes its runs to: DAGSTER_HOME, or one in data_dir that it makes itself."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

_PROJECT = Path(__file__).resolve().parents[2] / "dagster.yaml"
_SMALLEST = """\
# The Dagster instance of `mlc run`: SQLite files beside the ledger. Set DAGSTER_HOME to use another one, such as that
# of the daemon, so that its UI shows these runs too.
telemetry:
  enabled: false
"""


def prepare_home(home: Path, *, project: bool = False) -> Path:
    """Make the folder and its dagster.yaml, unless there is one.

    Args:
        home: the folder; made when absent.
        project: take the project's own dagster.yaml where this is a checkout, with the daemon's limits in it.
    """
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        text = _PROJECT.read_text("utf-8") if project and _PROJECT.is_file() else _SMALLEST
        config.write_text(text, encoding="utf-8")
    return home


@contextmanager
def dagster_instance(data_dir: Path) -> "Generator[DagsterInstance]":
    """The instance of DAGSTER_HOME, else that in ``data_dir/dagster``; Dagster's own log lines are kept quiet."""
    logging.getLogger("dagster").setLevel(logging.ERROR)
    from dagster import DagsterInstance

    named = os.environ.get("DAGSTER_HOME")
    home = Path(named).expanduser() if named else prepare_home(data_dir / "dagster")
    with DagsterInstance.from_config(str(home)) as instance:
        yield instance

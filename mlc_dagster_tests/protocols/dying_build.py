"""One build in a process of its own that is killed at a named place: python -m … LEDGER ROOT PLACE.

What belongs here: the places, each the moment at which SIGKILL strikes.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy import event

from mlc_dagster.exports.building import build_files
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster_tests.exports.workshop import FEED, PlainWriter, Workshop

PARTNER = {"sender": "ZZ:US", "receiver": "ZZ:THEM"}


def die(*_: object) -> NoReturn:
    """As the kernel's out-of-memory killer does it: no clean-up runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


def open_workshop(url: str, root: str) -> Workshop:
    """A feed with control numbers, two documents to a file."""
    return Workshop.open(
        open_ledger(url), Path(root), writer=PlainWriter(numbered=True), partner=PARTNER, max_documents=2
    )


def main(url: str, root: str, place: str) -> None:
    bench = open_workshop(url, root)
    if place == "before assembly":
        bench.writer.before_assembly = die

    def at_commit(connection: sa.Connection) -> None:
        # Of the transactions of a run, the one that freezes files.
        if connection.execute(sa.select(sa.func.count()).select_from(exported_file)).scalar():
            die()

    def after_versions(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO exported_record"):
            die()

    if place == "before the commit":
        event.listen(bench.ledger.engine, "commit", at_commit)
    if place == "inside the transaction":
        event.listen(bench.ledger.engine, "after_cursor_execute", after_versions)
    with hold_feed(bench.ledger, FEED, bench.source, owner=f"{process_name(os.getpid())}|dying") as held:
        build_files(bench.outbound, bench.feed, held, until=None, now=bench.now)
        if place == "after the commit":
            die()


if __name__ == "__main__":
    main(*sys.argv[1:])

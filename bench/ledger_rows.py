"""A durable row of the ledger beside the disk's own speed: one commit per row against 4 KiB and fdatasync.

``python -m bench.ledger_rows FOLDER``; both take turns in one process, on the disk of the folder. The result is one
line of JSON on standard output: rows and syncs per second, each the median of its rounds.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median

from bench.measuring import Stopwatch, tell
from mlc_dagster.ledger.database import Ledger, open_ledger

ROUNDS = 9
EACH = 150


def sync_rate(descriptor: int) -> float:
    """4 KiB written and synced, per second: appended, as a journal is."""
    block = os.urandom(4096)
    begun = time.perf_counter()
    for _ in range(EACH):
        os.write(descriptor, block)
        os.fdatasync(descriptor)
    return EACH / (time.perf_counter() - begun)


def row_rate(ledger: Ledger) -> float:
    """Transactions of one audit event each, per second."""
    begun = time.perf_counter()
    for number in range(EACH):
        with ledger.transaction() as transaction:
            transaction.audit("bench.row", f"invoice:{number}", state="CREATED", invoice_id=300000000000000 + number)
    return EACH / (time.perf_counter() - begun)


def batch_rate(ledger: Ledger) -> float:
    """Rows per second with 500 in each commit."""
    begun = time.perf_counter()
    with ledger.transaction() as transaction:
        for number in range(500):
            transaction.audit("bench.row", f"invoice:{number}", state="CREATED", invoice_id=300000000000000 + number)
    return 500 / (time.perf_counter() - begun)


def main() -> None:
    """Command line of the measured program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    descriptor = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    watch = Stopwatch()
    syncs: list[float] = []
    rows: list[float] = []
    batches: list[float] = []
    for _ in range(ROUNDS):
        syncs.append(sync_rate(descriptor))
        rows.append(row_rate(ledger))
        batches.append(batch_rate(ledger))
    os.close(descriptor)
    ledger.close()
    tell(syncs=median(syncs), rows=median(rows), batch=median(batches), **watch.stop())


if __name__ == "__main__":
    main()

"""What people do in Fusion, in Stampli and with the ledger, as the tests of it share it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.sandbox.fusion.invoice_actions import change_invoice
from mlc_dagster.sandbox.fusion.invoice_changes import CLERK
from mlc_dagster_tests.protocols.posting import drop, invoices
from mlc_dagster_tests.servers.postgres import PostgresServer
from mlc_dagster_tests.servers.rehearsal import Rehearsal

OTHER_SUPPLIER = "30014"
REVISED = {"invoice_revision": "2", "approved_at": "2026-11-01T16:02:11Z"}


def booked(flow: Rehearsal, number: str) -> int:
    """InvoiceId of the one invoice that ever had this number."""
    [found] = flow.fusion.books.invoices(number=number)
    return found.invoice_id


def known_as(flow: Rehearsal) -> dict[str, int | None]:
    """What our ledger says that each invoice became in Fusion."""
    return {number: row["fusion_invoice_id"] for number, row in invoices(flow).items()}


def told(flow: Rehearsal, number: str = "INV-1") -> str:
    """What a person is told of a parked invoice."""
    return str(invoices(flow)[number]["problems"])


def lost_answer(flow: Rehearsal, *rows: dict[str, str], count: int = 1) -> None:
    """Posted and stored; so many answers were lost, and nobody has looked yet."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=count)
    drop(flow, list(rows))
    flow.process()
    flow.change_config({"fusion": {"wait_in_run": 5}})


def clerk_changes(flow: Rehearsal, invoice_id: int, number: str | None = None, **fields: Any) -> None:
    """A clerk corrects a stored invoice: its number, and header fields by their names in Fusion."""
    if "InvoiceAmount" in fields:
        fields["InvoiceAmount"] = Decimal(fields["InvoiceAmount"])
    if fields:
        world = flow.fusion.world
        change_invoice(world, world.tables["invoices"].rows[invoice_id], fields, CLERK)
    if number is not None:
        flow.fusion.world.renumber_invoice(invoice_id, number)


def crosswalk(flow: Rehearsal, vendor: str, supplier: str) -> None:
    """Somebody maps a vendor of Stampli's to another supplier of Fusion's."""
    (flow.folder / "vendors.csv").write_text(f"stampli,fusion\n{vendor},{supplier}\n")
    flow.change_config({"stampli": {"crosswalks": {"vendors": "vendors.csv"}}})


class Kept:
    """A flow whose ledger can be copied; ``back_up`` gives what brings the ledger of that moment back."""

    def __init__(self, flow: Rehearsal, postgres: PostgresServer | None) -> None:
        self.flow = flow
        self._postgres = postgres

    def know_by_config(self) -> None:
        """Lets a process of its own open the same ledger."""
        url = self.flow.ledger.engine.url.render_as_string(hide_password=False)
        self.flow.change_config({"ledger": {"url": url}})

    def back_up(self) -> Callable[[], None]:
        """Copies the ledger as it is; calling what it gives puts the copy in its place."""
        url = self.flow.ledger.engine.url
        assert url.database is not None
        if self._postgres is not None:
            # A template must have nobody connected to it.
            self.flow.ledger.engine.dispose()
            template = self._postgres.url(self._postgres.create_database(url.database))
            return lambda: self._open(template)
        there, copy = Path(url.database), self.flow.folder / "backup.sqlite"
        with closing(sqlite3.connect(there)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

        def restore() -> None:
            self.flow.ledger.close()
            for left in there.parent.glob(f"{there.name}-*"):
                left.unlink()
            shutil.copyfile(copy, there)
            self._open(url.render_as_string())

        return restore

    def _open(self, url: str) -> None:
        self.flow.ledger.close()
        self.flow.ledger = open_ledger(url, clock=self.flow.clock)

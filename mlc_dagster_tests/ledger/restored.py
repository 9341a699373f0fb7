"""A ledger that is really restored, beside a second place that is not: for the tests of documented gaps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.audit_restoring import document_restore
from mlc_dagster.ledger.checkpoints import Checkpointing, Gap
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster_tests.ledger.checkpointed import checkpointing, seal_with
from mlc_dagster_tests.servers.backups import Backups
from mlc_dagster_tests.servers.ledgers import new_file
from mlc_dagster_tests.servers.postgres import PostgresServer

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the disk failed; last night's backup was restored")


@dataclass
class Site:
    """A ledger and its second place, which a restore of the ledger leaves alone."""

    folder: Path
    ledger: Ledger
    place: Checkpointing

    def seal(self, *subjects: str) -> int:
        return seal_with(self.ledger, self.place, *subjects)

    def verify(self) -> tuple[str, ...]:
        return verify(self.ledger, self.place).faults

    def document(self) -> Gap:
        return document_restore(self.ledger, self.place, WHY).gap

    def lines(self) -> list[str]:
        return self.place.file.path.read_text().splitlines(keepends=True)

    def rewrite(self, lines: list[str]) -> None:
        self.place.file.path.write_text("".join(lines))


@contextmanager
def site_with_backups(
    folder: Path, server: PostgresServer | None = None, url: str | None = None
) -> Iterator[Backups[Site]]:
    """A ledger in a file, or on ``server``; a checkpoint every three events."""
    opened = open_ledger(url or new_file(folder / "data" / "ledger.sqlite"), actor="test")
    site = Site(folder, opened, checkpointing(folder))
    yield Backups(site, server)
    site.ledger.close()


def lose(backups: Backups[Site]) -> None:
    """Links 5 to 10: four were in the backup, with a checkpoint of the third."""
    site = backups.remote
    site.seal(*"abc")
    site.seal("d")
    backup = backups.make()
    reopen(site)
    site.seal(*"efghij")
    backups.restore(backup)


def reopen(site: Site) -> None:
    """After a backup was made."""
    site.ledger = open_ledger(str(site.ledger.engine.url.render_as_string(hide_password=False)), actor="test")


def kinds(site: Site) -> list[tuple[int, str]]:
    """(link, kind of its event), in order."""
    with site.ledger.reading() as reading:
        rows = reading.rows(
            sa.select(audit_chain.c.seq, audit_event.c.kind)
            .join(audit_event, audit_event.c.id == audit_chain.c.event_id)
            .order_by(audit_chain.c.seq)
        )
    return [(row["seq"], row["kind"]) for row in rows]

"""A partner's folder on an SFTP server, a feed that delivers into it, and deliveries in processes of their own.

Files are frozen straight into ledger and archive: how they are made is not the delivery's business. What arrived is
read from the server's disk.
"""

import dataclasses
import datetime as dt
import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self, cast

import sqlalchemy as sa

from mlc_dagster.alerts.sending import Alerts
from mlc_dagster.exports import companions
from mlc_dagster.exports.delivery import Delivered, Seams, deliver_pending
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger import exported, feeds, versions
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, Row, open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.schema_outbound import export_feed, exported_file
from mlc_dagster.settings import AlertSettings, ExportSettings, Settings, SftpSettings
from mlc_dagster.settings.exports import UploadSettings
from mlc_dagster.sftp import SftpCredentials, open_session
from mlc_dagster_tests.servers.ledgers import new_file

FEED = "journals"
NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclasses.dataclass(frozen=True)
class Place:
    """All that a process needs to deliver: picklable."""

    folder: Path
    ledger_url: str
    sftp: SftpSettings
    credentials: SftpCredentials
    upload: UploadSettings = dataclasses.field(default_factory=lambda: UploadSettings(retry_for=0))

    def feed(self) -> Feed:
        settings = ExportSettings(
            name=FEED,
            source="journals",
            layout="journal_lines",
            ledgers=["US"],
            sftp=self.sftp,
            upload=self.upload,
        )
        # Nothing is written here, so there is no writer.
        return Feed(settings, cast("Any", None), lambda: open_session(self.sftp, self.credentials))

    def outbound(self, ledger: Ledger) -> Outbound:
        settings = Settings.model_validate(
            {
                "fusion": {"base_url": "http://127.0.0.1:1", "token_url": "http://127.0.0.1:1/token",
                           "client_id": "c", "charts": {}, "client_secret": "env:UNUSED", "scope": "s"},
                "poll": {"start": "2026-11-01"},
                "data_dir": str(self.folder / "data"),
            }
        )  # fmt: skip

        def no_client(report: object) -> FusionClient:
            raise AssertionError("a delivery does not read Fusion")

        feed = self.feed()
        archive = LocalArchive(self.folder / "data" / "archive")
        return Outbound(settings, ledger, archive, {FEED: feed}, cast("Any", no_client), Alerts(AlertSettings(), str))

    def with_upload(self, **changes: Any) -> "Place":
        return dataclasses.replace(self, upload=UploadSettings.model_validate(self.upload.model_dump() | changes))


class Partner:
    """A feed and its partner's folder. ``root`` on our disk is ``place.sftp.directory`` over the wire."""

    def __init__(self, place: Place, root: Path) -> None:
        self.place = place
        self.root = root
        self.ledger = open_ledger(place.ledger_url)
        self.slept: list[float] = []
        self.now = 0.0
        self.contents: dict[str, bytes] = {}

    @property
    def outbound(self) -> Outbound:
        return self.place.outbound(self.ledger)

    def upload(self, **changes: Any) -> None:
        """Changes the feed's ``upload`` settings."""
        self.place = self.place.with_upload(**changes)

    def account(self, **changes: Any) -> None:
        """Changes the feed's ``sftp`` settings."""
        self.place = dataclasses.replace(self.place, sftp=self.place.sftp.model_copy(update=changes))

    def freeze(self, name: str, content: bytes = b"a;b\r\n", *, beside: tuple[str, ...] = ()) -> int:
        """A file, PENDING; ``beside``: manifest, trigger."""
        outbound = self.outbound
        frozen = [{"kind": "data", **self._archive(outbound, name, content)}]
        endings = {"manifest": companions.MANIFEST_ENDING, "trigger": ".trg"}
        for kind in beside:
            companion = companions.companion_name(name, endings[kind])
            body = companions.TRIGGER if kind == "trigger" else b'{"name": "' + name.encode() + b'"}\n'
            frozen.append({"kind": kind, **self._archive(outbound, companion, body)})
        with self.ledger.transaction() as transaction:
            feeds.ensure_feed(transaction, FEED, "journals")
            row = feeds.feed_row(transaction, FEED)
            (key,) = versions.commit_files(
                transaction, FEED, [_new_file(row, self.place.sftp.directory, frozen)], [], None, None,
                fence=row["fence"],
            )  # fmt: skip
        return key

    def _archive(self, outbound: Outbound, name: str, content: bytes) -> dict[str, Any]:
        self.contents[name] = content
        digest = hashlib.sha256(content).hexdigest()
        source = self.place.folder / "made"
        source.write_bytes(content)
        outbound.archive.put(source, digest)
        return {"name": name, "sha256": digest, "bytes": len(content)}

    def deliver(
        self, *, still_ours: Callable[[], bool] = lambda: True, before: Callable[[str], object] = str
    ) -> list[Delivered]:
        """Delivers in this process; pauses pass at once, on a clock of their own."""

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds

        outbound = self.outbound
        return deliver_pending(
            outbound, outbound.feeds[FEED], still_ours=still_ours, sleep=sleep, draw=lambda: 0.5,
            clock=lambda: self.now, seams=Seams(before),
        )  # fmt: skip

    def file(self, key: int) -> Row:
        with self.ledger.reading() as reading:
            row = exported.file_row(reading, key)
        assert row is not None
        return row

    def forget_lease(self) -> None:
        """As if the lease had run out: nobody holds the feed."""
        with self.ledger.transaction() as transaction:
            transaction.execute(sa.update(export_feed).values(lease_until=NOON - dt.timedelta(days=400)))

    def states(self) -> list[str]:
        with self.ledger.reading() as reading:
            return [row["state"] for row in reading.rows(sa.select(exported_file).order_by(exported_file.c.sequence))]

    def there(self, folder: Path | None = None) -> dict[str, bytes]:
        """Everything that lies in the partner's folder, hidden files too."""
        return {path.name: path.read_bytes() for path in sorted((folder or self.root).iterdir()) if path.is_file()}

    def waiting(self) -> dict[str, bytes]:
        """What lies in the outbox."""
        folder = self.outbound.outbox / FEED
        return self.there(folder) if folder.exists() else {}


def _new_file(row: Row, directory: str, frozen: list[dict[str, Any]]) -> versions.NewFile:
    data, *beside = frozen
    return versions.NewFile(
        sequence=row["sequence"] + 1,
        name=data["name"],
        directory=directory,
        sha256=data["sha256"],
        bytes=data["bytes"],
        documents=1,
        rows=1,
        totals={},
        counts={},
        layout="journal_lines",
        layout_version="1",
        layout_sha256="0" * 64,
        window_start=NOON - dt.timedelta(hours=1),
        window_end=NOON,
        versions=[],
        companions=beside,
    )


@contextmanager
def partner(
    folder: Path, root: Path, sftp: SftpSettings, credentials: SftpCredentials, ledger_url: str | None = None
) -> Generator[Partner]:
    """A partner whose folder is empty."""
    place = Place(folder, ledger_url or new_file(folder / "ledger.sqlite"), sftp, credentials)
    root.mkdir(parents=True, exist_ok=True)
    found = Partner(place, root)
    try:
        yield found
    finally:
        found.ledger.close()


class DeliveryProcess:
    """A delivery in a process of its own that kills or stops itself before the ``nth`` step called ``at``."""

    def __init__(
        self, place: Place, *, at: str | None = None, nth: int = 1, how: Literal["kill", "stop"] = "kill"
    ) -> None:
        self._answer, theirs = _PROCESSES.Pipe(duplex=False)
        self.process = _PROCESSES.Process(target=_deliver, args=(theirs, place, at, nth, how), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, at once; safe to call from a server's thread."""
        os.kill(self.pid, signal.SIGKILL)

    def wait_killed(self) -> None:
        """Waits until SIGKILL has struck."""
        self.process.join(40)
        assert self.process.exitcode == -signal.SIGKILL, f"it ended by itself: {self.process.exitcode}"

    def wait_stopped(self, timeout: float = 30.0) -> None:
        """Waits until the process has stopped itself."""
        deadline = time.monotonic() + timeout
        stat = Path(f"/proc/{self.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > deadline:
                raise TimeoutError("the delivery did not stop itself")
            time.sleep(0.01)

    def wake(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def result(self, timeout: float = 40.0) -> list[str]:
        """Outcomes, or the name of what ended the delivery."""
        if not self._answer.poll(timeout):
            raise TimeoutError("the delivery did not end")
        found: list[str] = self._answer.recv()
        self.process.join(10)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join(10)
        self._answer.close()


def _deliver(answer: Connection, place: Place, at: str | None, nth: int, how: Literal["kill", "stop"]) -> None:
    left = nth

    def before(step: str) -> None:
        nonlocal left
        if step == at:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    ledger = open_ledger(place.ledger_url)
    outbound = place.outbound(ledger)
    owner = f"{process_name(os.getpid())}|delivery"
    try:
        with hold_feed(ledger, FEED, "journals", owner=owner) as held:
            found = deliver_pending(
                outbound, outbound.feeds[FEED], still_ours=held.still_ours, sleep=time.sleep, seams=Seams(before)
            )
    except Exception as error:  # noqa: BLE001 - the test judges it
        answer.send([type(error).__name__, str(error)])
    else:
        answer.send([str(entry.outcome) for entry in found])
    finally:
        ledger.close()

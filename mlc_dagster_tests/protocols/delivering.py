"""Partners for the delivery protocol: one on OpenSSH, one that picks files up, both judged by what they got."""

import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.partner import Partner, partner
from mlc_dagster_tests.servers.sshd import RealSshd
from mlc_dagster_tests.sftp.conftest import settings_for

CONTENT = bytes(range(256)) * 500
"""Four writes."""
BESIDE = ("manifest", "trigger")


@contextmanager
def on_openssh(server: RealSshd, folder: Path, ledger_url: str | None = None) -> Generator[Partner]:
    """A partner on the given server, in a folder of its own, with another for temporary names beside it."""
    sftp = settings_for(server.host, server.port, server.username, server.fingerprint)
    sftp = sftp.model_copy(update={"directory": str(folder / "in")})
    (folder / "incoming").mkdir()
    with partner(folder, folder / "in", sftp, SftpCredentials(private_key=server.private_key), ledger_url) as found:
        yield found


def use_mode(acme: Partner, mode: str) -> None:
    """Sets ``upload.mode`` and what belongs to it."""
    acme.upload(mode=mode, temp_directory=str(acme.place.folder / "incoming") if mode == "tempdir" else None)


@dataclasses.dataclass
class Collector:
    """A partner that takes each whole file away the moment it has its name."""

    server: FaultySftp
    acme: Partner
    collected: list[tuple[str, bytes]] = dataclasses.field(default_factory=list[tuple[str, bytes]])

    def take(self, path: Path) -> None:
        if not path.name.endswith(".part") and path.exists():
            self.collected.append((path.name, path.read_bytes()))
            path.unlink()


@contextmanager
def picking_up(folder: Path, ledger_url: str | None = None) -> Generator[Collector]:
    """A partner whose server hands every file on at once; its ledger is a file unless told otherwise."""
    with FaultySftp(folder / "served") as server:
        (server.root / "in").mkdir()
        sftp = settings_for(server.host, server.port, server.username, server.fingerprint)
        sftp = sftp.model_copy(update={"directory": "/in"})
        with partner(folder, server.root / "in", sftp, SftpCredentials(password=server.password), ledger_url) as acme:
            acme.upload(picked_up_at_once=True)
            collector = Collector(server, acme)
            server.faults.after_close = server.faults.after_rename = collector.take
            yield collector

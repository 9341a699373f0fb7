"""An installation in which every secret is a canary: both flows, a daemon, the commands, and all remote sides.

What belongs here: planting, running, and the places where the product leaves something. What does not: which faults
there are and what is expected (the tests).
"""

import datetime as dt
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration

from mlc_dagster.cli import main
from mlc_dagster.ledger.checkpoints import SigningKey
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.sandbox.sftp_accounts import SftpAccount
from mlc_dagster.vault.keys import KeySource
from mlc_dagster.vault.store import SecretStore
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.automation.daemon import Daemon, daemon
from mlc_dagster_tests.canaries.echoing import Echoing, echoing
from mlc_dagster_tests.canaries.scanner import Scanner, canary, files_below, postgres_rows
from mlc_dagster_tests.servers.certificates import Authority
from mlc_dagster_tests.servers.configuration import SEGMENTS, keep_secret
from mlc_dagster_tests.servers.rehearsal import COMPANIES
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows
from mlc_dagster_tests.vault.vault_server import FakeVault, running_vault

Auth = Literal["client_credentials", "jwt_assertion", "basic"]

DEBIT, CREDIT = "101-4410-61200-000-000-000", "101-0000-22100-000-000-000"
TODAY = dt.date(2026, 11, 21)
USER = "stampli.integration"
ALIAS = "mlc-2026"
AN_HOUR = 3600


@dataclass
class Site:
    """One installation; ``planted`` holds its secrets by name."""

    folder: Path
    planted: dict[str, str]
    fusion: FusionSandbox
    echo: Echoing
    sftp: SandboxSftp
    vault: FakeVault
    receiver: Receiver
    store: SecretStore
    ledger_url: str | None
    files: int = 0
    said: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    """What commands printed."""

    @property
    def config(self) -> Path:
        return self.folder / "mlc.yaml"

    def keep(self, name: str, value: str) -> str:
        """Put a secret into the encrypted store; the reference to it."""
        self.store.put(name, value, by="test", at=dt.datetime.now(dt.UTC))
        return f"store:{name}"

    @contextmanager
    def wrong(self, name: str) -> Iterator[None]:
        """Another value, a canary too, stands in the store for as long as the block runs."""
        right = self.store.get(name)
        self.planted[f"wrong {name}"] = canary()
        self.keep(name, self.planted[f"wrong {name}"])
        try:
            yield
        finally:
            self.keep(name, right)

    @contextmanager
    def configured(self, *path: str, value: Any) -> Iterator[None]:
        """One key of mlc.yaml has another value for as long as the block runs."""
        before = self.config.read_text()
        document: Any = yaml.safe_load(before)
        part = document
        for key in path[:-1]:
            part = part[0][key] if isinstance(part, list) else part[key]
        (part[0] if isinstance(part, list) else part)[path[-1]] = value
        self.config.write_text(yaml.safe_dump(document))
        try:
            yield
        finally:
            self.config.write_text(before)

    def something_new(self) -> None:
        """An invoice in Stampli's folder, a journal in Fusion, and windows that are over."""
        self.files += 1
        rows = invoice_rows(invoice_id=f"9{self.files:05d}", invoice_number=f"NW-{self.files}")
        path = self.folder / "server" / "outbound" / file_name(self.files)
        path.write_bytes(invoice_csv(rows))
        old = time.time() - AN_HOUR
        os.utime(path, (old, old))
        world = self.fusion.world
        world.add_journal_batch(f"B{self.files}", lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])
        world.move_clock(dt.timedelta(minutes=20))

    def mlc(self, *arguments: str | Path) -> int:
        """The command as a shell calls it, with its last resort for faults of the product; its exit code."""
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv, sys.stdout, sys.stderr
        sys.argv = ["mlc", "--config", str(self.config), *map(str, arguments)]
        sys.stdout, sys.stderr = out, err
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.argv, sys.stdout, sys.stderr = before
        said = out.getvalue() + err.getvalue()
        self.said.append((f"mlc {' '.join(map(str, arguments))}", said.encode()))
        return int(str(code or 0))

    def both_flows(self) -> list[int]:
        """Something new, and both commands; their exit codes."""
        self.something_new()
        return [self.mlc("run", "inbound"), self.mlc("run", "outbound")]

    def scan(self, scanner: Scanner | None = None) -> list[str]:
        """Every place that the product writes to: what of the secrets stands there."""
        scanner = scanner or Scanner(self.planted | {f"token {n}": token for n, token in enumerate(self.echo.tokens)})
        folders = [self.folder / name for name in ("data", "data-checkpoints", "dagster_home", "partner", "evidence")]
        found = scanner.leaks(files_below(*folders))
        found += scanner.leaks(self.said)
        received = str([(sent.get("title"), sent.get("message")) for sent in self.receiver.received]).encode()
        found += scanner.leaks([("alerts", received)])
        if self.ledger_url:
            found += scanner.leaks(postgres_rows(self.ledger_url))
        return found


@contextmanager
def running_daemon(site: Site) -> Iterator["Rounds"]:
    """A daemon over the configuration as it is now."""
    with daemon(site) as started:
        yield Rounds(started)


@dataclass
class Rounds:
    """A daemon whose ticks may fail."""

    daemon: Daemon

    def round(self) -> None:
        """Every sensor ticks; what was asked for is run."""
        self.daemon._let_time_pass()
        list(execute_sensor_iteration(self.daemon.workspace, logging.getLogger("daemon"), None, None))
        with QueuedRunCoordinatorDaemon(interval_seconds=0) as queue:
            list(queue.run_iteration(self.daemon.workspace))


@contextmanager
def canary_site(folder: Path, *, auth: Auth = "client_credentials", ledger_url: str | None = None) -> Iterator[Site]:
    """All remote sides, the secrets in their places, and an mlc.yaml with references to them."""
    for name in ("server/outbound", "partner/inbound", "data"):
        (folder / name).mkdir(parents=True)
    key, public = _ssh_key(passphrase := canary())
    planted = {
        "client secret": canary(),
        "SFTP password": canary(),
        "SFTP key": key,
        "SFTP passphrase": passphrase,
        "signing key": SigningKey.generate().private_text(),
        "Vault token": canary(ascii_only=True),
        "alert password": canary(),
        "alert token": canary(ascii_only=True).replace("+/", ""),
    }
    with ExitStack() as stack:
        fusion = stack.enter_context(FusionSandbox(Seed(20, TODAY), client_secret=planted["client secret"]))
        sftp = stack.enter_context(
            SandboxSftp(
                folder / "server",
                username="stampli",
                password=planted["SFTP password"],
                host_key_file=folder / "host_key",
                accounts=[SftpAccount("partner", folder / "partner", authorized_keys=[public])],
            )
        )
        vault = stack.enter_context(running_vault())
        vault.token, vault.secrets["secret/partner"] = planted["Vault token"], {"passphrase": passphrase}
        receiver = stack.enter_context(receiving())
        echo = stack.enter_context(echoing(fusion.base_url))
        store = SecretStore(folder / "data" / "secrets.sqlite", KeySource({}, folder / "mlc.keys"))
        store.keys.create(note="test")
        planted["store key"] = (folder / "mlc.keys").read_text().splitlines()[-1].split()[0]
        site = Site(folder, planted, fusion, echo, sftp, vault, receiver, store, ledger_url)
        _write_config(site, auth)
        yield site


def _ssh_key(passphrase: str) -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    encryption = serialization.BestAvailableEncryption(passphrase.encode())
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text, public.decode()


def _sign_in(site: Site, auth: Auth) -> dict[str, Any]:
    fusion, planted = site.fusion, site.planted
    client = {"token_url": f"{site.echo.url}/oauth2/v1/token", "client_id": fusion.client_id, "scope": fusion.scope}
    if auth == "client_credentials":
        return client | {"client_secret": site.keep("fusion/secret", planted["client secret"])}
    fusion.tokens.users[USER] = canary()
    if auth == "basic":
        # The other is used by nobody, so nobody knows it.
        del planted["client secret"]
        planted["password in use"] = fusion.tokens.users[USER]
        return {"username": USER, "password": site.keep("fusion/secret", fusion.tokens.users[USER])}
    planted["assertion passphrase"] = canary()
    issued = Authority(site.folder).issue("mlc", passphrase=planted["assertion passphrase"])
    planted["assertion key"] = issued.key_text
    fusion.tokens.certificates[ALIAS] = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    return client | {
        "username": USER,
        "client_secret": site.keep("fusion/secret", planted["client secret"]),
        "assertion_key": site.keep("fusion/key", issued.key_text),
        "assertion_key_passphrase": site.keep("fusion/passphrase", planted["assertion passphrase"]),
        "certificate_alias": ALIAS,
    }


def _write_config(site: Site, auth: Auth) -> None:
    fusion, planted, sftp = site.fusion, site.planted, site.sftp
    fusion.world.move_clock(-dt.timedelta(days=1))
    now = fusion.world.clock()
    chart = {"ledgers": ["US Primary Ledger"], "segments": SEGMENTS}
    place = {"host": "127.0.0.1", "port": sftp.port, "host_key": sftp.fingerprint}
    alerts = f"json://ops:{quote(planted['alert password'], safe='')}@127.0.0.1:{site.receiver.port}/hook"
    document: dict[str, Any] = {
        "fusion": {
            "base_url": site.echo.url,
            "auth": auth,
            **_sign_in(site, auth),
            "charts": {"US1": chart | {"natural_account": "account", "cost_center": "department"}},
            "refused_wait": 0.1,
            "ambiguous_wait": 0.1,
            "wait_in_run": 0.3,
            "request_timeout": 5,
            "reference_max_age": 0,
            "period_max_age": 0,
        },
        "stampli": {
            "sftp": place
            | {
                "username": "stampli",
                "password": site.keep("stampli/password", planted["SFTP password"]),
                "directory": "/outbound",
            },
            "settle_seconds": 0,
            "companies": COMPANIES,
        },
        "exports": [
            {
                "name": "journals",
                "source": "journals",
                "ledgers": ["US Primary Ledger"],
                "layout": "journals_csv",
                "start": now.replace(minute=now.minute - now.minute % 15, second=0, microsecond=0),
                "upload": {"retry_for": 0},
                "sftp": place
                | {
                    "username": "partner",
                    "private_key": f"file:{keep_secret(site.folder, 'partner.key', planted['SFTP key'])[5:]}",
                    "passphrase": "vault:secret/partner#passphrase",
                    "directory": "/inbound",
                },
            }
        ],
        "secrets": {
            "vault": {
                "address": site.vault.address,
                "token": keep_secret(site.folder, "vault_token", planted["Vault token"]),
            }
        },
        "alerts": {
            "to": [
                site.keep("alerts/ops", alerts),
                f"json://127.0.0.1:{site.receiver.port}/{planted['alert token']}",
            ]
        },
        "audit": {"signing_key": site.keep("audit/key", planted["signing key"]), "checkpoint_every": 5},
        "poll": {"start": dt.date(2026, 1, 1)},
        "data_dir": "data",
    }
    if site.ledger_url:
        planted["ledger password"] = canary()
        address = site.ledger_url.replace("@", f":{quote(planted['ledger password'], safe='')}@")
        document["ledger"] = {"url_secret": site.keep("ledger/url", address)}
    site.config.write_text(yaml.safe_dump(document))

"""Both sides of the rehearsal in one process: the embedded Fusion and the folders of Stampli and a partner behind SFTP.

What belongs here: the sandbox folder (addresses, secrets, host key, books, sample crosswalks and an mlc.yaml that
points at all of it) and serving until a signal. What does not: anything of the product; mlc.yaml is written as text.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlc_dagster.sandbox.samples import ACCOUNTS_CSV, COST_CENTERS_CSV, VENDORS_CSV
from mlc_dagster.sandbox.seed import SEGMENTS, UK_BUSINESS_UNIT, UK_LEDGER, US_BUSINESS_UNIT, US_LEDGER, Seed
from mlc_dagster.sandbox.server import SCOPE, FusionSandbox
from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.sandbox.sftp_accounts import SftpAccount

USER: Final = "stampli"
PARTNER: Final = "partner"
"""Who takes the files that leave Fusion, on the same server in a directory of their own."""
CLIENT_ID: Final = "mlc-sandbox-client"

_MLC_YAML: Final = """\
# Written by `mlc sandbox`: points at the embedded Fusion and SFTP server of this folder. Your changes are kept,
# only the addresses follow the servers. The waits are short because nothing here is far away; real systems need the
# defaults.
fusion:
  base_url: {base_url}
  token_url: {token_url}
  client_id: {client_id}
  client_secret: file:secrets/fusion_client_secret
  scope: {scope}
  request_timeout: 5
  refused_wait: 1
  ambiguous_wait: 1
  wait_in_run: 10
  charts:
    US1: &chart
      ledgers: [{us_ledger}]
      delimiter: "-"
      segments: [{segments}]
      natural_account: account
      cost_center: department
      cost_center_value_set: US1 Cost Center
    UK1:
      <<: *chart
      ledgers: [{uk_ledger}]
      cost_center_value_set: UK1 Cost Center
stampli:
  sftp:
    host: 127.0.0.1
    port: {sftp_port}
    username: {user}
    password: file:secrets/stampli_password
    host_key: "{fingerprint}"
    directory: /outbound
  profile: stampli_lines_v1
  settle_seconds: 2
  companies:
    C100: &company
      business_unit: {us_unit}
      legal_entity: US1 Legal Entity
      ledger: {us_ledger}
      chart: US1
      time_zone: America/Denver
      invoice_source: Stampli
      tax_mode: tax_line
      conversion_rate_type: Corporate
      accounting_date: posting_date_or_invoice_date
      account_template: "101-{{cost_center:0000}}-{{account}}-000-000-000"
    C200:
      <<: *company
      business_unit: {uk_unit}
      legal_entity: UK1 Legal Entity
      ledger: {uk_ledger}
      chart: UK1
      time_zone: Europe/London
      account_template: "201-{{cost_center:0000}}-{{account}}-000-000-000"
  crosswalks:
    vendors: crosswalks/vendors.csv
    accounts: crosswalks/accounts.csv
    cost_centers: crosswalks/cost_centers.csv
outbound: {{overlap: 15m, lag: 2m, look_back: 2d}}
exports:
  - name: journals_to_consolidation
    source: journals
    ledgers: [{us_ledger}, {uk_ledger}]
    layout: journals_csv
    start: &feeds_start {feeds_start}
    sftp: &partner
      host: 127.0.0.1
      port: {sftp_port}
      username: {partner}
      password: file:secrets/partner_password
      host_key: "{fingerprint}"
      directory: /inbound
    upload: {{manifest: true, retry_for: 2}}     # a real partner's server is given five minutes
  - name: journals_to_mainframe
    source: journals
    ledgers: [{us_ledger}]
    layout: journals_fixed
    start: *feeds_start
    sftp: *partner
    upload: {{retry_for: 2}}
  - name: invoices_to_partner
    source: invoices
    layout: x12_invoices_810
    start: *feeds_start
    sftp: *partner
    upload: {{retry_for: 2}}
    partner: &edi {{sender: "ZZ:MLCSANDBOX", receiver: "ZZ:PARTNER", usage: T}}
    acknowledgement: {{expected_within: 24h, directory: /acks}}
  - name: orders_to_supplier
    source: purchase_orders
    layout: x12_orders_850
    start: *feeds_start
    sftp: *partner
    upload: {{retry_for: 2}}
    partner: *edi
alerts: {{to: ["{alerts_url}"]}}     # kept by the sandbox: {base_url}/sandbox/alerts
retry: {{check_every: 30}}
poll: {{cron: "*/15 * * * *", start: {start}}}
data_dir: data
"""


@dataclass(frozen=True)
class SandboxFolder:
    """Where everything of one sandbox lies."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "mlc.yaml"

    @property
    def outbound(self) -> Path:
        """The folder that Stampli would write into."""
        return self.root / "stampli" / "outbound"

    @property
    def partner(self) -> Path:
        """The partner's directory: files are put into ``inbound``, acknowledgements fetched from ``acks``."""
        return self.root / "partner"

    @property
    def addresses(self) -> Path:
        """JSON of what is served where; ports are kept in it from one start to the next."""
        return self.root / "addresses.json"

    def known_addresses(self) -> dict[str, Any]:
        """What an earlier start wrote; empty at first."""
        try:
            return json.loads(self.addresses.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def secret(self, name: str) -> str:
        """A secret of this sandbox: made once, in a file that only its owner can read."""
        path = self.root / "secrets" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(secrets.token_urlsafe(24) + "\n")
        return path.read_text("utf-8").strip()

    def prepare(self) -> None:
        """Makes the folders and the sample crosswalks; existing ones are left as they are."""
        for directory in (self.outbound, self.partner / "inbound", self.partner / "acks"):
            directory.mkdir(parents=True, exist_ok=True)
        crosswalks = self.root / "crosswalks"
        crosswalks.mkdir(exist_ok=True)
        for name, content in (
            ("vendors.csv", VENDORS_CSV),
            ("accounts.csv", ACCOUNTS_CSV),
            ("cost_centers.csv", COST_CENTERS_CSV),
        ):
            if not (crosswalks / name).exists():
                (crosswalks / name).write_text(content, encoding="utf-8")

    def write_config(self, fusion: FusionSandbox, sftp: SandboxSftp, start: dt.date, feeds_start: dt.datetime) -> None:
        """Writes mlc.yaml; one that is there is kept, with new addresses where they changed."""
        known = self.known_addresses()
        if self.config.exists() and known:
            text = self.config.read_text("utf-8")
            for before, now in (
                (str(known["base_url"]), fusion.base_url),
                (f"json://127.0.0.1:{known['fusion_port']}/", f"json://127.0.0.1:{fusion.port}/"),
                (f"port: {known['sftp_port']}", f"port: {sftp.port}"),
                (str(known["sftp_host_key"]), sftp.fingerprint),
            ):
                text = text.replace(before, now)
        else:
            text = _MLC_YAML.format(
                base_url=fusion.base_url,
                token_url=fusion.token_url,
                alerts_url=f"json://127.0.0.1:{fusion.port}/sandbox/alerts",
                client_id=CLIENT_ID,
                scope=SCOPE,
                segments=", ".join(SEGMENTS),
                us_ledger=US_LEDGER,
                uk_ledger=UK_LEDGER,
                us_unit=US_BUSINESS_UNIT,
                uk_unit=UK_BUSINESS_UNIT,
                sftp_port=sftp.port,
                user=USER,
                partner=PARTNER,
                feeds_start=feeds_start.isoformat(),
                fingerprint=sftp.fingerprint,
                start=start.isoformat(),
            )
        self.config.write_text(text, encoding="utf-8")


def serve(
    folder: Path,
    *,
    suppliers: int = 20,
    fusion_port: int | None = None,
    sftp_port: int | None = None,
    faults: Path | None = None,
    feeds_from: dt.timedelta = dt.timedelta(days=1),
    announce: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Serves both until a signal ends this process.

    Args:
        folder: the sandbox folder; made when absent.
        suppliers: how many suppliers Fusion has, at least 14.
        fusion_port: 0 takes a free one; None the one of the last start, or a free one.
        sftp_port: likewise.
        faults: YAML or JSON file with faults of the embedded Fusion.
        feeds_from: how far back a new mlc.yaml lets the partner's feeds begin.
        announce: called with the addresses once both are ready, if given.

    Raises:
        OSError: a port is taken, or the folder cannot be written.
        ValueError: too few suppliers, or a fault that does not exist.
    """
    place = SandboxFolder(folder.resolve())
    place.prepare()
    known = place.known_addresses()
    fusion = FusionSandbox(
        Seed(suppliers),
        port=int(known.get("fusion_port", 0)) if fusion_port is None else fusion_port,
        books=place.root / "fusion.sqlite",
        faults=faults,
        client_id=CLIENT_ID,
        client_secret=place.secret("fusion_client_secret"),
    )
    sftp = SandboxSftp(
        place.outbound.parent,
        username=USER,
        password=place.secret("stampli_password"),
        host_key_file=place.root / "sftp_host_key",
        port=int(known.get("sftp_port", 0)) if sftp_port is None else sftp_port,
        accounts=[SftpAccount(PARTNER, place.partner, place.secret("partner_password"))],
    )
    fusion.admin.sftp_faults = sftp.faults
    with sftp:
        # Approvals before this day would be parked; the samples are younger than a day.
        now = dt.datetime.now(dt.UTC)
        place.write_config(fusion, sftp, now.date() - dt.timedelta(days=7), now.replace(microsecond=0) - feeds_from)
        addresses = fusion.addresses() | {
            "fusion_port": fusion.port,
            "sftp_host": sftp.host,
            "sftp_port": sftp.port,
            "sftp_username": USER,
            "sftp_host_key": sftp.fingerprint,
            "outbound": str(place.outbound),
            "partner_username": PARTNER,
            "partner_root": str(place.partner),
            "config": str(place.config),
            "pid": os.getpid(),
        }
        # Secrets stay in their own files.
        del addresses["client_secret"]
        place.addresses.write_text(json.dumps(addresses, indent=2) + "\n", encoding="utf-8")
        fusion.serve(announce=announce and (lambda: announce(addresses)))


def _end_with_stdin() -> None:
    """However our parent ends, also by kill -9, its end of the pipe is closed then."""
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``python -m mlc_dagster.sandbox.run``: prints one JSON line when ready, then serves."""
    parser = argparse.ArgumentParser(prog="python -m mlc_dagster.sandbox.run", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suppliers", type=int, default=20)
    parser.add_argument("--fusion-port", type=int)
    parser.add_argument("--sftp-port", type=int)
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--feeds-from", type=float, default=24.0, help="hours back at which new feeds begin")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this one")
    options = parser.parse_args(arguments)
    if options.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()

    def announce(addresses: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        serve(
            options.folder,
            suppliers=options.suppliers,
            fusion_port=options.fusion_port,
            sftp_port=options.sftp_port,
            faults=options.faults,
            feeds_from=dt.timedelta(hours=options.feeds_from),
            announce=announce,
        )


if __name__ == "__main__":
    main()

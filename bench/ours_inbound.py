"""What is measured of ours: reading files by themselves, and the whole inbound flow over a window.

``flow CONFIG [--until validate] [--pace fixed]``, ``poll CONFIG`` or ``parse FILE …``; the result is one line of JSON.
The flow is what ``mlc run inbound`` does, without its command line: two looks at the folder, then the three steps.
"""

import argparse
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.invoice_files import COMPANY
from bench.measuring import Stopwatch, peak_mib, tell
from mlc_dagster.fusion import pacing
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.settings import CompanySettings
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.checks import check_invoice
from mlc_dagster.stampli.intake.feed import FirstContact, decide_first_contact, poll_folder
from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster.stampli.steps import post_step, receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster.stampli.wiring import connect_inbound
from mlc_dagster.vault import SecretResolver

_COMPANY = CompanySettings.model_validate(
    {
        "business_unit": "US1 Business Unit",
        "legal_entity": "US1 Legal Entity",
        "ledger": "US Primary Ledger",
        "chart": "US1",
        "time_zone": "America/Denver",
        "invoice_source": "Stampli",
        "tax_mode": "tax_line",
        "accounting_date": "invoice_date",
        "account_template": "101-{cost_center}-{account}-000-000-000",
    }
)


class FixedPace(pacing.Pace):
    """As many requests in flight as allowed, whatever comes back: what the controller is compared with."""

    def replied(self, epoch: int, in_flight: int, *, refused: bool) -> None:
        del epoch, in_flight, refused


def parse(files: list[Path]) -> None:
    """Read files to checked invoices with their canonical JSON and digest."""
    profile = load_profile("stampli_lines_v1")
    watch = Stopwatch()
    invoices = rows = size = 0
    amount = Decimal(0)
    for path in files:
        stream = parse_file(path, profile)
        for found in stream:
            if isinstance(found, ParsedInvoice) and found.invoice is not None and found.company_id == COMPANY:
                if check_invoice(found.invoice, _COMPANY):
                    continue
                invoices += 1
                amount += found.invoice.amount
                size += len(found.content)
        rows += stream.rows
    tell(invoices=invoices, rows=rows, amount=str(amount), json=size, **watch.stop())


def flow(config: Path, *, until: str, fixed: bool) -> None:
    """One window from the folder to Fusion; seconds of CPU and wall clock, and peak memory, per step."""
    if fixed:
        pacing.Pace = FixedPace
    settings = load_settings(config)
    secrets = SecretResolver({}, settings.root)
    ledger = open_ledger(f"sqlite:///{settings.data_path / 'ledger.sqlite'}")
    inbound = connect_inbound(settings, secrets, ledger)
    total = Stopwatch()
    steps: dict[str, Any] = {}

    def done(name: str, watch: Stopwatch, **more: Any) -> None:
        steps[name] = watch.stop() | more

    watch = Stopwatch()

    def look() -> Any:
        return poll_folder(ledger, inbound.open_session, inbound.stampli, inbound.settings.poll, inbound.profile)

    try:
        look()
    except FirstContact:
        decide_first_contact(ledger, inbound.open_session, inbound.stampli, inbound.profile, None)
    look()
    (wanted,) = look().runs
    done("poll", watch)

    def hold(*, last: bool) -> Any:
        return hold_window(ledger, wanted.window_start, wanted.generation, owner="bench", run_id="bench", last=last)

    watch = Stopwatch()
    with hold(last=False) as held:
        read = receive_step(inbound, held).readings
    done("receive", watch, invoices=sum(each.invoices for each in read))
    watch = Stopwatch()
    with hold(last=False) as held:
        validated = validate_step(inbound, held)
    done("validate", watch, invoices=validated.summary.validated, requests=validated.requests.requests)
    if until == "post":
        watch = Stopwatch()
        with hold(last=True) as held:
            posted = post_step(inbound, held)
        done(
            "post", watch, invoices=posted.posting.created + posted.posting.adopted, requests=posted.requests.requests,
            posts=posted.requests.posts, confirmed=posted.confirmation.confirmed, refused=posted.posting.refused,
            statuses={str(status): count for status, count in posted.requests.statuses.items()},
            faults=posted.equation.faults,
        )  # fmt: skip
    ledger.close()
    tell(steps=steps, **total.stop())


def poll(config: Path, folder_holds: int) -> None:
    """One look at a folder whose files are all known: listing and look-up."""
    settings = load_settings(config)
    ledger = open_ledger(f"sqlite:///{settings.data_path / 'ledger.sqlite'}")
    inbound = connect_inbound(settings, SecretResolver({}, settings.root), ledger)
    try:
        poll_folder(ledger, inbound.open_session, inbound.stampli, inbound.settings.poll, inbound.profile)
    except FirstContact:
        marked, _ = decide_first_contact(ledger, inbound.open_session, inbound.stampli, inbound.profile, frozenset())
        assert marked == folder_holds, marked  # noqa: S101 - a benchmark of the wrong folder is none
    walls: list[float] = []
    watch = Stopwatch()
    for _ in range(3):
        begun = time.perf_counter()
        found = poll_folder(ledger, inbound.open_session, inbound.stampli, inbound.settings.poll, inbound.profile)
        walls.append(time.perf_counter() - begun)
        assert not found.waiting and not found.assigned, "an old file passed for a new one"  # noqa: S101, PT018
    used = watch.stop()
    ledger.close()
    tell(**(used | {"wall": sorted(walls)[1], "cpu": used["cpu"] / 3}), walls=walls, memory=peak_mib())


def main() -> None:
    """Command line of the measured program."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    parsing = commands.add_parser("parse")
    parsing.add_argument("files", type=Path, nargs="+")
    flowing = commands.add_parser("flow")
    flowing.add_argument("config", type=Path)
    flowing.add_argument("--until", choices=["validate", "post"], default="post")
    flowing.add_argument("--pace", choices=["ours", "fixed"], default="ours")
    polling = commands.add_parser("poll")
    polling.add_argument("config", type=Path)
    polling.add_argument("--files", type=int, required=True)
    chosen = parser.parse_args()
    match chosen.command:
        case "parse":
            parse(chosen.files)
        case "flow":
            flow(chosen.config, until=chosen.until, fixed=chosen.pace == "fixed")
        case _:
            poll(chosen.config, chosen.files)


if __name__ == "__main__":
    main()

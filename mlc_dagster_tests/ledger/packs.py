"""Evidence packs for tests: what is in them, how they are made, and how an auditor checks them."""

import datetime as dt
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlc_dagster.ledger import invoices
from mlc_dagster.ledger.audit import seal
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.checkpoints import Checkpointing
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.evidence import ControlResult, Pack, Request, write_pack
from mlc_dagster.ledger.references import keep_crosswalk_version
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster_tests.ledger.exporting import commit, new_file, new_version, open_feed
from mlc_dagster_tests.ledger.population import add_file, add_invoice

DAY = (dt.datetime(2026, 3, 2, tzinfo=dt.UTC), dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
CROSSWALKS = "c" * 16


def populate(ledger: Ledger) -> None:
    """A file with two invoices, one of them parked and released by two people, and a file for a partner."""
    with ledger.transaction() as transaction:
        file = add_file(transaction, "/outbound/=cmd.csv")
        mapped = {"profile": "p@1", "crosswalks": CROSSWALKS}
        add_invoice(transaction, InvoiceState.CONFIRMED, file=file, mapped_with=mapped, fusion_invoice_id=300)
        held = add_invoice(transaction, InvoiceState.PARKED, file=file, reason="DUP_OTHER_BU")
        invoices.file_was_read(
            transaction, file, rows_total=4, rows_in_invoices=4, rows_quarantined=0, invoices=2,
            amounts_minor={"USD": 24690},
        )  # fmt: skip
        keep_crosswalk_version(transaction, CROSSWALKS, {"vendors": b"stampli,fusion\nV1,100\n"})
        transaction.audit_action(
            "invoice.released", f"invoice:{held}", by="Ada", approved_by="Grace", reason="two sites",
            before={"state": "PARKED"}, after={"state": "RECEIVED"},
        )  # fmt: skip
    commit(ledger, open_feed(ledger), new_file(1, [new_version("301"), new_version("302", position=2)]))


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "period": DAY,
        "by": "Ada",
        "reason": "quarterly review",
        "configuration": {"settings": {"client_secret": "store:fusion/client_secret"}},
        "controls": [
            ControlResult("delivered_bytes_match", "feed partner", None, text="not asked"),
            ControlResult("audit_chain_holds", "the whole trail", True),
        ],
    }
    return Request(**(fields | changes))


def make_pack(ledger: Ledger, place: Checkpointing, out: Path, **changes: Any) -> Pack:
    seal(ledger)
    make_checkpoints(ledger, place, now=True)
    return write_pack(ledger, place, request(**changes), out)


def check(pack: Path, *options: str, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The verifier as an auditor runs it, alone; without options with the hash the manifest has."""
    path = program or pack / "verify_evidence.py"
    if not options and (pack / "manifest.json").is_file():
        options = ("--manifest-sha256", hashlib.sha256((pack / "manifest.json").read_bytes()).hexdigest())
    return subprocess.run(
        [sys.executable, "-I", "-S", str(path), str(pack), *options],
        capture_output=True, text=True, check=False, env={}, cwd="/",
    )  # fmt: skip


def rewritten(pack: Path) -> None:
    """The manifest made to fit what is there, as somebody does who knows how packs are made but has no key."""
    manifest = json.loads((pack / "manifest.json").read_text())
    for name in manifest["files"]:
        raw = (pack / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    raw = (json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
    (pack / "manifest.json").write_bytes(raw)
    (pack / "manifest.sha256").write_text(f"{hashlib.sha256(raw).hexdigest()}  manifest.json\n")

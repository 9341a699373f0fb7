"""``mlc demo`` as a user runs it: the promise, shown and checked against Fusion's own books."""

import csv
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.sandbox.server import FusionSandbox

LONGEST = 90.0
"""Seconds, warm, on two cores."""


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, float]:
    """(what the demonstration said, the folder it kept, seconds it took); run once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demonstration"
    shared.mkdir(exist_ok=True)
    folder, said, took = shared / "kept", shared / "said.json", shared / "seconds"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not took.exists():
            began = time.monotonic()
            command = [sys.executable, "-m", "mlc_dagster.cli", "demo", "--json", "--keep", str(folder)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
            said.write_text(result.stdout, encoding="utf-8")
            took.write_text(f"{time.monotonic() - began}", encoding="utf-8")
    return json.loads(said.read_text("utf-8")), folder, float(took.read_text("utf-8"))


def test_the_demonstration_agrees_with_fusion_s_own_books(told: tuple[dict[str, Any], Path, float]) -> None:
    """Not with what it says of them: the books are opened again here, after everything has ended."""
    document, folder, _ = told
    with FusionSandbox(books=folder / "fusion.sqlite") as fusion:
        stored = fusion.books.invoices()
        totals = fusion.books.totals()
        assert fusion.books.duplicates() == []
    for side in document["sides"].values():
        assert side["invoices"] == len(stored) == 17
        assert {currency: Decimal(total) for currency, total in side["totals"].items()} == totals
    assert document["agreed"] is True
    assert document["faults"] == []


def test_the_demonstration_is_quick(told: tuple[dict[str, Any], Path, float]) -> None:
    """A newcomer gives it a minute and a half."""
    assert told[2] < LONGEST


def test_old_files_are_baselined_and_never_posted(told: tuple[dict[str, Any], Path, float]) -> None:
    """The first contact stops; the files of before are on record and nothing of them reaches Fusion."""
    document, _, _ = told
    old = [file for file in document["files"] if file["state"] == "BASELINE"]
    assert "first contact found 2 files" in document["polls"][0]["first_contact"]
    assert document["polls"][0]["exit_code"] == 1
    assert len(old) == document["baseline"] == 2
    assert all(file["posted"] == 0 for file in old)


def test_the_growing_file_waits_for_its_end(told: tuple[dict[str, Any], Path, float]) -> None:
    """At the first poll it is left alone, at the second it is whole: all forty lines, one invoice."""
    _, first, second = told[0]["polls"][:3]
    [waiting] = first["waiting"]
    [file] = second["files"]
    assert file["path"] == waiting["path"]
    assert (file["rows"], file["invoices"], second["posted"]) == (40, 1, 1)


def test_everything_parked_says_why(told: tuple[dict[str, Any], Path, float]) -> None:
    """Each kind of trouble keeps its own invoice back, with its own reason, and nothing beside it."""
    why = " ".join(" ".join(file["why"]) for file in told[0]["files"])
    for reason in (
        "VENDOR_UNKNOWN",
        "PERIOD_CLOSED",
        "AMOUNT_MISMATCH",
        "ROW_MALFORMED",
        "PO_NOT_SUPPORTED",
        "NOT_APPROVED",
        "LINE_DUPLICATE",
        "ACCOUNT_INVALID",
        "DUP_NORMALISED",
    ):
        assert reason in why
    assert len(told[0]["parked"]) == 8


def test_the_created_supplier_lets_its_invoice_through_and_nothing_else(
    told: tuple[dict[str, Any], Path, float],
) -> None:
    """Nobody touches the invoice: the next poll finds the cause gone."""
    cured = told[0]["cured"]
    assert cured["posted"] == 1
    assert cured["changed"] == [cured["number"]]


def test_materialising_the_first_window_again_posts_nothing(told: tuple[dict[str, Any], Path, float]) -> None:
    """Counted by Fusion: not one POST, and the run says that it found nothing to change."""
    document, _, _ = told
    assert document["rematerialised"]["posts"] == 0
    assert document["polls"][-1]["windows"][0]["unchanged"] is True
    assert document["posts"] == 17


def test_the_partner_s_journals_are_those_that_fusion_has(told: tuple[dict[str, Any], Path, float]) -> None:
    """Not with what the demonstration says of them: books and files are opened again, lines counted one by one."""
    _, folder, _ = told
    [path] = (folder / "partner" / "inbound").glob("journals_to_consolidation_*.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    delivered = Counter(
        (row["BATCH"], row["CURRENCY"], Decimal(row["ENTERED_DR"] or 0), Decimal(row["ENTERED_CR"] or 0))
        for row in rows
    )
    batches = {row["BATCH"] for row in rows}
    with FusionSandbox(books=folder / "fusion.sqlite") as fusion:
        booked = Counter(
            (
                batch.values["BatchName"],
                line.values["CurrencyCode"],
                line.values["EnteredDr"] or Decimal(0),
                line.values["EnteredCr"] or Decimal(0),
            )
            for batch in fusion.world.tables["journalBatches"].rows.values()
            if batch.values["BatchName"] in batches
            for journal in batch.children["journalHeaders"]
            for line in journal.children["journalLines"]
        )
    assert delivered == booked
    assert delivered.total() == 9
    assert {row["CURRENCY"] for row in rows} == {"USD", "EUR", "JPY"}


def test_every_feed_s_three_sides_agree_and_what_is_held_is_told(told: tuple[dict[str, Any], Path, float]) -> None:
    """What the layout cannot carry is held with its reason, told to somebody, and the rest goes."""
    outbound = told[0]["outbound"]
    counts = {
        feed: [side["documents"] for side in sides.values()] for feed, sides in outbound["books"].items()
    }  # fmt: skip
    assert counts == {
        "journals_to_consolidation": [3, 3, 3, 0],
        "journals_to_mainframe": [3, 3, 3, 0],
        "invoices_to_partner": [17, 15, 15, 2],
        "orders_to_supplier": [2, 2, 2, 0],
    }
    assert sorted(row["reason"] for row in outbound["held"]) == ["AMOUNT_SCALE", "OVERFLOW"]
    assert outbound["polls"][0]["exit_code"] == 1
    assert any("2 documents held" in title for title in outbound["alerts"])


def test_the_second_poll_delivers_the_change_alone(told: tuple[dict[str, Any], Path, float]) -> None:
    """Everything else is read again, because windows overlap, and recognised."""
    document, folder, _ = told
    second = document["outbound"]["polls"][1]
    [name] = document["outbound"]["second_poll"]
    assert [file["name"] for file in second["sent"]] == [name]
    content = (folder / "partner" / "inbound" / name).read_bytes()
    assert content.count(b"~ST*") == content.count(b"~ST*860*") == 1
    assert b"~POC*1*QI*260*260*BX*5.5*" in content


def test_a_file_waits_for_its_server_and_arrives_once(told: tuple[dict[str, Any], Path, float]) -> None:
    """Pending with its hash, exit code 3 and an alert; then there under the name and with the bytes it waited with."""
    document, folder, _ = told
    down, back = document["outbound"]["polls"][2:4]
    [waiting], [sent] = down["pending"], back["sent"]
    assert (down["exit_code"], back["exit_code"], down["sent"], back["pending"]) == (3, 0, [], [])
    assert (sent["name"], sent["sha256"]) == (waiting["name"], waiting["sha256"])
    arrived = [path.read_bytes() for path in (folder / "partner" / "inbound").rglob("orders_to_supplier_*")]
    assert [hashlib.sha256(content).hexdigest() for content in arrived].count(waiting["sha256"]) == 1
    assert len(arrived) == 3
    assert any(
        f"{waiting['name']} could not be delivered and waits" in title for title in document["outbound"]["alerts"]
    )

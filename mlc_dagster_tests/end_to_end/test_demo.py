"""``mlc demo`` as a user runs it: the promise, shown and checked against Fusion's own books."""

import fcntl
import json
import os
import subprocess
import sys
import time
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
            result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
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

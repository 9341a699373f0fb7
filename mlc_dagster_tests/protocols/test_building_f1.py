"""Freezing files: sequence, names, control numbers, versions and bytes are committed together, or not at all."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_dagster.ledger import control_numbers, exported, feeds
from mlc_dagster_tests.exports.workshop import FEED, Workshop, invoice
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.dying_build import open_workshop

EXPECTED = ["ISA 1\nGS  1\nNEW 1 v1 10 #1\nNEW 2 v1 20 #2\n", "ISA 2\nGS  2\nNEW 3 v1 30 #1\n"]


def killed(url: str, root: Path, place: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mlc_dagster_tests.protocols.dying_build", url, str(root), place],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.fixture
def bench(ledger_url: str, tmp_path: Path) -> Workshop:
    """A feed with control numbers; three invoices were read."""
    opened = open_workshop(ledger_url, str(tmp_path / "bench"))
    opened.read(invoice(1, "10"), invoice(2, "20"), invoice(3, "30"))
    return opened


def numbering(bench: Workshop) -> tuple[list[str], list[str], list[int]]:
    """Gaps of files, gaps of control numbers, the next interchange number."""
    partner = bench.settings.exports[0].partner
    assert partner is not None
    with bench.ledger.reading() as reading:
        return (
            exported.sequence_gaps(reading, FEED),
            control_numbers.gaps(reading),
            control_numbers.peek(reading, partner.key, "interchange", 1),
        )


@pytest.mark.parametrize("place", ["before assembly", "inside the transaction", "before the commit"])
def test_f1_a_kill_before_the_commit_leaves_nothing_said(bench: Workshop, ledger_url: str, place: str) -> None:
    """The archive may hold bytes that nobody names; the next run builds the same files under the same numbers."""
    killed(ledger_url, bench.root, place)
    assert (bench.files(), bench.versions()) == ([], [])
    with bench.ledger.reading() as reading:
        row = feeds.feed_row(reading, FEED)
    assert (row["sequence"], row["extract_id"]) == (0, 0)
    # The process is gone: nobody waits for its lease, and what it left in the scratch folder is swept away.
    assert bench.build().files == 2
    assert bench.texts() == EXPECTED
    assert numbering(bench) == ([], [], [3])
    assert list(bench.outbound.scratch.iterdir()) == []


def test_f1_a_kill_after_the_commit_leaves_files_that_wait(bench: Workshop, ledger_url: str) -> None:
    """They are delivered by the next run, and nothing is built twice."""
    killed(ledger_url, bench.root, "after the commit")
    assert bench.texts() == EXPECTED
    assert bench.build().files == 0
    assert [row["state"] for row in bench.files()] == ["PENDING", "PENDING"]
    assert numbering(bench) == ([], [], [3])


def test_f1_numbers_that_another_feed_took_are_not_used_again(bench: Workshop) -> None:
    """Both feeds of a partner are built at once: the later commit assembles its bytes again."""
    partner = bench.settings.exports[0].partner
    assert partner is not None
    taken: list[int] = []

    def elsewhere() -> None:
        if not taken:
            with bench.ledger.transaction() as transaction:
                taken.append(1)
                control_numbers.jump(transaction, partner.key, "interchange", 1, BOTH)

    bench.writer.before_assembly = elsewhere
    assert bench.build().files == 2
    assert [text.splitlines()[0] for text in bench.texts()] == ["ISA 2", "ISA 3"]
    assert [row["controls"] for row in bench.files()] == [
        {"interchange": [2], "group": [1]},
        {"interchange": [3], "group": [2]},
    ]
    assert numbering(bench) == ([], [], [4])


def test_f1_each_record_is_found_by_its_control_numbers(bench: Workshop) -> None:
    """An acknowledgement names group and set; the ledger knows the invoice behind them."""
    bench.build()
    first, second = bench.files()
    with bench.ledger.reading() as reading:
        rows = exported.file_records(reading, first["id"]) + exported.file_records(reading, second["id"])
    assert [(row["record_id"], row["set_control"]) for row in rows] == [
        ("1", "XX/0001"),
        ("2", "XX/0002"),
        ("3", "XX/0001"),
    ]

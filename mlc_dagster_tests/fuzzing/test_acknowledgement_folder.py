"""A partner's acknowledgement folder as a hostile partner would fill it."""

from pathlib import Path

import pytest

from mlc_dagster.ledger.database import Ledger
from mlc_dagster_tests.exports.test_acknowledging import (
    Folder,
    answer,
    clock,
    deliver,
    folder,
    group,
    ledger,
    sshd,
    status,
)

__all__ = ["clock", "folder", "ledger", "sshd"]  # Fixtures.


def test_a_link_is_told_once_and_never_followed(folder: Folder, tmp_path: Path) -> None:
    """It could point to another partner's answers, or to anything that the server's account may read."""
    (tmp_path / "elsewhere").write_bytes(answer(*group("A")))
    (folder.path / "1.edi").symlink_to(tmp_path / "elsewhere")
    (folder.path / "archive").mkdir()
    result = folder.read()
    ((path, problem),) = result.broken
    assert path.endswith("/1.edi")
    assert problem.startswith("FILE_NAME: it is a link")
    assert result.files == 0
    assert folder.read().broken == []


@pytest.mark.parametrize("name", ["\x1b[2J1.edi", "a\u202eb.edi", "x" * 240 + ".edi", "é" * 100 + "\n.edi"])
def test_an_odd_name_is_read_and_kept_in_a_harmless_spelling(folder: Folder, ledger: Ledger, name: str) -> None:
    """The answer counts whatever its file is called; its name goes into the ledger and onto screens."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    folder.put(name, answer(*group("A")))
    assert folder.read().files == 1
    assert status(ledger, file_id) == "accepted"
    assert folder.read().files == 0


@pytest.mark.parametrize(
    "segments",
    [
        ("AK1*PO*" + "9" * 5000, "AK9*A*1*1*1"),
        ("AK1*PO\x00*1", "AK9*A*1*1*1"),
        ("AK1*PO*1", "AK2*850*\x1b[2J", "AK5*A", "AK9*A*1*1*1"),
        ("AK1*PO*1", "AK9*A*1*1*1" + "*" * 2_000_000),
    ],
    ids=["number", "nul", "escape", "endless"],
)
def test_a_hostile_answer_is_told_and_stops_no_other(folder: Folder, ledger: Ledger, segments: tuple[str, ...]) -> None:
    """One partner's garbage must not be a traceback that keeps the others' answers from being read."""
    file_id = deliver(ledger, 1, ["301"], group=1)
    folder.put("1.edi", answer(*segments))
    folder.put("2.edi", answer(*group("A"), number=2))
    result = folder.read()
    ((path, problem),) = result.broken
    assert path.endswith("/1.edi")
    assert problem.isprintable()
    assert len(problem) < 400
    assert status(ledger, file_id) == "accepted"


def test_what_a_partner_says_of_a_refusal_is_kept_without_what_terminals_obey(folder: Folder, ledger: Ledger) -> None:
    """The text reaches alerts and the audit trail; PostgreSQL keeps no NUL."""
    deliver(ledger, 1, ["301"], group=1)
    folder.put("1.edi", answer("AK1*PO*1", "AK9*R*1*1*0*\x00\x1b[2J" + "E" * 500))
    (refusal,) = folder.read().refused
    assert refusal.text.startswith("\\x00\\x1b[2JEEE")
    assert len(refusal.text) < 200

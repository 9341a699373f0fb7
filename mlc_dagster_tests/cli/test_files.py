"""``mlc files``: what is shown of each file, and a decision about old files that cannot be taken by mistake."""

from pathlib import Path

import pytest

from mlc_dagster_tests.cli.conftest import ONE, Polled, json_of, run_mlc


def test_list_shows_every_file_with_its_state_and_reason(polled: Polled) -> None:
    """The answer to "did you get our file?" is one command."""
    listed = json_of(run_mlc("--config", polled.config, "files", "list", "--json"))
    by_state: dict[str, int] = {}
    for file in listed["files"]:
        by_state[file["state"]] = by_state.get(file["state"], 0) + 1
    assert by_state == {"BASELINE": 2, "SAME_BYTES": 1, "REJECTED": 1, "READ": len(polled.files.first) - 1}
    [same] = [file for file in listed["files"] if file["state"] == "SAME_BYTES"]
    assert same["reason"].startswith("same bytes as ")
    assert all(file["window"] for file in listed["files"] if file["state"] != "BASELINE")


def test_list_shows_amounts_with_their_currency(polled: Polled) -> None:
    """Yen have no decimals and dinars three; a column of bare numbers would mislead a controller."""
    text = run_mlc("--config", polled.config, "files", "list").stdout
    assert "140,800 JPY" in text
    assert "1,250.500 KWD" in text


def test_list_can_be_narrowed_to_a_state(polled: Polled) -> None:
    """A folder holds thousands of files; the refused ones are asked for by name."""
    listed = json_of(run_mlc("--config", polled.config, "files", "list", "--state", "rejected", "--json"))
    [file] = listed["files"]
    assert file["reason"].startswith("FILE_SCHEMA: ")


def test_a_state_that_does_not_exist_is_refused(polled: Polled) -> None:
    """An empty list for a misspelt state would read as "all is well"."""
    result = run_mlc("--config", polled.config, "files", "list", "--state", "lost")
    assert result.exit_code == 2
    assert result.stderr.startswith("mlc: --state lost: is not one of ASSIGNED, ")


@pytest.mark.parametrize("arguments", [["baseline"], ["process", "--all"]])
def test_baseline_after_go_live_is_refused(private: Path, arguments: list[str]) -> None:
    """Later it would take files that nobody has read yet out of the flow, and their invoices would never be paid."""
    result = run_mlc("--config", private, "files", *arguments, *ONE)
    assert result.exit_code == 2
    assert "in use since" in result.stderr


def fresh(private: Path) -> Path:
    """The same folder, never seen before by this ledger."""
    for file in (private.parent / "data").glob("ledger.sqlite*"):
        file.unlink()
    return private


@pytest.mark.parametrize("arguments", [[], ["some.csv", "--all"]])
def test_process_takes_names_or_all(private: Path, arguments: list[str]) -> None:
    """A command that is told nothing would have to guess, about money."""
    result = run_mlc("--config", private, "files", "process", *arguments, *ONE)
    assert result.exit_code == 2
    assert "name the files to process, or --all" in result.stderr


def test_process_of_a_file_that_is_not_there_changes_nothing(private: Path) -> None:
    """A misspelt name must not turn all files into the baseline."""
    config = fresh(private)
    result = run_mlc("--config", config, "files", "process", "misspelt.csv", *ONE)
    assert result.exit_code == 2
    assert "misspelt.csv: no such file in /outbound" in result.stderr
    assert json_of(run_mlc("--config", config, "files", "list", "--json"))["files"] == []


def test_process_makes_all_other_files_the_baseline(private: Path, polled: Polled) -> None:
    """The named file is posted by the next poll; the others are on record as handled before."""
    config = fresh(private)
    names = sorted(path.name for path in polled.sandbox.outbound.iterdir())
    result = run_mlc("--config", config, "files", "process", names[3], "--json", *ONE)
    assert json_of(result) == {"baseline": len(names) - 1, "to_process": 1}


def test_a_file_that_waits_is_listed_with_its_reason(private: Path) -> None:
    """To the sender, seen and waiting is another answer than never seen."""
    config = fresh(private)
    run_mlc("--config", config, "files", "process", "--all", *ONE)
    assert run_mlc("--config", config, "run", "inbound", "--no-wait").exit_code == 0
    waiting = json_of(run_mlc("--config", config, "files", "list", "--json"))["waiting"]
    assert waiting
    assert all(file["note"] for file in waiting)

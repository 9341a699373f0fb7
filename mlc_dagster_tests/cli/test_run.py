"""``mlc run inbound``: what one poll prints, and what its exit code says."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from mlc_dagster.sandbox.samples import POSTED
from mlc_dagster_tests.cli.conftest import Polled, json_of, run_mlc


def test_first_contact_stops_with_code_1_and_names_both_ways_on(polled: Polled) -> None:
    """Ten thousand old files are not new invoices: a person decides, and is told how."""
    assert polled.first_contact.exit_code == 1
    assert "first contact found 2 files" in polled.first_contact.stdout
    assert "mlc files baseline" in polled.first_contact.stdout
    assert "mlc files process" in polled.first_contact.stdout


def test_a_poll_says_what_it_posted_per_currency(polled: Polled) -> None:
    """The total of a poll is compared with Stampli's by hand; it must be the files' total to the cent."""
    said = json_of(polled.poll)
    booked = [invoice for sample in polled.files.first for invoice, fate in sample.fates if fate == POSTED]
    totals: dict[str, Decimal] = {}
    for invoice in booked:
        totals[invoice.currency] = totals.get(invoice.currency, Decimal(0)) + invoice.total
    assert said["posted"] == len(booked)
    assert {currency: Decimal(total) for currency, total in said["totals"].items()} == totals
    assert said["totals"]["JPY"] == "140800"
    assert said["totals"]["KWD"] == "1250.500"


def test_a_poll_that_parks_something_ends_with_code_1(polled: Polled) -> None:
    """0 would leave nine invoices to be found by accident."""
    said = json_of(polled.poll)
    assert polled.poll.exit_code == said["exit_code"] == 1
    assert said["newly_parked"] == 9
    assert said["rows_set_aside"] == 2
    assert said["files_refused"] == 1
    assert said["newly_unknown"] == 0


def test_a_poll_tells_every_file(polled: Polled) -> None:
    """A file that is missing in the answer is a file nobody knows the fate of."""
    said = json_of(polled.poll)
    assert len(said["files"]) == len(polled.files.first) + 1
    assert sum(file["posted"] for file in said["files"]) == said["posted"]
    assert sum(file["buckets"].get("duplicate", 0) for file in said["files"]) == 1


def test_dagster_s_own_lines_stay_off_the_terminal(polled: Polled) -> None:
    """A cron mail of two thousand engine events is a mail nobody reads."""
    assert "STEP_START" not in polled.poll.output
    assert polled.poll.stderr == ""


def test_a_second_poll_has_nothing_new(private: Path) -> None:
    """The same folder again: nothing is read, nothing is posted, the exit code is 0 although old things are parked."""
    result = run_mlc("--config", private, "run", "inbound", "--no-wait")
    assert result.exit_code == 0
    assert result.stdout == "Nothing new.\n"


def test_a_window_materialised_again_posts_nothing(private: Path, polled: Polled) -> None:
    """The reconciliation tool looks and compares; Fusion's own books say that no POST arrived."""
    [window] = {result["window"] for result in json_of(polled.poll)["windows"]}
    before = polled.sandbox.books()["posts"]
    result = run_mlc("--config", private, "run", "inbound", "--window", window)
    assert polled.sandbox.books()["posts"] == before
    assert result.exit_code == 0
    assert f"Window {window} UTC, read again: nothing to change, nothing posted" in result.stdout


@pytest.mark.parametrize("window", ["yesterday", "2026-01-01-00:07"])
def test_a_window_that_is_none_is_refused(private: Path, window: str) -> None:
    """A typing error must not look like a window without invoices."""
    result = run_mlc("--config", private, "run", "inbound", "--window", window)
    assert result.exit_code == 2
    assert window in result.stderr


def test_the_instance_lies_in_the_data_folder_and_reports_to_nobody(polled: Polled) -> None:
    """Without DAGSTER_HOME Dagster would use a temporary folder, and telemetry would be on."""
    config = polled.config.parent / "data" / "dagster" / "dagster.yaml"
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["telemetry"] == {"enabled": False}


def test_dagster_home_is_respected(private: Path, tmp_path: Path) -> None:
    """Where the daemon runs, its UI must show the runs of the command too."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    result = run_mlc("--config", private, "run", "inbound", "--no-wait", env={"DAGSTER_HOME": str(home)})
    assert result.exit_code == 0
    assert (home / "history").is_dir()

"""Exit codes: what a scheduler or a shell script relies on."""

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from mlc_dagster.cli.errors import CommandError, Exit, explain
from mlc_dagster.exports.assembling import PartnerMissing
from mlc_dagster.exports.calendar import CalendarError
from mlc_dagster.exports.cron import CronError
from mlc_dagster.exports.extract_file import ExtractDamaged
from mlc_dagster.exports.faults import DeliveryStopped, LeaseLost, OutcomeUnknown, RenameRefused, ResendRefused
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.fusion.errors import RemoteDown
from mlc_dagster.ledger.approval import NotApproved
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.control_numbers import NumbersMoved
from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.ledger.feeds import FeedLost
from mlc_dagster.ledger.versions import SequenceMoved
from mlc_dagster.settings import SettingsError
from mlc_dagster.sftp.errors import HostKeyRejected
from mlc_dagster.stampli.intake.feed import FirstContact
from mlc_dagster_tests.cli.conftest import Polled, run_mlc


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("no"), Exit.CONFIGURATION),
        (SettingsError("mlc.yaml", ["poll: is required and absent"]), Exit.CONFIGURATION),
        (LedgerError("cannot be opened"), Exit.CONFIGURATION),
        (RemoteDown("HTTP 503"), Exit.REMOTE_DOWN),
        (HostKeyRejected("host", "SHA256:new", ["SHA256:old"]), Exit.REMOTE_DOWN),
        (FirstContact("/outbound", 3), Exit.ATTENTION),
        (CalendarError("close.yaml", ["periods: is required and absent"]), Exit.CONFIGURATION),
        (CronError("'x' is not a cron expression of five fields"), Exit.CONFIGURATION),
        (LayoutError("layout.yaml", ["delimiter: is required"]), Exit.CONFIGURATION),
        (PartnerMissing("orders", "x12_orders_850"), Exit.CONFIGURATION),
        (ResendRefused(7, "A.csv", "it was abandoned"), Exit.CONFIGURATION),
        (NotApproved("two people"), Exit.CONFIGURATION),
        (ArchiveDamaged("ab" * 32, "is gone"), Exit.CONFIGURATION),
        (ExtractDamaged(Path("extract"), 3, "is cut off"), Exit.CONFIGURATION),
        (OSError(errno.ENOSPC, "No space left on device", "/data"), Exit.CONFIGURATION),
        (OSError(errno.EROFS, "Read-only file system", "/data"), Exit.CONFIGURATION),
        (FeedLost("orders"), Exit.ATTENTION),
        (LeaseLost("A.csv"), Exit.ATTENTION),
        (SequenceMoved("orders", 3, 4), Exit.ATTENTION),
        (NumbersMoved("partner", "group", [1], [2]), Exit.ATTENTION),
        (OperationalError("select secret", {}, Exception("server closed the connection")), Exit.REMOTE_DOWN),
        (DeliveryStopped("f", "A.csv", RenameRefused("/in/x", "no"), transient=False), Exit.REMOTE_DOWN),
        (DeliveryStopped("f", "A.csv", OutcomeUnknown("half"), transient=False), Exit.REMOTE_DOWN),
    ],
)
def test_foreseen_errors_have_their_exit_code(error: Exception, code: Exit) -> None:
    """2 wakes the person who configures, 3 the one who knows the remote side; mixing them up costs a night."""
    explained = explain(error)
    assert explained is not None
    assert explained[0] is code


def test_a_fault_of_the_database_shows_no_statement() -> None:
    """SQLAlchemy's own text has the statement with its values: amounts and names in a log."""
    explained = explain(OperationalError("select secret", {"amount": "9999.99"}, Exception("server closed it")))
    assert explained is not None
    assert explained[1] == ["the ledger's database does not do what it is asked: server closed it"]


def test_a_calendar_is_one_line_per_fault() -> None:
    """A person who fixes one fault per run gives up."""
    explained = explain(CalendarError("close.yaml", ["line 1: time_zon: unknown key", "line 2: periods: is absent"]))
    assert explained is not None
    assert [line.partition(": line")[0] for line in explained[1]] == ["calendar close.yaml"] * 2


def test_a_fault_of_the_product_is_not_explained_away() -> None:
    """An unforeseen error keeps its trace; a friendly sentence would hide the fault."""
    assert explain(KeyError("window")) is None


def test_a_fault_of_the_product_has_its_own_exit_code() -> None:
    """Python's own code for a traceback is 1, which here means that an invoice needs a person."""
    script = (
        "import mlc_dagster.cli as c, mlc_dagster.cli.config as f, sys\n"
        "f.starter = lambda: 1 / 0\n"
        "sys.argv = ['mlc', 'init', '/nonexistent/never']\n"
        "f.Path.open = lambda *a, **k: 1 / 0\n"
        "c.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 70
    assert "ZeroDivisionError" in result.stderr


def test_a_server_that_is_down_is_code_3_and_one_line(private: Path, polled: Polled) -> None:
    """A cron job tells "try again later" from "somebody must change something" by this number alone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    text = private.read_text(encoding="utf-8").replace(
        f"port: {polled.sandbox.addresses['sftp_port']}", f"port: {port}"
    )
    private.write_text(text, encoding="utf-8")
    result = run_mlc("--config", private, "run", "inbound")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"mlc: 127.0.0.1:{port}: connection failed")


def test_help_speaks_of_both_flows() -> None:
    """Whoever looks for the way out of Fusion must not think that there is only the way in."""
    text = " ".join(run_mlc("--help").output.split())
    assert "into Oracle Fusion" in text
    assert "to partners as files" in text


def test_help_documents_the_exit_codes() -> None:
    """Nobody reads the source to write a cron job."""
    text = " ".join(run_mlc("--help").output.split())
    assert "0 all good · 1 something needs a person" in text
    assert "3 a remote side is down" in text

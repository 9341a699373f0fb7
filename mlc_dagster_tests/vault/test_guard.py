"""What a guarded process logs, raises or prints as an error shows no resolved secret, whoever made the line."""

import base64
import io
import logging
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

from mlc_dagster.vault import MASK, SecretResolver, guard_process, mask, scrub

SECRET = "hunter2-canary"


@pytest.fixture
def guarded(tmp_path: Path) -> SecretResolver:
    resolver = SecretResolver({"PASSWORD": SECRET}, tmp_path)
    guard_process(resolver)
    resolver.resolve("env:PASSWORD")
    return resolver


def test_any_logger_and_handler_is_covered(guarded: SecretResolver) -> None:
    """Dagster makes loggers and handlers of its own for each run, long after the guard was set."""
    output = io.StringIO()
    logger = logging.Logger("made-by-somebody-else")  # noqa: LOG001  Not in the tree of loggers.
    logger.addHandler(logging.StreamHandler(output))
    logger.warning("login with %s", SECRET)
    logger.warning("header %s", base64.b64encode(f"mlc:{SECRET}".encode()).decode())
    assert output.getvalue().splitlines()[0] == f"login with {MASK}"
    assert "hunter2" not in output.getvalue()
    assert base64.b64encode(SECRET.encode()).decode()[4:16] not in output.getvalue()


def test_handler_that_formats_the_exception_itself_is_covered(guarded: SecretResolver) -> None:
    """Dagster's handler of ticks writes ``exc_info`` on its own; the standard formatter never sees it."""
    records: list[logging.LogRecord] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.Logger("ticks")  # noqa: LOG001
    logger.addHandler(Keeps())
    try:
        message = f"cannot parse sftp://mlc:{SECRET}@host"
        raise ValueError(message)
    except ValueError:
        logger.exception("failed")
    assert records[0].exc_info is None
    assert f"ValueError: cannot parse sftp://mlc:{MASK}@host" in records[0].getMessage()


def test_records_without_a_secret_are_not_touched(guarded: SecretResolver) -> None:
    """Other libraries' formatters read the arguments of their own records."""
    record = logging.getLogRecordFactory()("uvicorn", logging.INFO, "", 0, "%s %d", ("GET", 200), None)
    assert (record.msg, record.args) == ("%s %d", ("GET", 200))


def test_line_whose_arguments_do_not_fit_is_masked(guarded: SecretResolver) -> None:
    """The standard library prints such arguments as they are, to say that they do not fit."""
    record = logging.getLogRecordFactory()("x", logging.INFO, "", 0, "only one %s", ("a", SECRET), None)
    assert "hunter2" not in record.getMessage()


def test_exception_with_its_causes_and_parts_is_masked(guarded: SecretResolver) -> None:
    """Dagster stores the text of an error and of everything it came from."""

    class Refused(Exception):
        def __init__(self, url: str) -> None:
            self.url = url
            super().__init__(f"refused: {url}")

    try:
        try:
            raise Refused(f"https://mlc:{SECRET}@host")
        except Refused as cause:
            note = f"with {SECRET}"
            cause.add_note(note)
            message = "two failed"
            raise ExceptionGroup(message, [OSError(5, f"no {SECRET}"), KeyError(SECRET)]) from cause
    except ExceptionGroup as error:
        scrub(error)
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error.__cause__))
    assert "hunter2" not in shown
    assert f"refused: https://mlc:{MASK}@host" in shown


def test_exception_without_a_secret_stays_as_it_is(guarded: SecretResolver) -> None:
    """Fields that callers look at keep their types."""
    error = OSError(5, "Input/output error", "/tmp/x")
    arguments = error.args
    assert scrub(error) is error
    assert error.args is arguments


def test_text_for_people_is_masked(guarded: SecretResolver) -> None:
    """The command prints errors of every kind as a line."""
    assert mask(f"cannot use {SECRET}") == f"cannot use {MASK}"


def test_resolver_that_is_gone_masks_no_more(tmp_path: Path) -> None:
    """A process of many configurations must not keep the secrets of those that it has let go."""
    resolver = SecretResolver({"PASSWORD": "short-lived-secret"}, tmp_path)
    guard_process(resolver)
    resolver.resolve("env:PASSWORD")
    assert mask("short-lived-secret") == MASK
    # The resolver and its provider of Vault know each other.
    del resolver
    import gc

    gc.collect()
    assert mask("short-lived-secret") == "short-lived-secret"


def test_error_that_ends_a_process_or_a_thread_is_masked(tmp_path: Path) -> None:
    """What Python prints at the end goes into the run's compute log."""
    program = f"""
import threading
from pathlib import Path
from mlc_dagster.vault import SecretResolver, guard_process
resolver = SecretResolver({{"P": "{SECRET}"}}, Path("."))
guard_process(resolver)
value = resolver.resolve("env:P")
def fail():
    raise ValueError("thread with " + value)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("process with " + value)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"ValueError: thread with {MASK}" in done.stderr
    assert f"ValueError: process with {MASK}" in done.stderr
    assert SECRET not in done.stderr


def test_many_threads_resolve_and_log_at_once(guarded: SecretResolver) -> None:
    """Alerts are sent from threads while a run goes on."""
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(200):
                guarded.register([f"value-{threading.get_ident()}-{_}"])
                logging.getLogRecordFactory()("x", logging.INFO, "", 0, "%s", (SECRET,), None)
        except RuntimeError as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []

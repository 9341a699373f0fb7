"""Resolved secrets do not reach a log line, whichever way they get into the record."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_dagster.vault import MASK, RedactingFilter, SecretResolver, redact

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5v\nabc\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture
def resolver() -> SecretResolver:
    resolver = SecretResolver({"PASSWORD": "hunter2", "KEY": KEY}, Path())
    resolver.resolve("env:PASSWORD")
    resolver.resolve("env:KEY")
    return resolver


def logged(resolver: SecretResolver, write: Callable[[logging.Logger], None]) -> str:
    """What a handler with the filter writes for the records that ``write`` makes."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.addFilter(RedactingFilter(resolver))
    logger = logging.Logger("redaction")  # noqa: LOG001  Not in the tree of loggers, so no other handler sees it.
    logger.addHandler(handler)
    write(logger)
    return output.getvalue()


def test_message_and_arguments_are_masked(resolver: SecretResolver) -> None:
    """Libraries log through arguments, which are merged only when the line is written."""
    line = logged(resolver, lambda logger: logger.warning("login as %s with %s", "mlc", "hunter2"))
    assert line == f"login as mlc with {MASK}\n"


def test_traceback_is_masked(resolver: SecretResolver) -> None:
    """The text of a foreign exception often quotes the address or header that it choked on."""

    def fail(logger: logging.Logger) -> None:
        try:
            message = "cannot parse sftp://mlc:hunter2@host"
            raise ValueError(message)
        except ValueError:
            logger.exception("failed")

    text = logged(resolver, fail)
    assert "hunter2" not in text
    assert f"ValueError: cannot parse sftp://mlc:{MASK}@host" in text


def test_one_line_of_a_key_is_masked(resolver: SecretResolver) -> None:
    """Parsers quote the line of a key that they stumbled over, never the whole key."""
    line = logged(resolver, lambda logger: logger.error("bad line b3BlbnNzaC1rZXktdjEAAAAABG5v in key"))
    assert line == f"bad line {MASK} in key\n"


def test_ordinary_lines_pass_unchanged(resolver: SecretResolver) -> None:
    """A filter that ate log lines would hide the next incident."""
    assert logged(resolver, lambda logger: logger.warning("taken %d files", 3)) == "taken 3 files\n"


def test_secret_inside_another_leaves_no_rest() -> None:
    """Masking the shorter one first would leave the longer one's tail readable."""
    assert redact("token abcd-efgh-tail", {"abcd", "abcd-efgh-tail"}) == f"token {MASK}"


def test_very_short_values_are_not_masked() -> None:
    """Masking "22" would turn every date and port of the log into stars, and tell what the secret is."""
    assert redact("port 22, 2026-02-22", {"22"}) == "port 22, 2026-02-22"

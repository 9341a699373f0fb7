"""Resolved secrets do not reach a log line, whichever way they get into the record."""

import base64
import html
import io
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode
from xml.sax.saxutils import escape as xml_escape

import hypothesis
import hypothesis.strategies as st
import pytest

from mlc_dagster.vault import MASK, SecretResolver, guard_process, redact

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5v\nabc\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture
def resolver() -> SecretResolver:
    resolver = SecretResolver({"PASSWORD": "hunter2", "KEY": KEY}, Path())
    resolver.resolve("env:PASSWORD")
    resolver.resolve("env:KEY")
    return resolver


def logged(resolver: SecretResolver, write: Callable[[logging.Logger], None]) -> str:
    """What a handler writes, in a process that is guarded, of the records that ``write`` makes."""
    guard_process(resolver)
    output = io.StringIO()
    handler = logging.StreamHandler(output)
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


@pytest.mark.parametrize("secret", ["hunter2 /+&ü", "p&ss\"w<rd>'é€1", "päss:wörd@host", "a%20b=c?d", "x'y\"z\\n"])
@pytest.mark.parametrize(
    "written",
    [
        str,
        quote,
        partial(quote, safe=""),
        quote_plus,
        lambda secret: quote_plus(secret).replace("%2F", "%2f").replace("%2B", "%2b").replace("%C3%BC", "%c3%bc"),
        json.dumps,
        repr,
        lambda secret: urlencode({"client_secret": secret}),
        lambda secret: repr(secret.encode()),
        lambda secret: json.dumps(json.dumps(secret)),
        lambda secret: json.dumps(json.dumps(secret, ensure_ascii=False), ensure_ascii=False),
        lambda secret: quote(quote(secret)),
        lambda secret: quote_plus(quote_plus(secret)),
        html.escape,
        partial(html.escape, quote=False),
        xml_escape,
        lambda secret: html.escape(secret).encode("ascii", "xmlcharrefreplace").decode(),
    ],
)
def test_every_written_form_is_masked(secret: str, written: Callable[[str], str]) -> None:
    """A password travels in forms, addresses, JSON bodies and Python literals, and is quoted from there."""
    shown = redact(f"<{written(secret)}>", {secret})
    assert MASK in shown
    assert not any(part in shown for part in (secret, quote(secret), quote_plus(secret)))


@hypothesis.given(
    # No character twice, and none that its neighbours have: what is left must not look like a part of it by chance.
    secret=st.lists(st.characters(min_codepoint=0xC0, max_codepoint=0x2FF), min_size=4, unique=True).map("".join),
    before=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9),
    after=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9),
    urlsafe=st.booleans(),
)
def test_base64_around_a_secret_is_masked(secret: str, before: str, after: str, urlsafe: bool) -> None:
    """``Basic`` holds user:password: the password may begin at any of three places in the encoded text."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    encoded = encode(f"{before}{secret}{after}".encode()).decode("ascii")
    shown = redact(f"Authorization: Basic {encoded}", {secret})
    assert MASK in shown
    rest = shown.removeprefix("Authorization: Basic ").partition(MASK)
    start = len(before.encode())
    # Nothing of what is left decodes to any byte of the secret.
    assert len(rest[0]) * 6 <= start * 8
    assert len(rest[2].rstrip("=")) * 6 <= len(after.encode()) * 8 + 5


def test_user_beside_the_password_stays_readable() -> None:
    """Which account was refused is what a person needs to know."""
    encoded = base64.b64encode(b"mlc_user:hunter2-long").decode()
    shown = redact(f"Basic {encoded}", {"hunter2-long"})
    assert base64.b64decode(shown.removeprefix("Basic ").partition(MASK)[0][:8]) == b"mlc_us"


def test_password_inside_a_secret_address_is_masked_alone() -> None:
    """Drivers and mail servers quote the password of an address, decoded."""
    address = "postgresql+psycopg://mlc:hunt%40er2@db/ledger"
    assert redact("bad password hunt@er2", {address}) == f"bad password {MASK}"


def test_key_in_base64_and_escaped_is_masked() -> None:
    """Secrets of Kubernetes are base64 of the whole file; JSON escapes its line ends."""
    for shown in (base64.b64encode(KEY.encode()).decode(), json.dumps({"key": KEY}), repr(KEY)):
        assert "b3BlbnNzaC1rZXktdjEAAAAABG5v" not in redact(shown, {KEY})
        assert MASK in redact(shown, {KEY})


@pytest.mark.parametrize("cut", [8, 12, 20, 30])
def test_what_a_cut_has_left_of_a_secret_is_masked(cut: int) -> None:
    """Gateways quote the first eighty characters of a header, or the last of a body."""
    secret = "3f1d0c9be27a4865_+/aa90c2d7e81b4f36"
    header = base64.b64encode(f"stampli.integration:{secret}".encode()).decode()
    within = len(base64.b64encode(b"stampli.integration:").decode().rstrip("="))
    for shown, piece in (
        (f"code {secret[:cut]}", secret[:cut]),
        (f"…{secret[-cut:]} end", secret[-cut:]),
        (f"Basic {header[: within + cut]}", header[within : within + cut]),
    ):
        masked = redact(shown, [secret])
        assert MASK in masked
        assert piece[2:] not in masked


def test_addresses_and_keys_are_not_known_by_their_beginnings() -> None:
    """Every address begins like a ledger's, every key like another."""
    secrets = [
        "postgresql+psycopg://mlc:long-enough-password@db.example/ledger",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----",
    ]
    text = "write postgresql+psycopg://user@host/database, or a file with -----BEGIN PRIVATE KEY-----"
    assert redact(text, secrets) == text


def test_a_word_that_a_secret_begins_or_ends_with_stays_readable() -> None:
    """``file:sftp_password does not exist`` must be told, also to whom has the password "password-of-somebody"."""
    secrets = ["password-of-somebody-1", "long-enough-password"]
    assert redact("file:sftp_password does not exist", secrets) == "file:sftp_password does not exist"
    assert "of-some" not in redact("it was password-of-somebo", secrets)

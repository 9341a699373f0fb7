"""Keeps resolved secrets out of log lines, tracebacks and errors, in every form in which they travel.

What belongs here: masking known values in text, in log records and in exceptions, in this whole process where it is
asked for. What does not: finding the values; a ``SecretResolver`` knows them.
"""

import base64
import html
import json
import logging
import re
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from types import TracebackType
from typing import Any, Final, Protocol, cast
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK: Final = "**********"

SHORTEST_LINE: Final = 16
"""Characters. Shorter lines of a key or certificate occur elsewhere by chance."""

SHORTEST_MASKED: Final = 4
"""Characters. A shorter value would mask every "a" or "22" of a log and so give itself away."""

SHORTEST_PIECE: Final = 8
"""Characters at the beginning or the end of a value that mask the piece of it that they belong to."""

_BASE64 = "[A-Za-z0-9+/_-]"


class KnowsSecrets(Protocol):
    """Whoever resolved secrets in this process."""

    @property
    def values(self) -> frozenset[str]:
        """Every value handed out so far."""
        ...


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every one of ``secrets`` masked: as it is, URL-encoded, escaped (twice too), and in base64.

    Of secrets with several lines (keys) each long line is masked too, of addresses the password in them. In base64 the
    value may stand anywhere inside a longer text, such as ``Basic`` and user:password. Pieces of a value that was cut
    off, at either end, are masked from eight characters on, or sixteen where these eight may be a word.
    """
    plain, encoded, cut = _all_forms(frozenset(secrets))
    for form in plain:
        if form in text:
            text = text.replace(form, MASK)
    for form, pattern in encoded:
        if form in text:
            text = re.sub(pattern, MASK, text)
    for form in cut:
        if form[:SHORTEST_PIECE] in text:
            text = _without_beginnings(text, form)
        if form[-SHORTEST_PIECE:] in text:
            text = _without_beginnings(text[::-1], form[::-1])[::-1]
    return text


def _without_beginnings(text: str, form: str) -> str:
    """``text`` without what a server that quotes so many characters and no more has left of ``form``."""
    start, piece = 0, form[:SHORTEST_PIECE]
    if piece.isalpha() and piece.islower():
        # It may be a word, and a text that says "password" says nothing of one that begins so.
        piece = form[: SHORTEST_PIECE * 2]
    while (start := text.find(piece, start)) >= 0:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(text[start : start + len(form)], form, strict=False))
        text = text[:start] + MASK + text[start + sum(1 for _ in alike) :]
        start += len(MASK)
    return text


@lru_cache(maxsize=64)
def _all_forms(secrets: frozenset[str]) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """What to look for: plain text, base64 with a pattern for characters shared with neighbours, and pieces of both."""
    parts = {str(part) for secret in secrets for part in _parts(str(secret)) if len(part) >= SHORTEST_MASKED}
    plain = {form for part in parts for form in _written(part)}
    encoded = {form for part in parts for form in _in_base64(part)}
    # Addresses and keys begin and end like others of their kind; of an address the password is a part of its own.
    distinctive = {part for part in parts if "://" not in part and "-----" not in part}
    cut = {form for part in distinctive for form in (*_written(part), *(form for form, _ in _in_base64(part)))}
    # Longest first: a secret that contains another must not leave its rest behind.
    return (
        sorted(plain, key=len, reverse=True),
        sorted(encoded, key=lambda form: len(form[0]), reverse=True),
        sorted((form for form in cut if len(form) > SHORTEST_PIECE), key=len, reverse=True),
    )


def _parts(secret: str) -> Iterator[str]:
    yield secret
    lines = secret.splitlines()
    if len(lines) > 1:
        # The -----BEGIN and -----END lines are no secret.
        yield from (line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("-----"))
    if "://" in secret:
        try:
            password = urlsplit(secret.strip()).password
        except ValueError:
            return
        yield from {password, unquote(password)} if password else ()


def _written(part: str) -> set[str]:
    """``part`` as it stands in text, in an address, in JSON, in HTML and in a Python literal; the first two twice too.

    JSON is put into JSON as text, addresses into addresses: what is escaped once is then escaped again.
    """
    addressed = _in_address(part)
    addressed |= {again for form in addressed for again in _in_address(form)}
    lower = {re.sub(r"%(25)*[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in addressed}
    escaped = _in_json(part)
    escaped |= {again for form in escaped for again in _in_json(form)}
    literal = {repr(part)[1:-1], repr(part.encode())[2:-1]}
    return {part} | addressed | lower | escaped | literal | _in_html(part)


def _in_address(text: str) -> set[str]:
    return {quote(text), quote(text, safe=""), quote_plus(text)}


def _in_json(text: str) -> set[str]:
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def _in_html(text: str) -> set[str]:
    """HTML and XML differ in how they write quotes, and may write all but ASCII as numbers."""
    forms = {html.escape(text, quote=False), html.escape(text)}
    forms |= {form.replace("&#x27;", other) for form in forms for other in ("&#39;", "&apos;")}
    forms |= {form.replace("&quot;", "&#34;") for form in forms}
    return forms | {form.encode("ascii", "xmlcharrefreplace").decode("ascii") for form in forms}


def _in_base64(part: str) -> set[tuple[str, str]]:
    """The characters of a longer base64 text that ``part`` alone decides, for the three places where it may begin."""
    forms: set[tuple[str, str]] = set()
    content = part.encode()
    for before in range(3):
        bits = (before + len(content)) * 8
        # Of the first and the last character some bits belong to the neighbours.
        first, last = -(-before * 8 // 6), bits // 6
        neighbours = (_BASE64 if before else "", f"{_BASE64}?" if bits % 6 else "")
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(b"\0" * before + content).decode("ascii")[first:last]
            if len(form) >= SHORTEST_MASKED:
                forms.add((form, f"{neighbours[0]}{re.escape(form)}{neighbours[1]}"))
    return forms


def _mask_record(record: logging.LogRecord, secrets: frozenset[str]) -> None:
    """Mask message, traceback and stack of a record in place."""
    if not secrets:
        return
    try:
        # Formatting is what merges arguments into the message, so it happens here, before the handler's formatter.
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        # logging would print the arguments as they are to say that they do not fit.
        message, record.args = redact(f"{record.msg} {record.args}", secrets), None
        record.msg = message
    masked = redact(message, secrets)
    if masked != message:
        record.msg, record.args = masked, None
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        if (masked := redact(trace, secrets)) != trace:
            # Into the message: there are handlers that format the exception themselves.
            record.msg, record.args = f"{record.getMessage()}\n{masked}", None
            record.exc_info = record.exc_text = None
    if record.exc_text:
        record.exc_text = redact(record.exc_text, secrets)
    if record.stack_info:
        record.stack_info = redact(record.stack_info, secrets)


_known: "weakref.WeakSet[KnowsSecrets]" = weakref.WeakSet()
_installing = threading.Lock()
_installed = False


def guard_process(known: KnowsSecrets) -> None:
    """From now on mask what ``known`` resolves in everything that this process logs or prints as an unforeseen error.

    Done where records are made, and not on handlers: Dagster sets up loggers and handlers of its own for each run, tick
    and compute log.
    """
    global _installed  # noqa: PLW0603 - logging and the hooks for errors are global as well
    with _installing:
        _known.add(known)
        if _installed:
            return
        _installed = True
    make_record = logging.getLogRecordFactory()
    print_error, print_thread_error = sys.excepthook, threading.excepthook

    def masked_record(*args: Any, **named: Any) -> logging.LogRecord:
        record = make_record(*args, **named)
        _mask_record(record, _values())
        return record

    def masked_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        print_error(kind, scrub(error), traceback)

    def masked_thread_error(fault: threading.ExceptHookArgs) -> None:
        if fault.exc_value is not None:
            scrub(fault.exc_value)
        print_thread_error(fault)

    logging.setLogRecordFactory(masked_record)
    sys.excepthook, threading.excepthook = masked_error, masked_thread_error


def mask(text: str) -> str:
    """``text`` with everything masked that was resolved in this process, where it is guarded."""
    return redact(text, _values())


def scrub(error: BaseException) -> BaseException:
    """The same error, with everything masked that was resolved in this process: in it, its causes and its parts."""
    secrets = _values()
    waiting, seen = [error], set[int]()
    while secrets and waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        _scrub_one(current, secrets)
        waiting += [linked for linked in (current.__cause__, current.__context__) if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", current).exceptions
    return error


def _scrub_one(error: BaseException, secrets: frozenset[str]) -> None:
    if redact(f"{error!r} {error}", secrets) != f"{error!r} {error}":
        error.args = tuple(_scrubbed(value, secrets) for value in error.args)
        # An OSError is shown by fields that are no part of its dictionary.
        for name in (*vars(error), *(("strerror", "filename", "filename2") if isinstance(error, OSError) else ())):
            if isinstance(value := getattr(error, name), str):
                setattr(error, name, redact(value, secrets))
    if notes := getattr(error, "__notes__", None):
        notes[:] = [redact(note, secrets) for note in notes]


def _scrubbed(value: object, secrets: frozenset[str]) -> object:
    if isinstance(value, str):
        return redact(value, secrets)
    # What holds a secret and is no text becomes text.
    masked = redact(shown := repr(value), secrets)
    return value if masked == shown else masked


def _values() -> frozenset[str]:
    return frozenset[str]().union(*(known.values for known in list(_known)))

"""Reads what an error answer says and what its status proves.

Error bodies come structured, as plain text, as HTML of some gateway, or empty, and their texts are translated; the
product code is what a rule can be built on. Sources: Oracle's status code page and the shapes seen in the field.
"""

import datetime as dt
import html
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import NamedTuple, cast

import msgspec

from mlc_dagster.fusion.errors import (
    AccessRefused,
    BusinessRefusal,
    ErrorDetail,
    FusionError,
    NotAuthorised,
    OutcomeUnknown,
    Redirected,
    Refused,
)
from mlc_dagster.vault import mask
from mlc_dagster.visible import visible

MAX_READ = 16 * 1024
"""Bytes of an answer without structure that are looked at."""
MAX_TEXT = 1000
_MAX_CODE = 100
MAX_DETAILS = 50
NOTHING_SAID = "the answer has no text"

ACCESS_STATUSES = frozenset({403, 404, 405, 406, 415})
BUSY_STATUSES = frozenset({429, 503})

_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"\(([A-Z][A-Z0-9_]*-\d{3,})\)|^([A-Z][A-Z0-9_]*-\d{3,})\s*:")


class Answer(NamedTuple):
    """A complete HTTP answer; ``content`` is decompressed, ``headers`` are found under their names in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.content)} bytes)"


def read_details(answer: Answer) -> tuple[ErrorDetail, ...]:
    """What an error answer says; always at least one entry, with texts of at most MAX_TEXT characters."""
    try:
        document: object = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _from_text(answer)
    else:
        found = _from_document(document)
    return tuple(islice(found, MAX_DETAILS)) or (ErrorDetail(None, None, NOTHING_SAID),)


def write_failure(answer: Answer, *, where: str, now: dt.datetime) -> FusionError | None:
    """What the complete answer to a write proves; None for 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status in BUSY_STATUSES:
        return Refused(status, retry_after(answer, now), where=where)
    if status in (408, 409) or status >= 500:
        # 409 too: Fusion answers it for a change made by another request, which may be an earlier copy of this one.
        return OutcomeUnknown(f"HTTP {status}: {read_details(answer)[0].text}", status=status, where=where)
    return refusal(answer, where=where)


def refusal(answer: Answer, *, where: str) -> FusionError:
    """The error for a redirect or a 4xx that no rule above took."""
    if answer.status == 401:
        return NotAuthorised(f"HTTP 401: {read_details(answer)[0].text}", where=where, status=401)
    if 300 <= answer.status < 400:
        return Redirected(answer.status, answer.headers.get("location", ""), where=where)
    if answer.status in ACCESS_STATUSES:
        return AccessRefused(answer.status, read_details(answer), where=where)
    return BusinessRefusal(answer.status, read_details(answer), where=where)


def retry_after(answer: Answer, now: dt.datetime) -> float | None:
    """Seconds of a Retry-After header, given in seconds or as an HTTP date; None when absent or unreadable.

    A date is compared with the Date header of the same answer, so that a wrong clock on our side does not matter.
    """
    value = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    sent = _http_date(answer.headers.get("date", "")) or now
    return max(0.0, (until - sent).total_seconds())


def _http_date(value: str) -> dt.datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        # Whatever the header is: dates that are none, years and zones beyond any calendar.
        return None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC)


def _from_document(document: object, levels: int = 3) -> Iterator[ErrorDetail]:
    if isinstance(document, list):
        for entry in cast("list[object]", document) if levels else ():
            yield from _from_document(entry, levels - 1)
    elif isinstance(document, dict):
        yield from _from_object(cast("dict[str, object]", document))
    elif isinstance(document, str) and document.strip():
        yield _detail(document, None, None)


def _from_object(document: dict[str, object]) -> Iterator[ErrorDetail]:
    entries = document.get("o:errorDetails")
    own_code = _first(document, "o:errorCode", "code")
    if isinstance(entries, list) and entries:
        listed = cast("list[object]", entries)
        for entry in listed:
            if isinstance(entry, dict):
                fields = cast("dict[str, object]", entry)
                text = _first(fields, "detail", "message", "title") or _first(document, "detail", "title")
                code = _first(fields, "o:errorCode", "code") or (own_code if len(listed) == 1 else None)
                yield _detail(text, code, _first(fields, "o:errorPath", "path"))
            elif entry:
                yield _detail(entry if isinstance(entry, str) else None, own_code, None)
        return
    text = _first(document, "detail", "error_description", "message", "title", "error")
    if text is not None or own_code is not None:
        yield _detail(text, own_code, _first(document, "o:errorPath"))


def _first(fields: dict[str, object], *names: str) -> str | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _from_text(answer: Answer) -> Iterator[ErrorDetail]:
    # The rest of a page of megabytes says nothing more, and looking for its markup would take minutes.
    text = answer.content[:MAX_READ].decode("utf-8", "replace")
    if "html" in answer.headers.get("content-type", "").lower() or text.lstrip()[:1] == "<":
        text = html.unescape(_MARKUP.sub(" ", text))
        if text.strip():
            yield _detail(text, None, None)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if sum(1 for line in lines if _CODE.search(line.strip())) > 1:
        # Several refusals, one a line; a single refusal may well be wrapped over several lines.
        yield from (_detail(line, None, None) for line in lines)
    elif lines:
        yield _detail(" ".join(lines), None, None)


def _detail(text: str | None, code: str | None, path: str | None) -> ErrorDetail:
    # It goes to people, into logs and into databases that keep no NUL.
    # Masked once more: decoded from JSON and markup, a repeated secret reads otherwise than in the bytes. Before a cut.
    text = visible(" ".join(mask((text or NOTHING_SAID)[:MAX_READ]).split()))
    if code is None:
        found = list(_CODE.finditer(text))
        code = (found[-1][1] or found[-1][2]) if found else None
    elif code.isdigit():
        code = f"JBO-{code}"
    named, at = (value and mask(value) for value in (code, path))
    return ErrorDetail(named and _cut(named, _MAX_CODE), at and _cut(at, MAX_TEXT), _cut(text, MAX_TEXT))


def _cut(text: str, length: int) -> str:
    shown = visible(text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"

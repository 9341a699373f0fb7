"""Names of files for partners, from a template.

Placeholders: ``{feed}``, ``{sequence}`` (also ``{sequence:06d}``), ``{utc}``, ``{window_start}`` and ``{window_end}``
(also with a time format, as ``{utc:%Y%m%dT%H%M%S}``), ``{millis}``, ``{hash}``, ``{extension}`` (with its dot).
"""

import datetime as dt
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlc_dagster.expected import Expected, FailureKind

LONGEST = 64
"""Characters; what old SFTP servers and their batch jobs take."""

_ALLOWED = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}")
_DEFAULT_TIME = "%Y%m%dT%H%M%SZ"
_HASH_CHARACTERS = 6


class FileNameUnusable(Expected):
    """A template does not give a name that every server takes."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, template: str, text: str) -> None:
        self.template = template
        super().__init__(f"file_name: {template!r} {text}")


@dataclass(frozen=True)
class NameParts:
    """What a name is made of."""

    feed: str
    sequence: int
    created_at: dt.datetime
    """UTC."""
    window_start: dt.datetime
    window_end: dt.datetime
    sha256: str
    """Of the file's content, before compression."""
    extension: str
    """With the dot."""


def file_name(template: str, parts: NameParts, *, ending: str = "") -> str:
    """The file's name.

    Args:
        template: the feed's, or the layout's.
        parts: values of the placeholders.
        ending: appended, for compressed files: ``.gz``.

    Raises:
        FileNameUnusable: an unknown placeholder, a bad format, a character or a length that some servers refuse.
    """
    values: dict[str, object] = {
        "feed": parts.feed,
        "sequence": parts.sequence,
        "utc": _Time(parts.created_at),
        "window_start": _Time(parts.window_start),
        "window_end": _Time(parts.window_end),
        "millis": f"{parts.created_at.microsecond // 1000:03d}",
        "hash": parts.sha256[:_HASH_CHARACTERS],
        "extension": parts.extension,
    }
    try:
        name = _Template().vformat(template, (), values)
    except KeyError as error:
        raise FileNameUnusable(
            template, f"has an unknown placeholder {{{error.args[0]}}}; there are {', '.join(values)}"
        ) from None
    except (ValueError, IndexError, AttributeError) as error:
        raise FileNameUnusable(template, f"cannot be filled in: {error}") from None
    name += ending
    if not _ALLOWED.fullmatch(name):
        raise FileNameUnusable(
            template,
            f"gives {name!r} ({len(name)} characters); letters, digits, dot, hyphen and underscore are allowed, "
            f"at most {LONGEST} characters",
        )
    if name.startswith("."):
        raise FileNameUnusable(template, f"gives {name!r}; a leading dot hides a file from the partner")
    return name


def check_template(template: str, *, feed: str, extension: str, ending: str = "") -> None:
    """Raise FileNameUnusable when the template cannot name this feed's files, or not each of them differently."""
    instant = dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=dt.UTC)
    first = NameParts(feed, 1, instant, instant, instant, "0" * 64, extension)
    file_name(template, first, ending=ending)
    # Two files of one build differ in number and content alone; a time does not tell them apart, and an exclusive
    # create would refuse the second for ever.
    second = NameParts(feed, 2, instant, instant, instant, "1" * 64, extension)
    if file_name(template, first, ending=ending) == file_name(template, second, ending=ending):
        raise FileNameUnusable(template, "gives two files of one moment the same name; add {sequence:06d}")


class _Time:
    """An instant in a template; without a format, its digits."""

    def __init__(self, instant: dt.datetime) -> None:
        self._instant = instant.astimezone(dt.UTC)

    def __format__(self, spec: str) -> str:
        return self._instant.strftime(spec or _DEFAULT_TIME)


class _Template(string.Formatter):
    """Placeholders by name only: no attributes, no indexes, no conversions."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:  # noqa: ARG002
        return kwargs[field_name], field_name

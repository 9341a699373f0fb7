"""Whether a file ends where its profile says that it ends, told from its last bytes alone.

Belongs here: the end of one file. Does not: markers beside it (``intake.feed``), files that it names
(``deliveries``), and whether counts and totals of a trailer are true (``typed_rows``): those are known when the file
has been read.
"""

import json
import re
from pathlib import Path

from mlc_dagster.stampli.parsing.profile_files import FileRules, FinalNewline, Manifest, Trailer, XmlEnd
from mlc_dagster.stampli.parsing.profile_rows import RowRules, Typed, Xml
from mlc_dagster.stampli.parsing.unpacking import CompressionFault, last_bytes

_TAIL = 64 * 1024
"""Bytes looked at; a trailer is a line, and after an XML document there are comments at most."""
MAX_MANIFEST = 1024 * 1024
"""Bytes of a manifest; two files need some hundred."""


def end_fault(path: Path, rules: FileRules, rows: RowRules, delimiter: str) -> str | None:
    """Why the file does not end where the profile says it ends; None when it is whole.

    Raises:
        OSError: the file cannot be read.
    """
    end = rules.end
    if isinstance(end, Manifest):
        return _manifest_fault(path)
    try:
        tail = _tail(path, rules)
    except CompressionFault as fault:
        # Damaged for good, or a bomb: reading it says so, with the bytes archived.
        return fault.text if fault.cut_off else None
    if not isinstance(end, FinalNewline | Trailer | XmlEnd):
        return None
    if not tail:
        return "the file is empty"
    if isinstance(end, XmlEnd):
        return _xml_fault(tail, rows.document if isinstance(rows, Xml) else "")
    if tail[-1:] not in (b"\n", b"\r"):
        return f"the last line has no line end (last byte 0x{tail[-1]:02X}); the file may still be growing"
    if isinstance(end, Trailer) and isinstance(rows, Typed):
        (kind,) = rows.of_role("trailer")
        last = tail.rstrip(b"\r\n").rpartition(b"\n")[2].rpartition(b"\r")[2]
        if last.partition(delimiter.encode())[0] != kind.encode():
            return f"the last record is no trailer ({kind}); the file may still be growing"
    return None


def _tail(path: Path, rules: FileRules) -> bytes:
    if rules.compression != "none":
        return last_bytes(
            path, rules.compression, count=_TAIL, max_bytes=rules.max_unpacked_bytes, max_ratio=rules.max_ratio
        )
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL))
        return stream.read(_TAIL)


def _xml_fault(tail: bytes, document: str) -> str | None:
    # Comments and processing instructions may follow; nothing else may.
    ending = rb"</(?:[^\s<>/:]+:)?%s\s*>(?:\s|<!--(?:(?!-->).)*-->|<\?(?:(?!\?>).)*\?>)*\Z"
    if tail.startswith((b"\xff\xfe", b"\xfe\xff")) or re.search(ending % re.escape(document.encode()), tail, re.DOTALL):
        return None
    return f"the document does not end with </{document}>; the file may still be growing, or is another document"


def _manifest_fault(path: Path) -> str | None:
    if path.stat().st_size > MAX_MANIFEST:
        # No manifest at all: reading it says so.
        return None
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "the manifest is no JSON document; it may still be growing"
    return None

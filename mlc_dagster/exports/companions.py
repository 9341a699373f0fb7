"""What goes with a file: its manifest, its trigger, its compression.

What belongs here: bytes that depend on their inputs alone, so that what was frozen is what can be sent again. What does
not: when they are written (with the file, before it is frozen) and how they reach the partner (``delivery``).
"""

import datetime as dt
import gzip
import json
import shutil
import zipfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

from mlc_dagster.exports.writing import Frame, LayoutIdentity

MANIFEST_ENDING = ".manifest.json"
COMPRESSED_ENDING: Mapping[str, str] = {"none": "", "gzip": ".gz", "zip": ".zip"}
TRIGGER = b""
"""A trigger says all it has to say by being there."""

_BLOCK = 1 << 20
_LEVEL = 6
# The first instant that a zip entry can carry: the file's own time would make equal content differ.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def companion_name(file_name: str, ending: str) -> str:
    """Name of what lies beside a file: the whole name of the file, then the ending."""
    return f"{file_name}{ending}"


def manifest(
    *,
    name: str,
    size: int,
    sha256: str,
    documents: int,
    rows: int,
    totals: Mapping[str, Decimal],
    layout: LayoutIdentity,
    frame: Frame,
) -> bytes:
    """The manifest: JSON, UTF-8, ``size`` and ``sha256`` of the file as it is delivered (compressed, if it is).

    Totals are exact and therefore text; times are UTC.
    """
    document = {
        "name": name,
        "bytes": size,
        "sha256": sha256,
        "records": documents,
        "rows": rows,
        "totals": {total: format(amount, "f") for total, amount in sorted(totals.items())},
        "layout": {
            "name": layout.name,
            "version": layout.version,
            "sha256": layout.sha256,
            "format": layout.format,
        },
        "feed": frame.feed,
        "sequence": frame.sequence,
        "created_at": _utc(frame.created_at),
        "window": {"start": _utc(frame.window_start), "end": _utc(frame.window_end)},
        "controls": {level: list(numbers) for level, numbers in sorted(frame.controls.items())},
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def compress_file(source: Path, target: Path, how: Literal["gzip", "zip"], inner_name: str) -> None:
    """Writes ``source``, compressed, to ``target``; ``inner_name`` is what unpacking gives.

    Same content and name give the same bytes: no time, owner or machine goes in.

    Raises:
        OSError: our disk refused.
    """
    if how == "gzip":
        with (
            source.open("rb") as content,
            target.open("wb") as packed,
            gzip.GzipFile(inner_name, "wb", _LEVEL, packed, mtime=0) as stream,
        ):
            shutil.copyfileobj(content, stream, _BLOCK)
        return
    entry = zipfile.ZipInfo(inner_name, _ZIP_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = _UNIX
    entry.external_attr = 0o100644 << 16
    # Known before it begins: decides whether sizes need 64 bits.
    entry.file_size = source.stat().st_size
    with (
        source.open("rb") as content,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
        archive.open(entry, "w") as stream,
    ):
        shutil.copyfileobj(content, stream, _BLOCK)

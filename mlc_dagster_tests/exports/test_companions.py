"""Manifests and compressed files: the same bytes whenever they are made, readable by what partners use."""

import datetime as dt
import gzip
import json
import os
import subprocess
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from mlc_dagster.exports.companions import companion_name, compress_file, manifest
from mlc_dagster.exports.writing import Frame, LayoutIdentity

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
LAYOUT = LayoutIdentity("journal_lines", "2", "ab" * 32, "csv", ".csv")


def _manifest(totals: dict[str, Decimal]) -> bytes:
    frame = Frame("gl", 7, NOON, NOON - dt.timedelta(hours=1), NOON, {"interchange": [12], "group": [40, 41]})
    return manifest(
        name="GL.csv", size=10, sha256="cd" * 32, documents=2, rows=5, totals=totals, layout=LAYOUT, frame=frame
    )


def test_a_manifest_says_what_the_file_is() -> None:
    """A partner checks name, size, hash and totals against it; amounts stay exact, with their zeros."""
    found = json.loads(_manifest({"entered_dr USD": Decimal("10.50"), "entered_dr JPY": Decimal(1) / 4}))
    assert found == {
        "name": "GL.csv",
        "bytes": 10,
        "sha256": "cd" * 32,
        "records": 2,
        "rows": 5,
        "totals": {"entered_dr JPY": "0.25", "entered_dr USD": "10.50"},
        "layout": {"name": "journal_lines", "version": "2", "sha256": "ab" * 32, "format": "csv"},
        "feed": "gl",
        "sequence": 7,
        "created_at": "2026-11-21T12:00:00.000000Z",
        "window": {"start": "2026-11-21T11:00:00.000000Z", "end": "2026-11-21T12:00:00.000000Z"},
        "controls": {"group": [40, 41], "interchange": [12]},
    }


def test_a_manifest_has_no_exponents() -> None:
    """``1E+3`` is an amount to few readers."""
    assert json.loads(_manifest({"t": Decimal("1E+3")}))["totals"] == {"t": "1000"}


def test_equal_content_gives_equal_manifests() -> None:
    """The order in which totals were added up must not change the frozen bytes."""
    one, other = Decimal(1), Decimal(2)
    assert _manifest({"a": one, "b": other}) == _manifest({"b": other, "a": one})


@pytest.mark.parametrize("how", ["gzip", "zip"])
def test_compression_depends_on_content_and_name_alone(tmp_path: Path, how: Literal["gzip", "zip"]) -> None:
    """A resend is the same bytes: the time of day, the file's own time and its path must not go in."""
    results: list[bytes] = []
    for number in (1, 2):
        source = tmp_path / f"part-{number}"
        source.write_bytes(b"a;b;c\r\n" * 50_000)
        os.utime(source, (number * 10**9, number * 10**9))
        source.chmod(0o600 if number == 1 else 0o644)
        compress_file(source, tmp_path / f"packed-{number}", how, "GL.csv")
        results.append((tmp_path / f"packed-{number}").read_bytes())
    assert results[0] == results[1]
    assert len(results[0]) < 20_000


def test_gzip_unpacks_to_the_files_own_name(tmp_path: Path) -> None:
    """``gunzip --name`` restores the name that went in."""
    (tmp_path / "part").write_bytes(b"content")
    compress_file(tmp_path / "part", tmp_path / "x.gz", "gzip", "GL.csv")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == b"content"
    subprocess.run(["gunzip", "--name", "x.gz"], cwd=tmp_path, check=True)
    assert (tmp_path / "GL.csv").read_bytes() == b"content"


def test_zip_holds_one_readable_file(tmp_path: Path) -> None:
    """Unpacked on Unix the file must not come out without permissions."""
    (tmp_path / "part").write_bytes(b"content")
    compress_file(tmp_path / "part", tmp_path / "x.zip", "zip", "GL.csv")
    with zipfile.ZipFile(tmp_path / "x.zip") as packed:
        assert packed.testzip() is None
        (entry,) = packed.infolist()
        assert packed.read(entry) == b"content"
    assert (entry.filename, entry.external_attr >> 16) == ("GL.csv", 0o100644)


def test_an_empty_file_can_be_compressed(tmp_path: Path) -> None:
    """Layouts may ask for a file of nothing."""
    (tmp_path / "part").touch()
    compress_file(tmp_path / "part", tmp_path / "x.gz", "gzip", "GL.csv")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == b""


def test_a_companion_keeps_the_whole_name() -> None:
    """``GL.csv`` and ``GL.txt`` of one minute must not share a trigger."""
    assert companion_name("GL.csv", ".trg") == "GL.csv.trg"

"""Packed files: the same invoices as unpacked, or a refusal; never a bomb, never other bytes."""

import gzip
import io
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing.parse import InvoiceStream, parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.unpacking import CompressionFault, kind_of, open_plain
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import PROFILE, invoice_csv, invoice_rows

CONTENT = invoice_csv([*invoice_rows("10.50", "2.00", invoice_id="1"), *invoice_rows("7.25", invoice_id="2")])
MEGABYTE = 1024 * 1024


def with_rules(**rules: Any) -> Profile:
    return PROFILE.model_copy(update={"file": PROFILE.file.model_copy(update=rules)})


AUTO = with_rules(compression="auto")


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def refused(path: Path, profile: Profile = AUTO) -> str:
    """The text with which the file is refused for its packing."""
    with pytest.raises(FileRejected) as caught:
        list(parse_file(path, profile))
    assert caught.value.reason == "FILE_COMPRESSION"
    return caught.value.text


PACKED = {
    "gzip": gzip.compress(CONTENT, mtime=0),
    "gzip in parts": gzip.compress(CONTENT[:100], mtime=0) + gzip.compress(CONTENT[100:], mtime=0),
    "zip": zipped(("invoices.csv", CONTENT)),
    "zip, stored": zipped(("invoices.csv", CONTENT), method=zipfile.ZIP_STORED),
    "zip, hostile name": zipped(("../../../etc/cron.d/x", CONTENT)),
}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_packed_file_reads_as_its_content(tmp_path: Path, packed: bytes) -> None:
    """Packing is transport; what is posted must not depend on it."""
    plain, path = tmp_path / "plain.csv", tmp_path / "packed.csv"
    plain.write_bytes(CONTENT)
    path.write_bytes(packed)
    assert list(InvoiceStream(path, AUTO)) == list(InvoiceStream(plain, AUTO)) == list(InvoiceStream(plain, PROFILE))
    assert AUTO.end_fault(path) is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["packed.csv", "plain.csv"]


@fuzzed(300)
@given(
    name=st.sampled_from(list(PACKED)),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=4)), max_size=3),
)
def test_damage_is_refused_or_harmless(tmp_path: Path, name: str, edits: list[tuple[int, int, bytes]]) -> None:
    """A bit that flipped on the way must not become another amount: the checksums tell."""
    packed = PACKED[name]
    for at, cut, put in edits:
        packed = packed[:at] + put + packed[at + cut :]
    path = tmp_path / "file"
    path.write_bytes(packed)
    found = CONTENT
    try:
        with open_plain(path, "auto", max_bytes=MEGABYTE, max_ratio=200) as stream:
            found = b"".join(iter(lambda: stream.read(64), b""))
    except CompressionFault as fault:
        found = CONTENT if fault.text.isprintable() else b"unprintable"
    assert found == (packed if kind_of(packed) == "none" else CONTENT) or _cut_at_a_member(name, found)


def _cut_at_a_member(name: str, found: bytes) -> bool:
    # Whole members of a gzip file are a whole gzip file; the end of the invoices is the end rule's business.
    return name == "gzip in parts" and CONTENT.startswith(found)


@fuzzed(200)
@given(
    rest=st.binary(max_size=200), head=st.sampled_from([b"\x1f\x8b\x08", b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02"])
)
def test_bytes_that_begin_like_a_packed_file_raise_nothing_else(tmp_path: Path, head: bytes, rest: bytes) -> None:
    """The libraries have a dozen exceptions for bad input; one that got through would stop the run."""
    path = tmp_path / "file"
    path.write_bytes(head + rest)
    told: list[str] = []
    for compression in ("gzip", "zip", "auto"):
        try:
            with open_plain(path, compression, max_bytes=MEGABYTE, max_ratio=200) as stream:
                while stream.read(64):
                    pass
        except CompressionFault as fault:
            told.append(fault.text)
    assert all(text.isprintable() for text in told)


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped(("a", content))])
def test_a_bomb_is_refused_within_bounded_memory(tmp_path: Path, pack: Any) -> None:
    """A hundred kilobytes that unpack to a hundred megabytes cost a refusal, nothing more."""
    path = tmp_path / "bomb"
    path.write_bytes(pack(CONTENT + (b"x" * 65_535 + b"\n") * 1_600))
    tracemalloc.start()
    try:
        text = refused(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "200 times its size (max_ratio)" in text
    assert peak < 8 * MEGABYTE


def test_more_bytes_than_allowed_are_refused(tmp_path: Path) -> None:
    """A large file that is no bomb still fills memory and time."""
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(CONTENT))
    assert f"larger than {len(CONTENT) - 1} bytes" in refused(
        path, with_rules(compression="gzip", max_unpacked_bytes=len(CONTENT) - 1)
    )
    profile = with_rules(compression="gzip", max_unpacked_bytes=len(CONTENT))
    assert len(list(parse_file(path, profile))) == 2


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (zipped(), "0 members"),
        (zipped(("a.csv", CONTENT), ("b.csv", CONTENT)), "2 members"),
        (zipped(("folder/", b"")), "1 members"),
        (zipped(("a.csv", CONTENT), method=zipfile.ZIP_LZMA), "zip method 14"),
        (zipped(("a.csv", zipped(("b.csv", CONTENT)))), ""),
    ],
    ids=["empty", "two", "folder", "lzma", "zip in zip"],
)
def test_a_zip_holds_exactly_one_plain_file(tmp_path: Path, packed: bytes, said: str) -> None:
    """Which of two files would be the invoices is nobody's guess to make."""
    path = tmp_path / "file.zip"
    path.write_bytes(packed)
    if said:
        assert said in refused(path)
        return
    with pytest.raises(FileRejected) as caught:
        list(parse_file(path, AUTO))
    assert caught.value.reason == "FILE_SCHEMA"


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    """Nobody is there to type it."""
    packed = bytearray(zipped(("a.csv", CONTENT)))
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(marker) + offset] |= 1
    path = tmp_path / "file.zip"
    path.write_bytes(packed)
    assert "password" in refused(path)


def test_a_zip_whose_directory_is_huge_is_refused_unread(tmp_path: Path) -> None:
    """Millions of empty members are a bomb made of the directory alone."""
    packed = bytearray(zipped(("a.csv", CONTENT)))
    end = packed.index(b"PK\x05\x06")
    packed[end + 12 : end + 16] = (64 * MEGABYTE).to_bytes(4, "little")
    path = tmp_path / "file.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(64 * MEGABYTE) + packed)
    assert "directory is larger" in refused(path)


@pytest.mark.parametrize("name", ["gzip", "zip"])
def test_a_packed_file_that_is_cut_off_waits(tmp_path: Path, name: str) -> None:
    """Its writer may not have finished; a refusal would be final."""
    path = tmp_path / "file"
    path.write_bytes(PACKED[name][:-30])
    assert "cut off" in (AUTO.end_fault(path) or "")
    without_rule = with_rules(compression="auto", end=PROFILE.file.end.model_copy(update={"rule": "none"}))
    assert "cut off" in (without_rule.end_fault(path) or "")


def test_damage_is_no_reason_to_wait(tmp_path: Path) -> None:
    """A file that waits for ever is told to nobody; the reader refuses it with its bytes archived."""
    packed = bytearray(PACKED["gzip"])
    packed[-6] ^= 1
    path = tmp_path / "file"
    path.write_bytes(packed)
    assert AUTO.end_fault(path) is None
    assert "damaged" in refused(path)


def test_a_packed_file_without_the_last_line_end_waits(tmp_path: Path) -> None:
    """The packing is whole, the invoices in it may not be."""
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(CONTENT[:-1]))
    assert "no line end" in (AUTO.end_fault(path) or "")
    path.write_bytes(gzip.compress(b""))
    assert AUTO.end_fault(path) == "the file is empty"


def test_a_profile_that_does_not_expect_packing_says_so(tmp_path: Path) -> None:
    """The person who reads the refusal must know which key to set."""
    path = tmp_path / "file"
    path.write_bytes(PACKED["gzip"])
    with pytest.raises(FileRejected, match="it is packed: set compression: gzip"):
        parse_file(path, PROFILE)


def test_a_plain_file_under_a_strict_profile_is_refused(tmp_path: Path) -> None:
    """A sender who agreed on gzip and stops packing has changed more than that."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert "neither gzip nor zip" in refused(path, with_rules(compression="gzip"))
    path.write_bytes(zlib.compress(CONTENT))
    assert "neither gzip nor zip" in refused(path, with_rules(compression="zip"))

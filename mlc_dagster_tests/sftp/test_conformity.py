"""What the connector does against servers that behave: OpenSSH and the embedded one."""

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from mlc_dagster.sftp import (
    Download,
    DownloadRequest,
    FileChanged,
    FileTooLarge,
    FileVanished,
    LocalFileError,
    NoSuchPath,
    TargetExists,
    UnsafeName,
)
from mlc_dagster_tests.sftp.conftest import Served

NO_LIMIT = 1 << 30


def test_listing_tells_size_and_time(served: Served) -> None:
    """The intake recognises a file by path, size and time, so they must be the server's own."""
    (served.root / "invoices.csv").write_bytes(b"12345")
    os.utime(served.root / "invoices.csv", (1_700_000_000, 1_700_000_000))
    with served.session() as session:
        (found,) = session.list(served.directory).files
    assert (found.path, found.name, found.size, found.mtime, found.regular) == (
        served.path("invoices.csv"),
        "invoices.csv",
        5,
        1_700_000_000,
        True,
    )


def test_only_ordinary_files_are_files(served: Served) -> None:
    """A link could lead out of the folder and a pipe would block the reader for ever."""
    (served.root / "a.csv").touch()
    (served.root / "archive").mkdir()
    (served.root / "link.csv").symlink_to(served.root / "a.csv")
    os.mkfifo(served.root / "pipe.csv")
    # A socket's path is limited to some hundred bytes; the name alone always fits.
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(served.root)
        try:
            listening.bind("socket.csv")
        finally:
            os.chdir(before)
        with served.session() as session:
            listing = session.list(served.directory)
    assert [entry.name for entry in listing.files] == ["a.csv"]
    assert [entry.name for entry in listing.others] == ["archive", "link.csv", "pipe.csv", "socket.csv"]


def test_a_listing_does_not_open_files(served: Served) -> None:
    """Reading the folder must leave every access time alone: partners trigger on reads."""
    file = served.root / "invoices.csv"
    file.write_bytes(b"x")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    with served.session() as session:
        session.list(served.directory)
    assert file.stat().st_atime == 1_000_000_000


def test_an_empty_directory_lists_as_nothing(served: Served) -> None:
    """Most polls see nothing; that is not an error."""
    with served.session() as session:
        listing = session.list(served.directory)
    assert (listing.files, listing.others) == ([], [])


def test_listing_a_missing_directory_names_it(served: Served) -> None:
    """A mistyped folder must not look like an empty one."""
    with served.session() as session, pytest.raises(NoSuchPath, match="outbond") as caught:
        session.list(served.path("outbond"))
    assert not caught.value.transient


def test_the_session_goes_on_after_a_missing_directory(served: Served) -> None:
    """One wrong folder must not cost the connection that other folders are read over."""
    (served.root / "a.csv").touch()
    with served.session() as session:
        with pytest.raises(NoSuchPath):
            session.list(served.path("missing"))
        assert [entry.name for entry in session.list(served.directory).files] == ["a.csv"]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 450])
def test_every_entry_is_listed_whatever_the_page(served: Served, count: int) -> None:
    """Servers answer in portions; an entry on a boundary must not be lost or doubled."""
    names = [f"{number:04}.csv" for number in range(count)]
    for name in names:
        (served.root / name).touch()
    with served.session() as session:
        assert [entry.name for entry in session.list(served.directory).files] == names


@pytest.mark.timing
def test_ten_thousand_files_list_fast(served: Served) -> None:
    """A folder that nobody clears must not make each poll slow: 1 s is the aim, 3 s on a busy machine."""
    for number in range(10_000):
        (served.root / f"{number:05}.csv").touch()
    with served.session() as session:
        start = time.perf_counter()
        listing = session.list(served.directory)
        seconds = time.perf_counter() - start
    assert len(listing.files) == 10_000
    assert seconds < 3


@pytest.mark.parametrize("prefetch", ["auto", "off"])
@pytest.mark.parametrize("size", [0, 1, 32_768, 32_769, 65_536, 65_537, 1_000_003])
def test_a_download_is_the_file(served: Served, tmp_path: Path, size: int, prefetch: str) -> None:
    """Around every block boundary, with and without read-ahead, the bytes and their digest are the file's."""
    content = os.urandom(size)
    (served.root / "f").write_bytes(content)
    with served.session(prefetch=prefetch) as session:
        download = session.download(served.path("f"), tmp_path / "got", expected_size=size, max_bytes=NO_LIMIT)
    assert download == Download(size, hashlib.sha256(content).hexdigest())
    assert (tmp_path / "got").read_bytes() == content


def test_a_download_of_unknown_size_reads_to_the_end(served: Served, tmp_path: Path) -> None:
    """Some servers tell no size; the file still arrives whole."""
    (served.root / "f").write_bytes(b"x" * 100_000)
    with served.session() as session:
        download = session.download(served.path("f"), tmp_path / "got", expected_size=None, max_bytes=NO_LIMIT)
    assert download.size == 100_000


def test_a_file_that_grew_since_the_listing_is_changed(served: Served, tmp_path: Path) -> None:
    """Half of a file that is still being written is not an invoice file."""
    (served.root / "f").write_bytes(b"0123456789")
    with served.session() as session, pytest.raises(FileChanged) as caught:
        session.download(served.path("f"), tmp_path / "got", expected_size=4, max_bytes=NO_LIMIT)
    assert (caught.value.expected_size, caught.value.actual_size) == (4, 10)
    assert list(tmp_path.glob("*got*")) == []


def test_a_file_that_shrank_since_the_listing_is_changed(served: Served, tmp_path: Path) -> None:
    """A file cut by an upload that started over must not be taken for whole."""
    (served.root / "f").write_bytes(b"0123")
    with served.session() as session, pytest.raises(FileChanged) as caught:
        session.download(served.path("f"), tmp_path / "got", expected_size=100_000, max_bytes=NO_LIMIT)
    assert (caught.value.expected_size, caught.value.actual_size) == (100_000, 4)


def test_a_file_of_another_time_is_changed(served: Served, tmp_path: Path) -> None:
    """A corrected file of the very same length replaced the listed one."""
    (served.root / "f").write_bytes(b"0123")
    os.utime(served.root / "f", (1_700_000_000, 1_700_000_000))
    with served.session() as session, pytest.raises(FileChanged, match="1700000000"):
        session.download(
            served.path("f"), tmp_path / "got", expected_size=4, max_bytes=NO_LIMIT, expected_mtime=1_600_000_000
        )


def test_a_file_that_is_gone_has_vanished(served: Served, tmp_path: Path) -> None:
    """Somebody took it between listing and reading: reported as such, not as an error of the connection."""
    with served.session() as session, pytest.raises(FileVanished):
        session.download(served.path("gone"), tmp_path / "got", expected_size=4, max_bytes=NO_LIMIT)


def test_a_file_over_the_limit_is_not_read(served: Served, tmp_path: Path) -> None:
    """A wrong file of many gigabytes must not fill the disk."""
    (served.root / "f").write_bytes(b"0123456789")
    with served.session() as session, pytest.raises(FileTooLarge):
        session.download(served.path("f"), tmp_path / "got", expected_size=10, max_bytes=9)
    assert not (tmp_path / "got").exists()


def test_a_full_or_missing_disk_is_ours(served: Served, tmp_path: Path) -> None:
    """Our own disk's refusal must not read like the partner's."""
    (served.root / "f").write_bytes(b"x")
    with served.session() as session, pytest.raises(LocalFileError, match="nowhere"):
        session.download(served.path("f"), tmp_path / "nowhere" / "f", expected_size=1, max_bytes=NO_LIMIT)


def test_a_failed_download_keeps_the_earlier_copy(served: Served, tmp_path: Path) -> None:
    """The archived copy of an earlier poll survives a later failure untouched, and no part file stays behind."""
    (served.root / "f").write_bytes(b"new content")
    (tmp_path / "got").write_bytes(b"old")
    with served.session() as session, pytest.raises(FileChanged):
        session.download(served.path("f"), tmp_path / "got", expected_size=3, max_bytes=NO_LIMIT)
    assert (tmp_path / "got").read_bytes() == b"old"
    assert list(tmp_path.glob(".got*")) == []


@pytest.mark.parametrize("count", [3, 60])
def test_many_downloads_answer_in_order(served: Served, tmp_path: Path, count: int) -> None:
    """One answer per request, in the requests' order, whether or not several channels share the work."""
    (tmp_path / "got").mkdir()
    requests: list[DownloadRequest] = []
    expected: list[object] = []
    for number in range(count):
        name, content = f"{number}.csv", f"invoice {number}".encode() * number
        if number % 7 != 2:
            (served.root / name).write_bytes(content)
            expected.append(Download(len(content), hashlib.sha256(content).hexdigest()))
        else:
            expected.append("vanished")
        requests.append(DownloadRequest(served.path(name), tmp_path / "got" / name, len(content), NO_LIMIT))
    with served.session() as session:
        answers = session.download_many(requests)
    assert ["vanished" if isinstance(answer, FileVanished) else answer for answer in answers] == expected


def test_stat_tells_what_is_there(served: Served) -> None:
    """The archive step compares the size before it deletes."""
    (served.root / "f").write_bytes(b"123")
    with served.session() as session:
        found = session.stat(served.path("f"))
        assert session.stat(served.path("missing")) is None
    assert found is not None
    assert (found.name, found.size, found.regular) == ("f", 3, True)


def test_stat_does_not_follow_a_link(served: Served) -> None:
    """Listing and stat must agree on what an entry is."""
    (served.root / "f").touch()
    (served.root / "link").symlink_to("f")
    with served.session() as session:
        found = session.stat(served.path("link"))
    assert found is not None
    assert not found.regular


def test_rename_moves(served: Served) -> None:
    """Archiving after the commit: the bytes are under the new name alone."""
    (served.root / "f").write_bytes(b"123")
    (served.root / "archive").mkdir()
    with served.session() as session:
        session.rename(served.path("f"), served.path("archive/f.1"))
    assert (served.root / "archive" / "f.1").read_bytes() == b"123"
    assert not (served.root / "f").exists()


def test_rename_never_overwrites(served: Served) -> None:
    """An archived file is evidence; a second one of that name must not replace it."""
    (served.root / "f").write_bytes(b"new")
    (served.root / "archived").write_bytes(b"old")
    with served.session() as session, pytest.raises(TargetExists, match="archived"):
        session.rename(served.path("f"), served.path("archived"))
    assert (served.root / "archived").read_bytes() == b"old"
    assert (served.root / "f").read_bytes() == b"new"


def test_rename_of_a_missing_file_says_so(served: Served) -> None:
    """Another worker may have archived it already."""
    with served.session() as session, pytest.raises(NoSuchPath):
        session.rename(served.path("missing"), served.path("new"))


def test_remove_deletes_one_file(served: Served) -> None:
    """after_read: delete."""
    (served.root / "f").touch()
    with served.session() as session:
        session.remove(served.path("f"))
        with pytest.raises(NoSuchPath):
            session.remove(served.path("f"))
    assert not (served.root / "f").exists()


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_sha256_is_read_back_from_the_server(served: Served, size: int) -> None:
    """What is deleted must be what was processed, byte for byte."""
    content = os.urandom(size)
    (served.root / "f").write_bytes(content)
    with served.session() as session:
        assert session.sha256(served.path("f")) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["..", ".", "", "a\0b"])
def test_unsafe_names_are_refused_before_they_are_sent(served: Served, name: str) -> None:
    """A name made of a partner's input must not lead elsewhere."""
    with served.session() as session, pytest.raises(UnsafeName):
        session.remove(served.path(name))


def test_names_beyond_ascii_round_trip(served: Served, tmp_path: Path) -> None:
    """Umlauts, blanks, quotes and percent signs are ordinary in vendors' file names."""
    name = "Rechnungen März 100% 'neu'.csv"
    (served.root / name).write_bytes(b"x")
    with served.session() as session:
        (found,) = session.list(served.directory).files
        session.download(found.path, tmp_path / "got", expected_size=1, max_bytes=NO_LIMIT)
    assert found.name == name
    assert (tmp_path / "got").read_bytes() == b"x"


def test_the_session_knows_the_servers_key(served: Served) -> None:
    """The audit trail names which server proved itself."""
    with served.session() as session:
        assert session.server_key == served.settings.host_key

"""The whole way from a real OpenSSH server, with a key; and what a wrong host key stops."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sftp.errors import HostKeyRejected
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.intake import (
    bill,
    deliver,
    drop,
    events,
    file_states,
    files,
    outcomes,
    prove_books,
    stepwise,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.sshd import RealSshd, fingerprint_of, new_private_key, public_line
from mlc_dagster_tests.stampli.builders import invoice_csv


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[Rehearsal, RealSshd]]:
    """A flow that reads from OpenSSH with a private key; its folder is empty and the feed open."""
    with RealSshd(tmp_path / "sshd") as server, rehearsal(tmp_path, seed=Seed(20, TODAY)) as flow:
        (tmp_path / "login_key").write_text(server.private_key)
        (tmp_path / "login_key").chmod(0o600)
        flow.outbound = server.root
        flow.change_config(
            {
                "stampli": {
                    "after_read": "archive",
                    "sftp": {
                        "port": server.port, "host_key": server.fingerprint, "username": server.username,
                        "password": None, "private_key": "file:login_key", "directory": str(server.root),
                    },
                }
            }
        )  # fmt: skip
        (server.root / "archive").mkdir()
        flow.open_feed()
        yield flow, server


def test_a3_a_real_openssh_server_is_read_with_a_key_and_files_are_put_away(
    keyed: tuple[Rehearsal, RealSshd],
) -> None:
    """The embedded server is ours; this one is what customers run."""
    flow, _ = keyed
    deliver(flow, 1, bill("1", "10.00"), bill("2", "20.00"))
    assert [path.name for path in flow.outbound.iterdir()] == ["archive"]
    prove_books(flow, "N-1", "N-2")


def test_a3_a_changed_host_key_stops_the_poll_before_anything_is_read(keyed: tuple[Rehearsal, RealSshd]) -> None:
    """Invoices from a stranger are forgeries: nothing is sent to it, nothing is read, the ledger is as before."""
    flow, server = keyed
    stranger = fingerprint_of(public_line(new_private_key()))
    drop(flow, 1, bill("1", "10.00"))
    flow.change_config({"stampli": {"sftp": {"host_key": stranger}}})
    before = len(events(flow, "feed.first_contact"))
    with pytest.raises(HostKeyRejected) as refused:
        flow.poll()
    assert server.fingerprint in str(refused.value)
    assert stranger in str(refused.value)
    assert "BEGIN" not in str(refused.value)
    assert file_states(flow) == []
    assert len(events(flow, "feed.first_contact")) == before
    flow.change_config({"stampli": {"sftp": {"host_key": server.fingerprint}}})
    flow.process()
    prove_books(flow, "N-1")


def test_a3_a_host_key_that_changes_between_poll_and_run_stops_the_run(keyed: tuple[Rehearsal, RealSshd]) -> None:
    """Each connection proves its server; the run is asked for again, and nothing is lost."""
    flow, server = keyed
    drop(flow, 1, bill("1", "10.00"))
    (wanted,) = flow.poll_settled().runs
    flow.change_config({"stampli": {"sftp": {"host_key": fingerprint_of(public_line(new_private_key()))}}})
    with pytest.raises(HostKeyRejected):
        flow.run(wanted)
    assert flow.fusion.books.count() == 0
    flow.change_config({"stampli": {"sftp": {"host_key": server.fingerprint}}})
    flow.clock.advance(61)
    for again in flow.poll().runs:
        assert again.attempt == 2
        flow.run(again)
    prove_books(flow, "N-1")


def replace_unseen(path: Path, content: bytes) -> None:
    """Other bytes under the name, with the size and the time of those before."""
    before = path.stat()
    path.write_bytes(content)
    assert path.stat().st_size == before.st_size
    os.utime(path, (before.st_atime, before.st_mtime))


def test_a5_a_version_that_looks_like_the_one_put_away_is_read_by_itself(keyed: tuple[Rehearsal, RealSshd]) -> None:
    """Same size, same second: only the hash tells. Nobody may have to touch the file for its invoices to be posted."""
    flow, _ = keyed
    path = flow.outbound / drop(flow, 1, bill("1", "10.00"))
    newer = invoice_csv(bill("2", "10.00"))
    (wanted,) = flow.poll_settled().runs
    (_, _, posted) = stepwise(flow, wanted, after_receive=lambda: replace_unseen(path, newer))
    assert [str(path) in told and "the next poll reads them" in told for told in posted.disposal_problems] == [True]
    assert path.read_bytes() == newer
    flow.process()
    prove_books(flow, "N-1", "N-2")
    assert [(row["version"], row["state"], row["young"]) for row in files(flow)] == [
        (1, "READ", False),
        (2, "READ", False),
    ]
    assert [each.name for each in path.parent.iterdir()] == ["archive"]
    (kept,) = (path.parent / "archive").iterdir()
    assert kept.read_bytes() == newer


def test_a5_an_old_invoice_in_such_a_version_is_not_posted_twice(keyed: tuple[Rehearsal, RealSshd]) -> None:
    """The sender corrected one of two invoices within the second; the other one is in Fusion already."""
    flow, _ = keyed
    path = flow.outbound / drop(flow, 1, bill("1", "10.00"), bill("2", "20.00"))
    newer = invoice_csv([*bill("1", "10.00"), *bill("3", "20.00")])
    (wanted,) = flow.poll_settled().runs
    stepwise(flow, wanted, after_validate=lambda: replace_unseen(path, newer))
    flow.process()
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    prove_books(flow, "N-1", "N-2", "N-3")

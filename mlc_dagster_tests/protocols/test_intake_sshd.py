"""The whole way from a real OpenSSH server, with a key; and what a wrong host key stops."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sftp.errors import HostKeyRejected
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.intake import bill, deliver, drop, events, file_states, prove_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.sshd import RealSshd, fingerprint_of, new_private_key, public_line


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

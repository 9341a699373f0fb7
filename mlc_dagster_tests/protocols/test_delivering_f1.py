"""F1: what is frozen is delivered once, wherever a run dies. Each step is cut off by SIGKILL of a real process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster_tests.protocols.delivering import BESIDE, CONTENT, on_openssh, use_mode
from mlc_dagster_tests.servers.partner import DeliveryProcess, Partner
from mlc_dagster_tests.servers.sshd import RealSshd

BY_RENAMING = [
    "look",
    "commit uploading",
    "upload",
    "verify",
    "commit renaming",
    "rename",
    "look after rename",
]
DIRECTLY = ["look", "commit uploading", "look after upload"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    with RealSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def acme(sshd: RealSshd, tmp_path: Path) -> Iterator[Partner]:
    with on_openssh(sshd, tmp_path) as found:
        yield found


@pytest.fixture
def acme_on_both(sshd: RealSshd, tmp_path: Path, ledger_url: str) -> Iterator[Partner]:
    """The partner, with a ledger on SQLite and on PostgreSQL."""
    with on_openssh(sshd, tmp_path, ledger_url) as found:
        yield found


def dies(acme: Partner, step: str, nth: int = 1) -> None:
    with DeliveryProcess(acme.place, at=step, nth=nth) as run:
        run.wait_killed()


def next_run_delivers(acme: Partner) -> None:
    """Without any help, and leaving nothing but the frozen files behind."""
    assert [entry.outcome for entry in acme.deliver()] == ["SENT"]
    assert acme.there() == acme.contents
    assert acme.there(acme.place.folder / "incoming") == {}
    assert acme.states() == ["SENT"]
    assert acme.waiting() == {}
    assert acme.deliver() == []


@pytest.mark.parametrize("nth", [1, 2, 3], ids=["file", "manifest", "trigger"])
@pytest.mark.parametrize("step", BY_RENAMING)
def test_killed_before_a_step_of_renaming(acme: Partner, step: str, nth: int) -> None:
    """The file, its manifest, its trigger: each is whole on the server, once."""
    acme.freeze("A.csv", CONTENT, beside=BESIDE)
    dies(acme, step, nth)
    next_run_delivers(acme)


@pytest.mark.parametrize("step", ["commit arrived", "commit companion", "commit sent"])
def test_killed_before_the_ledger_knows(acme: Partner, step: str) -> None:
    """Everything is there and nobody wrote it down: found, not sent again."""
    acme.freeze("A.csv", CONTENT, beside=BESIDE)
    dies(acme, step)
    before = {path.name: path.stat().st_ino for path in acme.root.iterdir()}
    next_run_delivers(acme)
    after = {path.name: path.stat().st_ino for path in acme.root.iterdir()}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("step", ["upload", "verify", "commit renaming", "rename", "look after rename"])
def test_killed_with_another_folder_first(acme: Partner, step: str) -> None:
    """Mode tempdir leaves nothing in the other folder either."""
    use_mode(acme, "tempdir")
    acme.freeze("A.csv", CONTENT)
    dies(acme, step)
    next_run_delivers(acme)


@pytest.mark.parametrize("nth", [1, 2, 3], ids=["file", "manifest", "trigger"])
@pytest.mark.parametrize("step", DIRECTLY)
def test_killed_before_a_step_of_direct_mode(acme: Partner, step: str, nth: int) -> None:
    """Where nothing was begun, or all was written, there is nothing to ask a person."""
    use_mode(acme, "direct")
    acme.freeze("A.csv", CONTENT, beside=BESIDE)
    dies(acme, step, nth)
    next_run_delivers(acme)


def test_killed_again_and_again(acme_on_both: Partner) -> None:
    """Each run dies a step later than the one before; one file all the same."""
    acme = acme_on_both
    acme.freeze("A.csv", CONTENT)
    for step in BY_RENAMING:
        dies(acme, step)
    next_run_delivers(acme)


def test_the_second_file_dies(acme_on_both: Partner) -> None:
    """What was sent before stays sent; what comes after waits its turn."""
    acme = acme_on_both
    for name in ("A.csv", "B.csv", "C.csv"):
        acme.freeze(name, CONTENT + name.encode())
    dies(acme, "rename", 2)
    assert acme.states() == ["SENT", "RENAMING", "PENDING"]
    assert [entry.outcome for entry in acme.deliver()] == ["SENT", "SENT"]
    assert acme.there() == acme.contents

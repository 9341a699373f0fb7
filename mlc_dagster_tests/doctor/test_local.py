"""Configuration, secrets, disk and alerts: what is wrong on this host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.doctor.diagnosis import diagnosed
from mlc_dagster.doctor.findings import Finding, State, Steps
from mlc_dagster.doctor.local import examine_disk, examine_versions
from mlc_dagster.settings_file import load_settings
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.doctor.conftest import Told, examined
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

GIB = 1024**3


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path) as running:
        yield running


def disk_of(flow: Rehearsal, total: int, free: int) -> Told:
    findings: list[Finding] = []
    examine_disk(
        flow.settings,
        lambda system: Steps(system, findings.append, diagnosed),
        usage=lambda _: (total, total - free, free),
    )
    return Told(findings)


def test_a_store_without_its_key_is_told_with_the_remedy(flow: Rehearsal) -> None:
    """The key is kept apart from the data, so it is what a restored host lacks."""
    flow.change_config({"fusion": {"client_secret": "store:fusion/secret"}})
    told = examined(flow.config, "stampli")
    assert told.of("keys").state is State.WRONG
    assert "mlc secrets init" in told.of("keys").text + told.of("keys").fix
    assert told.of("fusion.client_secret").state is State.WRONG


def test_a_secret_that_is_not_in_the_store_is_named(flow: Rehearsal) -> None:
    """By its key in mlc.yaml and by its name: one is looked up, the other typed."""
    flow.change_config({"fusion": {"client_secret": "store:fusion/secret"}})
    SecretResolver.of(load_settings(flow.config), {}).store.keys.create(note="test")
    told = examined(flow.config, "stampli")
    assert told.of("keys").state is State.OK
    assert told.of("fusion.client_secret").text == "store:fusion/secret: is not in the encrypted store"
    assert told.of("fusion.client_secret").fix == "run: mlc secrets set fusion/secret"


def test_no_value_of_a_secret_is_told(flow: Rehearsal) -> None:
    """The output is pasted into tickets."""
    lines = "\n".join(f"{each.text} {each.fix}" for each in examined(flow.config).findings)
    assert "sandbox-password" not in lines
    assert flow.fusion.client_secret not in lines


def test_each_part_that_does_not_load_is_a_line(flow: Rehearsal) -> None:
    """Fixing one fault per run takes an afternoon."""
    flow.change_config(
        {
            "stampli": {
                "profile": "no_such_profile",
                "crosswalks": {"vendors": "missing.csv"},
                "sftp": {"host_key": "SHA256:nonsense"},
            }
        }
    )
    assert examined(flow.config, "fusion").wrong == ["stampli.profile", "stampli.crosswalks", "stampli.sftp.host_key"]


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [
        (100 * GIB, 50 * GIB, State.OK),
        (100 * GIB, 4 * GIB, State.WARN),
        (10 * GIB, GIB - 1, State.WARN),
        (100 * GIB, 1024, State.WRONG),
    ],
)
def test_room_is_told_before_it_is_gone(flow: Rehearsal, total: int, free: int, state: State) -> None:
    """A full disk stops both flows at once, at night."""
    assert disk_of(flow, total, free).of("data_dir").state is state


def test_a_data_folder_that_cannot_be_written_to_is_told(flow: Rehearsal) -> None:
    """It is tried as a run would: rights, a read-only mount and a full disk all show then."""
    flow.change_config({"data_dir": "/proc/mlc", "audit": {"checkpoints": str(flow.folder / "second")}})
    told = disk_of(flow, 100 * GIB, 50 * GIB)
    assert told.of("data_dir").state is State.WRONG
    assert "may write there" in told.of("data_dir").fix
    assert told.of("checkpoints").state is State.OK


def test_a_data_folder_open_to_everybody_is_told(flow: Rehearsal) -> None:
    """Whoever may write there can put an invoice file into the archive, or take the ledger away."""
    (flow.folder / "data").chmod(0o777)
    found = disk_of(flow, 100 * GIB, 50 * GIB).of("data_dir")
    assert found.state is State.WARN
    assert found.fix.startswith("chmod o-w")


def test_versions_are_told() -> None:
    """They are asked for in every report of a problem."""
    findings: list[Finding] = []
    examine_versions(Steps("versions", findings.append, diagnosed))
    assert "OpenSSL" in Told(findings).of("Python").text
    assert "paramiko 5" in Told(findings).of("packages").text


def test_alerts_that_nobody_gets_are_told(flow: Rehearsal) -> None:
    """An installation without addresses works, and nobody hears when it does not."""
    assert examined(flow.config).of("addresses").state is State.WARN


def test_an_address_that_is_none_is_told_without_showing_it(flow: Rehearsal) -> None:
    """Addresses of alerts hold passwords."""
    flow.change_config({"alerts": {"to": ["slakc://token-of-the-channel/x"]}})
    found = examined(flow.config).of("addresses")
    assert found.state is State.WRONG
    assert "alerts.to[0]" in found.text
    assert "token-of-the-channel" not in found.text


def test_a_fault_of_the_doctor_is_a_line_of_its_own() -> None:
    """The systems after it are looked at all the same, and the exit code says whose fault it is."""
    findings: list[Finding] = []
    steps = Steps("system", findings.append, diagnosed)
    steps.step("first", lambda: str(1 // 0))
    steps.step("second", lambda: "fine", needs=["first"])
    steps.step("third", lambda: "fine")
    assert [each.state for each in findings] == [State.WRONG, State.SKIPPED, State.OK]
    assert "ZeroDivisionError" in findings[0].text

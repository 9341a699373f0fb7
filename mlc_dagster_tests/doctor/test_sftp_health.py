"""SFTP accounts, step by step: OpenSSH where it can be had to misbehave, the embedded server where it cannot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.doctor.findings import Cause, State
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.doctor.conftest import Told, examined
from mlc_dagster_tests.servers.configuration import keep_secret
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.sshd import RealSshd

PIN = "SHA256:CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCA"


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    with partner_rehearsal(tmp_path) as running:
        yield running


@pytest.fixture
def stampli(tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path) as running:
        yield running


def feed_on(partner: PartnerRehearsal, server: RealSshd, **change: Any) -> Told:
    """What is said of the feed with its account on OpenSSH, and these keys of ``sftp:`` changed."""
    account = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key": keep_secret(partner.folder, "partner_key", server.private_key),
        "host_key": server.fingerprint,
        "directory": str(server.root),
    }
    partner.change_feed("journals", sftp={**account, **change})
    return examined(partner.config, "journals")


def feed_of(partner: PartnerRehearsal, **change: Any) -> Told:
    """What is said of the feed on the embedded server, with these keys changed."""
    if change:
        partner.change_feed("journals", **change)
    return examined(partner.config, "journals")


def test_a_good_account_on_openssh_passes_and_nothing_is_left(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """The probe must be the same to the server as a delivery, and be gone afterwards."""
    with RealSshd(tmp_path / "sshd") as server:
        (server.root / "theirs.csv").write_text("x")
        told = feed_on(partner, server)
        left = [path.name for path in server.root.iterdir()]
    assert told.wrong == []
    assert told.of("write probe").text.startswith("created, read back, renamed, removed")
    assert told.of("clock").text == "the server and this host agree"
    assert told.of("free names").state is State.OK
    assert "1 entry" in told.of("listing").text
    assert left == ["theirs.csv"]


def test_a_host_key_that_is_not_pinned_shows_both_and_stops(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """A person compares two fingerprints; no password goes to a server that may be somebody else's."""
    with RealSshd(tmp_path / "sshd") as server:
        told = feed_on(partner, server, host_key=PIN)
        assert not any("Accepted" in line for line in server.log)
    found = told.of("host key")
    assert told.wrong == ["host key"]
    assert server.fingerprint in found.text
    assert PIN in found.text
    assert "mlc doctor --pin" in found.fix
    assert found.cause is Cause.HERE
    assert told.of("login").state is State.SKIPPED
    assert told.of("write probe").text == "because host key is wrong"


def test_two_pins_are_a_rotation_under_way(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """Runs go on; that one of the pins can go is easily forgotten."""
    with RealSshd(tmp_path / "sshd") as server:
        told = feed_on(partner, server, host_key=[PIN, server.fingerprint])
    assert told.of("host key").state is State.WARN
    assert f"not offered: {PIN}" in told.of("host key").text
    assert told.of("login").state is State.OK


def test_a_folder_that_may_not_be_written_to_is_told(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """Login and listing work, so that a delivery would be the first to find out."""
    with RealSshd(tmp_path / "sshd", options=["ForceCommand internal-sftp -R"]) as server:
        told = feed_on(partner, server)
    found = told.of("write probe")
    assert told.wrong == ["write probe"]
    assert found.cause is Cause.HERE
    assert "permission" in found.text
    assert "create, read back, rename and remove" in found.fix


@pytest.mark.parametrize(
    ("denied", "words"),
    [
        ("lstat", ["upload.verify: none", "name is free"]),
        ("rename", ["permission", "after it was created, read back"]),
        ("remove", ["may be left on the server", ".mlc-doctor-", "remove its own files"]),
    ],
)
def test_each_right_that_a_delivery_needs_is_tried(
    partner: PartnerRehearsal, tmp_path: Path, denied: str, words: list[str]
) -> None:
    """Servers give them one by one; the line names the one that is missing."""
    with RealSshd(tmp_path / "sshd", options=[f"ForceCommand internal-sftp -P {denied}"]) as server:
        told = feed_on(partner, server)
        left = list(server.root.iterdir())
    found = told.of("write probe")
    assert told.wrong == ["write probe"]
    assert [word for word in words if word not in f"{found.text} {found.fix}"] == []
    assert (left == []) is (denied != "remove")


def test_an_account_that_may_only_write_is_served(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """Banks give such accounts: no listing, no looking; deliveries go all the same."""
    partner.change_feed("journals", upload={"verify": "none"})
    with RealSshd(tmp_path / "sshd", options=["ForceCommand internal-sftp -P opendir,lstat,stat,read"]) as server:
        told = feed_on(partner, server)
    assert told.wrong == []
    assert told.of("listing").state is State.WARN
    assert told.of("write probe").text.startswith("created, renamed, removed in")
    assert told.of("free names").state is State.SKIPPED


def test_a_folder_that_is_not_there_is_told(partner: PartnerRehearsal, tmp_path: Path) -> None:
    """Typed wrong, or never made by the partner."""
    with RealSshd(tmp_path / "sshd") as server:
        told = feed_on(partner, server, directory=f"{server.root}/inbuond")
    assert "no such folder" in told.of("listing").text
    assert "inbuond" in told.of("write probe").text


def test_a_refused_login_is_told_and_not_tried_again(partner: PartnerRehearsal) -> None:
    """Repeated bad logins lock accounts at banks."""
    keep_secret(partner.folder, "partner_password", "yesterdays-password")
    told = feed_of(partner)
    assert told.wrong == ["login"]
    assert "refused 'partner' by password" in told.of("login").text
    assert told.of("listing").text == "because login is wrong"


def test_a_disk_that_is_full_there_is_the_other_sides(partner: PartnerRehearsal) -> None:
    """SFTP has one answer for a full disk and much else; the line says so."""
    partner.sftp.faults.add("refuse_upload", count=None)
    found = feed_of(partner).of("write probe")
    assert found.cause is Cause.REMOTE
    assert "disk may be full" in found.fix


@pytest.mark.parametrize("kind", ["fail_rename", "fail_close"])
def test_the_probe_is_removed_whatever_fails(partner: PartnerRehearsal, kind: str) -> None:
    """A partner must not find files of a check in its folder."""
    partner.sftp.faults.add(kind)
    assert feed_of(partner).wrong == ["write probe"]
    assert partner.delivered() == []


def test_where_a_probe_would_be_a_delivery_there_is_none(partner: PartnerRehearsal) -> None:
    """A mailbox takes every file that is complete, whatever its name."""
    told = feed_of(partner, upload={"mode": "direct"})
    assert told.of("write probe for journals").state is State.SKIPPED
    assert partner.delivered() == []
    assert told.wrong == []


def test_feeds_of_one_account_are_looked_at_once(partner: PartnerRehearsal) -> None:
    """Five feeds on one server are one login, not five."""
    partner.change_feed("orders", source="purchase_orders", layout="purchase_orders_csv")
    acknowledged = {"expected_within": "24h", "directory": "/acks"}
    partner.change_feed("journals", acknowledgement=acknowledged)
    (partner.acks / "997.edi").write_text("x")
    told = feed_of(partner)
    assert {each.system for each in told.findings if each.step == "login"} == {
        f"feeds journals, orders at partner@127.0.0.1:{partner.sftp.port}"
    }
    assert told.of("acknowledgements of journals").text == "/acks has 1 files, 1 match *"


def test_stamplis_folder_tells_how_many_files_are_its_own(stampli: Rehearsal) -> None:
    """A profile whose pattern fits no file looks like a quiet day."""
    stampli.drop("stampli_invoices_C100_20261121T021530Z_000001.csv", "x")
    stampli.drop("notes.docx", "x")
    stampli.drop("stampli_invoices_C100_20261121T021530Z_000002.csv.part", "x")
    told = examined(stampli.config, "stampli")
    assert told.of("listing").text == "/outbound has 3 entries, 1 match profile stampli_lines_v1"
    assert told.of("write probe").state is State.SKIPPED


def test_files_that_wait_for_another_one_are_told(stampli: Rehearsal) -> None:
    """A folder of files whose markers nobody writes looks like a quiet day, too."""
    mine = stampli.folder / "mine.yaml"
    document = load_profile("stampli_lines_v1").model_dump(mode="json", exclude_unset=True)
    document["file"]["end"] = {"rule": "marker"}
    mine.write_text(yaml.safe_dump(document))
    stampli.change_config({"stampli": {"profile": str(mine)}})
    stampli.drop("stampli_invoices_C100_20261121T021530Z_000001.csv", "x")
    text = examined(stampli.config, "stampli").of("listing").text
    assert "0 match profile stampli_lines_v1, 1 wait for another file" in text
    assert "waits for its marker stampli_invoices_C100_20261121T021530Z_000001.csv.done" in text


def test_archiving_is_tried_before_the_first_file_is(stampli: Rehearsal) -> None:
    """The archive folder is made by hand on Stampli's server, or not."""
    stampli.change_config({"stampli": {"after_read": "archive"}})
    missing = examined(stampli.config, "stampli").of("write probe")
    (stampli.outbound / "archive").mkdir()
    there = examined(stampli.config, "stampli").of("write probe")
    assert missing.state is State.WRONG
    assert "archive" in missing.fix
    assert there.text == "created, read back, renamed, removed in /outbound and /outbound/archive"
    assert [path.name for path in stampli.outbound.iterdir()] == ["archive"]


def test_a_server_of_weak_algorithms_is_told_with_the_line_that_allows_it(
    partner: PartnerRehearsal, tmp_path: Path
) -> None:
    """The remedy is written by the connector; the doctor must not lose it."""
    with RealSshd(tmp_path / "sshd", options=["Ciphers aes128-cbc"]) as server:
        refused = feed_on(partner, server).of("host key")
        allowed = feed_on(partner, server, allow_algorithms=["aes128-cbc"]).of("host key")
    assert "allow_algorithms: [aes128-cbc]" in refused.text
    assert allowed.state is State.WARN


def test_a_wrong_account_does_not_stop_the_others(partner: PartnerRehearsal) -> None:
    """Later systems go on."""
    document = yaml.safe_load(partner.config.read_text())
    other = {**document["exports"][0], "name": "other", "sftp": {**document["exports"][0]["sftp"], "host_key": PIN}}
    partner.change_config(exports=[other, *document["exports"]])
    told = examined(partner.config, "other", "journals")
    assert told.of("host key", "feed other").state is State.WRONG
    assert told.of("write probe", "feed journals").state is State.OK

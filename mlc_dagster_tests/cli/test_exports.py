"""``mlc exports``: where every file is and what became of it, and what people may say about it, on record."""

import hashlib
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from mlc_dagster.ledger import exported, feeds
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.schema_outbound import control_number
from mlc_dagster_tests.cli.conftest import BOTH, json_of, run_mlc
from mlc_dagster_tests.ledger.answering import PARTNER, deliver, group, say
from mlc_dagster_tests.ledger.exporting import FEED, LEASE, commit, held_version, new_file, new_version
from mlc_dagster_tests.ledger.population import events
from mlc_dagster_tests.servers.sshd import RealSshd

CONTENT = b"a;b\r\n1;2\r\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    with RealSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


class Site:
    """An mlc.yaml with one feed, its ledger, and files frozen straight into it."""

    def __init__(self, root: Path, sshd: RealSshd) -> None:
        self.root = root
        self.inbound = root / "inbound"
        self.inbound.mkdir()
        (root / "key").touch(mode=0o600)
        (root / "key").write_text(sshd.private_key)
        self.ledger: Ledger = open_ledger(f"sqlite:///{root / 'data' / 'ledger.sqlite'}", actor="test")
        self.sequence = 0
        sftp = {
            "host": sshd.host,
            "port": sshd.port,
            "username": sshd.username,
            "private_key": "file:key",
            "host_key": sshd.fingerprint,
            "directory": str(self.inbound),
        }
        self.document: dict[str, Any] = {
            "fusion": {
                "base_url": "https://pod.example.com",
                "token_url": "https://identity.example.com/oauth2/v1/token",
                "client_id": "id",
                "client_secret": "env:UNUSED",
                "scope": "all",
                "charts": {},
            },
            "exports": [
                {
                    "name": FEED,
                    "source": "invoices",
                    "layout": "invoices_csv",
                    "sftp": sftp,
                    "upload": {"retry_for": 0},
                    "partner": {"sender": "ZZ:US", "receiver": "ZZ:THEM"},
                    "acknowledgement": {"expected_within": "24h", "directory": "/acks"},
                }
            ],
            "poll": {"start": "2026-01-01"},
            "data_dir": "data",
        }
        self.write()

    def write(self) -> None:
        (self.root / "mlc.yaml").write_text(yaml.safe_dump(self.document))

    def run(self, *arguments: str | int) -> Any:
        return run_mlc("--config", self.root / "mlc.yaml", "exports", *map(str, arguments))

    def json(self, *arguments: str | int) -> dict[str, Any]:
        return json_of(self.run(*arguments, "--json"))

    def fence(self) -> int:
        with self.ledger.transaction() as transaction:
            feeds.ensure_feed(transaction, FEED, "invoices")
            fence = feeds.take_feed(transaction, FEED, "otherhost|boot/ns|4242|99", LEASE)
            feeds.release_feed(transaction, FEED, fence)
        return fence

    def freeze(self, *records: str, **changes: Any) -> int:
        """A file that waits, its bytes in the archive; its key."""
        made = self.root / "made"
        made.write_bytes(CONTENT)
        LocalArchive(self.root / "data" / "archive").put(made, SHA256)
        self.sequence += 1
        rows = [new_version(record, position=place) for place, record in enumerate(records, 1)]
        fields = {"directory": str(self.inbound), "sha256": SHA256, "bytes": len(CONTENT)}
        [key] = commit(self.ledger, self.fence(), new_file(self.sequence, rows, **(fields | changes)))
        return key

    def unknown(self) -> int:
        """A file of which nobody knows whether it arrived."""
        key = self.freeze("301")
        with self.ledger.transaction() as transaction:
            exported.begin_upload(transaction, key, None)
            exported.mark_unknown(transaction, key, "the connection broke after 4 bytes")
        return key

    def state(self, key: int) -> str:
        with self.ledger.reading() as reading:
            row = exported.file_row(reading, key)
        assert row is not None
        return str(row["state"])


@pytest.fixture
def site(tmp_path: Path, sshd: RealSshd) -> Iterator[Site]:
    made = Site(tmp_path, sshd)
    yield made
    made.ledger.close()


def test_list_tells_where_waiting_bytes_are(site: Site) -> None:
    """While the server is down a person can hand over the file, and prove by its hash that it is the one."""
    key = site.freeze("301")
    outbox = site.root / "data" / "outbox" / FEED / "file-1.txt"
    outbox.parent.mkdir(parents=True)
    outbox.write_bytes(CONTENT)
    [file] = site.json("list")["files"]
    assert (file["id"], file["state"], file["path"], file["sha256"]) == (key, "PENDING", str(outbox), SHA256)
    assert Path(file["path"]).read_bytes() == CONTENT
    text = site.run("list").stdout
    assert f"{key} waits: {outbox} SHA-256 {SHA256}" in " ".join(text.split())


def test_list_names_the_archive_when_the_outbox_was_emptied(site: Site) -> None:
    """The outbox is for people, who may tidy it; the bytes are still to be had."""
    site.freeze("301")
    [file] = site.json("list")["files"]
    assert Path(file["path"]).read_bytes() == CONTENT


def test_list_can_be_narrowed(site: Site) -> None:
    """By state and feed; a feed that does not exist is a typing error, not an empty list."""
    waiting, unknown = site.freeze("300"), site.unknown()
    assert [file["id"] for file in site.json("list")["files"]] == [unknown, waiting]
    assert [file["id"] for file in site.json("list", "--state", "unknown")["files"]] == [unknown]
    assert site.json("list", "--feed", FEED, "--state", "sent")["files"] == []
    result = site.run("list", "--feed", "partners")
    assert result.exit_code == 2
    assert result.stderr == f"mlc: feed partners: is not in mlc.yaml; there are {FEED}\n"


def test_show_tells_the_whole_life(site: Site) -> None:
    """Bytes, totals with currency, layout, numbers, the server's own word and the partner's, with who and when."""
    key = deliver(site.ledger, 1, ["301", "302"], group=1)
    say(site.ledger, group("E", 1))
    page = site.json("show", "file-1.txt", "--records")
    assert (page["id"], page["state"], page["acknowledgement"]) == (key, "SENT", "accepted with errors")
    assert page["totals"] == {"amount USD": "12.30"}
    assert page["controls"] == {"interchange": [1], "group": [1]}
    assert page["server"] == {
        "size": 10,
        "mtime": "1970-01-01T00:00:01Z",
        "verified_by": "sha256",
        "host_key": "SHA256:k",
    }
    assert [(row["record_id"], row["version"], row["change"]) for row in page["records"]] == [
        ("301", 1, "NEW"),
        ("302", 1, "NEW"),
    ]
    kinds = [event["kind"] for event in page["events"]]
    assert kinds[0] == "export.built"
    assert kinds[-2:] == ["export.sent", "acknowledgement.received"]
    text = site.run("show", key, "--records").stdout
    for part in ("amount 12.30 USD", "plain version 1", "group 1; interchange 1", "10 bytes", "SHA256:k", "PO/0002"):
        assert part in text


def test_show_says_when_the_archive_no_longer_has_the_bytes(site: Site) -> None:
    """What cannot be sent again must be known before it is asked for."""
    key = site.freeze("301")
    assert site.json("show", key)["archived_bytes"] == "verified"
    place = Path(site.json("show", key)["path"])
    place.chmod(0o600)
    place.write_bytes(b"damaged")
    assert "holds other bytes" in site.json("show", key)["archived_bytes"]


def test_show_of_an_unknown_file_is_one_line(site: Site) -> None:
    """Not found is an answer, with the way to what is there."""
    result = site.run("show", "NOPE")
    assert result.exit_code == 2
    assert result.stderr == "mlc: file NOPE: the ledger has none with this ID or name; see `mlc exports list`\n"


def test_held_documents_come_with_what_to_do(site: Site) -> None:
    """A reason code alone helps nobody."""
    held = held_version("301", reason="UNBALANCED", text="debits 1.00 USD, credits 2.00 USD")
    commit(site.ledger, site.fence(), held=[held])
    [row] = site.json("held")["held"]
    assert (row["record_id"], row["reason"], row["text"]) == ("301", held.reason, held.text)
    assert row["remedy"].startswith("Correct the journal in Fusion")
    assert "UNBALANCED" in site.run("held", "--feed", FEED).stdout


def test_nothing_held_says_so(site: Site) -> None:
    """An empty table would leave people wondering whether it looked."""
    assert site.run("held").stdout == "No document is held.\n"


def test_resend_delivers_a_file_that_waits(site: Site) -> None:
    """The server is back; nobody wants to wait for the next poll."""
    key = site.freeze("301")
    result = site.run("resend", key, "--by", "Ada", "--reason", "server is back")
    assert result.exit_code == 0
    assert (site.inbound / "file-1.txt").read_bytes() == CONTENT
    assert site.state(key) == "SENT"


def test_resend_of_a_delivered_file_sends_the_same_bytes_and_is_on_record(site: Site) -> None:
    """The partner lost it; what they get is what they had, and who asked is known."""
    key = site.freeze("301")
    site.run("resend", key, "--by", "Ada", "--reason", "the server is back")
    (site.inbound / "file-1.txt").unlink()
    document = site.json("resend", "file-1.txt", "--by", "Ada", "--reason", "they lost it")
    assert (document["outcome"], document["sha256"]) == ("SENT", SHA256)
    assert (site.inbound / "file-1.txt").read_bytes() == CONTENT
    [event] = events(site.ledger, "export.resent", f"export:{key}")
    assert (event["detail"]["by"], event["detail"]["reason"]) == ("Ada", "they lost it")


def test_replacing_what_lies_there_is_on_record_with_both_names(site: Site) -> None:
    """Who asked, who agreed, who ran it where, and what was before."""
    key = site.freeze("301")
    site.run("resend", key, "--by", "Ada", "--reason", "the server is back")
    alone = site.run("resend", key, "--again", "--by", "Ada", "--reason", "they want it again")
    assert (alone.exit_code, alone.stderr.startswith("mlc: --approved-by: is empty")) == (2, True)
    assert site.json("resend", key, "--again", *BOTH)["outcome"] == "SENT"
    [event] = events(site.ledger, "export.resent", f"export:{key}")
    assert event["actor"].endswith(f"@{socket.gethostname()} (mlc)")
    assert (event["detail"]["by"], event["detail"]["approved_by"]) == ("Ada", "Grace")
    assert event["detail"]["before"] == {"state": "SENT", "resent_at": None}
    assert event["detail"]["after"]["resent_at"] is not None


def test_sending_an_unknown_file_again_takes_two_people(site: Site) -> None:
    """The partner may have it."""
    key = site.unknown()
    alone = site.run("resend", key, "--by", "Ada", "--reason", "it never arrived")
    assert (alone.exit_code, site.state(key)) == (2, "UNKNOWN")
    assert site.run("resend", key, *BOTH).exit_code == 0
    assert site.state(key) == "SENT"


def test_resend_to_a_server_that_is_down_exits_with_3(site: Site) -> None:
    """Scripts tell "the partner is down" from "we asked for something wrong"; the file waits on."""
    key = site.freeze("301")
    site.document["exports"][0]["sftp"]["port"] = 1
    site.write()
    result = site.run("resend", key, "--by", "Ada", "--reason", "the server is back")
    assert result.exit_code == 3
    assert SHA256 in result.stderr
    assert site.state(key) == "PENDING"


def test_abandon_takes_two_people_and_frees_the_records(site: Site) -> None:
    """Giving a file up changes what the partner gets: one person alone must not."""
    key = site.freeze("301", partner=PARTNER, controls={"interchange": [1], "group": [1]})
    alone = site.run("abandon", key, "--by", "Ada", "--approved-by", "ada ", "--reason", "wrong layout")
    assert (alone.exit_code, site.state(key)) == (2, "PENDING")
    assert alone.stderr == (
        "mlc: --approved-by: ada is who asks for it (Ada); it takes two different people; nothing was changed\n"
    )
    assert site.run("abandon", key, *BOTH).exit_code == 0
    assert site.state(key) == "ABANDONED"
    [event] = events(site.ledger, "export.abandoned", f"export:{key}")
    assert (event["detail"]["by"], event["detail"]["approved_by"]) == ("Ada", "Grace")
    voided = site.json("numbers")["not_used"]
    assert {(row["level"], row["number"], row["state"]) for row in voided} == {
        ("interchange", 1, "VOID"),
        ("group", 1, "VOID"),
    }


@pytest.mark.parametrize("command", [("abandon",), ("confirm", "not-arrived")])
def test_nothing_is_said_of_a_file_that_a_restored_ledger_has_forgotten(site: Site, command: tuple[str, ...]) -> None:
    """It was sent since the backup: given up, or sent again, the partner would have its documents twice."""
    key = site.freeze("301") if command == ("abandon",) else site.unknown()
    file = site.root / "data" / "ledger.sqlite"
    site.ledger.close()
    copy = shutil.copyfile(file, site.root / "backup")
    assert site.run("resend", key, *BOTH).exit_code == 0
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    shutil.copyfile(copy, file)
    result = site.run(command[0], key, *command[1:], *BOTH)
    assert (result.exit_code, "mlc exports after-restore" in result.stderr) == (2, True)
    site.ledger = open_ledger(f"sqlite:///{file}", actor="test")
    assert site.state(key) == ("PENDING" if command == ("abandon",) else "UNKNOWN")


def test_a_delivered_file_cannot_be_abandoned(site: Site) -> None:
    """Its records would be sent a second time."""
    key = deliver(site.ledger, 1, ["301"], group=1)
    result = site.run("abandon", key, *BOTH)
    assert result.exit_code == 2
    assert "is SENT; abandoning it needs PENDING" in result.stderr
    assert result.stderr.rstrip().endswith("nothing was changed")


@pytest.mark.parametrize(("answer", "state"), [("arrived", "SENT"), ("not-arrived", "PENDING")])
def test_confirm_settles_an_unknown_file(site: Site, answer: str, state: str) -> None:
    """Only the partner knows; what they said decides whether it is sent again, and two people answer for it."""
    key = site.unknown()
    assert site.run("confirm", key, answer, *BOTH).exit_code == 0
    assert site.state(key) == state
    [event] = events(site.ledger, "export.settled", f"export:{key}")
    assert (event["detail"]["by"], event["detail"]["approved_by"]) == ("Ada", "Grace")
    assert event["detail"]["before"] == {"state": "UNKNOWN"}
    assert event["detail"]["after"] == {"state": state}


def test_confirm_is_for_unknown_files_only(site: Site) -> None:
    """A file that waits was not sent, whatever anybody says."""
    key = site.freeze("301")
    result = site.run("confirm", key, "arrived", *BOTH)
    assert (result.exit_code, site.state(key)) == (2, "PENDING")
    assert "needs UNKNOWN" in result.stderr


@pytest.mark.parametrize("empty", ["--by", "--approved-by", "--reason"])
def test_an_empty_word_is_refused(site: Site, empty: str) -> None:
    """It would stand in the audit trail as nobody, or as no reason."""
    key = site.unknown()
    arguments = list(BOTH)
    arguments[arguments.index(empty) + 1] = " "
    result = site.run("confirm", key, "arrived", *arguments)
    assert (result.exit_code, site.state(key)) == (2, "UNKNOWN")
    assert result.stderr == f"mlc: {empty}: is empty; it goes on record; nothing was changed\n"


def test_numbers_shows_the_last_and_the_next(site: Site) -> None:
    """What a partner asks when they miss an interchange."""
    deliver(site.ledger, 1, ["301"], group=1)
    found = site.json("numbers", "--partner", PARTNER)
    assert [(row["level"], row["last"], row["next"], row["file"]) for row in found["counters"]] == [
        ("group", 1, 2, "file-1.txt"),
        ("interchange", 1, 2, "file-1.txt"),
    ]
    assert found["gaps"] == []
    assert "No gap" in site.run("numbers").stdout


def test_a_gap_is_told_and_fails_the_command(site: Site) -> None:
    """A number that nobody can account for is what the partner's system refuses."""
    deliver(site.ledger, 1, ["301"], group=1)
    deliver(site.ledger, 2, ["302"], group=2)
    with site.ledger.transaction() as transaction:
        transaction.execute(
            sa.delete(control_number).where(control_number.c.level == "group", control_number.c.serial == 1)
        )
    result = site.run("numbers")
    assert result.exit_code == 1
    assert re.search(r"gap: .*number 1 is not in the ledger", result.stderr)


def test_jump_leaves_numbers_out_on_record(site: Site) -> None:
    """After a restore, numbers that were used since the backup must not be used again."""
    deliver(site.ledger, 1, ["301"], group=1)
    refused = site.run("numbers", "--jump", 5, "--partner", PARTNER, "--by", "Ada", "--reason", "restore")
    assert refused.exit_code == 2
    assert site.run("numbers", "--jump", 5, "--partner", "ZZ:X>ZZ:Y/T", *BOTH).exit_code == 2
    found = site.json("numbers", "--jump", 5, "--partner", PARTNER, *BOTH)
    assert {row["level"]: row["next"] for row in found["counters"]} == {"group": 7, "interchange": 7}
    assert {row["state"] for row in found["not_used"]} == {"JUMPED"}
    assert "by Ada, approved by Grace" in found["not_used"][0]["reason"]
    assert found["gaps"] == []


def test_jump_by_nothing_is_refused(site: Site) -> None:
    """Numbers never go back."""
    deliver(site.ledger, 1, ["301"], group=1)
    result = site.run("numbers", "--jump", "-1", "--partner", PARTNER, *BOTH)
    assert result.exit_code == 2
    assert "jump by at least 1" in result.stderr


def test_rebase_sends_nothing(site: Site) -> None:
    """It says what the partner has; a partner who gets every record again is what it is there to prevent."""
    site.fence()
    document = site.json("rebase", FEED, *BOTH)
    assert document == {"feed": FEED, "records": 0}
    assert list(site.inbound.iterdir()) == []
    assert len(events(site.ledger, "feed.rebased")) == 1

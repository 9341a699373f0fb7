"""On what it rests that a file counts as sent after a restore: told, on record, and refused where it is not enough."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.restoring import Readopted, after_restore
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster_tests.servers.backups import backup, restore
from mlc_dagster_tests.servers.partner import FEED, Partner
from mlc_dagster_tests.servers.sshd import RealSshd

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the backup of last night was restored")


def sent_since(acme: Partner, content: bytes = b"a;b\r\n", *, taken: bool = True) -> Path:
    """A.csv arrived after the backup; ``taken`` by the partner. The backup."""
    acme.freeze("A.csv", content)
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    acme.deliver()
    if taken:
        (acme.root / "A.csv").unlink()
    return copy


def told(acme: Partner, copy: Path, *, ask_partner: bool = False) -> Readopted:
    restore(acme, copy)
    (file,) = after_restore(acme.outbound, WHY, ask_partner=ask_partner).files
    return file


def on_record(acme: Partner) -> dict[str, Any]:
    with acme.ledger.reading() as reading:
        detail = reading.value(sa.select(audit_event.c.detail).where(audit_event.c.kind == "export.adopted"))
    found: dict[str, Any] = detail["rests_on"]
    return found


def rewrite_the_end(acme: Partner, **changes: Any) -> None:
    path = DeliveryJournal(acme.outbound, FEED).entry(1).path
    *lines, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, json.dumps(json.loads(last) | changes) + "\n"]))


def test_a_file_that_was_taken_rests_on_what_its_arrival_proved(acme: Partner, sshd: RealSshd) -> None:
    """The same proof that the lost row had: hash, size, the server's stat and key. It is said that it is that alone."""
    file = told(acme, sent_since(acme))
    assert (str(file.state), file.journal_alone) == ("SENT", True)
    assert file.rests_on.startswith("the delivery journal alone: size and SHA-256 read back at its arrival, 20")
    found = on_record(acme)
    assert found["by"] == "journal"
    assert {name: found["journal"][name] for name in ("state", "verified_by", "server_size", "server_key")} == {
        "state": "SENT",
        "verified_by": "sha256",
        "server_size": 5,
        "server_key": sshd.fingerprint,
    }


def test_a_file_that_lies_there_rests_on_the_server_too(acme: Partner) -> None:
    """Looked at now, with its hash."""
    file = told(acme, sent_since(acme, taken=False))
    assert (str(file.state), file.journal_alone) == ("SENT", False)
    assert file.rests_on == "the server, which shows it whole, and the delivery journal"
    found = on_record(acme)
    assert (found["by"], found["verified_by"]) == ("server and journal", "sha256")


def test_two_people_may_want_more_than_the_journal(acme: Partner) -> None:
    """As when somebody else could write to data_dir: each file that is not shown is asked about."""
    file = told(acme, sent_since(acme), ask_partner=True)
    assert (str(file.state), file.journal_alone) == ("UNKNOWN", False)
    assert on_record(acme) == {"by": "nobody"}
    assert "which is not to be enough" in acme.file(1)["reason"]


def test_what_lies_there_needs_no_asking(acme: Partner) -> None:
    """The flag is about what nobody can see."""
    assert str(told(acme, sent_since(acme, taken=False), ask_partner=True).state) == "SENT"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"server_size": 4}, "with 4 of 5 bytes at its arrival"),
        ({"verified_by": None}, "without what proved its arrival"),
        ({"verified_by": "hearsay"}, "without what proved its arrival"),
    ],
    ids=["size", "nothing", "unknown proof"],
)
def test_an_end_that_proves_nothing_is_not_enough(acme: Partner, changes: dict[str, Any], why: str) -> None:
    """A line that the product does not write that way speaks for nothing: the partner is asked."""
    copy = sent_since(acme)
    rewrite_the_end(acme, **changes)
    assert str(told(acme, copy).state) == "UNKNOWN"
    assert why in acme.file(1)["reason"]


def test_a_file_without_its_name_speaks_against_the_journal(acme: Partner) -> None:
    """Whole under its temporary name and not under its own: as far as can be seen it was never handed over."""
    copy = sent_since(acme)
    (temporary,) = DeliveryJournal(acme.outbound, FEED).temporaries(1)
    Path(temporary).write_bytes(acme.contents["A.csv"])
    file = told(acme, copy)
    assert (str(file.state), Path(temporary).exists()) == ("UNKNOWN", True)
    assert "as if it had got its name" in acme.file(1)["reason"]


def test_an_account_that_may_not_look_has_the_servers_answers_alone(acme: Partner) -> None:
    """Weaker, as it was before the restore, and it says so."""
    acme.upload(verify="none", mode="direct")
    copy = sent_since(acme)
    rewrite_the_end(acme, verified_by="none", server_size=None)
    file = told(acme, copy)
    assert str(file.state) == "SENT"
    assert "the server's good answers alone (nothing could be read back)" in file.rests_on


def test_a_conclusion_stays_one(acme: Partner) -> None:
    """Inferred then, inferred now; nothing is better known for a restore."""
    copy = sent_since(acme)
    rewrite_the_end(acme, state="INFERRED", verified_by=None, server_size=None, reason="under neither name")
    file = told(acme, copy)
    assert (str(file.state), file.journal_alone) == ("INFERRED", True)
    assert "concluded, not seen" in file.rests_on

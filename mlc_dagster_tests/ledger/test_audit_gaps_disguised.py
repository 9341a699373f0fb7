"""What is rewritten, put in or signed by the wrong hand, and dressed up as a restore: a fault, or refused."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_gaps import KIND, SUBJECT, statement_of
from mlc_dagster.ledger.audit_restoring import NotConfirmed, document_restore
from mlc_dagster.ledger.audit_rows import RawEvent, link_hash, walk
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    CheckpointRefused,
    Gap,
    KeyRing,
    SigningKey,
    line_sha256,
)
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.evidence import write_pack
from mlc_dagster.ledger.evidence_population import Period
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import CanonicalText, utc_text
from mlc_dagster_tests.ledger.checkpointed import checkpointing, give_numbers_back, tamper
from mlc_dagster_tests.ledger.packs import check, make_pack, request
from mlc_dagster_tests.ledger.restored import WHY, Site, lose, reopen, site_with_backups
from mlc_dagster_tests.servers.backups import Backups

CHANGED = "update audit_event set detail = replace(detail, '12.50', '99.99') where id = "


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups[Site]]:
    """In a file: none of it depends on the database."""
    with site_with_backups(tmp_path) as found:
        yield found


@pytest.fixture
def site(kept: Backups[Site]) -> Site:
    return kept.remote


@pytest.fixture
def restored(kept: Backups[Site]) -> Site:
    """Links 5 to 10 are lost."""
    lose(kept)
    return kept.remote


def rebuild(site: Site, first: int) -> None:
    """The chain made to fit the events, from a link on, as somebody does who has changed one; the guards are gone."""
    with site.ledger.reading() as reading:
        rows = list(walk(reading))
    previous = next((row[3] for row in rows if row[0] == first - 1), "0" * 64)
    with site.ledger.engine.begin() as connection:
        for row in rows[first - 1 :]:
            link = link_hash(previous, cast("RawEvent", row[4:]))
            changed = sa.update(audit_chain).where(audit_chain.c.seq == row[0])
            connection.execute(changed.values(previous_hash=previous, hash=link))
            previous = link


def whole_time(site: Site) -> Period:
    """A period that has all events."""
    with site.ledger.reading() as reading:
        return reading.now.replace(year=2020), reading.now.replace(year=2100)


def made_up_gap(site: Site, after: int, **changes: Any) -> Gap:
    """Signed by the real key, without anybody having lost anything: "all behind ``after`` is lost"."""
    assert site.place.key is not None
    lines = [line for line in site.place.file.lines()[0] if isinstance(line, Checkpoint)]
    lost = [line for line in lines if line.seq > after]
    with site.ledger.reading() as reading:
        head = reading.row(sa.select(audit_chain).where(audit_chain.c.seq == after))
        now = utc_text(reading.now)
    assert head is not None
    gap = Gap(
        gap=1, at=now, restored_seq=after, restored_event_id=head["event_id"], restored_hash=head["hash"],
        proven=max((line.seq for line in lines if line.seq <= after), default=0), first=after + 1, last=lost[-1].seq,
        checkpoint=asdict(lost[-1]), lines=[line_sha256(line) for line in lost], **WHY.said,
    )  # fmt: skip
    return replace(gap, **changes).signed(site.place.key)


def enter(site: Site, gap: Gap, subject: str = SUBJECT) -> None:
    """The gap's event."""
    with site.ledger.transaction() as transaction:
        transaction.audit(KIND, subject, by="Ann Lee", statement=statement_of(gap))
    seal(site.ledger)


def test_who_has_the_key_cannot_have_a_change_pass_for_a_loss(site: Site, tmp_path: Path) -> None:
    """The second place can only grow, the signature is good: the times of what is said to be lost give it away."""
    site.seal(*"abc")
    site.seal(*"defghi")
    tamper(site.ledger, f"{CHANGED}5", "delete from audit_checkpoint where seq > 3")
    rebuild(site, 5)
    gap = made_up_gap(site, 4)
    site.place.file.append([gap])
    enter(site, gap)
    make_checkpoints(site.ledger, site.place, now=True)
    (fault,) = site.verify()
    assert fault.startswith("the documented gap 1 says that links 5 to 9 were lost by")
    assert "event 5 (link 5)" in fault
    assert site.place.key is not None
    make_pack(site.ledger, site.place, tmp_path / "pack", period=whole_time(site))
    done = check(tmp_path / "pack", "--key", site.place.key.key_id)
    assert done.returncode == 1
    assert "FAULT: event 5 (link 5) is of " in done.stdout


def test_an_unsigned_line_proves_nothing(kept: Backups[Site]) -> None:
    """Whoever may append outside could have a changed event taken for one that the backup had."""
    site = kept.remote
    site.seal("a")
    site.seal("b")
    backup = kept.make()
    reopen(site)
    site.seal(*"cdefgh")
    kept.restore(backup)
    tamper(site.ledger, f"{CHANGED}2")
    rebuild(site, 2)
    with site.ledger.reading() as reading:
        link = reading.row(sa.select(audit_chain).where(audit_chain.c.seq == 2))
    assert link is not None
    site.place.file.append([Checkpoint(2, link["event_id"], link["hash"], "2026-01-01T00:00:00.000000Z")])
    assert any("has no signature, as lines before it there have" in fault for fault in site.verify())
    with pytest.raises(CheckpointRefused, match=r"the checkpoint of link 2 .* has no signature"):
        site.document()


def test_a_line_from_before_the_key_proves_no_restored_link(restored: Site) -> None:
    """It holds, for there was no key; but the gap must not say that something proves those links."""
    first, *others = restored.place.file.lines()[0]
    assert isinstance(first, Checkpoint)
    unsigned = replace(first, key_id=None, signature=None)
    restored.rewrite([f"{line.line()}\n" for line in (unsigned, *others)])
    tamper(restored.ledger, "update audit_checkpoint set key_id = null, signature = null where seq = 3")
    gap = restored.document()
    assert (gap.restored_seq, gap.proven, restored.verify()) == (4, 0, ())


def refusals(site: Site) -> list[tuple[str, str]]:
    """(subject, text) of the events that say what was not entered in the second place."""
    with site.ledger.reading() as reading:
        rows = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "audit.gap_refused"))
    return [(row["subject"], row["detail"]["text"]) for row in rows]


PUT_IN = pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signature": None, "key_id": None}, "has no signature"),
        ({"gap": 7}, "is number 1 of the second place"),
        ({"lines": ["0" * 64]}, "names lines that are not before it"),
    ],
    ids=["unsigned", "another number", "other lines"],
)


@PUT_IN
def test_an_event_that_was_put_in_does_not_spoil_the_second_place(
    kept: Backups[Site], changes: dict[str, object], why: str
) -> None:
    """What is appended there stays for ever, whatever is done about the ledger."""
    site = kept.remote
    site.seal(*"abc")
    backup = kept.make()
    reopen(site)
    site.seal(*"def")
    gap = made_up_gap(site, 3, **changes)
    enter(site, gap if "signature" not in changes else replace(gap, signature=None, key_id=None))
    make_checkpoints(site.ledger, site.place, now=True)
    with pytest.raises(CheckpointRefused, match="nothing is lost"):
        site.document()
    assert all("restored_hash" not in line for line in site.lines())
    ((subject, said),) = refusals(site)
    assert subject == "audit:event:7"
    assert why in said
    kept.restore(backup)
    assert site.document().first == 4
    assert site.verify() == ()


@PUT_IN
def test_an_event_that_was_put_in_does_not_hold_up_the_next_checkpoints(
    site: Site, changes: dict[str, object], why: str
) -> None:
    """Whoever may append one event would else have the whole trail go without checkpoints, until a restore."""
    site.seal(*"abcdef")
    gap = made_up_gap(site, 3, **changes)
    enter(site, gap if "signature" not in changes else replace(gap, signature=None, key_id=None))
    assert make_checkpoints(site.ledger, site.place, now=True) == 1
    assert site.seal(*"ghijkl") > 0
    assert all("restored_hash" not in line for line in site.lines())
    assert [subject for subject, _ in refusals(site)] == ["audit:event:7"]
    (fault,) = site.verify()
    assert "event 7 documents a gap" in fault or "event 7 documents gap" in fault


def test_many_events_that_were_put_in_hide_nothing(site: Site) -> None:
    """Twenty faults are told; a row that was changed must be among them."""
    site.seal(*"abcdef")
    gap = made_up_gap(site, 3)
    for number in range(30):
        enter(site, replace(gap, reason=f"forgery {number}"))
    site.seal(*"ghi")
    tamper(site.ledger, "update audit_event set actor = 'nobody' where id = 2")
    found = verify(site.ledger, site.place)
    assert "event 2 (link 2" in (found.fault or "")
    assert len(found.faults) == 20
    assert len(found.forged) == 30


def test_a_restore_is_documented_although_an_event_was_put_in_before_the_backup(kept: Backups[Site]) -> None:
    """It comes back with every backup since: two people must be able to go on, with the forgery on record."""
    site = kept.remote
    site.seal(*"abc")
    gap = made_up_gap(site, 2)
    enter(site, replace(gap, signature=None))
    site.seal("d")
    backup = kept.make()
    reopen(site)
    site.seal(*"efghij")
    kept.restore(backup)
    assert site.document().gap == 1
    (fault,) = site.verify()
    assert "event 4 documents a gap 1 that has no signature" in fault


def test_a_changed_row_beside_a_forgery_is_not_documented_away(kept: Backups[Site]) -> None:
    """What is passed over is the forgery alone."""
    site = kept.remote
    site.seal(*"abc")
    enter(site, replace(made_up_gap(site, 2), signature=None))
    site.seal("d")
    backup = kept.make()
    reopen(site)
    site.seal(*"efghij")
    kept.restore(backup)
    tamper(site.ledger, "update audit_event set actor = 'nobody' where id = 2")
    with pytest.raises(CheckpointRefused, match=r"event 2 \(link 2"):
        site.document()


ODD_DETAILS = [
    "[]", "no JSON", "", "{}x", '{"statement":1.5}', '{"statement":{"gap":1.5}}', '{"statement":NaN}',
    '{"statement":"\\ud800"}', '{"by":', '{"statement":' + "[" * 2_000 + "]" * 2_000 + "}",
]  # fmt: skip


@pytest.mark.parametrize("detail", ODD_DETAILS, ids=range(len(ODD_DETAILS)))
def test_an_event_with_any_detail_at_all_is_named_and_holds_nothing_up(
    ledger: Ledger, tmp_path: Path, detail: str
) -> None:
    """Who may append may append anything; the one command that tells it must not end by it."""
    site = Site(tmp_path, ledger, checkpointing(tmp_path))
    site.seal(*"abc")
    with ledger.transaction() as transaction:
        transaction.audit_text(KIND, SUBJECT, CanonicalText(detail))
    assert site.seal(*"defghi") > 0
    (fault,) = site.verify()
    assert "event 4 documents a gap in words that are not those of the product" in fault
    write_pack(ledger, site.place, request(period=whole_time(site)), tmp_path / "pack")
    told = check(tmp_path / "pack")
    assert (told.returncode, "Traceback" in told.stderr) == (1, False)


def test_an_event_that_is_not_even_text_is_named(site: Site) -> None:
    """SQLite keeps bytes of any kind where text should be."""
    site.seal(*"abc")
    with site.ledger.transaction() as transaction:
        transaction.audit(KIND, SUBJECT)
    tamper(site.ledger, "update audit_event set detail = x'ff' where id = 4")
    assert any("documents a gap in words that are not" in fault for fault in site.verify())


@pytest.mark.parametrize(
    "field",
    [
        {"signature": 5}, {"signature": ["x"]}, {"key_id": 1}, {"hash": None}, {"hash": "\ud800"}, {"seq": True},
        {"seq": 1 << 70}, {"at": "now"}, {"at": "2026-13-01T00:00:00.000000Z"}, {"lines": [["a"]]}, {"more": 1},
    ],
)  # fmt: skip
def test_a_line_of_odd_types_is_a_fault(restored: Site, field: dict[str, object]) -> None:
    """It must be told, not end the one command that tells it; sealing goes on."""
    gap = restored.document()
    line = gap if "lines" in field else restored.place.file.lines()[0][0]
    restored.rewrite([*restored.lines(), json.dumps({**json.loads(line.line()), **field}) + "\n"])
    (fault,) = restored.verify()
    assert "is not as the product writes any" in fault
    assert restored.seal(*"klm") > 0


def test_an_event_of_odd_types_is_a_fault(site: Site) -> None:
    """The same in the ledger."""
    site.seal(*"abc")
    with site.ledger.transaction() as transaction:
        transaction.audit(KIND, SUBJECT, statement=[1])
    tamper(site.ledger, "update audit_event set detail = '[]' where id = 4")
    assert any("documents a gap in words that are not" in fault for fault in site.verify())


def test_a_signature_in_other_letters_is_a_fault(site: Site, tmp_path: Path) -> None:
    """Base64 has more than one text for the same bytes; the auditor's verifier takes one, and so does this."""
    site.seal(*"abc")
    (line,) = site.place.file.lines()[0]
    assert line.signature is not None
    assert isinstance(line, Checkpoint)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(line.signature[-3]) ^ 1]
    site.rewrite([f"{replace(line, signature=f'{line.signature[:-3]}{other}==').line()}\n"])
    assert any("has a signature that is not of" in fault for fault in site.verify())
    write_pack(site.ledger, site.place, request(period=whole_time(site)), tmp_path / "pack")
    assert "has no good signature" in check(tmp_path / "pack").stdout


def test_an_event_of_another_subject_documents_nothing(site: Site, tmp_path: Path) -> None:
    """The product looks for one subject, and so does the auditor's verifier: they must not disagree."""
    site.seal(*"abc")
    with site.ledger.transaction() as transaction:
        transaction.audit(KIND, "another", x=1)
    assert site.verify() == ()
    make_pack(site.ledger, site.place, tmp_path / "pack", period=whole_time(site))
    assert check(tmp_path / "pack").returncode == 0


def test_a_restored_head_that_is_gone_is_found(restored: Site) -> None:
    """Checkpoints since the gap taken away in both places: the gap still says which link was there."""
    gap = restored.document()
    restored.rewrite([line for line in restored.lines() if json.loads(line).get("at") <= gap.at])
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 3",
    )
    assert any("links 4 to 4 were removed from the end" in fault for fault in restored.verify())


def test_a_gap_of_a_key_that_was_given_up_is_found(restored: Site) -> None:
    """It is believed still, for its old checkpoints; who kept a copy must not document anything with it."""
    old, new = restored.place.key, SigningKey.generate()
    assert old is not None
    ring = KeyRing([old.public_key, new.public_key])
    restored.place = replace(restored.place, key=new, ring=ring)
    by_new = restored.document()
    assert (by_new.key_id, restored.verify()) == (new.key_id, ())
    restored.seal(*"klm")
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 5",
        "delete from audit_chain where seq > 5",
        "delete from audit_event where id > 5",
    )
    give_numbers_back(restored.ledger)
    restored.place = replace(restored.place, key=old)
    with pytest.raises(CheckpointRefused, match="no longer in use"):
        restored.document()


def test_events_of_the_future_are_no_ground_to_document_anything(restored: Site) -> None:
    """A rewritten event that is dated late would pass for one that came after the restore."""
    tamper(restored.ledger, "update audit_event set at = '2099-01-01T00:00:00.000000Z' where id = 4")
    rebuild(restored, 4)
    with pytest.raises(CheckpointRefused, match=r"event 4 \(link 4\) is dated 2099"):
        restored.document()


def test_what_is_not_confirmed_is_not_documented(restored: Site) -> None:
    """Two people see the range, and the time up to which the backup must reach, before anything is signed for good."""
    seen: list[tuple[Gap, str]] = []

    def no(gap: Gap, restored_at: str) -> bool:
        seen.append((gap, restored_at))
        return False

    before = restored.lines()
    with pytest.raises(NotConfirmed):
        document_restore(restored.ledger, restored.place, WHY, confirm=no)
    ((gap, restored_at),) = seen
    assert (gap.restored_seq, gap.first, gap.last) == (4, 5, 10)
    with restored.ledger.reading() as reading:
        assert restored_at == utc_text(reading.value(sa.select(audit_event.c.at).where(audit_event.c.id == 4)))
    assert restored.lines() == before
    assert any("were removed from the end" in fault for fault in restored.verify())

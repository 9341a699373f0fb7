"""What a hostile sender can put into the folder: it is refused with its reason, and the rest goes on."""

import gzip
import os
from pathlib import Path

import sqlalchemy as sa

from mlc_dagster.ledger.schema import audit_event
from mlc_dagster_tests.protocols.intake import bill, drop, file_states, files, prove_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import PROFILE, file_name, invoice_csv


def told(flow: Rehearsal) -> list[str]:
    """What stands in the audit trail about refused entries."""
    with flow.ledger.reading() as reading:
        rows = reading.rows(sa.select(audit_event.c.detail).where(audit_event.c.kind == "trouble.noticed"))
    return [row["detail"]["cause"] for row in rows]


def test_links_and_odd_names_are_told_once_and_stop_nothing(flow: Rehearsal) -> None:
    """A link is read with the server's rights; a name with an escape sequence is an attack on whoever looks at it."""
    secret = flow.folder / "secret.csv"
    secret.write_bytes(invoice_csv(bill("66", "66.00")))
    (flow.outbound / file_name(7)).symlink_to(secret)
    (flow.outbound / f"\x1b[2J{file_name(8)}").write_bytes(b"x\n")
    Path(os.fsdecode(os.fsencode(flow.outbound) + b"/\xff.csv")).write_bytes(b"x\n")
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    poll = flow.poll()
    assert len(poll.refused) == 3
    assert poll.newly_refused == ()
    assert all(text.startswith("FILE_NAME: ") and text.isprintable() for text in poll.refused)
    assert sorted(told(flow)) == sorted(poll.refused)
    prove_books(flow, "N-1")
    flow.clock.advance(86_401)
    assert flow.poll().newly_refused == poll.refused


def test_a_bomb_is_refused_with_its_reason_and_the_next_file_is_posted(flow: Rehearsal) -> None:
    """The refusal is final, told with the reason code, and the bytes are kept as evidence."""
    profile = flow.folder / "packed.yaml"
    shipped = Path("mlc_dagster/stampli/profiles/stampli_lines_v1.yaml").read_text("utf-8")
    packed_rules = "end: {rule: final_newline}\n  compression: auto"
    profile.write_text(shipped.replace("end: {rule: final_newline}", packed_rules))
    flow.change_config({"stampli": {"profile": str(profile)}})
    bomb = gzip.compress(invoice_csv(bill("1", "1.00")) + b"\n" * 5_000_000)
    flow.drop(file_name(1), bomb)
    flow.drop(file_name(2), gzip.compress(invoice_csv(bill("2", "20.00"))))
    flow.process()
    assert file_states(flow) == ["REJECTED", "READ"]
    assert files(flow)[0]["reason"].startswith("FILE_COMPRESSION: ")
    assert files(flow)[0]["size"] == len(bomb)
    prove_books(flow, "N-2")
    assert PROFILE.file.compression == "none"

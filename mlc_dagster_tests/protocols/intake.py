"""What the intake tests share: building deliveries, running them, and asking ledger and books what became of them."""

import datetime as dt
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.equation import Equation, equation
from mlc_dagster.ledger.schema import audit_event, invoice, invoice_occurrence, source_file
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.money import minor_units
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.steps import PostReport, ReceiveReport, ValidateReport, post_step, receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows

Reports = tuple[ReceiveReport, ValidateReport, PostReport]
Rows = list[dict[str, str]]


def bill(source_id: str, *amounts: str, number: str | None = None, **cells: Any) -> Rows:
    """Rows of one valid invoice of Stampli's id ``source_id``, changed where a test wants it."""
    return invoice_rows(*amounts, invoice_id=source_id, invoice_number=number or f"N-{source_id}", **cells)


def drop(flow: Rehearsal, sequence: int, *bills: Rows, name: str | None = None) -> str:
    """Put one export file with these invoices into the outbound folder; its name."""
    name = name or file_name(sequence)
    flow.drop(name, invoice_csv([row for rows in bills for row in rows]))
    return name


def deliver(flow: Rehearsal, sequence: int, *bills: Rows) -> list[Reports]:
    """Drop one file and run all that two polls then want."""
    drop(flow, sequence, *bills)
    return flow.process()


def stepwise(
    flow: Rehearsal,
    wanted: RunWanted,
    *,
    after_receive: Callable[[], object] = lambda: None,
    after_validate: Callable[[], object] = lambda: None,
) -> Reports:
    """One run with something happening between its steps."""
    flow.runs += 1
    run_id = owner = f"elsewhere||1|1|step-{flow.runs}"
    inbound = flow.inbound

    def hold(*, last: bool) -> Any:
        return hold_window(flow.ledger, wanted.window_start, wanted.generation, owner=owner, run_id=run_id, last=last)

    with hold(last=False) as held:
        received = receive_step(inbound, held)
    after_receive()
    with hold(last=False) as held:
        validated = validate_step(inbound, held)
    after_validate()
    with hold(last=True) as held:
        posted = post_step(inbound, held)
    return received, validated, posted


def align(flow: Rehearsal) -> None:
    """Move the clock to the second minute of a poll window, so that a test stays within one."""
    now = flow.clock()
    start = flow.settings.poll.window_start(now) + dt.timedelta(minutes=flow.settings.poll.minutes + 1)
    flow.clock.advance((start - now).total_seconds())


@contextmanager
def served_faultily(flow: Rehearsal) -> Generator[FaultySftp]:
    """The same folder behind a server that misbehaves on demand."""
    with FaultySftp(flow.folder / "server") as server:
        (flow.folder / "sftp_password").write_text(server.password)
        sftp = {"port": server.port, "host_key": server.fingerprint, "username": server.username}
        flow.change_config({"stampli": {"sftp": sftp}})
        yield server


def invoice_row(flow: Rehearsal, source_id: str) -> Row:
    """The ledger's invoice of Stampli's id."""
    with flow.ledger.reading() as reading:
        row = reading.row(sa.select(invoice).where(invoice.c.source_key == source_id))
    assert row is not None, f"the ledger has no invoice {source_id}"
    return row


def verdict(flow: Rehearsal, source_id: str) -> str:
    """``CONFIRMED``, or state and reason: ``PARKED VENDOR_UNKNOWN``."""
    row = invoice_row(flow, source_id)
    return f"{row['state']} {row['reason']}" if row["reason"] else row["state"]


def problems(flow: Rehearsal, source_id: str) -> list[Mapping[str, Any]]:
    """What a person is told about a parked invoice."""
    found: list[Mapping[str, Any]] = invoice_row(flow, source_id)["problems"] or []
    return found


def outcomes(flow: Rehearsal, source_id: str) -> list[str]:
    """Outcomes of an invoice's appearances, in the order in which they were entered."""
    with flow.ledger.reading() as reading:
        rows = reading.rows(
            sa.select(invoice_occurrence.c.outcome, invoice_occurrence.c.reason)
            .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
            .where(invoice.c.source_key == source_id)
            .order_by(invoice_occurrence.c.id)
        )
    return [f"{row['outcome']} {row['reason']}" if row["outcome"] == "PARKED" else row["outcome"] for row in rows]


def files(flow: Rehearsal) -> list[Row]:
    """All versions of all files, oldest first."""
    with flow.ledger.reading() as reading:
        return reading.rows(sa.select(source_file).order_by(source_file.c.id))


def file_states(flow: Rehearsal) -> list[str]:
    """States of all versions of all files, oldest first."""
    return [row["state"] for row in files(flow)]


def events(flow: Rehearsal, kind: str) -> list[Row]:
    """Audit events of one kind, oldest first."""
    with flow.ledger.reading() as reading:
        return reading.rows(sa.select(audit_event).where(audit_event.c.kind == kind).order_by(audit_event.c.id))


def posted_numbers(flow: Rehearsal) -> list[str]:
    """Invoice numbers in Fusion's books, in the order in which they were stored."""
    return [booked.number for booked in flow.fusion.books.invoices()]


def whole_equation(flow: Rehearsal) -> Equation:
    """The equation over everything that was ever received."""
    with flow.ledger.reading() as reading:
        return equation(reading, FEED)


def prove_books(flow: Rehearsal, *numbers: str) -> None:
    """Fusion's books hold exactly ``numbers``, each once, and agree with the ledger to the cent; the trail verifies."""
    books = flow.fusion.books
    assert sorted(posted_numbers(flow)) == sorted(numbers)
    assert books.duplicates() == []
    found = whole_equation(flow)
    assert [fault for each in (found, *(report.equation for report in flow.reports)) for fault in each.faults] == []
    created: dict[str, Decimal] = {}
    for currency, minor in found.buckets["created"].minor.items():
        created[currency] = Decimal(minor).scaleb(-(minor_units(currency) or 0))
    assert created == books.totals(created_by=flow.fusion.client_id)
    assert found.count("created") == len(books.invoices(created_by=flow.fusion.client_id))
    for row in files(flow):
        if row["state"] == "READ":
            assert row["rows_total"] == row["rows_in_invoices"] + row["rows_quarantined"]
    seal(flow.ledger)
    checked = verify(flow.ledger)
    assert (checked.fault, checked.unsealed) == (None, 0)

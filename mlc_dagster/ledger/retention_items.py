"""What content there is to erase, kind by kind, and why it is still needed: one statement for each kind.

The same statement tells the plan and is asked once more, for one row, in the transaction that erases it.
"""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.acknowledgements import GROUP, INTERCHANGE
from mlc_dagster.ledger.database import Query
from mlc_dagster.ledger.exported import DELIVERED_STATES, RecordState
from mlc_dagster.ledger.exported import FileState as ExportState
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.holds import (
    Clause,
    HoldTerms,
    any_of,
    in_period,
    names_exported_file,
    names_invoice,
    names_source_file,
)
from mlc_dagster.ledger.schema import (
    invoice,
    invoice_occurrence,
    quarantined_row,
    source_file,
    submission,
    window_run,
)
from mlc_dagster.ledger.schema_outbound import (
    acknowledgement,
    control_number,
    export_feed,
    exported_file,
    exported_record,
    extract,
)
from mlc_dagster.ledger.schema_retention import erased_payload
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.ledger.types import UtcDateTime


class Kind(StrEnum):
    """Kinds of content, named as under ``retention:`` in mlc.yaml."""

    SOURCE_FILE = "source_files"
    INVOICE = "invoices"
    REQUEST = "requests"
    QUARANTINED_ROW = "quarantined_rows"
    EXTRACT = "extracts"
    EXPORTED_FILE = "exported_files"
    RECORD_CONTENT = "record_contents"


ARCHIVED = frozenset({Kind.SOURCE_FILE, Kind.EXTRACT, Kind.EXPORTED_FILE})
"""Kinds whose bytes are in the archive; those of the others are in columns of the ledger."""

SETTLED = tuple(
    str(state)
    for state in (
        InvoiceState.CONFIRMED,
        InvoiceState.REJECTED,
        InvoiceState.ALREADY_IN_FUSION,
        InvoiceState.VOIDED_IN_FUSION,
    )
)
"""States in which nothing more is done with an invoice's content by itself."""
_WAITS = (str(OccurrenceOutcome.WAITING), str(OccurrenceOutcome.PARKED))
_TAKEN = tuple(str(state) for state in (FileState.READ, FileState.SAME_BYTES, FileState.REJECTED))
_ENDED_FILES = tuple(str(state) for state in (*DELIVERED_STATES, ExportState.ABANDONED))


@dataclass(frozen=True)
class Needs:
    """What decides beside the rows themselves."""

    holds: Sequence[tuple[int, HoldTerms]] = ()
    feeds: Mapping[str, str] = field(default_factory=dict[str, str])
    """Source by feed of mlc.yaml; one that has not begun yet needs every extract."""
    answers: Mapping[str, dt.datetime | None] = field(default_factory=dict[str, "dt.datetime | None"])
    """Feeds whose partner acknowledges files, with the end of delivery from which on answers are expected."""
    refused: Collection[int] = ()
    """Files that a partner refused and nobody has settled."""


def candidates(kind: Kind, needs: Needs, before: dt.datetime, item: str | None = None) -> Query:
    """Content of the kind that is there and was done with ``before``.

    Columns: ``item``, ``subject`` (of the audit trail), ``name``, ``sha256`` (None: not known yet), ``bytes``,
    ``kept`` (why it is still needed; None: it may go).
    """
    build, key = _BUILDERS[kind]
    erased = sa.exists().where(erased_payload.c.kind == str(kind), erased_payload.c.item == key)
    statement = build(needs, sa.literal(before, UtcDateTime)).where(~erased)
    return statement if item is None else statement.where(key == item)


def _text(column: "sa.ColumnElement[Any]") -> "sa.ColumnElement[str]":
    return sa.cast(column, sa.Text)


def _columns(
    item: "sa.ColumnElement[str]",
    subject: "sa.ColumnElement[str]",
    name: "sa.ColumnElement[Any]",
    sha256: "sa.ColumnElement[Any]",
    size: "sa.ColumnElement[Any]",
    kept: "Sequence[tuple[Clause, sa.ColumnElement[str] | str]]",
) -> Query:
    # One branch at least: a CASE without any is none.
    reasons = sa.case(*kept, (sa.false(), ""), else_=sa.null())
    return sa.select(
        item.label("item"), subject.label("subject"), name.label("name"), sha256.label("sha256"),
        sa.func.coalesce(size, 0).label("bytes"), reasons.label("kept"),
    )  # fmt: skip


_attempt = submission.alias("attempt")
_INVOICE_NEEDED: list[tuple[Clause, Any]] = [
    (invoice.c.state.not_in(SETTLED), sa.literal("its invoice is ") + invoice.c.state),
    (
        sa.exists().where(_attempt.c.invoice_pk == invoice.c.id, _attempt.c.ended_at.is_(None)),
        "an attempt to post has not ended",
    ),
]
_REQUEST_NEEDED: list[tuple[Clause, Any]] = [
    *_INVOICE_NEEDED,
    (
        invoice.c.state == str(InvoiceState.REJECTED),
        "a newer revision may be posted, and what was tried before is looked for first",
    ),
]
_FILE_SUBJECT = sa.literal("file:") + source_file.c.feed + ":" + source_file.c.path


def _source_files(needs: Needs, before: Any) -> Query:
    of_file = invoice_occurrence.c.file_id == source_file.c.id
    open_run = sa.exists().where(
        window_run.c.feed == source_file.c.feed,
        window_run.c.window_start == source_file.c.window_start,
        window_run.c.state == "OPEN",
    )
    unsettled = (
        sa.select(sa.literal(1))
        .select_from(invoice_occurrence.join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk))
        .where(of_file, sa.or_(invoice.c.state.not_in(SETTLED), invoice_occurrence.c.outcome.in_(_WAITS)))
        .exists()
    )

    def held(terms: HoldTerms) -> Clause:
        named = (
            sa.select(sa.literal(1))
            .select_from(invoice_occurrence.join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk))
            .where(of_file, names_invoice(terms))
            .exists()
        )
        # Of rows nobody could read, and of files that repeat others, nobody knows whose they are.
        unclear = sa.or_(sa.func.coalesce(source_file.c.rows_quarantined, 0) > 0, source_file.c.state != "READ")
        return sa.and_(names_source_file(terms), sa.or_(named, unclear) if terms.unclear_of_whom else sa.true())

    done = sa.func.coalesce(source_file.c.read_at, source_file.c.received_at)
    return _columns(
        _text(source_file.c.id), _FILE_SUBJECT, source_file.c.path, source_file.c.sha256, source_file.c.size,
        [
            (source_file.c.state.not_in(_TAKEN), "it was not read yet"),
            (open_run, "its window is open"),
            (unsettled, "invoices of it are not settled"),
            *_held(needs, held),
        ],
    ).where(source_file.c.sha256.is_not(None), done < before)  # fmt: skip


def _invoices(needs: Needs, before: Any) -> Query:
    def held(terms: HoldTerms) -> Clause:
        return sa.and_(names_invoice(terms), names_source_file(terms))

    return (
        _columns(
            _text(invoice_occurrence.c.id),
            sa.literal("invoice:") + _text(invoice.c.id),
            invoice_occurrence.c.number,
            sa.null(),
            sa.func.length(invoice_occurrence.c.content),
            [
                *_INVOICE_NEEDED,
                (invoice_occurrence.c.outcome.in_(_WAITS), "a person decides about this appearance of it"),
                *_held(needs, held),
            ],
        )
        .select_from(
            invoice_occurrence.join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk).join(
                source_file, source_file.c.id == invoice_occurrence.c.file_id
            )
        )
        .where(invoice.c.changed_at < before)
    )


def _requests(needs: Needs, before: Any) -> Query:
    def held(terms: HoldTerms) -> Clause:
        return sa.and_(names_invoice(terms), names_source_file(terms))

    name = sa.literal("request ") + _text(submission.c.attempt) + sa.literal(" of ") + invoice.c.number
    return (
        _columns(
            _text(submission.c.id),
            sa.literal("invoice:") + _text(invoice.c.id),
            name,
            submission.c.body_sha256,
            sa.func.length(submission.c.body),
            [*_REQUEST_NEEDED, *_held(needs, held)],
        )
        .select_from(
            submission.join(invoice, invoice.c.id == submission.c.invoice_pk)
            .outerjoin(invoice_occurrence, invoice_occurrence.c.id == submission.c.occurrence_id)
            .outerjoin(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        )
        .where(sa.func.coalesce(submission.c.ended_at, submission.c.created_at) < before)
    )


_QUARANTINED = _text(quarantined_row.c.file_id) + ":" + _text(quarantined_row.c.line)


def _quarantined(needs: Needs, before: Any) -> Query:
    def held(terms: HoldTerms) -> Clause:
        other = sa.false() if terms.company is None else quarantined_row.c.company_id != terms.company
        return sa.and_(names_source_file(terms), ~sa.func.coalesce(other, sa.false()))

    name = source_file.c.path + sa.literal(" line ") + _text(quarantined_row.c.line)
    return (
        _columns(
            _QUARANTINED,
            _FILE_SUBJECT,
            name,
            sa.null(),
            sa.func.length(quarantined_row.c.raw),
            [(source_file.c.state.not_in(_TAKEN), "its file was not read to its end yet"), *_held(needs, held)],
        )
        .select_from(quarantined_row.join(source_file, source_file.c.id == quarantined_row.c.file_id))
        .where(sa.func.coalesce(source_file.c.read_at, source_file.c.received_at) < before)
    )


def _extracts(needs: Needs, before: Any) -> Query:
    behind = sa.exists().where(export_feed.c.source == extract.c.source, export_feed.c.extract_id < extract.c.id)
    begun = [
        (extract.c.source == source) & ~sa.exists().where(export_feed.c.name == name)
        for name, source in needs.feeds.items()
    ]
    later = exported_record.alias("later")
    newest = ~sa.exists().where(
        later.c.feed == exported_record.c.feed,
        later.c.record_id == exported_record.c.record_id,
        later.c.version > exported_record.c.version,
    )
    of_extract = (exported_record.c.extract_id == extract.c.id, _of_source(extract.c.source))
    given_up = sa.exists().where(
        *of_extract, exported_record.c.state.in_([str(RecordState.HELD), str(RecordState.ABANDONED)]), newest
    )
    waiting = sa.exists().where(*of_extract, exported_record.c.state == str(RecordState.PENDING))

    def held(terms: HoldTerms) -> Clause:
        if terms.file is None:
            return in_period(terms, extract.c.read_from, extract.c.window_end)
        named = (
            sa.select(sa.literal(1))
            .select_from(exported_record.join(exported_file, exported_file.c.id == exported_record.c.file_id))
            .where(*of_extract, names_exported_file(terms))
            .exists()
        )
        return sa.and_(
            in_period(terms, extract.c.read_from, extract.c.window_end),
            sa.or_(extract.c.sha256 == terms.file, named),
        )

    name = extract.c.source + sa.literal(" extract ") + _text(extract.c.id)
    return _columns(
        _text(extract.c.id), sa.literal("extract:") + _text(extract.c.id), name, extract.c.sha256, extract.c.bytes,
        [
            (sa.or_(behind, *begun), "a feed has not taken it yet"),
            (waiting, "a file made of it is not settled"),
            (given_up, "records held or given up are made of it"),
            *_held(needs, held),
        ],
    ).where(extract.c.created_at < before)  # fmt: skip


def _of_source(source: "sa.ColumnElement[Any]") -> Clause:
    return exported_record.c.feed.in_(sa.select(export_feed.c.name).where(export_feed.c.source == source))


def _exported_files(needs: Needs, before: Any) -> Query:
    groups = (
        sa.select(sa.func.count())
        .where(control_number.c.file_id == exported_file.c.id, control_number.c.level == GROUP)
        .scalar_subquery()
    )
    answered = (
        sa.select(sa.func.count(acknowledgement.c.group_control.distinct()))
        .where(
            acknowledgement.c.file_id == exported_file.c.id,
            acknowledgement.c.set_control.is_(None),
            acknowledgement.c.group_code != INTERCHANGE,
        )
        .scalar_subquery()
    )
    expected = [
        sa.and_(exported_file.c.feed == feed, *([] if since is None else [exported_file.c.ended_at >= since]))
        for feed, since in needs.answers.items()
    ]
    unanswered = sa.and_(sa.or_(sa.false(), *expected), exported_file.c.state != "ABANDONED", groups > answered)

    def held(terms: HoldTerms) -> Clause:
        return sa.and_(
            in_period(terms, exported_file.c.window_start, exported_file.c.window_end), names_exported_file(terms)
        )

    done = sa.func.coalesce(exported_file.c.resent_at, exported_file.c.ended_at, exported_file.c.created_at)
    return _columns(
        _text(exported_file.c.id), sa.literal("export:") + _text(exported_file.c.id), exported_file.c.name,
        exported_file.c.sha256, exported_file.c.bytes,
        [
            (exported_file.c.state.not_in(_ENDED_FILES), sa.literal("it is ") + exported_file.c.state),
            (unanswered, "its partner has not acknowledged it"),
            (exported_file.c.id.in_(list(needs.refused)), "its partner refused it"),
            *_held(needs, held),
        ],
    ).where(done < before)  # fmt: skip


def _record_contents(needs: Needs, before: Any) -> Query:
    later = exported_record.alias("later")
    same = (later.c.feed == exported_record.c.feed, later.c.record_id == exported_record.c.record_id)
    replaced = sa.exists().where(
        *same, later.c.version > exported_record.c.version, later.c.state == str(RecordState.SENT)
    )
    newer = sa.exists().where(*same, later.c.version > exported_record.c.version)
    is_sent = exported_record.c.state == str(RecordState.SENT)
    tried_again = exported_record.c.state.in_([str(RecordState.HELD), str(RecordState.ABANDONED)])

    def held(terms: HoldTerms) -> Clause:
        of_file = sa.true()
        if terms.file is not None:
            of_file = (
                sa.select(sa.literal(1))
                .select_from(exported_file)
                .where(exported_file.c.id == exported_record.c.file_id, names_exported_file(terms))
                .exists()
            )
        return sa.and_(in_period(terms, exported_record.c.read_at, exported_record.c.read_at), of_file)

    name = exported_record.c.record_id + sa.literal(" version ") + _text(exported_record.c.version)
    subject = sa.literal("record:") + exported_record.c.feed + "/" + exported_record.c.record_id
    return _columns(
        _text(exported_record.c.id), subject, name, exported_record.c.content_sha256,
        sa.func.length(exported_record.c.content),
        [
            (exported_record.c.state == str(RecordState.PENDING), "it is on its way"),
            (sa.and_(tried_again, ~newer), "it is held or given up, and tried again"),
            (sa.and_(is_sent, ~replaced), "the next change is told by what the partner has"),
            *_held(needs, held),
        ],
    ).where(
        exported_record.c.content.is_not(None),
        sa.func.coalesce(exported_record.c.ended_at, exported_record.c.created_at) < before,
    )  # fmt: skip


def _held(needs: Needs, held: Callable[[HoldTerms], Clause]) -> list[tuple[Clause, str]]:
    return any_of([(number, held(terms)) for number, terms in needs.holds])


_BUILDERS: "Mapping[Kind, tuple[Callable[[Needs, Any], Query], sa.ColumnElement[str]]]" = {
    Kind.SOURCE_FILE: (_source_files, _text(source_file.c.id)),
    Kind.INVOICE: (_invoices, _text(invoice_occurrence.c.id)),
    Kind.REQUEST: (_requests, _text(submission.c.id)),
    Kind.QUARANTINED_ROW: (_quarantined, _QUARANTINED),
    Kind.EXTRACT: (_extracts, _text(extract.c.id)),
    Kind.EXPORTED_FILE: (_exported_files, _text(exported_file.c.id)),
    Kind.RECORD_CONTENT: (_record_contents, _text(exported_record.c.id)),
}

"""What the outbound controls compare: each holds two things that were counted apart against each other.

What belongs here: the comparisons, over a feed's files of some windows or of all. What does not: Dagster.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from mlc_dagster.exports.extract_file import iter_stored
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.recognition import Origin, Outcome, Selection, recognise
from mlc_dagster.exports.rest import rest_extraction
from mlc_dagster.fusion.changes import Listed
from mlc_dagster.fusion.client import Exchange
from mlc_dagster.fusion.records import Journal, Read
from mlc_dagster.ledger import acknowledgements, control_numbers, exported, extracts
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.exported import FileState
from mlc_dagster.ledger.known_versions import latest_versions
from mlc_dagster.money import total
from mlc_dagster.settings import AcknowledgementSettings
from mlc_dagster.sftp.errors import SftpError

STAT = "STAT"
_DELIVERED = (FileState.SENT, FileState.INFERRED)
_MOST_LOOKED_AT = 50


@dataclass
class Finding:
    """What one control found: faults in words, and the numbers on both sides."""

    faults: list[str] = field(default_factory=list[str])
    numbers: dict[str, int | str] = field(default_factory=dict[str, int | str])
    uncertain: str | None = None
    """Why nothing could be compared; neither agreement nor disagreement."""


Range = tuple[dt.datetime, dt.datetime] | None


def files_in(outbound: Outbound, feed: Feed, windows: Range) -> list[Row]:
    """The feed's files of the windows, abandoned ones left out; all of them where windows are None."""
    with outbound.ledger.reading() as reading:
        if windows is None:
            rows = exported.list_files(reading, feed.name, limit=1_000_000)
        else:
            rows = exported.files_of_windows(reading, feed.name, *windows)
    return [row for row in rows if row["state"] != FileState.ABANDONED]


def debits_equal_credits(outbound: Outbound, feed: Feed, windows: Range) -> Finding:
    """The journals in the files, read again from their extracts: debits equal credits, and the files' own totals."""
    finding = Finding()
    journals = 0
    for row in files_in(outbound, feed, windows):
        sums: Counter[str] = Counter()
        exact: dict[str, Decimal] = {}
        for read in _reads_of(outbound, feed, row["id"]):
            journals += 1
            assert isinstance(read.content, Journal)  # noqa: S101 - feeds of journals only
            finding.faults += _unbalanced(read.content, row["name"])
            for name, amounts in _amounts(read.content):
                exact[name] = total([exact.get(name, Decimal(0)), *amounts])
                sums[name] += len(amounts)
        for name, text in row["totals"].items():
            if name in exact and Decimal(text) != exact[name]:
                finding.faults.append(f"{row['name']}: {name} is {text} in the file, {exact[name]} in Fusion's records")
    finding.numbers = {"journals": journals}
    return finding


def exported_equals_fusion(outbound: Outbound, feed: Feed, windows: Range) -> Finding:
    """Every id that Fusion shows in the windows was read, and what was read of it is in a file, or held."""
    if windows is None:
        with outbound.ledger.reading() as reading:
            end = extracts.read_until(reading, feed.source)
        windows = (outbound.source_start(feed.source), end) if end is not None else None
    if windows is None:
        return Finding(numbers={"in_fusion": 0})
    start, end = windows
    listed = asyncio.run(_listed(outbound, feed.source, start, end))
    finding = Finding(numbers={"in_fusion": len(listed)})
    with outbound.ledger.reading() as reading:
        known = extracts.known_since(reading, feed.source, [row.fusion_id for row in listed])
        for row in listed:
            seen = known.get(row.fusion_id)
            if row.fusion_id not in known:
                finding.faults.append(f"{feed.source} {row.fusion_id}: Fusion shows it, and it was never read")
            elif row.last_update_date is not None and seen is not None and seen < row.last_update_date < end:
                finding.faults.append(
                    f"{feed.source} {row.fusion_id}: changed at {row.last_update_date:%Y-%m-%d %H:%M:%S} UTC, "
                    f"last read as of {seen:%Y-%m-%d %H:%M:%S} UTC"
                )
        covering = extracts.extracts_covering(reading, feed.source, start, end)
    sent = 0
    for extract in covering:
        for outcome, record_id in _what_became(outbound, feed, extract):
            if outcome is Outcome.SEND:
                finding.faults.append(f"{record_id}: was read, and is neither in a file nor held")
            sent += outcome is Outcome.UNCHANGED
    finding.numbers["delivered_or_on_their_way"] = sent
    return finding


def _what_became(outbound: Outbound, feed: Feed, extract: Row) -> Iterator[tuple[Outcome, str]]:
    """Each reading of an extract recognised once more: SEND is one that building has missed."""
    selection = Selection.of(feed.settings, outbound.settings.poll.start)
    origin = Origin(extract["id"], extract["read_at"])
    for chunk in extracts.chunks(iter_stored(outbound.archive.path(extract["sha256"]))):
        ids = [stored.record_id for stored in chunk]
        with outbound.ledger.reading() as reading:
            latest = latest_versions(reading, feed.name, ids)
            newest = extracts.latest_readings(reading, feed.source, ids)
        for stored in chunk:
            record_id = stored.record_id
            decision = recognise(stored, origin, latest.get(record_id), selection, newest.get(record_id))
            held = decision.outcome is Outcome.SEND and decision.row_id is not None
            yield (Outcome.STALE if held else decision.outcome), record_id


def delivered_bytes_match(outbound: Outbound, feed: Feed, windows: Range) -> Finding:
    """Archived bytes have their hash and size, the server's own stat agreed, and what still lies there agrees now."""
    finding = Finding()
    rows = [row for row in files_in(outbound, feed, windows) if row["state"] in _DELIVERED]
    finding.numbers = {"files": len(rows), "bytes": sum(row["bytes"] for row in rows)}
    for row in rows:
        try:
            size = outbound.archive.path(row["sha256"]).stat().st_size
        except ArchiveDamaged as damage:
            finding.faults.append(f"{row['name']}: {damage}")
            continue
        if size != row["bytes"]:
            finding.faults.append(f"{row['name']}: {size} bytes in the archive, {row['bytes']} in the ledger")
        if row["server_size"] is not None and row["server_size"] != row["bytes"]:
            finding.faults.append(
                f"{row['name']}: the server said {row['server_size']} bytes, sent were {row['bytes']}"
            )
    try:
        finding.faults += _on_the_server(feed, rows[-_MOST_LOOKED_AT:], finding)
    except SftpError as error:
        # The ledger and the archive were compared; only what lies there now was not.
        finding.uncertain = str(error)
    return finding


def sequence_has_no_gap(outbound: Outbound, feed: Feed) -> Finding:
    """File numbers and control numbers count up without a hole; voided ones are explained."""
    with outbound.ledger.reading() as reading:
        faults = list(exported.sequence_gaps(reading, feed.name))
        if feed.settings.partner is not None:
            faults += control_numbers.gaps(reading, feed.settings.partner.key)
        files = exported.list_files(reading, feed.name, limit=1)
    return Finding(faults, {"last_sequence": files[0]["sequence"] if files else 0})


def acknowledged_in_time(outbound: Outbound, feed: Feed) -> Finding:
    """Every delivered group was accepted by the partner, or its time is not over yet."""
    settings = feed.settings.acknowledgement
    if not isinstance(settings, AcknowledgementSettings):
        return Finding()
    within = dt.timedelta(seconds=settings.expected_within)
    with outbound.ledger.reading() as reading:
        overdue = acknowledgements.overdue(reading, feed.name, reading.now, within)
        rejected = acknowledgements.rejected(reading, feed.name)
    faults = [f"{row['name']}: no acknowledgement within {within}" for row in overdue]
    faults += [
        f"{row['name'] or row['path']}: the partner answered {row['code']} {row['text'] or ''}" for row in rejected
    ]
    return Finding(faults, {"overdue": len(overdue), "rejected": len(rejected)})


def _reads_of(outbound: Outbound, feed: Feed, file_id: int) -> Iterator[Read]:
    """The readings that went into a file, from their extracts."""
    with outbound.ledger.reading() as reading:
        records = exported.file_records(reading, file_id)
        wanted_ids: dict[int, dict[str, str]] = {}
        for record in records:
            wanted_ids.setdefault(record["extract_id"], {})[record["record_id"]] = record["content_sha256"]
        paths = {number: extracts.extract_row(reading, number) for number in wanted_ids}
    for number, ids in wanted_ids.items():
        row = paths[number]
        if row is None:
            continue
        for stored in iter_stored(outbound.archive.path(row["sha256"])):
            if ids.get(stored.record_id) == stored.sha256:
                yield stored.read(feed.source)


def _unbalanced(journal: Journal, name: str) -> Iterator[str]:
    if journal.currency != STAT:
        for side in ("entered", "accounted"):
            debit = total(getattr(line, f"{side}_dr") or Decimal(0) for line in journal.lines)
            credit = total(getattr(line, f"{side}_cr") or Decimal(0) for line in journal.lines)
            if debit != credit:
                currency = journal.currency if side == "entered" else journal.ledger_currency
                yield f"{name}: journal {journal.record_id}: {side} debits {debit}, credits {credit} {currency}"


def _amounts(journal: Journal) -> Iterator[tuple[str, Sequence[Decimal]]]:
    for side, currency in (("entered", journal.currency), ("accounted", journal.ledger_currency)):
        for sign in ("dr", "cr"):
            found = [amount for line in journal.lines if (amount := getattr(line, f"{side}_{sign}")) is not None]
            yield f"{side}_{sign} {currency}", found


def _on_the_server(feed: Feed, rows: Sequence[Row], finding: Finding) -> Iterator[str]:
    if not rows:
        return
    there = 0
    with feed.open_session() as session:
        for row in rows:
            found = session.stat(f"{row['directory'].rstrip('/')}/{row['name']}")
            if found is None:
                continue
            there += 1
            if found.size is not None and found.size != row["bytes"]:
                yield f"{row['name']}: {found.size} bytes lie on the server, sent were {row['bytes']}"
    finding.numbers["still_on_the_server"] = there


async def _listed(outbound: Outbound, source: str, start: dt.datetime, end: dt.datetime) -> list[Listed]:
    async with outbound.open_client(_unheard) as client:
        return await rest_extraction(client, source, outbound.settings).listed(start, end)


def _unheard(exchange: Exchange) -> None:
    """Nobody counts these."""

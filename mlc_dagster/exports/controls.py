"""What the outbound controls compare: each holds two things that were counted apart against each other.

What belongs here: the comparisons, over a feed's files of some windows or of all. What does not: Dagster.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from mlc_dagster.exports.extract_file import iter_stored
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.recognition import Origin, Outcome, Selection, recognise
from mlc_dagster.exports.rest import rest_extraction
from mlc_dagster.fusion.changes import Listed
from mlc_dagster.fusion.journal_lines import JournalLine
from mlc_dagster.fusion.records import Journal, Read
from mlc_dagster.ledger import acknowledgements, control_numbers, exported, extracts, feeds, unreadable
from mlc_dagster.ledger.archive import ArchiveDamaged, PayloadErased
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
    told: int = 0
    """How many of the faults have an alert of their own."""


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
    journals = erased = 0
    for row in files_in(outbound, feed, windows):
        sums: Counter[str] = Counter()
        exact: dict[str, Decimal] = {}
        try:
            paths = _paths_of(outbound, row["id"])
        except PayloadErased:
            # Compared while there was something to compare; the retention rules have taken it since.
            erased += 1
            continue
        for read in _reads_of(feed, paths):
            journals += 1
            assert isinstance(read.content, Journal)  # noqa: S101 - feeds of journals only
            finding.faults += _unbalanced(read.content, row["name"])
            for name, amounts in _amounts(read.content):
                exact[name] = total([exact.get(name, Decimal(0)), *amounts])
                sums[name] += len(amounts)
        for name, text in row["totals"].items():
            if name in exact and Decimal(text) != exact[name]:
                finding.faults.append(f"{row['name']}: {name} is {text} in the file, {exact[name]} in Fusion's records")
    finding.numbers = {"journals": journals, **_erased("files_of_erased_extracts", erased)}
    return finding


def exported_equals_fusion(outbound: Outbound, feed: Feed, windows: Range) -> Finding:
    """Every id that Fusion shows in the windows was read, and what was read of it is in a file, or held.

    A document that cannot be read is a fault until it can be, of whatever window it is.
    """
    finding = Finding()
    with outbound.ledger.reading() as reading:
        aside = {int(row["fusion_id"]): row for row in unreadable.unreadable_documents(reading, feed.source)}
        if windows is None:
            end = extracts.read_until(reading, feed.source)
            windows = (outbound.source_start(feed.source), end) if end is not None else None
    for fusion_id, row in aside.items():
        since = f"{row['first_seen']:%Y-%m-%d %H:%M} UTC"
        finding.faults.append(f"{feed.source} {fusion_id}: cannot be read since {since}: {row['text']}")
    finding.told = len(aside)
    finding.numbers = {"in_fusion": 0, "cannot_be_read": len(aside)}
    if windows is None:
        return finding
    start, end = windows
    listed = asyncio.run(_listed(outbound, feed.source, start, end))
    finding.numbers["in_fusion"] = len(listed)
    with outbound.ledger.reading() as reading:
        known = extracts.known_since(reading, feed.source, [row.fusion_id for row in listed])
        for row in listed:
            seen = known.get(row.fusion_id)
            if row.fusion_id in aside:
                continue
            if row.fusion_id not in known:
                finding.faults.append(f"{feed.source} {row.fusion_id}: Fusion shows it, and it was never read")
            elif row.last_update_date is not None and seen is not None and seen < row.last_update_date < end:
                finding.faults.append(
                    f"{feed.source} {row.fusion_id}: changed at {row.last_update_date:%Y-%m-%d %H:%M:%S} UTC, "
                    f"last read as of {seen:%Y-%m-%d %H:%M:%S} UTC"
                )
        position = feeds.position_of(reading, feed.name)
        covering = extracts.extracts_of_windows(reading, feed.source, start, end, up_to=position)
    sent = erased = 0
    for extract in covering:
        try:
            path = outbound.archive.path(extract["sha256"])
        except PayloadErased:
            erased += 1
            continue
        for outcome, record_id in _what_became(outbound, feed, extract, path):
            if outcome is Outcome.SEND:
                finding.faults.append(f"{record_id}: was read, and is neither in a file nor held")
            sent += outcome is Outcome.UNCHANGED
    finding.numbers |= {"delivered_or_on_their_way": sent, **_erased("extracts_erased", erased)}
    return finding


def _what_became(outbound: Outbound, feed: Feed, extract: Row, path: Path) -> Iterator[tuple[Outcome, str]]:
    """Each reading of an extract recognised once more: SEND is one that building has missed."""
    selection = Selection.of(feed.settings, outbound.settings.poll.start)
    origin = Origin(extract["id"], extract["read_at"])
    for chunk in extracts.chunks(iter_stored(path)):
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
    """Archived bytes have their hash and size, the server's own stat agreed, and what still lies there agrees now.

    A file of unknown outcome is a fault, whatever its windows: of it nothing is known to match.
    """
    finding = Finding()
    with outbound.ledger.reading() as reading:
        unknown = exported.list_files(reading, feed.name, [FileState.UNKNOWN], limit=1000)
    finding.faults += [
        f"{row['name']}: its outcome is UNKNOWN: {row['reason']} (mlc exports show {row['id']})" for row in unknown
    ]
    rows = [row for row in files_in(outbound, feed, windows) if row["state"] in _DELIVERED]
    finding.numbers = {"files": len(rows), "bytes": sum(row["bytes"] for row in rows)}
    erased = 0
    for row in rows:
        try:
            size = outbound.archive.path(row["sha256"]).stat().st_size
        except PayloadErased:
            erased += 1
            size = row["bytes"]
        except ArchiveDamaged as damage:
            finding.faults.append(f"{row['name']}: {damage}")
            continue
        if size != row["bytes"]:
            finding.faults.append(f"{row['name']}: {size} bytes in the archive, {row['bytes']} in the ledger")
        if row["server_size"] is not None and row["server_size"] != row["bytes"]:
            finding.faults.append(
                f"{row['name']}: the server said {row['server_size']} bytes, sent were {row['bytes']}"
            )
    finding.numbers |= _erased("files_erased", erased)
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


def _paths_of(outbound: Outbound, file_id: int) -> list[tuple[Path, dict[str, str]]]:
    """The extracts that a file was made of, each with the readings of it (hash by record) that went into the file."""
    with outbound.ledger.reading() as reading:
        records = exported.file_records(reading, file_id)
        wanted_ids: dict[int, dict[str, str]] = {}
        for record in records:
            wanted_ids.setdefault(record["extract_id"], {})[record["record_id"]] = record["content_sha256"]
        rows = {number: extracts.extract_row(reading, number) for number in wanted_ids}
    return [
        (outbound.archive.path(row["sha256"]), wanted_ids[number]) for number, row in rows.items() if row is not None
    ]


def _reads_of(feed: Feed, paths: Sequence[tuple[Path, dict[str, str]]]) -> Iterator[Read]:
    """The readings that went into a file."""
    for path, ids in paths:
        for stored in iter_stored(path):
            if ids.get(stored.record_id) == stored.sha256:
                yield stored.read(feed.source)


def _erased(name: str, count: int) -> dict[str, int | str]:
    """Only told where there is any: without retention rules nobody is to wonder about it."""
    return {name: count} if count else {}


def _unbalanced(journal: Journal, name: str) -> Iterator[str]:
    sums = {amount: total(found) for amount, found in _amounts(journal)}
    for amount, debit in sums.items():
        side, currency = amount.split(" ", 1)
        if side.endswith("_dr") and currency != STAT:
            credit = sums[f"{side[:-3]}_cr {currency}"]
            if debit != credit:
                yield f"{name}: journal {journal.record_id}: {side[:-3]} debits {debit}, credits {credit} {currency}"


def _amounts(journal: Journal) -> Iterator[tuple[str, Sequence[Decimal]]]:
    """Amounts of the lines by side and currency; statistical ones are quantities, whatever the ledger's currency."""
    lines: dict[str | None, list[JournalLine]] = {}
    for line in journal.lines:
        lines.setdefault(line.currency or journal.currency, []).append(line)
    found: dict[str, list[Decimal]] = {}
    for own, of_currency in lines.items():
        for side, currency in (("entered", own), ("accounted", STAT if own == STAT else journal.ledger_currency)):
            for sign in ("dr", "cr"):
                amounts = [value for line in of_currency if (value := getattr(line, f"{side}_{sign}")) is not None]
                found.setdefault(f"{side}_{sign} {currency}", []).extend(amounts)
    yield from found.items()


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
    # Nobody counts these requests.
    async with outbound.open_client(lambda _: None) as client:
        return await rest_extraction(client, source, outbound.settings).listed(start, end)

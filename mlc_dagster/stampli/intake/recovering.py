"""Files that the archive has and the ledger does not, after a restore: taken in again, to be read like any other.

Belongs here: entering them as RECEIVED files of the window that is open now. Does not: finding them
(``ledger.stranded``), and what becomes of their invoices: those that Fusion has are found there as usual.
"""

import datetime as dt
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.received_journal import Noted
from mlc_dagster.ledger.schema import feed as feed_table
from mlc_dagster.ledger.schema import source_file
from mlc_dagster.ledger.stranded import Unreferred, find_unreferred, told_of_young
from mlc_dagster.ledger.windows import GenerationKind, ensure_window, open_generation, pin_cron, window_key
from mlc_dagster.sftp.listing import is_safe_name
from mlc_dagster.stampli.inbound import FEED, Inbound


class NotRecovered(Expected):
    """What was asked for cannot be taken in; nothing was changed."""

    kind = FailureKind.CONFIGURATION


@dataclass(frozen=True)
class Recovered:
    """What was taken in, and what was not."""

    window: str | None = None
    """Of the files, as ``mlc files list`` names it; None where there are none."""
    files: tuple[str, ...] = ()
    """Paths that the next run reads."""
    left: tuple[str, ...] = ()
    """Sentences: what was asked for and is not taken in, and why."""
    nameless: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes by SHA-256 of entries that nothing names."""
    lost: tuple[str, ...] = ()
    """Paths of files that were received and of which the bytes are gone."""
    later: str | None = None
    """Of files that may be on their way: when to ask again."""


def recover_files(
    inbound: Inbound, approval: Approval, wanted: Collection[str] | None = None, *, name: str | None = None
) -> Recovered:
    """Enter such files as received, in a generation of their own of the window that is open now.

    Args:
        inbound: the wiring; nothing is connected.
        approval: of two people.
        wanted: hashes, or how they begin; None for all that the journal of receipts names.
        name: that the one entry in ``wanted`` had in the folder, where the journal does not tell.

    Raises:
        NotRecovered: an entry is not to be found, or its name is none of the profile's.
        NotApproved: mlc.yaml lists who may approve, and one of the two is not on it.
        ArchiveDamaged: the one entry that was asked for holds other bytes.
    """
    with inbound.ledger.reading() as reading:
        found = find_unreferred(reading, inbound.archive, inbound.received_journal)
    chosen = [each.noted for each in found.files]
    if wanted is not None:
        chosen = _chosen(inbound, found, wanted, name)
    whole, left = _whole(inbound, chosen)
    window, entered = None, ()
    if whole:
        with inbound.ledger.transaction() as transaction:
            window, entered, older = _enter(inbound, transaction, approval, whole, overtaken=name is not None)
            left += older
    return Recovered(
        window, tuple(noted.seen.path for noted in entered), tuple(left), found.nameless,
        tuple(noted.seen.path for noted in found.lost), told_of_young(found),
    )  # fmt: skip


def _chosen(inbound: Inbound, found: Unreferred, wanted: Collection[str], name: str | None) -> list[Noted]:
    sizes = {each.noted.sha256: each.bytes for each in found.files} | found.nameless
    notes = {each.noted.sha256: each.noted for each in found.files}
    chosen: list[Noted] = []
    for text in dict.fromkeys(wanted):
        hashes = [sha256 for sha256 in sizes if sha256.startswith(text.lower())]
        if len(hashes) != 1:
            how = "several entries begin so; write more of it" if hashes else (
                "no such entry that the ledger does not know; one that is younger than an hour may be on its way"
            )  # fmt: skip
            raise NotRecovered(f"{text}: {how}; nothing was changed")
        (sha256,) = hashes
        if name is not None:
            chosen.append(_named(inbound, sha256, sizes[sha256], name))
        elif sha256 in notes:
            chosen.append(notes[sha256])
        else:
            raise NotRecovered(
                f"{text}: nothing tells which file this was; say it with --as NAME, if it is one of Stampli's; nothing "
                "was changed"
            )
    return chosen


def _named(inbound: Inbound, sha256: str, size: int, name: str) -> Noted:
    if not is_safe_name(name) or not inbound.profile.matches(name):
        raise NotRecovered(f"--as {name}: is no name of a file of profile {inbound.profile.name}; nothing was changed")
    # Its time is not known: one that still lies in the folder is fetched once more, and found to be the same bytes.
    return Noted(sha256, Seen(posixpath.join(inbound.stampli.sftp.directory, name), size, None), inbound.ledger.now())


def _whole(inbound: Inbound, chosen: Sequence[Noted]) -> tuple[list[Noted], list[str]]:
    """Those of which the bytes are as they were received, and why the others are not taken."""
    whole: list[Noted] = []
    left: list[str] = []
    for noted in chosen:
        try:
            inbound.archive.path(noted.sha256)
            whole.append(noted)
        except ArchiveDamaged as damaged:
            left.append(f"{noted.seen.path}: {damaged}")
    return whole, left


def _enter(
    inbound: Inbound, transaction: Transaction, approval: Approval, chosen: Sequence[Noted], *, overtaken: bool
) -> tuple[str | None, tuple[Noted, ...], list[str]]:
    """(the window, what was entered, why the rest was not)."""
    # Two that recover at once take turns here: the second finds what the first has entered.
    feed = transaction.row(sa.select(feed_table).where(feed_table.c.name == FEED).with_for_update())
    if feed is None or feed["opened_at"] is None:
        raise NotRecovered(
            "nobody has decided yet about the files that lie in the folder: run `mlc files baseline` or `mlc files "
            "process` first, so that these are read; nothing was changed"
        )
    paths = {noted.seen.path for noted in chosen}
    rows = _rows_of(transaction, paths, {noted.sha256 for noted in chosen})
    known = {sha256 for _, sha256, _ in rows}
    newest: dict[str, dt.datetime] = {}
    for path, _, at in rows:
        if at is not None and at > newest.get(path, dt.datetime.min.replace(tzinfo=dt.UTC)):
            newest[path] = at
    todo: list[Noted] = []
    left: list[str] = []
    for noted in chosen:
        if noted.sha256 in known:
            continue
        at = newest.get(noted.seen.path)
        if at is not None and at > noted.at and not overtaken:
            # As the latest version it would overtake what its sender wrote after it.
            left.append(
                f"{noted.seen.path} (received {noted.at:%Y-%m-%d %H:%M} UTC, {noted.sha256[:12]}): a version of it was "
                f"received since, {at:%Y-%m-%d %H:%M} UTC, and counts as newer; if this one must be read all the same, "
                "name its hash with --as and a name of its own"
            )
        else:
            todo.append(noted)
    if not todo:
        return None, (), left
    pin_cron(transaction, inbound.settings.poll.cron)
    window = inbound.settings.poll.window_start(transaction.now)
    ensure_window(transaction, FEED, window, inbound.settings.poll.minutes)
    generation = open_generation(transaction, FEED, window, GenerationKind.FILES)
    waiting: list[Noted] = todo
    while waiting:
        # Versions of one path one after the other, as they were received.
        first: dict[str, Noted] = {}
        for noted in waiting:
            first.setdefault(noted.seen.path, noted)
        _take_in(inbound, transaction, approval, first, window, generation)
        waiting = [noted for noted in waiting if first[noted.seen.path] is not noted]
    return f"{window_key(window)} g{generation}", tuple(todo), left


def _rows_of(
    transaction: Transaction, paths: Collection[str], hashes: Collection[str]
) -> list[tuple[str, str | None, dt.datetime | None]]:
    """(path, SHA-256, when received) of every row of these paths or hashes."""
    found: list[tuple[str, str | None, dt.datetime | None]] = []
    for column, values in ((source_file.c.path, sorted(paths)), (source_file.c.sha256, sorted(hashes))):
        for start in range(0, len(values), 500):
            statement = sa.select(source_file.c.path, source_file.c.sha256, source_file.c.received_at).where(
                source_file.c.feed == FEED, column.in_(values[start : start + 500])
            )
            found += [(path, sha256, at) for path, sha256, at in transaction.connection.execute(statement)]
    return found


def _take_in(
    inbound: Inbound,
    transaction: Transaction,
    approval: Approval,
    files: Mapping[str, Noted],
    window: dt.datetime,
    generation: int,
) -> None:
    profile = f"{inbound.profile.name}@{inbound.profile.digest}"
    keys = ledger_files.assign(transaction, FEED, [noted.seen for noted in files.values()], window, generation)
    for key, noted in zip(keys, files.values(), strict=True):
        row = transaction.row(sa.select(source_file).where(source_file.c.id == key))
        assert row is not None  # noqa: S101 - assigned above
        size = row["size"] if noted.seen.size is None else noted.seen.size
        state, _ = ledger_files.received(transaction, row, sha256=noted.sha256, size=size, profile=profile)
        if noted.parts:
            ledger_files.parts_received(transaction, row, noted.parts)
        approval.record(
            transaction, "file.recovered", f"file:{FEED}:{noted.seen.path}", before={}, after={"state": str(state)},
            file=key, version=row["version"], sha256=noted.sha256, received_at=noted.at.isoformat(),
        )  # fmt: skip

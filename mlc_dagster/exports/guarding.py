"""What must hold before a feed sends anything: its partner is the one it was, and the ledger knows all that was sent.

Asked at the start of every run and of every resend, by whoever holds the feed. Corrects nothing but a journal that is
behind the ledger; the answers of a person are in ``restoring``, ``relocating`` and ``settling``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_dagster.exports.delivery_journal import Attempt, DeliveryJournal, Entry, journalled_feeds
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.places import place_of
from mlc_dagster.exports.restart_journal import EnteredRestart, RestartJournal
from mlc_dagster.ledger import exported, feeds, sent_files
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.exported import DELIVERED_STATES, OPEN_STATES, FileState
from mlc_dagster.ledger.identity import known_ledger_id, ledger_id
from mlc_dagster.ledger.places import refuse_other_place
from mlc_dagster.ledger.restarts import Restart, restarts_of

_LOOKED_AT = 100
"""Latest files whose end is looked for in the journal: files go in order, so older ones have long had theirs."""
_ENDED = (*DELIVERED_STATES, FileState.ABANDONED)


class LedgerIsOlder(LedgerError):
    """The ledger does not know what the delivery journal has, as after a restore."""

    def __init__(self, feed: str, known_there: str) -> None:
        self.feed = feed
        super().__init__(
            f"feed {feed}: the delivery journal has {known_there}. The ledger is older than "
            f"what was sent, as after a restore; nothing is sent before it is told: "
            f"mlc exports after-restore --feed {feed} --by NAME --approved-by NAME --reason TEXT"
        )


class JournalAhead(LedgerIsOlder):
    """The journal has a file that the ledger does not know, or knows less of."""

    def __init__(self, feed: str, name: str, sequence: int, why: str) -> None:
        self.name = name
        self.sequence = sequence
        super().__init__(feed, f"file {name} (number {sequence}), {why}")


class RestartForgotten(LedgerIsOlder):
    """The journal has a restart of the feed that the ledger does not know."""

    def __init__(self, feed: str, restart: Restart) -> None:
        self.restart = restart
        super().__init__(feed, f"a restart of the feed after file number {restart.sequence} ({restart.told})")


class OtherLedger(LedgerError):
    """The journal in data_dir was written beside another ledger."""

    def __init__(self, feed: str, path: str) -> None:
        self.feed = feed
        self.path = path
        super().__init__(
            f"feed {feed}: the delivery journal {path} belongs to another ledger than the one in mlc.yaml. Correct "
            "ledger or data_dir. Only if this ledger takes the place of that one, restored or begun anew: "
            f"mlc exports after-restore --feed {feed} --same-installation --by NAME --approved-by NAME --reason TEXT"
        )


@dataclass(frozen=True)
class Ahead:
    """A file that the journal knows more of than the ledger."""

    entry: Entry
    row: Row | None
    """The ledger's, where it has the file."""
    why: str


def guard_feed(outbound: Outbound, feed: Feed) -> None:
    """Refuse to send where it would go to another partner, or a second time. The caller holds the feed.

    Raises:
        LedgerIsOlder: the ledger was restored.
        PlaceChanged: mlc.yaml names another partner, or another place, than the feed's files went to.
        OtherLedger: ledger and data_dir are not of one installation.
        JournalDamaged: the journal cannot be read.
        OSError: our disk refused.
    """
    # First what a restored ledger has forgotten: a restart may have told it where the files go.
    refuse_older_ledger(outbound, feed)
    with outbound.ledger.transaction() as transaction:
        refuse_other_place(transaction, feed.name, place_of(feed.settings))
    catch_up(outbound, feed.name)
    RestartJournal(outbound, feed.name).catch_up()


def refuse_older_ledger(outbound: Outbound, feed: Feed) -> None:
    """Refuse while the ledger does not know all that the delivery journal has of the feed and of its partner's numbers.

    Raises:
        LedgerIsOlder: the ledger was restored.
        OtherLedger: ledger and data_dir are not of one installation.
        JournalDamaged: the journal cannot be read.
        OSError: our disk refused.
    """
    identity = identify(outbound)
    partner = feed.settings.partner.key if feed.settings.partner is not None else None
    for name in journalled_feeds(outbound):
        # Whoever writes under the same control numbers must not use again what another feed has used.
        if name != feed.name and (partner is None or _partner_of(outbound, name) != partner):
            continue
        for ahead in files_ahead(outbound, name, identity):
            raise JournalAhead(name, str(ahead.entry.file["name"]), ahead.entry.sequence, ahead.why)
    for entered in restarts_ahead(outbound, feed.name, identity):
        raise RestartForgotten(feed.name, entered.restart)


def refuse_older_than(outbound: Outbound, file: Row) -> None:
    """Refuse while the ledger does not know all that there was before a person may say what became of this file.

    What the journal has beyond a restart that waits for this very file is let be: it is entered after it.

    Raises:
        LedgerIsOlder: the ledger was restored.
        OtherLedger: ledger and data_dir are not of one installation.
        JournalDamaged: the journal cannot be read.
        OSError: our disk refused.
    """
    name = str(file["feed"])
    identity = identify(outbound)
    begun = next(iter(restarts_ahead(outbound, name, identity)), None)
    for ahead in files_ahead(outbound, name, identity):
        if begun is None or ahead.entry.sequence <= begun.restart.sequence:
            raise JournalAhead(name, str(ahead.entry.file["name"]), ahead.entry.sequence, ahead.why)
    if begun is not None and file["sequence"] > begun.restart.sequence:
        raise RestartForgotten(name, begun.restart)


def identify(outbound: Outbound) -> str:
    """The ledger's id. A restored ledger of an earlier version has none: it is known by a file that the journal has."""
    with outbound.ledger.reading() as reading:
        found = known_ledger_id(reading)
        if found is None:
            entries = [DeliveryJournal(outbound, name).first() for name in journalled_feeds(outbound)]
            found = next((entry.ledger for entry in entries if entry is not None and _has(reading, entry)), None)
    with outbound.ledger.transaction() as transaction:
        return ledger_id(transaction, first=found)


def _has(reading: Transaction, entry: Entry) -> bool:
    row = sent_files.file_at(reading, entry.feed, entry.sequence)
    return row is not None and (row["name"], row["sha256"]) == (entry.file["name"], entry.file["sha256"])


def _partner_of(outbound: Outbound, name: str) -> str | None:
    journal = DeliveryJournal(outbound, name)
    last = journal.last()
    return str(journal.entry(last).file["partner"]) if last else None


def files_ahead(outbound: Outbound, name: str, identity: str) -> Iterator[Ahead]:
    """Files that the feed's journal knows more of than the ledger, in order; of ended ones the latest are compared.

    The journal is read first: what is entered meanwhile is in the ledger by then.

    Raises:
        OtherLedger: the journal is not this ledger's.
    """
    journal = DeliveryJournal(outbound, name)
    entered = journal.sequences()
    if not entered:
        return
    last = journal.entry(entered[-1])
    if last.ledger != identity:
        raise OtherLedger(name, str(last.path))
    with outbound.ledger.reading() as reading:
        known = _known(reading, name)
        waiting = exported.list_files(reading, name, OPEN_STATES, limit=1_000_000)
        latest = sent_files.file_at(reading, name, last.sequence)
        begun = list(sent_files.behind_journal(reading, name, max(0, last.sequence - _LOOKED_AT)))
    if latest is not None and latest["sha256"] != last.file["sha256"]:
        yield Ahead(last, latest, f"and the ledger has {latest['name']} under that number, with other bytes")
        return
    open_files = {int(row["sequence"]): row for row in waiting}
    ended = {int(row["sequence"]): row for row in begun if row["state"] in _ENDED}
    for sequence in entered:
        if sequence > known:
            yield Ahead(journal.entry(sequence), None, "of which the ledger knows nothing")
        elif sequence in open_files and _why(journal.entry(sequence), open_files[sequence]):
            entry = journal.entry(sequence)
            with outbound.ledger.reading() as reading:
                # Another run may have ended it since the ledger was asked.
                row = sent_files.file_at(reading, name, sequence)
            if row is not None and (why := _why(entry, row)):
                yield Ahead(entry, row, why)
        elif sequence in ended and (why := _other_end(journal.entry(sequence), ended[sequence])):
            yield Ahead(journal.entry(sequence), ended[sequence], why)


def restarts_ahead(outbound: Outbound, name: str, identity: str) -> list[EnteredRestart]:
    """Restarts of the feed that the journal has and the ledger does not, in order.

    Raises:
        OtherLedger: the journal is not this ledger's.
        LedgerError: the ledger has begun the feed anew in another way than the journal says.
    """
    journal = RestartJournal(outbound, name)
    entered = journal.entered()
    if not entered:
        return []
    if entered[-1].ledger != identity:
        raise OtherLedger(name, str(journal.path))
    with outbound.ledger.reading() as reading:
        known = restarts_of(reading, name)
    for ours, theirs in zip(known, entered, strict=False):
        if ours != theirs.restart:
            raise LedgerError(
                f"feed {name}: the ledger has restart {ours.told}, the delivery journal {theirs.restart.told}; the "
                "ledger has gone on since it was restored. Restore it once more"
            )
    return entered[len(known) :]


def _known(reading: Transaction, name: str) -> int:
    try:
        return int(feeds.feed_row(reading, name)["sequence"])
    except LedgerError:
        return 0


def _why(entry: Entry, row: Row) -> str | None:
    if entry.state in _ENDED and row["state"] not in _ENDED:
        return f"which is {entry.state} there and {row['state']} in the ledger"
    if row["state"] == FileState.PENDING and not row["attempts"]:
        # The ledger notes an attempt before the journal does.
        return "whose upload was begun, and the ledger knows of no attempt"
    attempt = entry.attempt
    if attempt is None:
        return None
    if attempt.number > row["attempts"]:
        return f"with attempt {attempt.number}, and the ledger knows of {row['attempts']}"
    if attempt.number == row["attempts"] and row["state"] == FileState.UPLOADING:
        # A refused rename makes it PENDING, and one that two people settled waits or goes on: neither uploads again.
        further = entry.state or attempt.step
        if further != FileState.UPLOADING:
            return f"which is {further} there and UPLOADING in the ledger"
    return None


def _other_end(entry: Entry, row: Row) -> str | None:
    """Of a file that has ended in the ledger: why it cannot have ended so."""
    given_up = row["state"] == FileState.ABANDONED
    if entry.state in _ENDED:
        agreed = given_up == (entry.state is FileState.ABANDONED)
        return None if agreed else f"which is {entry.state} there and {row['state']} in the ledger"
    # Given up for one that nobody had begun, or not as often: the partner may have it.
    return _why(entry, row) if given_up else None


def catch_up(outbound: Outbound, name: str) -> None:
    """Enter what the journal lacks: all of it at the first start, else what a run that was killed left out."""
    journal = DeliveryJournal(outbound, name)
    since = max(0, journal.last() - _LOOKED_AT)
    with outbound.ledger.reading() as reading:
        missing = [row for row in sent_files.behind_journal(reading, name, since) if _lacks(journal, row)]
    for row in missing:
        journal.begin(row["id"])
        if row["state"] in _ENDED:
            journal.end(row)
        elif row["state"] == FileState.RENAMING:
            journal.step(row)


def _lacks(journal: DeliveryJournal, row: Row) -> bool:
    if not journal.has(row["sequence"]):
        return True
    if row["state"] in _ENDED:
        return journal.entry(row["sequence"]).state not in _ENDED
    # Its companions may be all that is left to send: no word of that would make a restored ledger send it once more.
    return row["state"] == FileState.RENAMING and journal.entry(row["sequence"]).attempt != Attempt(
        row["attempts"], FileState.RENAMING
    )

"""To whom and where a feed's files have gone, remembered so that a change of mlc.yaml is no change of partner unseen.

What the partner has is judged by feed; so a feed that is pointed at another partner would never send it what the first
one got.
"""

import json
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from mlc_dagster.ledger.database import LedgerError, Transaction
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.schema import ledger_setting
from mlc_dagster.ledger.schema_outbound import exported_file


@dataclass(frozen=True)
class Place:
    """Where a feed's files go."""

    host: str
    port: int
    directory: str
    sender: str | None = None
    receiver: str | None = None
    usage: str | None = None

    @property
    def partner(self) -> str | None:
        """By which control numbers are counted; None for a feed without."""
        return None if self.sender is None else f"{self.sender}>{self.receiver}/{self.usage}"

    def differences(self, now: "Place") -> str:
        """What is another in ``now``, in words."""
        before, after = asdict(self), asdict(now)
        return ", ".join(f"{name} {before[name]} → {after[name]}" for name in before if before[name] != after[name])


class PlaceChanged(LedgerError):
    """mlc.yaml names another partner, or another place, than the feed's files went to."""

    def __init__(self, feed: str, before: Place, now: Place) -> None:
        self.feed = feed
        self.before = before
        self.now = now
        super().__init__(
            f"feed {feed}: its files went elsewhere so far ({before.differences(now)}), and what went there counts as "
            "delivered; nothing is sent before it is told what that means. Another partner, or production after test, "
            f"that has none of it: mlc exports restart {feed} --by NAME --approved-by NAME --reason TEXT. The same "
            f"partner at another address, that has it all: mlc exports moved {feed} --by NAME --reason TEXT"
        )


def refuse_other_place(transaction: Transaction, feed: str, now: Place) -> None:
    """Raise PlaceChanged when files of the feed went elsewhere; remembers the place of a feed that has none yet."""
    before = pinned_place(transaction, feed, now)
    if before is None:
        pin_place(transaction, feed, now)
    elif before != now:
        raise PlaceChanged(feed, before, now)


def pinned_place(transaction: Transaction, feed: str, now: Place) -> Place | None:
    """Where the feed's files went so far; None while there is no file. ``now`` where nothing says otherwise."""
    if not feed_row(transaction, feed)["sequence"]:
        return None
    found: str | None = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == _name(feed)))
    if found is not None:
        return Place(**json.loads(found))
    # Its files were made before places were remembered: each has the folder and the partner that it was made for.
    last = transaction.row(
        sa.select(exported_file.c.directory, exported_file.c.partner)
        .where(exported_file.c.feed == feed)
        .order_by(exported_file.c.sequence.desc())
        .limit(1)
    )
    before = now
    if last is not None:
        before = replace(now, directory=_plain(last["directory"]))
        if last["partner"] is not None:
            ids, _, usage = str(last["partner"]).rpartition("/")
            sender, _, receiver = ids.partition(">")
            before = replace(before, sender=sender, receiver=receiver, usage=usage)
    pin_place(transaction, feed, before)
    return before


def pin_place(transaction: Transaction, feed: str, place: Place) -> None:
    """Remember it; replaces an earlier one."""
    transaction.upsert(ledger_setting, [{"name": _name(feed), "value": json.dumps(asdict(place), sort_keys=True)}])


def plain_place(host: str, port: int, directory: str, partner: tuple[str, str, str] | None) -> Place:
    """A place without differences of writing; ``partner``: sender, receiver and usage."""
    sender, receiver, usage = partner or (None, None, None)
    return Place(host.casefold(), port, _plain(directory), sender, receiver, usage)


def _plain(directory: str) -> str:
    return directory.rstrip("/") or "/"


def _name(feed: str) -> str:
    return f"place/{feed}"

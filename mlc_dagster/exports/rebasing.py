"""When the projection of records changes: the feeds' hashes must not make every record look changed.

Each feed remembers which attributes its hashes were taken over. Attributes may be added; when one goes or gets another
name, building stops until ``rebase`` has entered what the partner has under the new projection, without sending it.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.exports.extract_file import StoredRead, find_stored, iter_stored
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.recognition import KEPT_SOURCES, standing_of
from mlc_dagster.fusion.records import KINDS, canonical, content_of, digest
from mlc_dagster.ledger import extracts, feeds, versions
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.known_versions import Known, Latest, latest_versions
from mlc_dagster.ledger.versions import NewVersion

_AT_ONCE = 4000


class ProjectionChanged(Expected):
    """The feed's hashes were taken over attributes that records no longer have; nothing was built."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, feed: str, source: str, gone: Collection[str]) -> None:
        self.feed = feed
        self.source = source
        self.gone = tuple(sorted(gone))
        super().__init__(
            f"feed {feed}: {source} are no longer read with {', '.join(self.gone)}, so that every record would count "
            f"as changed; read them once with --look-back, then say `mlc exports rebase {feed}`"
        )


def projection(source: str) -> frozenset[str]:
    """Every attribute of the source's records, under the names that it has in canonical JSON: ``lines.Price``."""
    return frozenset(_attributes(msgspec.inspect.type_info(KINDS[source]), ""))


def _attributes(kind: msgspec.inspect.Type, prefix: str) -> Iterator[str]:
    match kind:
        case msgspec.inspect.StructType():
            for entry in kind.fields:
                # A column says so: the same attributes, a row each before, are other bytes and so another hash.
                column = "[]" if isinstance(entry.type, msgspec.inspect.RawType) else ""
                yield f"{prefix}{entry.encode_name}{column}"
                yield from _attributes(entry.type, f"{prefix}{entry.encode_name}.")
        case msgspec.inspect.VarTupleType():
            yield from _attributes(kind.item_type, prefix)
        case msgspec.inspect.UnionType():
            for member in kind.types:
                yield from _attributes(member, prefix)
        case _:
            return


def check_projection(ledger: Ledger, feed: str, source: str) -> None:
    """Remember the projection at first use, and what is added to it; raise ProjectionChanged when something is gone."""
    now = projection(source)
    with ledger.reading() as reading:
        pinned = feeds.pinned_projection(reading, feed)
    before = frozenset[str]() if pinned is None else _read(pinned)
    if gone := before - now:
        raise ProjectionChanged(feed, source, gone)
    if before != now:
        with ledger.transaction() as transaction:
            feeds.pin_projection(transaction, feed, _written(now))


def _written(attributes: Collection[str]) -> str:
    return json.dumps(sorted(attributes), separators=(",", ":"))


def _read(text: str) -> frozenset[str]:
    return frozenset(cast("list[str]", json.loads(text)))


def rebase(outbound: Outbound, feed_name: str, approval: Approval) -> int:
    """Enter what the partner has under today's projection, without sending it; how many records that were.

    A record counts as what the partner has when its latest reading says the same in everything that both projections
    know. One that really changed is left to the next build, which sends it.

    Raises:
        LedgerError: the feed is not in the ledger.
    """
    feed = outbound.feeds[feed_name]
    now = projection(feed.source)
    with outbound.ledger.reading() as reading:
        feeds.feed_row(reading, feed_name)
        pinned = feeds.pinned_projection(reading, feed_name)
        newest = extracts.newest_extracts(reading, feed.source)
    common = now if pinned is None else now & _read(pinned)
    taken: list[tuple[Known, NewVersion]] = []
    rebasing = _Rebasing(outbound, feed_name, feed.source, common)
    for extract in newest:
        path = outbound.archive.path(extract["sha256"])
        for chunk in extracts.chunks(iter_stored(path), _AT_ONCE):
            taken += rebasing.same(extract, chunk)
    with outbound.ledger.transaction() as transaction:
        # One more look: a run that built meanwhile knows better.
        latest = latest_versions(transaction, feed_name, [new.record_id for _, new in taken])
        current = [pair for pair in taken if latest[pair[1].record_id].newest.version + 1 == pair[1].version]
        versions.take_as_delivered(transaction, feed_name, current, by=approval.by, reason=approval.reason)
        feeds.pin_projection(transaction, feed_name, _written(now))
        approval.record(
            transaction,
            "feed.rebased",
            f"feed:{feed_name}",
            before={"projection": pinned},
            after={"projection": _written(now)},
            records=len(current),
        )
    return len(current)


class _Rebasing:
    """Compares latest readings with what was delivered."""

    def __init__(self, outbound: Outbound, feed: str, source: str, common: frozenset[str]) -> None:
        self._outbound = outbound
        self._feed = feed
        self._source = source
        self._common = common

    def same(self, extract: Row, chunk: Sequence[StoredRead]) -> Iterator[tuple[Known, NewVersion]]:
        """Of an extract's records those that the partner has, but not under this hash."""
        with self._outbound.ledger.reading() as reading:
            ids = [stored.record_id for stored in chunk]
            readings = extracts.latest_readings(reading, self._source, ids)
            latest = latest_versions(reading, self._feed, ids)
        asked = [
            (stored, known)
            for stored in chunk
            if readings[stored.record_id].extract_id == extract["id"]
            and (known := latest.get(stored.record_id)) is not None
            # Held or given up since: that is tried again, and must stay the newest.
            and known.newest == known.delivered
        ]
        sent = self._sent({stored.record_id: known for stored, known in asked})
        for stored, known in asked:
            content = content_of(self._source, stored.canonical)
            today = canonical(content)
            sha256 = digest(today)
            delivered = known.delivered
            if delivered is None or delivered.content_sha256 == sha256:
                continue
            if self._restricted(today) != self._restricted(sent[stored.record_id]):
                continue
            yield (
                delivered,
                NewVersion(
                    record_id=stored.record_id,
                    version=known.newest.version + 1,
                    change=delivered.change,
                    content_sha256=sha256,
                    content=today if self._source in KEPT_SOURCES else None,
                    standing=standing_of(content),
                    extract_id=extract["id"],
                    read_at=extract["read_at"],
                    last_update_date=stored.last_update_date,
                    position=0,
                    set_control=None,
                    bytes=0,
                    sha256="",
                ),
            )

    def _sent(self, latest: Mapping[str, Latest]) -> dict[str, bytes]:
        """What was delivered of each record, from the extracts that it was made of."""
        wanted: dict[int, list[str]] = {}
        for record_id, known in latest.items():
            if known.delivered is not None:
                wanted.setdefault(known.delivered.extract_id, []).append(record_id)
        found: dict[str, bytes] = {}
        for extract_id, ids in wanted.items():
            with self._outbound.ledger.reading() as reading:
                extract = extracts.extract_row(reading, extract_id)
            if extract is not None:
                path = self._outbound.archive.path(extract["sha256"])
                found.update({key: stored.canonical for key, stored in find_stored(path, ids).items()})
        return found

    def _restricted(self, content: bytes) -> Any:
        return _only(msgspec.json.decode(content), self._common, "")


def _only(value: Any, attributes: frozenset[str], prefix: str) -> Any:
    """The JSON value without attributes that are not in both projections."""
    if isinstance(value, list):
        return [_only(item, attributes, prefix) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {
            name: _only(inner, attributes, f"{prefix}{name}.")
            for name, inner in cast("dict[str, Any]", value).items()
            if f"{prefix}{name}" in attributes
        }
    return value

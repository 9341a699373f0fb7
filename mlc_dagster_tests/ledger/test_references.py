"""The cache of Fusion's reference data: good enough to pass while it is fresh, never a proof of absence."""

import datetime as dt

import sqlalchemy as sa

from mlc_dagster.ledger import references, schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster_tests.ledger.population import POD, WINDOW, HandClock, events

HOUR = dt.timedelta(hours=1)


def cached(ledger: Ledger, *keys: str) -> dict[str, tuple[str, dt.datetime]]:
    with ledger.reading() as reading:
        return references.cached(reading, POD, "supplier", keys, max_age=HOUR)


def keep(ledger: Ledger, **payloads: str | None) -> None:
    with ledger.transaction() as transaction:
        references.keep(transaction, POD, "supplier", payloads)


def test_what_was_read_is_found_with_its_age(ledger: Ledger) -> None:
    """Every match names the snapshot that it was found in."""
    keep(ledger, a="{}")
    assert cached(ledger, "a", "b") == {"a": ("{}", WINDOW)}


def test_what_is_too_old_is_not_found(ledger: Ledger, clock: HandClock) -> None:
    """A supplier may have been closed since."""
    keep(ledger, a="{}")
    clock.advance(3600)
    assert set(cached(ledger, "a")) == {"a"}
    clock.advance(1)
    assert cached(ledger, "a") == {}


def test_what_was_absent_is_asked_for_again(ledger: Ledger) -> None:
    """It may have been made a minute ago: a cached absence must not park an invoice."""
    keep(ledger, a=None)
    assert cached(ledger, "a") == {}
    [event] = events(ledger, "reference.read")
    assert event["detail"]["not_in_fusion"] == ["a"]


def test_reading_again_renews(ledger: Ledger, clock: HandClock) -> None:
    """One row per key, the latest answer."""
    keep(ledger, a="old")
    clock.advance(60)
    keep(ledger, a="new")
    assert cached(ledger, "a") == {"a": ("new", clock.now)}


def test_another_environment_has_a_cache_of_its_own(ledger: Ledger) -> None:
    """Test and production know different suppliers."""
    keep(ledger, a="{}")
    with ledger.reading() as reading:
        assert references.cached(reading, "https://other.example", "supplier", ["a"], max_age=HOUR) == {}


def test_more_keys_than_a_statement_can_hold(ledger: Ledger) -> None:
    """Nothing is lost between portions."""
    keep(ledger, **{f"k{n}": "{}" for n in range(1001)})
    assert len(cached(ledger, *(f"k{n}" for n in range(1001)))) == 1001


def test_a_crosswalk_version_is_kept_once(ledger: Ledger, clock: HandClock) -> None:
    """Every mapping can be explained later by the very file that it was made with."""
    for _ in range(2):
        with ledger.transaction() as transaction:
            references.keep_crosswalk_version(transaction, "d1", {"vendors": b"a,b", "accounts": b"c,d"})
        clock.advance(60)
    with ledger.reading() as reading:
        rows = reading.rows(sa.select(schema.crosswalk_version).order_by(schema.crosswalk_version.c.kind))
    assert [(row["kind"], row["content"], row["first_used_at"]) for row in rows] == [
        ("accounts", b"c,d", WINDOW),
        ("vendors", b"a,b", WINDOW),
    ]

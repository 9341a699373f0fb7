"""Building files: how documents are spread over them, what goes beside them, and how the ledger's position moves."""

import datetime as dt
import gzip
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.exports import rebasing
from mlc_dagster.exports.assembling import PartnerMissing
from mlc_dagster.exports.building import build_files
from mlc_dagster.exports.holding import LEASE, HeldFeed, hold_feed
from mlc_dagster.exports.naming import FileNameUnusable
from mlc_dagster.exports.rebasing import ProjectionChanged, check_projection, projection, rebase
from mlc_dagster.ledger import feeds
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.feeds import FeedBusy, FeedLost
from mlc_dagster.ledger.schema_outbound import export_feed
from mlc_dagster_tests.exports.workshop import FEED, QUARTER, START, PlainWriter, Workshop, invoice
from mlc_dagster_tests.ledger.approving import BOTH

PARTNER = {"sender": "ZZ:US", "receiver": "ZZ:THEM"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", actor="test")
    yield opened
    opened.close()


@pytest.fixture
def bench(ledger: Ledger, tmp_path: Path) -> Workshop:
    return Workshop.open(ledger, tmp_path / "bench")


def position(bench: Workshop) -> tuple[int, dt.datetime | None]:
    with bench.ledger.reading() as reading:
        row = feeds.feed_row(reading, FEED)
    return row["extract_id"], row["delivered_until"]


def test_nothing_changed_moves_the_position_only(bench: Workshop) -> None:
    """No file, no event: a quiet night leaves no trace but the time."""
    key = bench.read()
    assert bench.build().files == 0
    assert bench.files() == []
    assert position(bench) == (key, START + QUARTER)


def test_an_empty_file_for_partners_that_wait_for_one(bench: Workshop) -> None:
    """One per poll of windows; looking back is nobody's poll."""
    bench.writer.empty_file = True
    bench.read()
    bench.read(kind="LOOK_BACK")
    assert bench.build().files == 1
    assert (bench.texts(), bench.files()[0]["documents"]) == ([""], 0)


def test_building_stops_at_the_window_asked_for(bench: Workshop) -> None:
    """A catch-up by windows gives each its own files."""
    first = bench.read(invoice(1, "10"))
    bench.read(invoice(2, "20"))
    assert bench.build(until=START + QUARTER).new == 1
    assert position(bench) == (first, START + QUARTER)
    assert bench.build().new == 1


def test_files_have_at_most_so_many_documents(ledger: Ledger, tmp_path: Path) -> None:
    """Some partners' importers take no more; all files of an extract are frozen together."""
    bench = Workshop.open(ledger, tmp_path / "bench", max_documents=2)
    bench.read(*(invoice(n, "1") for n in range(1, 6)))
    assert bench.build().files == 3
    assert [row["documents"] for row in bench.files()] == [2, 2, 1]
    assert [row["sequence"] for row in bench.files()] == [1, 2, 3]
    assert bench.texts()[1] == "NEW 3 v1 1 #1\nNEW 4 v1 1 #2\n"


def test_a_held_document_leaves_no_hole_in_positions(ledger: Ledger, tmp_path: Path) -> None:
    """Nor does a file that would have held ones only come into being."""
    bench = Workshop.open(ledger, tmp_path / "bench", max_documents=1)
    bench.read(invoice(1, "1"), invoice(2, "2", text="HOLD"), invoice(3, "3", text="HOLD"))
    bench.build()
    assert bench.texts() == ["NEW 1 v1 1 #1\n"]


def test_groups_are_counted_for_themselves(ledger: Ledger, tmp_path: Path) -> None:
    """One file, one functional group per kind, each with numbers of its own."""
    writer = PlainWriter(numbered=True, groups=lambda version: "AB"[version.read.fusion_id % 2])
    bench = Workshop.open(ledger, tmp_path / "bench", writer=writer, partner=PARTNER)
    bench.read(invoice(1, "1"), invoice(2, "2"), invoice(3, "3"))
    bench.build()
    assert bench.texts() == ["ISA 1\nGS B 1\nNEW 1 v1 1 #1\nNEW 3 v1 3 #2\nGS A 2\nNEW 2 v1 2 #1\n"]
    assert bench.files()[0]["controls"] == {"interchange": [1], "group": [1, 2]}
    assert bench.files()[0]["partner"] == "ZZ:US>ZZ:THEM/T"


def test_numbers_need_a_partner(ledger: Ledger, tmp_path: Path) -> None:
    """The text says what to write into mlc.yaml."""
    bench = Workshop.open(ledger, tmp_path / "bench", writer=PlainWriter(numbered=True))
    bench.read(invoice(1, "1"))
    with pytest.raises(PartnerMissing, match="add partner:"):
        bench.build()
    assert bench.files() == []


def test_totals_are_exact_beyond_28_digits(bench: Workshop) -> None:
    """Python's own sum would round here."""
    bench.read(invoice(1, "99999999999999999999999999.99"), invoice(2, "999999999999999999999999999.01"))
    bench.build()
    total = Decimal("1099999999999999999999999999.00")
    assert Decimal(bench.files()[0]["totals"]["amount USD"]) == total


def test_what_was_replaced_on_the_way_is_counted(bench: Workshop) -> None:
    """A newline became a space in two of the documents."""
    bench.read(invoice(1, "1", text="two\nlines"), invoice(2, "1", text="two\nlines"), invoice(3, "1"))
    bench.build()
    assert bench.files()[0]["counts"] == {"newlines": 2}


def test_gzip_and_its_manifest_speak_of_the_same_bytes(ledger: Ledger, tmp_path: Path) -> None:
    """The partner checks the hash of what arrives, not of what is inside."""
    upload = {"compress": "gzip", "manifest": True, "trigger": ".trg"}
    bench = Workshop.open(ledger, tmp_path / "bench", upload=upload)
    bench.read(invoice(1, "1.50"))
    bench.build()
    [row] = bench.files()
    content = bench.archive.path(row["sha256"]).read_bytes()
    assert gzip.decompress(content) == b"NEW 1 v1 1.50 #1\n"
    manifest, trigger = row["companions"]
    assert (row["name"], manifest["name"], trigger["name"]) == (
        "partner_000001.txt.gz",
        "partner_000001.txt.gz.manifest.json",
        "partner_000001.txt.gz.trg",
    )
    said = json.loads(bench.archive.path(manifest["sha256"]).read_text())
    assert (said["name"], said["sha256"], said["bytes"], said["records"]) == (
        row["name"],
        row["sha256"],
        len(content),
        1,
    )
    assert said["totals"] == {"amount USD": "1.50"}
    assert bench.archive.path(trigger["sha256"]).read_bytes() == b""


def test_a_zip_holds_the_file_under_its_name(ledger: Ledger, tmp_path: Path) -> None:
    """Unpacked, it is what it would have been."""
    bench = Workshop.open(ledger, tmp_path / "bench", upload={"compress": "zip"})
    bench.read(invoice(1, "1"))
    bench.build()
    [row] = bench.files()
    packed = zipfile.ZipFile(io.BytesIO(bench.archive.path(row["sha256"]).read_bytes()))
    assert (row["name"], packed.namelist()) == ("partner_000001.txt.zip", ["partner_000001.txt"])


def test_a_name_is_given_once(ledger: Ledger, tmp_path: Path) -> None:
    """The second file of that name could never be created on the server."""
    bench = Workshop.open(ledger, tmp_path / "bench", file_name="{feed}{extension}")
    bench.read(invoice(1, "1"))
    bench.build()
    bench.read(invoice(2, "2"))
    with pytest.raises(FileNameUnusable, match="a second time"):
        bench.build()
    assert len(bench.files()) == 1


def test_a_run_that_lost_the_feed_freezes_nothing(bench: Workshop) -> None:
    """It was stopped between reading and commit, and another run went on."""
    bench.read(invoice(1, "1"))

    def taken_over() -> None:
        with bench.ledger.transaction() as transaction:
            transaction.execute(sa.update(export_feed).values(fence=99))

    bench.writer.before_assembly = taken_over
    with pytest.raises(FeedLost):
        bench.build()
    assert bench.files() == []


def test_the_feed_is_held_while_it_is_built_and_free_afterwards(bench: Workshop) -> None:
    """Also when building failed."""
    with bench.hold() as held:
        assert held.still_ours()
        with pytest.raises(FeedBusy), hold_feed(bench.ledger, FEED, "invoices", owner="other|b/n|1|1"):
            pass
    assert not held.still_ours()
    with pytest.raises(RuntimeError), bench.hold():
        raise RuntimeError
    with bench.hold() as again:
        assert again.fence == held.fence + 2


def test_a_lease_that_ran_out_by_our_own_clock_is_not_ours(ledger: Ledger) -> None:
    """A machine that slept must not believe what the ledger's clock still says."""
    with hold_feed(ledger, FEED, "invoices", owner="h|b/n|1|1") as held:
        clock = [0.0]
        own = HeldFeed(ledger, FEED, held.owner, held.fence, ends=LEASE.total_seconds(), monotonic=lambda: clock[0])
        assert own.still_ours()
        clock[0] = 55.0
        assert not own.still_ours()
        assert own.renew()
        assert own.still_ours()


def test_the_heartbeat_renews_the_lease(ledger: Ledger) -> None:
    """Long uploads outlast a lease."""
    beats = iter([False, False, True])
    beaten = threading.Event()

    def wait(_seconds: float) -> bool:
        last = next(beats)
        if last:
            beaten.set()
        return last

    with hold_feed(ledger, FEED, "invoices", owner="h|b/n|1|1", wait=wait) as held:
        with ledger.reading() as reading:
            first = feeds.feed_row(reading, FEED)["lease_until"]
        assert beaten.wait(30)
        with ledger.reading() as reading:
            assert feeds.feed_row(reading, FEED)["lease_until"] >= first
        assert held.still_ours()


def test_a_projection_that_lost_an_attribute_stops_building(bench: Workshop) -> None:
    """Every record would look changed; the text says how to go on."""
    bench.read(invoice(1, "1"))
    bench.build()
    with bench.ledger.transaction() as transaction:
        was = sorted({*projection("invoices"), "invoiceLines.OldName"})
        feeds.pin_projection(transaction, FEED, json.dumps(was))
    with pytest.raises(ProjectionChanged, match=f"mlc exports rebase {FEED}") as changed:
        bench.build()
    assert changed.value.gone == ("invoiceLines.OldName",)


def test_attributes_may_be_added(bench: Workshop) -> None:
    """Absent in old records, they change no hash; from then on they belong to the projection."""
    bench.build()
    with bench.ledger.transaction() as transaction:
        feeds.pin_projection(transaction, FEED, '["InvoiceId"]')
    bench.build()
    with bench.ledger.reading() as reading:
        pinned = feeds.pinned_projection(reading, FEED)
    assert frozenset(json.loads(pinned or "[]")) == projection("invoices")


def test_a_projection_names_what_is_inside_lines() -> None:
    """A renamed attribute of a distribution changes the hash as well."""
    assert "invoiceLines.invoiceDistributions.DistributionAmount" in projection("invoices")
    assert "journalLines.EnteredDr[]" in projection("journals")


def test_a_projection_tells_columns_from_rows(bench: Workshop) -> None:
    """The same attributes as rows were other bytes: every journal would look changed and go out again."""
    bench.build()
    rows = sorted(name.removesuffix("[]") for name in projection("journals"))
    with bench.ledger.transaction() as transaction:
        feeds.pin_projection(transaction, FEED, json.dumps(rows))
    with pytest.raises(ProjectionChanged) as changed:
        check_projection(bench.ledger, FEED, "journals")
    assert "journalLines.EnteredDr" in changed.value.gone


def test_rebasing_sends_nothing_and_swallows_no_change(bench: Workshop) -> None:
    """Two invoices were sent; "Description" was no part of them then. One really changed since, one did not."""
    bench.read(invoice(1, "10"), invoice(2, "20"))
    bench.build()
    old = projection("invoices") - {"Description"} | {"Gone"}
    with bench.ledger.transaction() as transaction:
        feeds.pin_projection(transaction, FEED, json.dumps(sorted(old)))
    bench.read(invoice(1, "10", text="new attribute"), invoice(2, "25", text="new attribute"))
    with pytest.raises(ProjectionChanged):
        bench.build()
    assert rebase(bench.outbound, FEED, BOTH) == 1
    built = bench.build()
    assert (built.unchanged, built.change) == (1, 1)
    assert bench.versions()[2:] == [("1", 2, "NEW", "SENT"), ("2", 2, "CHANGE", "PENDING")]
    [event] = bench.events("export.rebased")
    assert (event["subject"], event["detail"]["by"]) == ("record:partner/1", "anna")
    assert rebasing.rebase(bench.outbound, FEED, BOTH) == 0


def test_two_feeds_share_a_scratch_folder(ledger: Ledger, tmp_path: Path) -> None:
    """What one sweeps away after a killed run is not the other's work."""
    bench = Workshop.open(ledger, tmp_path / "bench", name="a_b")
    mine: Any = bench.outbound.scratch / "build-a_b.killed"
    other = bench.outbound.scratch / "build-a.running"
    mine.mkdir(parents=True)
    other.mkdir()
    bench.read(invoice(1, "1"))
    with bench.hold() as held:
        build_files(bench.outbound, bench.feed, held, until=None, now=START)
    assert (mine.exists(), other.exists()) == (False, True)

"""What the retention rules have erased: whoever needs it is told so, and nobody takes it for damage."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports import controls
from mlc_dagster.exports.building import ExtractErased
from mlc_dagster.exports.faults import ResendRefused
from mlc_dagster.exports.relocating import restart
from mlc_dagster.exports.resending import resend
from mlc_dagster.ledger import retention
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, LedgerError, open_ledger
from mlc_dagster.ledger.retention import Rules
from mlc_dagster.ledger.schema_outbound import exported_record
from mlc_dagster.settings import RetentionSettings
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.exports.workshop import FEED, QUARTER, START, Workshop, invoice, journal, settings_of
from mlc_dagster_tests.ledger.population import HandClock, events
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.ledgers import new_file
from mlc_dagster_tests.servers.partner import FEED as PARTNER_FEED
from mlc_dagster_tests.servers.partner import partner
from mlc_dagster_tests.sftp.conftest import settings_for

TOLD = "erased on 2033-01-02 by the rule retention.extracts: 7y"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: HandClock) -> Iterator[Ledger]:
    opened = open_ledger(new_file(tmp_path / "ledger.sqlite"), clock=clock)
    yield opened
    opened.close()


def erase(archive: LocalArchive) -> None:
    """Everything that is in the archive."""
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)
    for stored in list(archive.entries()):
        assert archive.erase(stored.sha256, TOLD, unused_since=later)


def test_an_extract_that_is_gone_is_not_replayed(ledger: Ledger, tmp_path: Path) -> None:
    """A window that somebody starts by hand after years; a backup of the archive must not be looked for."""
    bench = Workshop.open(ledger, tmp_path / "bench")
    key = bench.read(invoice(1, "100"))
    bench.build()
    erase(bench.archive)
    with pytest.raises(ExtractErased, match=rf"feed {FEED} needs extract {key} of invoices, which was {TOLD}") as gone:
        bench.build(replay=[key])
    assert "backup" not in str(gone.value)
    bench.read(invoice(2, "5"))
    assert bench.build().new == 1


def test_a_new_feed_does_not_pass_what_it_may_have_to_send(ledger: Ledger, tmp_path: Path) -> None:
    """Left out in silence, records would be missing at the partner."""
    bench = Workshop.open(ledger, tmp_path / "bench")
    bench.read(invoice(1, "100"))
    erase(bench.archive)
    with pytest.raises(ExtractErased, match=r"begins after it with start: 2026-03-02 09:15"):
        bench.build()


def test_a_new_feed_passes_what_was_read_before_it_begins(ledger: Ledger, tmp_path: Path) -> None:
    """Nothing of it is its own; that it was passed is on record."""
    bench = Workshop.open(ledger, tmp_path / "bench", start=START + QUARTER)
    first = bench.read(invoice(1, "100"))
    erase(bench.archive)
    bench.read()
    assert bench.build().new == 0
    [passed] = events(ledger, "export.erased_extract_passed")
    assert (passed["detail"]["extract"], passed["detail"]["why"]) == (first, TOLD)


def test_a_feed_whose_records_cannot_be_read_again_does_not_begin_anew(
    ledger: Ledger, tmp_path: Path, clock: HandClock
) -> None:
    """It would stand still for ever: each build would look for what is gone."""
    bench = Workshop.open(ledger, tmp_path / "bench")
    bench.read(invoice(1, "100"))
    bench.build()
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_record).values(state="SENT"))
        transaction.execute(sa.text("update exported_file set state = 'SENT'"))
    clock.advance(20 * 365 * 86400)
    rules = Rules(RetentionSettings(extracts="1y"), {FEED: "invoices"})
    assert sum(amount.count for amount in retention.run(ledger, bench.archive, rules).items.values()) == 1
    approval = Approval(by="Ada", approved_by="Grace", reason="another partner takes over")
    with pytest.raises(LedgerError, match=r"1 of its records cannot be sent again.*Nothing was changed"):
        restart(bench.outbound, bench.feed, approval)
    assert [row["state"] for row in bench.rows()] == ["SENT"]


def test_the_balance_of_what_is_gone_is_no_fault(ledger: Ledger, tmp_path: Path) -> None:
    """It was compared while it was there; the control says how many files it could not look into."""
    bench = Workshop.open(ledger, tmp_path / "bench", "journals")
    bench.read(journal(1, "100"))
    bench.build()
    erase(bench.archive)
    bench.read(journal(2, "7"))
    bench.build()
    found = controls.debits_equal_credits(bench.outbound, bench.feed, None)
    assert (found.faults, found.numbers) == ([], {"journals": 1, "files_of_erased_extracts": 1})


def test_an_erased_file_is_not_sent_again(tmp_path: Path) -> None:
    """The person who asks hears why; nothing on the server is touched, and the control finds no damage."""
    with FaultySftp(tmp_path / "served") as server:
        (server.root / "in").mkdir()
        sftp = settings_for(server.host, server.port, server.username, server.fingerprint)
        sftp = sftp.model_copy(update={"directory": "/in"})
        with partner(tmp_path, server.root / "in", sftp, SftpCredentials(password=server.password)) as acme:
            key = acme.freeze("A.csv", b"content", beside=("trigger",))
            acme.deliver()
            outbound = acme.outbound
            assert isinstance(outbound.archive, LocalArchive)
            erase(outbound.archive)
            feed = outbound.feeds[PARTNER_FEED]
            with pytest.raises(ResendRefused, match=r"erased on 2033-01-02 by the rule.*gone for good"):
                resend(outbound, feed, key, actor="ann", reason="the partner lost it", again=True, approved_by="bob")
            assert acme.there() == acme.contents
            found = controls.delivered_bytes_match(outbound, feed, None)
            assert (found.faults, found.numbers["files_erased"]) == ([], 1)


def test_feeds_of_the_settings_are_in_the_rules(tmp_path: Path) -> None:
    """A feed that has never run needs every extract, and only mlc.yaml knows of it."""
    rules = Rules.of(settings_of(tmp_path, "invoices", acknowledgement={"directory": "/ack", "expected_within": "24h"}))
    assert rules.feeds == {FEED: "invoices"}
    assert rules.answers_within == {FEED: dt.timedelta(hours=24)}

"""The ledger as it is found: told, and left exactly so."""

import datetime as dt
import os
import socket
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.doctor.diagnosis import diagnosed
from mlc_dagster.doctor.findings import Cause, Finding, State, Steps, Warned, Wrong
from mlc_dagster.doctor.ledger_health import compared, examine_ledger
from mlc_dagster.ledger.archive import LocalArchive, file_sha256
from mlc_dagster.ledger.audit_sealing import seal_and_checkpoint
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.received_journal import Noted, received_journal
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.doctor.conftest import Told

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def settings_at(folder: Path, url: str | None = None) -> Settings:
    fusion = {
        "base_url": "https://pod.example.com",
        "auth": "basic",
        "username": "ann",
        "password": "env:P",
        "charts": {},
    }
    return Settings.model_validate(
        {"fusion": fusion, "poll": {"start": NOW}, "ledger": {"url": url}, "root": folder, "data_dir": "data"}
    )


def told_of(settings: Settings, environ: dict[str, str] | None = None) -> Told:
    findings: list[Finding] = []
    steps = Steps("ledger", findings.append, diagnosed)
    steps.all(lambda: examine_ledger(steps, settings, SecretResolver.of(settings, environ or {}), 10))
    return Told(findings)


def sealed(folder: Path, *, events: int = 3) -> tuple[Settings, Path]:
    """A ledger with some sealed events and a checkpoint, and its file."""
    settings = settings_at(folder)
    path = settings.data_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{path}")
    with ledger.transaction() as transaction:
        for number in range(events):
            transaction.audit("test.event", f"subject:{number}")
    seal_and_checkpoint(ledger, settings, SecretResolver.of(settings, {}), now=True)
    ledger.close()
    return settings, path


def run(path: Path, *statements: str) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_good_ledger_is_ok_in_every_step_and_unchanged(tmp_path: Path) -> None:
    """Looking must not upgrade, seal or write."""
    settings, path = sealed(tmp_path)
    before = path.read_bytes()
    told = told_of(settings)
    assert set(told.states().values()) == {State.OK}
    assert "head is link 3" in told.of("audit trail").text
    assert path.read_bytes() == before


def received_once(settings: Settings, *, noted: bool) -> None:
    """Bytes that came in two hours ago and that the ledger knows nothing of, as after a restore."""
    source = settings.root / "in.csv"
    source.write_bytes(b"invoice")
    archive = LocalArchive(settings.data_path / "archive")
    sha256 = file_sha256(source)
    archive.put(source, sha256)
    then = time.time() - 7_200
    os.utime(archive.path(sha256), (then, then))
    if noted:
        received_journal(settings).note(Noted(sha256, Seen("/outbound/in.csv", 7, 1), NOW))


def test_files_that_a_restored_ledger_does_not_know_are_wrong(tmp_path: Path) -> None:
    """Their invoices are in no book, and nothing else would ever say so."""
    settings, _ = sealed(tmp_path)
    received_once(settings, noted=True)
    found = told_of(settings).of("files received")
    assert found.state is State.WRONG
    assert "/outbound/in.csv (received 2026-11-21 12:00 UTC, " in found.text
    assert "mlc files recover --all" in found.fix


def test_entries_that_nothing_names_are_told_and_not_wrong(tmp_path: Path) -> None:
    """After a restore the outbound flow leaves some behind, and reads Fusion again."""
    settings, _ = sealed(tmp_path)
    received_once(settings, noted=False)
    found = told_of(settings).of("files received")
    assert found.state is State.OK
    assert "1 entries of the archive are of no row" in found.text


def test_a_ledger_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """It is the first run's to make."""
    settings = settings_at(tmp_path)
    assert told_of(settings).states() == {"opens": State.SKIPPED}
    assert not settings.data_path.exists()


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Two hosts, one of them not upgraded: its writes would be of the old kind."""
    settings, path = sealed(tmp_path)
    run(path, "update alembic_version set version_num = '9999'")
    told = told_of(settings)
    assert told.wrong == ["version"]
    assert "install the newer" in told.of("version").fix
    assert told.of("writable").state is State.SKIPPED


def test_a_ledger_of_an_older_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    """The upgrade is worth a backup first."""
    settings, path = sealed(tmp_path)
    run(path, "update alembic_version set version_num = '0003'")
    assert told_of(settings).of("version").state is State.WARN
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select version_num from alembic_version").scalar_one() == "0003"
    engine.dispose()


def test_a_changed_head_is_told(tmp_path: Path) -> None:
    """The whole chain is `mlc audit verify`'s; its newest link costs nothing to look at."""
    settings, path = sealed(tmp_path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        names = connection.exec_driver_sql("select name from sqlite_master where type = 'trigger'").scalars().all()
        for name in names:
            connection.exec_driver_sql(f"drop trigger {name}")
        connection.exec_driver_sql(
            "update audit_event set subject = 'other' where id = (select max(id) from audit_event)"
        )
    engine.dispose()
    found = told_of(settings).of("audit trail")
    assert found.state is State.WRONG
    assert "mlc audit verify" in found.fix


def test_a_chain_cut_behind_its_checkpoint_is_told(tmp_path: Path) -> None:
    """What only the second place shows: the newest events are gone with their links."""
    settings, path = sealed(tmp_path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for name in connection.exec_driver_sql("select name from sqlite_master where type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"drop trigger {name}")
        connection.exec_driver_sql("delete from audit_chain where seq = 3")
    engine.dispose()
    assert "checkpoint of link 3" in told_of(settings).of("audit trail").text


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    """A path typed wrong may name another program's file."""
    settings = settings_at(tmp_path)
    settings.data_path.mkdir()
    (settings.data_path / "ledger.sqlite").write_text("not a database, and long enough to be looked at as one" * 20)
    found = told_of(settings).of("opens")
    assert found.state is State.WRONG
    assert "not a database" in found.text


def test_an_address_that_is_none_is_told_without_showing_it(tmp_path: Path) -> None:
    """It comes from a secret, and the wrong secret may be in its place."""
    settings = settings_at(tmp_path)
    ledger = settings.ledger.model_copy(update={"url_secret": "env:LEDGER_URL"})
    told = told_of(settings.model_copy(update={"ledger": ledger}), {"LEDGER_URL": "the-password-itself"})
    [found] = told.findings
    assert found.state is State.WRONG
    assert "postgresql+psycopg://" in found.fix
    assert "the-password-itself" not in found.text + found.fix


def test_a_database_that_does_not_run_is_the_other_side(tmp_path: Path) -> None:
    """Exit code 3: nothing in mlc.yaml would mend it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = told_of(settings_at(tmp_path, f"postgresql+psycopg://mlc@127.0.0.1:{port}/mlc"))
    assert told.of("opens").cause is Cause.REMOTE
    assert set(told.states().values()) == {State.WRONG, State.SKIPPED}


def test_a_role_that_may_not_add_events_is_told(postgres_url: str, tmp_path: Path) -> None:
    """Rights are given by a DBA, by hand, and the first thing that every step does is to write an event."""
    open_ledger(postgres_url).close()
    owner = sa.make_url(postgres_url)
    role = f"reader_{owner.database}"
    engine = sa.create_engine(owner)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create role {role} login")
        connection.exec_driver_sql(f"grant select on all tables in schema public to {role}")
    good = told_of(settings_at(tmp_path, postgres_url))
    reader = owner.set(username=role).render_as_string(hide_password=False)
    found = told_of(settings_at(tmp_path, reader)).of("writable")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"drop owned by {role}")
        connection.exec_driver_sql(f"drop role {role}")
    engine.dispose()
    assert good.wrong == []
    assert found.text == "this role may not add to audit_event"
    assert "mlc audit roles" in found.fix


@pytest.mark.parametrize(("seconds", "kind"), [(0, str), (20, str), (-20, str), (60, Warned), (-60, Warned)])
def test_clocks_near_each_other_are_told_only_beyond_half_a_minute(seconds: int, kind: type) -> None:
    """Seconds are the network's; what matters is told with its direction."""
    told = compared(NOW + dt.timedelta(seconds=seconds), NOW, NOW, whose="the server")
    assert isinstance(told, kind)


def test_clocks_minutes_apart_are_wrong() -> None:
    """Assertions are refused and windows are closed at the wrong time."""
    with pytest.raises(Wrong, match="600 s ahead of this host"):
        compared(NOW + dt.timedelta(minutes=10), NOW, NOW, whose="the server")

"""The ledger as it is: nothing is upgraded, sealed or written. What stands in it is other commands' business."""

import datetime as dt
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from mlc_dagster.doctor.findings import Cause, NotNeeded, Steps, Told, Warned, Wrong
from mlc_dagster.doctor.network import within
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.audit_rows import link_hash, walk
from mlc_dagster.ledger.checkpoints import CheckpointFile
from mlc_dagster.ledger.database import Ledger, create_engine
from mlc_dagster.ledger.migrate import current, head
from mlc_dagster.ledger.opening import ledger_url
from mlc_dagster.ledger.received_journal import received_journal
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.stranded import REMEDY, find_unreferred, told
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver

SKEW_TOLD, SKEW_WRONG = 30.0, 300.0
"""Seconds between two clocks that are told, and that are wrong: tokens, assertions and windows go by them."""
MANY_UNSEALED = 10_000


def examine_ledger(steps: Steps, settings: Settings, secrets: SecretResolver, timeout: float) -> None:
    """Opens (within ``timeout`` seconds), version, writable, clock, audit trail, files it must know."""
    url = ledger_url(settings, secrets)
    place = sa.make_url(url)
    shown = place.render_as_string(hide_password=True)
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").exists():
        steps.step("opens", lambda: NotNeeded(f"{shown} is made by the first run"))
        return
    with _ledger(url) as ledger:
        opens = "opens"
        # A database behind a firewall says nothing for minutes.
        steps.step(opens, lambda: within(timeout, lambda: _opens(ledger, shown)))
        steps.step("version", lambda: _version(ledger), needs=[opens])
        steps.step("writable", lambda: _writable(ledger), needs=[opens, "version"])
        steps.step("clock", lambda: _clock(ledger), needs=[opens])
        steps.step("audit trail", lambda: _trail(ledger, settings), needs=[opens, "version"])
        steps.step("files received", lambda: _received(ledger, settings), needs=[opens, "version"])


@contextmanager
def _ledger(url: str) -> Generator[Ledger]:
    # Not ``open_ledger``, which brings the tables to this version.
    engine = create_engine(url)
    try:
        yield Ledger(engine)
    finally:
        engine.dispose()


def _opens(ledger: Ledger, shown: str) -> str:
    try:
        with ledger.reading() as reading:
            reading.connection.execute(sa.text("select 1"))
    except OperationalError as error:
        remote = ledger.engine.dialect.name == "postgresql"
        said = " ".join(str(error.orig).split())
        fix = "check ledger.url or ledger.url_secret, that the database runs and that its role may log in"
        raise Wrong(f"{shown}: {said}", fix, Cause.REMOTE if remote else Cause.HERE) from None
    return shown


def _version(ledger: Ledger) -> Told:
    with ledger.reading() as reading:
        found = current(reading.connection)
    ours = head()
    if found == ours:
        return f"schema {found}, as this version of mlc has it"
    # Revisions are numbered; one above ours comes from a later release.
    if found is not None and found > ours:
        raise Wrong(
            f"schema {found} is newer than {ours}, the newest this version knows",
            "install the newer mlc-dagster on this host too; an older one must not write to this ledger",
        )
    fix = "back the ledger up; the first command that opens it brings it to this version"
    return Warned(f"schema {found or 'none'}, this version has {ours}", fix)


def _writable(ledger: Ledger) -> str:
    with ledger.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            _allowed(connection)
            return "this role may add to the ledger"
        with connection.begin() as transaction:
            # Takes the lock that every writer takes, writes a value that is there already, and takes it back.
            connection.exec_driver_sql("update alembic_version set version_num = version_num")
            transaction.rollback()
    return "its file takes writes (tried and taken back)"


def _allowed(connection: sa.Connection) -> None:
    if connection.execute(sa.text("select pg_is_in_recovery()")).scalar_one():
        raise Wrong("the database is a standby, which is read-only", "name the primary server in ledger.url")
    question = sa.text("select has_table_privilege(current_user, :name, 'INSERT')")
    if not connection.execute(question, {"name": audit_event.name}).scalar_one():
        fix = "have a DBA run what `mlc audit roles --print` prints"
        raise Wrong(f"this role may not add to {audit_event.name}", fix)


def _clock(ledger: Ledger) -> Told:
    if ledger.engine.dialect.name == "sqlite":
        return "that of this host"
    before = dt.datetime.now(dt.UTC)
    theirs = ledger.now()
    return compared(theirs, before, dt.datetime.now(dt.UTC), whose="the database")


def compared(theirs: dt.datetime, before: dt.datetime, after: dt.datetime, *, whose: str, fine: float = 1.0) -> Told:
    """What a clock that was read between two moments of ours says of both.

    Args:
        theirs: what it showed.
        before: ours when it was asked.
        after: ours when it had answered.
        whose: clock it is.
        fine: seconds that it is read to.

    Raises:
        Wrong: minutes apart.
    """
    late, early = (theirs - after).total_seconds(), (before - theirs).total_seconds() - fine
    apart = max(0.0, late, early)
    text = f"{whose} is {apart:.0f} s {'ahead of' if late > early else 'behind'} this host"
    fix = "see which of the two is wrong (timedatectl, chronyc tracking) and have it follow a time server"
    if apart > SKEW_WRONG:
        raise Wrong(text, fix)
    if apart > SKEW_TOLD:
        return Warned(text, fix)
    return f"{whose} and this host agree" if apart < 1 else text


def _trail(ledger: Ledger, settings: Settings) -> Told:
    with ledger.reading() as reading:
        last = reading.row(sa.select(audit_chain).order_by(audit_chain.c.seq.desc()).limit(1))
        events = int(reading.value(sa.select(sa.func.count()).select_from(audit_event)) or 0)
        sealed = int(reading.value(sa.select(sa.func.count()).select_from(audit_chain)) or 0)
        verify = "run `mlc audit verify`, and keep the ledger as it is"
        kept, unreadable = CheckpointFile(settings.checkpoints_path).read()
        if last is None:
            if kept:
                raise Wrong(f"no event is sealed, but there is a checkpoint of link {kept[-1].seq}", verify)
            return f"{events} events, none sealed yet"
        for seq, event_id, previous, link, *event in walk(reading, last["seq"], last["seq"]):
            if event[0] is None or link_hash(previous, (event[0], *event[1:])) != link:
                raise Wrong(f"link {seq}, the head, is not that of its event {event_id}", verify)
        if kept:
            marked = reading.row(sa.select(audit_chain).where(audit_chain.c.seq == kept[-1].seq))
            if marked is None or marked["hash"] != kept[-1].hash:
                raise Wrong(f"the chain does not hold the checkpoint of link {kept[-1].seq}", verify)
    text = f"head is link {last['seq']} ({last['hash'][:12]}…), {events - sealed} events not sealed yet"
    if unreadable:
        return Warned(f"{text}; {len(unreadable)} lines of the checkpoint file are unreadable", verify)
    if events - sealed > MANY_UNSEALED:
        return Warned(text, "runs seal at their end: do they end? `mlc audit seal` does it now")
    return f"{text}, {len(kept)} checkpoints; `mlc audit verify` walks all of it"


def _received(ledger: Ledger, settings: Settings) -> Told:
    archive = LocalArchive(settings.data_path / "archive")
    with ledger.reading() as reading:
        found = find_unreferred(reading, archive, received_journal(settings))
    if texts := told(found):
        raise Wrong("; ".join(texts), REMEDY)
    if found.nameless:
        # After a restore the outbound flow leaves some: it reads Fusion again.
        return f"all are known; {len(found.nameless)} entries of the archive are of no row and nothing names them"
    return "the ledger knows every file that the archive has"

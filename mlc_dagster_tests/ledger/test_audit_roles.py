"""The pipeline's role on a real PostgreSQL: it does both flows' work, and can only add to the trail."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from mlc_dagster.ledger import acknowledgements, exported, extracts, feeds, invoices, submissions
from mlc_dagster.ledger.acknowledgements import Answer
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_roles import APPEND_ONLY, roles_sql
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.database import Ledger, LedgerError, open_ledger
from mlc_dagster.ledger.migrate import TABLES
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster_tests.ledger.checkpointed import checkpointing
from mlc_dagster_tests.ledger.exporting import FEED, commit, new_file, new_version, open_feed
from mlc_dagster_tests.ledger.population import WINDOW, add_file, add_invoice, claim, events
from mlc_dagster_tests.servers.postgres import USER, PostgresServer


@dataclass(frozen=True)
class Site:
    """A ledger's database with its roles."""

    server: PostgresServer
    database: str
    owner: str
    pipeline: str

    def connect(self, user: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, user=user, dbname=self.database, autocommit=True
        )

    def url(self, user: str) -> str:
        return self.server.url(self.database).replace(f"//{USER}@", f"//{user}@")

    def apply(self) -> None:
        """What a DBA does with the printed SQL."""
        with self.connect(USER) as connection:
            connection.execute(roles_sql(owner=self.owner, pipeline=self.pipeline).encode())


@pytest.fixture
def site(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Site]:
    database = postgres_server.create_database(postgres_template)
    made = Site(postgres_server, database, f"owner_{database}", f"pipeline_{database}")
    postgres_server.execute(sql.SQL("create role {} login").format(sql.Identifier(made.pipeline)))
    made.apply()
    yield made
    postgres_server.drop_database(database)
    for role in (made.pipeline, made.owner):
        postgres_server.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.fixture
def ledger(site: Site) -> Iterator[Ledger]:
    """Opened as the pipeline does."""
    opened = open_ledger(site.url(site.pipeline), actor="pipeline")
    yield opened
    opened.close()


def work(ledger: Ledger) -> None:
    """What both flows write: files, invoices, an attempt, an extract, a file for a partner, an answer to it."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        key = add_invoice(transaction, InvoiceState.VALIDATED, file=file)
        intent = claim(transaction, key)
        assert isinstance(intent, submissions.Intent)
        submissions.mark_created(
            transaction, intent.submission_id, fusion_invoice_id=300, http_status=201, evidence="the answer"
        )
        invoices.file_was_read(
            transaction, file, rows_total=2, rows_in_invoices=2, rows_quarantined=0, invoices=1,
            amounts_minor={"USD": 12345},
        )  # fmt: skip
    fence = open_feed(ledger)
    [number] = commit(ledger, fence, new_file(1, [new_version("301")], controls={"interchange": [1]}, partner="P"))
    with ledger.transaction() as transaction:
        exported.begin_upload(transaction, number, "x.tmp")
        exported.begin_rename(transaction, number)
        exported.mark_sent(
            transaction, number, server_size=10, server_mtime=1, verified_by="sha256", server_key="SHA256:k"
        )
        acknowledgements.record(
            transaction, feed=FEED, partner="P", path="/ack", sha256=hashlib.sha256().hexdigest(),
            answers=[Answer("PO", 1, None, "A")],
        )  # fmt: skip
        feeds.release_feed(transaction, FEED, fence)
        extracts.record_extract(
            transaction, source="journals", kind="WINDOWS", window_start=WINDOW, window_end=WINDOW, read_from=WINDOW,
            read_at=WINDOW, sha256="a" * 64, bytes_=1, records=0, lines=0, requests=1, run_id="r",
        )  # fmt: skip


def test_the_pipeline_does_its_work(ledger: Ledger, tmp_path: object) -> None:
    """Both flows' writes, the sealing and a checkpoint: a role that cannot work would be given more rights."""
    from pathlib import Path

    work(ledger)
    assert len(events(ledger)) > 10
    assert seal(ledger) == len(events(ledger))
    place = checkpointing(Path(str(tmp_path)))
    assert make_checkpoints(ledger, place) > 0
    assert verify(ledger, place).faults == ()


ATTACKS = [
    "update {table} set {column} = {column}",
    "delete from {table}",
    "truncate {table}",
    "alter table {table} disable trigger all",
    "alter table {table} disable trigger {table}_append_only",
    "drop trigger {table}_append_only on {table}",
    "create trigger t before insert on {table} for each row execute function mlc_append_only()",
    "create rule r as on insert to {table} do instead nothing",
    "alter table {table} rename to gone",
    "alter table {table} add column more text",
    "drop table {table}",
    "create or replace function mlc_append_only() returns trigger language plpgsql as 'begin return null; end'",
    "drop function mlc_append_only() cascade",
    "set session_replication_role = replica",
    "set role {owner}",
    "alter role {pipeline} superuser",
    "grant all on {table} to {pipeline}",
    "grant {owner} to {pipeline}",
    "create temporary table {table} (id bigint)",
    "create table elsewhere (id bigint)",
    "create schema elsewhere",
    "insert into alembic_version values ('9999')",
    "select setval('audit_event_id_seq', 1)",
    "copy {table} to program 'true'",
    "select lo_import('/etc/hostname')",
]


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_the_pipeline_cannot_touch_the_trail(site: Site, ledger: Ledger, table: str) -> None:
    """Changing, deleting, emptying, switching triggers off, and the ways around: all refused for lack of right."""
    work(ledger)
    seal(ledger)
    column = "actor" if table == "audit_event" else "hash"
    names = {"table": table, "column": column, "owner": site.owner, "pipeline": site.pipeline}
    for attack in ATTACKS:
        statement = attack.format(**names)
        with site.connect(site.pipeline) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
        # PostgreSQL answers a grant of nothing with a warning.
        assert attack.startswith("grant all"), statement
    with site.connect(USER) as connection:
        rights = connection.execute(
            "select string_agg(p, ',' order by p) from unnest("
            "array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p "
            "where has_table_privilege(%s, %s, p)",
            [site.pipeline, table],
        ).fetchone()
    assert rights == ("INSERT,SELECT",)
    assert verify(ledger).faults == ()


def test_a_pipeline_that_owned_the_database_owns_nothing_after(site: Site, ledger: Ledger) -> None:
    """The usual set-up makes the database for the pipeline's role: its owner could give himself every right again."""
    names = {"database": sql.Identifier(site.database), "pipeline": sql.Identifier(site.pipeline)}
    with site.connect(USER) as connection:
        connection.execute(sql.SQL("alter database {database} owner to {pipeline}").format(**names))
        connection.execute("create table runs (id bigint)")
        connection.execute(sql.SQL("alter table runs owner to {pipeline}").format(**names))
    site.apply()
    with site.connect(site.pipeline) as connection:
        connection.execute("insert into runs values (1)")  # Dagster's own table, in the same schema, stays usable.
        for attack in (
            "grant create, temporary on database {database} to {pipeline}",
            "create schema shadow",
            "alter database {database} set search_path = shadow, public",
            "alter schema public owner to {pipeline}",
        ):
            # PostgreSQL answers a grant of nothing with a warning.
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL(attack).format(**names))
                assert attack.startswith("grant"), attack
        may = connection.execute("select has_database_privilege(current_database(), 'create, temporary')").fetchone()
    assert may == (False,)
    work(ledger)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("create role {between}; grant {owner} to {between}; grant {between} to {pipeline}", "still a member of"),
        (
            "create role {between}; grant update on audit_event to {between}; grant {between} to {pipeline}",
            "may change",
        ),
        ("create role {between}; grant pg_write_all_data to {between}; grant {between} to {pipeline}", "is a member"),
        (
            "create role {between}; create schema shadow; grant create on schema shadow to {pipeline}",
            "in schema shadow",
        ),
        ("create role {between}; create schema shadow; create table shadow.audit_event (id bigint)", "as well"),
    ],
)
def test_rights_from_elsewhere_stop_the_sql(site: Site, given: str, told: str) -> None:
    """A role at one remove lets the pipeline become the owner; a DBA who saw no error would think it could not."""
    between = f"between_{site.database}"
    with site.connect(USER) as connection:
        connection.execute(given.format(between=between, owner=site.owner, pipeline=site.pipeline).encode())
        try:
            with pytest.raises(psycopg.errors.RaiseException, match=f"{told}.*run this file again"):
                connection.execute(roles_sql(owner=site.owner, pipeline=site.pipeline).encode())
            connection.execute("rollback")
        finally:
            connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(between)))
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(between)))


def test_a_search_path_does_not_lead_to_other_tables(site: Site, ledger: Ledger) -> None:
    """Who can set it for others shows a DBA a trail of his own making, and lets the pipeline seal that."""
    work(ledger)
    with site.connect(USER) as connection:
        database = sql.Identifier(site.database)
        connection.execute("create schema shadow")
        connection.execute("create table shadow.audit_event (like public.audit_event)")
        connection.execute(sql.SQL("alter database {} set search_path = shadow, public").format(database))
    fresh = open_ledger(site.url(site.pipeline))
    assert events(fresh) == events(ledger) != []
    fresh.close()
    with site.connect(USER) as connection:
        connection.execute("create table shadow.audit_chain (like public.audit_chain)")
    with pytest.raises(LedgerError, match="schemas public, shadow: drop those"):
        open_ledger(site.url(USER))
    named = open_ledger(f"{site.url(USER)}?options=-csearch_path%3Dpublic")
    assert events(named) == events(ledger)
    named.close()


def test_the_triggers_stop_the_owner_too(site: Site, ledger: Ledger) -> None:
    """A DBA's mistake is stopped by the trigger; a DBA's intent is not, which is why there are checkpoints."""
    work(ledger)
    with site.connect(USER) as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(site.owner)))
        for statement in ("update audit_event set actor = 'x'", "truncate audit_chain", "delete from audit_event"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement.encode())
    assert len(events(ledger)) > 10


def test_the_sql_can_be_run_again(site: Site, ledger: Ledger) -> None:
    """After an upgrade, which makes new tables that nobody has a right to yet."""
    with site.connect(USER) as connection:
        connection.execute("grant all on audit_event to public")
    site.apply()
    work(ledger)
    with site.connect(site.pipeline) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("delete from audit_event")


def test_a_schema_that_is_behind_is_named(site: Site) -> None:
    """The pipeline's role cannot upgrade; the text says so instead of half an upgrade."""
    with site.connect(USER) as connection:
        connection.execute("drop table audit_checkpoint")
        connection.execute("update alembic_version set version_num = '0002'")
    with pytest.raises(LedgerError, match="permission denied"):
        open_ledger(site.url(site.pipeline))
    owner = sa.create_engine(site.url(USER))
    with owner.connect() as connection:
        assert connection.execute(sa.text("select version_num from alembic_version")).scalar() == "0002"
    owner.dispose()


def test_every_table_is_spoken_of() -> None:
    """A table that a later version adds must not be left with the rights of whoever made it."""
    text = roles_sql(owner="mlc_owner", pipeline="mlc_pipeline", schema="mlc")
    for table in (*TABLES, "alembic_version"):
        assert f"alter table mlc.{table} owner to mlc_owner;" in text
    for table in APPEND_ONLY:
        assert f"grant select, insert on mlc.{table} to mlc_pipeline;" in text


@pytest.mark.parametrize(("owner", "pipeline"), [("same", "same"), ("a; drop table x", "p"), ("Owner", "p")])
def test_names_that_need_care_are_refused(owner: str, pipeline: str) -> None:
    """The text is run by a superuser."""
    with pytest.raises(ValueError, match=r"two roles|lower-case"):
        roles_sql(owner=owner, pipeline=pipeline)

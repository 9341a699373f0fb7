"""Opening a ledger: its tables are brought to this version once, by one process, and never backwards."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import LedgerError, create_engine, open_ledger
from mlc_dagster.ledger.migrate import current, head, upgrade
from mlc_dagster_tests.ledger.population import race


def test_a_fresh_ledger_has_all_tables(ledger_url: str) -> None:
    """No command has to be run first."""
    ledger = open_ledger(ledger_url)
    tables = set(sa.inspect(ledger.engine).get_table_names())
    assert tables == set(schema.metadata.tables) | {"alembic_version"}
    with ledger.engine.connect() as connection:
        assert current(connection) == head()
    ledger.close()


def test_the_migrations_and_the_tables_agree(ledger_url: str) -> None:
    """A column that is added in one place only would be missing on a customer's ledger."""
    ledger = open_ledger(ledger_url)
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
    ledger.close()


def test_opening_again_changes_nothing(ledger_url: str) -> None:
    """Every command opens the ledger; only the first may find something to do."""
    first = open_ledger(ledger_url)
    with first.transaction() as transaction:
        transaction.insert_ignoring(schema.ledger_setting, {"name": "kept", "value": "yes"})
    first.close()
    engine = create_engine(ledger_url)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda c, cursor, text, *rest: statements.append(text.lower()))
    upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(schema.ledger_setting.c.value)).scalar() == "yes"
    assert not [text for text in statements if text.lstrip().startswith(("create", "alter", "insert", "update"))]
    engine.dispose()


def test_a_newer_ledger_is_refused(ledger_url: str) -> None:
    """An old version must not write into tables that it does not know; nothing is changed by trying."""
    ledger = open_ledger(ledger_url)
    with ledger.engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"9999.*newer"):
        open_ledger(ledger_url)
    with ledger.engine.connect() as connection:
        assert current(connection) == "9999"
    ledger.close()


def test_threads_that_open_a_new_ledger_at_once_all_get_it(ledger_url: str) -> None:
    """Dagster's code server and its daemon start together on a new machine."""
    ledgers = race([lambda: open_ledger(ledger_url)] * 6)
    for ledger in ledgers:
        with ledger.transaction() as transaction:
            transaction.audit("test.opened", "ledger")
    with ledgers[0].reading() as reading:
        assert reading.value(sa.select(sa.func.count()).select_from(schema.audit_event)) == 6
    for ledger in ledgers:
        ledger.close()


def test_processes_that_open_a_new_ledger_at_once_all_get_it(ledger_url: str) -> None:
    """The same between processes, which share no lock but the database's."""
    program = (
        "import sys\n"
        "from mlc_dagster.ledger.database import open_ledger\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "ledger = open_ledger(sys.argv[1])\n"
        "with ledger.transaction() as transaction:\n"
        "    transaction.audit('test.opened', 'ledger')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, ledger_url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(len(processes)) as pool:
        errors = [answer[1] for answer in pool.map(lambda process: process.communicate("go\n"), processes)]
    assert [process.returncode for process in processes] == [0] * 4, errors
    ledger = open_ledger(ledger_url)
    with ledger.reading() as reading:
        assert reading.value(sa.select(sa.func.count()).select_from(schema.audit_event)) == 4
    ledger.close()


def test_different_ledgers_can_be_opened_at_once(tmp_path: Path) -> None:
    """Alembic keeps its state in globals: two tenants in one process must not meet there."""
    urls = [f"sqlite:///{tmp_path / str(n) / 'ledger.sqlite'}" for n in range(4)]
    ledgers = race([lambda url=url: open_ledger(url) for url in urls])
    for ledger in ledgers:
        assert sa.inspect(ledger.engine).has_table("audit_event")
        ledger.close()


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    """The text says which setting is wrong, and a log may keep it."""
    with pytest.raises(LedgerError, match=r"ledger\.url") as refusal:
        open_ledger("postgresql+psycopg://mlc:sesame@127.0.0.1:1/mlc")
    assert "127.0.0.1" in str(refusal.value)
    assert "sesame" not in str(refusal.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """A wrong path must not end in a stack of SQL errors."""
    path = tmp_path / "ledger.sqlite"
    path.write_text("this is not a database, and it is long enough to be read as one\n" * 50)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        open_ledger(f"sqlite:///{path}")

"""The first schema: all tables, and triggers that keep the audit trail append-only."""

from alembic import op

from mlc_dagster.ledger.schema import metadata

revision = "0001"
down_revision = None

_APPEND_ONLY = ("audit_event", "audit_chain")


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection)
    if connection.dialect.name == "postgresql":
        op.execute(
            """
            create function mlc_append_only() returns trigger language plpgsql as $$
            begin
                raise exception '% is append-only: % refused', tg_table_name, tg_op;
            end $$
            """
        )
        for table in _APPEND_ONLY:
            op.execute(
                f"create trigger {table}_append_only before update or delete or truncate on {table} "
                "for each statement execute function mlc_append_only()"
            )
        return
    for table in _APPEND_ONLY:
        for verb in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{verb} before {verb} on {table} "
                f"begin select raise(abort, '{table} is append-only: {verb} refused'); end"
            )

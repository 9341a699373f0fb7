"""Alembic's entry: runs the migrations on the connection that ``ledger.migrate`` hands over."""

from alembic import context

from mlc_dagster.ledger.schema_retention import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()

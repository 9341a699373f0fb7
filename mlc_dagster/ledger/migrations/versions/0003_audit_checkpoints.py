"""Signed checkpoints of the audit trail's chain, as append-only as the trail itself."""

import sqlalchemy as sa
from alembic import op

from mlc_dagster.ledger.types import BigId, UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "audit_checkpoint",
        sa.Column("seq", BigId, autoincrement=False, nullable=False),
        sa.Column("event_id", BigId, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_checkpoint")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "create trigger audit_checkpoint_append_only before update or delete or truncate on audit_checkpoint "
            "for each statement execute function mlc_append_only()"
        )
        return
    for verb in ("update", "delete"):
        op.execute(
            f"create trigger audit_checkpoint_no_{verb} before {verb} on audit_checkpoint "
            f"begin select raise(abort, 'audit_checkpoint is append-only: {verb} refused'); end"
        )

"""Documents of Fusion that could not be read."""

import sqlalchemy as sa
from alembic import op

from mlc_dagster.ledger.types import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "unreadable_document",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("fusion_id", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("source", "fusion_id", name=op.f("pk_unreadable_document")),
    )

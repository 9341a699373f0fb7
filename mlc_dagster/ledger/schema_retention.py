"""The ledger's tables of what was erased, and of what must not be: they share ``schema``'s metadata and types."""

import sqlalchemy as sa

from mlc_dagster.ledger.schema_outbound import metadata
from mlc_dagster.ledger.types import BigId, UtcDateTime

__all__ = ["erased_payload", "metadata", "retention_hold"]

erased_payload = sa.Table(
    "erased_payload",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("item", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("erased_at", UtcDateTime, nullable=False),
    sa.Index(None, "sha256"),
)
"""Content that is ERASED: which, when, by which rule. ``item`` is the key of its row; file:line of quarantined ones."""

retention_hold = sa.Table(
    "retention_hold",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("company", sa.Text),
    sa.Column("supplier", sa.Text),
    sa.Column("invoice", sa.Text),
    sa.Column("file", sa.Text),
    sa.Column("begins", UtcDateTime),
    sa.Column("ends", UtcDateTime),
    sa.Column("placed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("placed_at", UtcDateTime, nullable=False),
    sa.Column("released_at", UtcDateTime),
    sa.Column("released_by", sa.Text),
    sa.Column("release_reason", sa.Text),
)
"""A legal hold: what it names is not erased while ``released_at`` is absent. Several criteria narrow each other."""

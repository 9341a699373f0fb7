"""What leaves Fusion: extracts, feeds, their files and record versions, control numbers and acknowledgements."""

import sqlalchemy as sa
from alembic import op

from mlc_dagster.ledger.types import BigId, JsonText, UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "export_feed",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("extract_id", BigId, server_default="0", nullable=False),
        sa.Column("delivered_until", UtcDateTime(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_export_feed")),
    )
    op.create_table(
        "exported_file",
        sa.Column("id", BigId, nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("totals", JsonText(), nullable=False),
        sa.Column("counts", JsonText(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("layout_version", sa.Text(), nullable=False),
        sa.Column("layout_sha256", sa.Text(), nullable=False),
        sa.Column("partner", sa.Text(), nullable=True),
        sa.Column("controls", JsonText(), nullable=False),
        sa.Column("companions", JsonText(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("window_end", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("temp_name", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("resent_at", UtcDateTime(), nullable=True),
        sa.Column("server_size", sa.BigInteger(), nullable=True),
        sa.Column("server_mtime", sa.BigInteger(), nullable=True),
        sa.Column("verified_by", sa.Text(), nullable=True),
        sa.Column("server_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exported_file")),
        sa.UniqueConstraint("feed", "sequence", name=op.f("uq_exported_file_feed_sequence")),
    )
    op.create_index(op.f("ix_exported_file_feed_state"), "exported_file", ["feed", "state"], unique=False)
    op.create_table(
        "extract",
        sa.Column("id", BigId, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("window_end", UtcDateTime(), nullable=False),
        sa.Column("read_from", UtcDateTime(), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_extract")),
    )
    op.create_index(op.f("ix_extract_source_window_end"), "extract", ["source", "window_end"], unique=False)
    op.create_table(
        "source_record",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("fusion_id", sa.BigInteger(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("last_update_date", UtcDateTime(), nullable=True),
        sa.Column("extract_id", BigId, nullable=False),
        sa.PrimaryKeyConstraint("source", "record_id", name=op.f("pk_source_record")),
    )
    op.create_index(op.f("ix_source_record_source_fusion_id"), "source_record", ["source", "fusion_id"], unique=False)
    op.create_index(
        op.f("ix_source_record_source_last_update_date"), "source_record", ["source", "last_update_date"], unique=False
    )
    op.create_table(
        "acknowledgement",
        sa.Column("id", BigId, nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("group_code", sa.Text(), nullable=True),
        sa.Column("group_control", sa.BigInteger(), nullable=True),
        sa.Column("set_control", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("file_id", BigId, nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["exported_file.id"], name=op.f("fk_acknowledgement_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acknowledgement")),
        sa.UniqueConstraint("feed", "sha256", "part", name=op.f("uq_acknowledgement_feed_sha256_part")),
    )
    op.create_index(op.f("ix_acknowledgement_file_id"), "acknowledgement", ["file_id"], unique=False)
    op.create_table(
        "acknowledgement_file",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("feed", "path", name=op.f("pk_acknowledgement_file")),
    )
    op.create_table(
        "control_number",
        sa.Column("partner", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("file_id", BigId, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["exported_file.id"], name=op.f("fk_control_number_file_id")),
        sa.PrimaryKeyConstraint("partner", "level", "serial", name=op.f("pk_control_number")),
    )
    op.create_index(op.f("ix_control_number_file_id"), "control_number", ["file_id"], unique=False)
    op.create_table(
        "exported_record",
        sa.Column("id", BigId, nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("standing", sa.Text(), nullable=True),
        sa.Column("reading", JsonText(), nullable=True),
        sa.Column("extract_id", BigId, nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.Column("last_update_date", UtcDateTime(), nullable=True),
        sa.Column("file_id", BigId, nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("set_control", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["file_id"], ["exported_file.id"], name=op.f("fk_exported_record_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exported_record")),
        sa.UniqueConstraint("feed", "record_id", "version", name=op.f("uq_exported_record_feed_record_id_version")),
    )
    op.create_index(op.f("ix_exported_record_feed_state"), "exported_record", ["feed", "state"], unique=False)
    op.create_index(op.f("ix_exported_record_file_id"), "exported_record", ["file_id"], unique=False)

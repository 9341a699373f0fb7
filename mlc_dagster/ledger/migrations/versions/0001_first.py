"""The first schema: all tables, and triggers that keep the audit trail append-only."""

import sqlalchemy as sa
from alembic import op

from mlc_dagster.ledger.types import BigId, JsonText, MinorUnits, UtcDateTime

revision = "0001"
down_revision = None

_APPEND_ONLY = ("audit_event", "audit_chain")


def upgrade() -> None:
    _create_tables()
    connection = op.get_bind()
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


def _create_tables() -> None:
    op.create_table(
        "audit_chain",
        sa.Column("seq", BigId, autoincrement=False, nullable=False),
        sa.Column("event_id", BigId, nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_chain")),
        sa.UniqueConstraint("event_id", name=op.f("uq_audit_chain_event_id")),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", BigId, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", JsonText(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_event_subject"), "audit_event", ["subject"], unique=False)
    op.create_table(
        "control_row",
        sa.Column("pod", sa.Text(), nullable=False),
        sa.Column("business_unit", sa.Text(), nullable=False),
        sa.Column("fusion_invoice_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pod", "business_unit", name=op.f("pk_control_row")),
    )
    op.create_table(
        "crosswalk_version",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("first_used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_crosswalk_version")),
    )
    op.create_table(
        "feed",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=True),
        sa.Column("opened_how", sa.Text(), nullable=True),
        sa.Column("last_listed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_feed")),
    )
    op.create_table(
        "file_sighting",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime", sa.BigInteger(), nullable=True),
        sa.Column("same_since", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("feed", "path", name=op.f("pk_file_sighting")),
    )
    op.create_table(
        "invoice",
        sa.Column("id", BigId, nullable=False),
        sa.Column("company_id", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("occurrence_id", BigId, nullable=True),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("vendor_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("amount_minor", MinorUnits(), nullable=True),
        sa.Column("amount_text", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("problems", JsonText(), nullable=True),
        sa.Column("parked_at", UtcDateTime(), nullable=True),
        sa.Column("cured_at", UtcDateTime(), nullable=True),
        sa.Column("released_reasons", JsonText(), nullable=True),
        sa.Column("business_unit", sa.Text(), nullable=True),
        sa.Column("supplier_id", sa.BigInteger(), nullable=True),
        sa.Column("supplier_number", sa.Text(), nullable=True),
        sa.Column("fusion_number", sa.Text(), nullable=True),
        sa.Column("number_key", sa.Text(), nullable=True),
        sa.Column("normalised_key", sa.Text(), nullable=True),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("mapped_with", JsonText(), nullable=True),
        sa.Column("fusion_invoice_id", sa.BigInteger(), nullable=True),
        sa.Column("differences", JsonText(), nullable=True),
        sa.Column("after_create_done", sa.Text(), nullable=True),
        sa.Column("attachment_done", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice")),
        sa.UniqueConstraint("company_id", "source_key", name=op.f("uq_invoice_company_id_source_key")),
    )
    op.create_index(op.f("ix_invoice_fusion_invoice_id"), "invoice", ["fusion_invoice_id"], unique=False)
    op.create_index(op.f("ix_invoice_number"), "invoice", ["number"], unique=False)
    op.create_index(op.f("ix_invoice_state_reason"), "invoice", ["state", "reason"], unique=False)
    op.create_index(
        op.f("ix_invoice_supplier_id_normalised_key"), "invoice", ["supplier_id", "normalised_key"], unique=False
    )
    op.create_index(op.f("ix_invoice_window_start_state"), "invoice", ["window_start", "state"], unique=False)
    op.create_table(
        "ledger_setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_setting")),
    )
    op.create_table(
        "poll_window",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("window_end", UtcDateTime(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("marked_at", UtcDateTime(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("feed", "window_start", name=op.f("pk_poll_window")),
    )
    op.create_table(
        "reference_cache",
        sa.Column("pod", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pod", "kind", "key", name=op.f("pk_reference_cache")),
    )
    op.create_table(
        "source_file",
        sa.Column("id", BigId, nullable=False),
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("window_start", UtcDateTime(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("young", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("assigned_at", UtcDateTime(), nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=True),
        sa.Column("disposed_at", UtcDateTime(), nullable=True),
        sa.Column("same_bytes_as", BigId, nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("rows_total", sa.BigInteger(), nullable=True),
        sa.Column("rows_in_invoices", sa.BigInteger(), nullable=True),
        sa.Column("rows_quarantined", sa.BigInteger(), nullable=True),
        sa.Column("invoices", sa.BigInteger(), nullable=True),
        sa.Column("amounts_minor", JsonText(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_file")),
        sa.UniqueConstraint("feed", "path", "version", name=op.f("uq_source_file_feed_path_version")),
    )
    op.create_index(op.f("ix_source_file_feed_sha256"), "source_file", ["feed", "sha256"], unique=False)
    op.create_index(op.f("ix_source_file_state"), "source_file", ["state"], unique=False)
    op.create_index(
        op.f("ix_source_file_window_start_generation"), "source_file", ["window_start", "generation"], unique=False
    )
    op.create_table(
        "window_run",
        sa.Column("feed", sa.Text(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempt_started_at", UtcDateTime(), nullable=True),
        sa.Column("requested_at", UtcDateTime(), nullable=True),
        sa.Column("not_before", UtcDateTime(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("summary", JsonText(), nullable=True),
        sa.PrimaryKeyConstraint("feed", "window_start", "generation", name=op.f("pk_window_run")),
    )
    op.create_index(op.f("ix_window_run_state"), "window_run", ["state"], unique=False)
    op.create_table(
        "fusion_claim",
        sa.Column("pod", sa.Text(), nullable=False),
        sa.Column("supplier_id", sa.BigInteger(), nullable=False),
        sa.Column("number_key", sa.Text(), nullable=False),
        sa.Column("invoice_pk", BigId, nullable=False),
        sa.ForeignKeyConstraint(["invoice_pk"], ["invoice.id"], name=op.f("fk_fusion_claim_invoice_pk")),
        sa.PrimaryKeyConstraint("pod", "supplier_id", "number_key", name=op.f("pk_fusion_claim")),
    )
    op.create_index(op.f("ix_fusion_claim_invoice_pk"), "fusion_claim", ["invoice_pk"], unique=False)
    op.create_table(
        "fusion_observation",
        sa.Column("invoice_pk", BigId, nullable=False),
        sa.Column("fusion_invoice_id", sa.BigInteger(), nullable=False),
        sa.Column("observed_at", UtcDateTime(), nullable=False),
        sa.Column("validation_status", sa.Text(), nullable=True),
        sa.Column("approval_status", sa.Text(), nullable=True),
        sa.Column("paid_status", sa.Text(), nullable=True),
        sa.Column("accounting_status", sa.Text(), nullable=True),
        sa.Column("canceled", sa.Boolean(), nullable=True),
        sa.Column("amount_paid", sa.Text(), nullable=True),
        sa.Column("holds", JsonText(), nullable=True),
        sa.Column("accounted_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["invoice_pk"], ["invoice.id"], name=op.f("fk_fusion_observation_invoice_pk")),
        sa.PrimaryKeyConstraint("invoice_pk", name=op.f("pk_fusion_observation")),
    )
    op.create_index(
        op.f("ix_fusion_observation_accounting_status"), "fusion_observation", ["accounting_status"], unique=False
    )
    op.create_table(
        "invoice_occurrence",
        sa.Column("id", BigId, nullable=False),
        sa.Column("invoice_pk", BigId, nullable=False),
        sa.Column("file_id", BigId, nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rows", JsonText(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("approved_at", UtcDateTime(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("readable", sa.Boolean(), nullable=False),
        sa.Column("problems", JsonText(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("vendor_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("amount_text", sa.Text(), nullable=True),
        sa.Column("amount_minor", MinorUnits(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["file_id"], ["source_file.id"], name=op.f("fk_invoice_occurrence_file_id")),
        sa.ForeignKeyConstraint(["invoice_pk"], ["invoice.id"], name=op.f("fk_invoice_occurrence_invoice_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoice_occurrence")),
        sa.UniqueConstraint("file_id", "invoice_pk", name=op.f("uq_invoice_occurrence_file_id_invoice_pk")),
    )
    op.create_index(op.f("ix_invoice_occurrence_invoice_pk"), "invoice_occurrence", ["invoice_pk"], unique=False)
    op.create_index(
        op.f("ix_invoice_occurrence_window_start_outcome"),
        "invoice_occurrence",
        ["window_start", "outcome"],
        unique=False,
    )
    op.create_table(
        "quarantined_row",
        sa.Column("file_id", BigId, nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("company_id", sa.Text(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["file_id"], ["source_file.id"], name=op.f("fk_quarantined_row_file_id")),
        sa.PrimaryKeyConstraint("file_id", "line", name=op.f("pk_quarantined_row")),
    )
    op.create_table(
        "submission",
        sa.Column("id", BigId, nullable=False),
        sa.Column("invoice_pk", BigId, nullable=False),
        sa.Column("occurrence_id", BigId, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pod", sa.Text(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("invoice_group", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("mapped_with", JsonText(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("not_before", UtcDateTime(), nullable=True),
        sa.Column("absences", sa.Integer(), server_default="0", nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("fusion_invoice_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["invoice_pk"], ["invoice.id"], name=op.f("fk_submission_invoice_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission")),
        sa.UniqueConstraint("invoice_pk", "attempt", name=op.f("uq_submission_invoice_pk_attempt")),
    )
    op.create_index(op.f("ix_submission_phase_not_before"), "submission", ["phase", "not_before"], unique=False)

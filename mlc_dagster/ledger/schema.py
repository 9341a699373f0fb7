"""The tables of the ledger.

Money is kept as whole minor units of its currency (cents, yen, fils) beside the text that was read; times are UTC.
Rows of ``audit_event`` are written once: triggers refuse UPDATE and DELETE (see ``migrations``).
"""

import sqlalchemy as sa

from mlc_dagster.ledger.types import BigId, JsonText, MinorUnits, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ledger_setting = sa.Table(
    "ledger_setting",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""Settings that may not change under existing data, such as the poll window's length."""

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("first_seen_at", UtcDateTime, nullable=False),
    sa.Column("opened_at", UtcDateTime),
    sa.Column("opened_how", sa.Text),
    sa.Column("last_listed_at", UtcDateTime),
)
"""A folder that is polled. It is opened by a person when it was not empty at first contact."""

file_sighting = sa.Table(
    "file_sighting",
    metadata,
    sa.Column("feed", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime", sa.BigInteger),
    sa.Column("same_since", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("note", sa.Text),
)
"""Files not yet accepted: since when size and mtime (seconds since 1970, the server's clock) have been the same."""

source_file = sa.Table(
    "source_file",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("window_start", UtcDateTime),
    sa.Column("generation", sa.Integer),
    sa.Column("young", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("assigned_at", UtcDateTime),
    sa.Column("received_at", UtcDateTime),
    sa.Column("read_at", UtcDateTime),
    sa.Column("disposed_at", UtcDateTime),
    sa.Column("same_bytes_as", BigId),
    sa.Column("profile", sa.Text),
    sa.Column("rows_total", sa.BigInteger),
    sa.Column("rows_in_invoices", sa.BigInteger),
    sa.Column("rows_quarantined", sa.BigInteger),
    sa.Column("invoices", sa.BigInteger),
    sa.Column("amounts_minor", JsonText),
    sa.UniqueConstraint("feed", "path", "version"),
    sa.Index(None, "feed", "sha256"),
    sa.Index(None, "window_start", "generation"),
    sa.Index(None, "state"),
)
"""A version of a file. ``amounts_minor``: total per currency as counted by the reader, apart from the invoice rows."""

poll_window = sa.Table(
    "poll_window",
    metadata,
    sa.Column("feed", sa.Text, primary_key=True),
    sa.Column("window_start", UtcDateTime, primary_key=True),
    sa.Column("window_end", UtcDateTime, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("marked_at", UtcDateTime),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
)
"""One poll window of a feed; ``outcome`` EMPTY or FILES once the window is over; one run at a time by lease."""

window_run = sa.Table(
    "window_run",
    metadata,
    sa.Column("feed", sa.Text, primary_key=True),
    sa.Column("window_start", UtcDateTime, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("attempt_started_at", UtcDateTime),
    sa.Column("requested_at", UtcDateTime),
    sa.Column("not_before", UtcDateTime),
    sa.Column("run_id", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("failure", sa.Text),
    sa.Column("summary", JsonText),
    sa.Index(None, "state"),
)
"""A frozen piece of work on a window: generation 1 takes the first files, later ones more files or retries."""

invoice = sa.Table(
    "invoice",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("company_id", sa.Text, nullable=False),
    sa.Column("source_key", sa.Text, nullable=False),
    sa.Column("window_start", UtcDateTime, nullable=False),
    sa.Column("occurrence_id", BigId),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("vendor_id", sa.Text, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("amount_minor", MinorUnits),
    sa.Column("amount_text", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("problems", JsonText),
    sa.Column("parked_at", UtcDateTime),
    sa.Column("cured_at", UtcDateTime),
    sa.Column("released_reasons", JsonText),
    sa.Column("business_unit", sa.Text),
    sa.Column("supplier_id", sa.BigInteger),
    sa.Column("supplier_number", sa.Text),
    sa.Column("fusion_number", sa.Text),
    sa.Column("number_key", sa.Text),
    sa.Column("normalised_key", sa.Text),
    sa.Column("mapping", sa.Text),
    sa.Column("mapped_with", JsonText),
    sa.Column("fusion_invoice_id", sa.BigInteger),
    sa.Column("differences", JsonText),
    sa.Column("after_create_done", sa.Text),
    sa.Column("attachment_done", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("company_id", "source_key"),
    sa.Index(None, "window_start", "state"),
    sa.Index(None, "state", "reason"),
    sa.Index(None, "supplier_id", "normalised_key"),
    sa.Index(None, "fusion_invoice_id"),
    sa.Index(None, "number"),
)
"""An invoice of Stampli, by (company, Stampli's own id). ``problems`` is what a person must know while PARKED."""

invoice_occurrence = sa.Table(
    "invoice_occurrence",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("invoice_pk", BigId, sa.ForeignKey("invoice.id"), nullable=False),
    sa.Column("file_id", BigId, sa.ForeignKey("source_file.id"), nullable=False),
    sa.Column("window_start", UtcDateTime, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("rows", JsonText, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("approved_at", UtcDateTime),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("readable", sa.Boolean, nullable=False),
    sa.Column("problems", JsonText, nullable=False),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("vendor_id", sa.Text, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("amount_text", sa.Text),
    sa.Column("amount_minor", MinorUnits),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.UniqueConstraint("file_id", "invoice_pk"),
    sa.Index(None, "invoice_pk"),
    sa.Index(None, "window_start", "outcome"),
)
"""One appearance of an invoice in a file. ``readable`` is false where no invoice could be built from its rows."""

quarantined_row = sa.Table(
    "quarantined_row",
    metadata,
    sa.Column("file_id", BigId, sa.ForeignKey("source_file.id"), primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("company_id", sa.Text),
    sa.Column("source_id", sa.Text),
)

fusion_claim = sa.Table(
    "fusion_claim",
    metadata,
    sa.Column("pod", sa.Text, primary_key=True),
    sa.Column("supplier_id", sa.BigInteger, primary_key=True),
    sa.Column("number_key", sa.Text, primary_key=True),
    sa.Column("invoice_pk", BigId, sa.ForeignKey("invoice.id"), nullable=False),
    sa.Index(None, "invoice_pk"),
)
"""Who may post a supplier's invoice number: at most one invoice, whatever process asks."""

submission = sa.Table(
    "submission",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("invoice_pk", BigId, sa.ForeignKey("invoice.id"), nullable=False),
    sa.Column("occurrence_id", BigId),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("pod", sa.Text, nullable=False),
    sa.Column("window_start", UtcDateTime, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("invoice_group", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("mapped_with", JsonText, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("lease_until", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("not_before", UtcDateTime),
    sa.Column("absences", sa.Integer, nullable=False, server_default="0"),
    sa.Column("http_status", sa.Integer),
    sa.Column("answer", sa.Text),
    sa.Column("fusion_invoice_id", sa.BigInteger),
    sa.UniqueConstraint("invoice_pk", "attempt"),
    sa.Index(None, "phase", "not_before"),
)
"""An attempt to create an invoice: the intent with its frozen body, committed before the request, and its end."""

control_row = sa.Table(
    "control_row",
    metadata,
    sa.Column("pod", sa.Text, primary_key=True),
    sa.Column("business_unit", sa.Text, primary_key=True),
    sa.Column("fusion_invoice_id", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Text, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
"""An invoice known to be visible to us: an answer that shows it proves the absence of what it does not show."""

fusion_observation = sa.Table(
    "fusion_observation",
    metadata,
    sa.Column("invoice_pk", BigId, sa.ForeignKey("invoice.id"), primary_key=True),
    sa.Column("fusion_invoice_id", sa.BigInteger, nullable=False),
    sa.Column("observed_at", UtcDateTime, nullable=False),
    sa.Column("validation_status", sa.Text),
    sa.Column("approval_status", sa.Text),
    sa.Column("paid_status", sa.Text),
    sa.Column("accounting_status", sa.Text),
    sa.Column("canceled", sa.Boolean),
    sa.Column("amount_paid", sa.Text),
    sa.Column("holds", JsonText),
    sa.Column("accounted_at", UtcDateTime),
    sa.Index(None, "accounting_status"),
)
"""What Fusion said of an invoice, and when; the latest observation (changes are in the audit trail)."""

crosswalk_version = sa.Table(
    "crosswalk_version",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("first_used_at", UtcDateTime, nullable=False),
)

reference_cache = sa.Table(
    "reference_cache",
    metadata,
    sa.Column("pod", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("payload", sa.Text),
    sa.Column("read_at", UtcDateTime, nullable=False),
)
"""What Fusion's reference data said of a key, and when; payload NULL: it was asked for and not there."""

audit_event = sa.Table(
    "audit_event",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", JsonText, nullable=False),
    sa.Index(None, "subject"),
    sqlite_autoincrement=True,
)

audit_chain = sa.Table(
    "audit_chain",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=False),
    sa.Column("event_id", BigId, nullable=False, unique=True),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
"""The seal over ``audit_event``: each link's hash covers the event and the link before it."""

audit_checkpoint = sa.Table(
    "audit_checkpoint",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=False),
    sa.Column("event_id", BigId, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("key_id", sa.Text),
    sa.Column("signature", sa.Text),
)
"""What was written to the second place about a link of the chain; unsigned where no signing key is configured."""

"""The ledger's tables of what leaves Fusion: extracts, feeds, files, record versions, control numbers, answers.

They share ``schema``'s metadata and types. Times are UTC; amounts in ``totals`` are exact text, each with its currency.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.schema import metadata
from mlc_dagster.ledger.types import BigId, JsonText, UtcDateTime

extract = sa.Table(
    "extract",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("window_start", UtcDateTime, nullable=False),
    sa.Column("window_end", UtcDateTime, nullable=False),
    sa.Column("read_from", UtcDateTime, nullable=False),
    sa.Column("read_at", UtcDateTime, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index(None, "source", "window_end"),
)
"""One read of a source, kept as it was: the windows it closes, from when on it asked (with the overlap), and when by
Fusion's clock. ``kind``: WINDOWS, LOOK_BACK, SWEEP. Ids count up in the order of reading."""

source_record = sa.Table(
    "source_record",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("fusion_id", sa.BigInteger, nullable=False),
    sa.Column("content_sha256", sa.Text, nullable=False),
    sa.Column("last_update_date", UtcDateTime),
    sa.Column("extract_id", BigId, nullable=False),
    sa.Index(None, "source", "fusion_id"),
    sa.Index(None, "source", "last_update_date"),
)
"""The latest known reading of each record: what the completeness sweep compares Fusion's ids with."""

unreadable_document = sa.Table(
    "unreadable_document",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("fusion_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("first_seen", UtcDateTime, nullable=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("ending", sa.Text),
)
"""A document that Fusion shows inconsistently, or with a value that is none: read again at every poll until it ended.
``ending``: READ, GONE. Times are the database's."""

export_feed = sa.Table(
    "export_feed",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("extract_id", BigId, nullable=False, server_default="0"),
    sa.Column("delivered_until", UtcDateTime),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
"""A feed: its last file's number, the last extract that went into its files, and the lease of its one writer."""

exported_file = sa.Table(
    "exported_file",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("documents", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("totals", JsonText, nullable=False),
    sa.Column("counts", JsonText, nullable=False),
    sa.Column("layout", sa.Text, nullable=False),
    sa.Column("layout_version", sa.Text, nullable=False),
    sa.Column("layout_sha256", sa.Text, nullable=False),
    sa.Column("partner", sa.Text),
    sa.Column("controls", JsonText, nullable=False),
    sa.Column("companions", JsonText, nullable=False),
    sa.Column("window_start", UtcDateTime, nullable=False),
    sa.Column("window_end", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("temp_name", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("resent_at", UtcDateTime),
    sa.Column("server_size", sa.BigInteger),
    sa.Column("server_mtime", sa.BigInteger),
    sa.Column("verified_by", sa.Text),
    sa.Column("server_key", sa.Text),
    sa.UniqueConstraint("feed", "sequence"),
    sa.Index(None, "feed", "state"),
)
"""A file for a partner, frozen before its upload. ``state``: PENDING, UPLOADING, RENAMING, SENT, INFERRED, UNKNOWN,
ABANDONED. ``totals``: exact amounts as text by name; ``counts``: what was replaced, by what; ``controls``: control
numbers by level; ``companions``: trigger and manifest (name, sha256, bytes)."""

exported_record = sa.Table(
    "exported_record",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("record_id", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("text", sa.Text),
    sa.Column("content_sha256", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary),
    sa.Column("standing", sa.Text),
    sa.Column("reading", JsonText),
    sa.Column("extract_id", BigId, nullable=False),
    sa.Column("read_at", UtcDateTime, nullable=False),
    sa.Column("last_update_date", UtcDateTime),
    sa.Column("file_id", BigId, sa.ForeignKey("exported_file.id")),
    sa.Column("position", sa.Integer),
    sa.Column("set_control", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.UniqueConstraint("feed", "record_id", "version"),
    sa.Index(None, "file_id"),
    sa.Index(None, "feed", "state"),
)
"""One version of a record for a feed. ``change``: NEW, CHANGE, CANCEL; ``state``: HELD, PENDING, SENT, ABANDONED,
SUPERSEDED (held or abandoned, and a later reading made it pointless). ``content``: canonical JSON, kept for purchase
orders and for what is held. ``standing``: POSTED or CANCELED, where it decides about the next version. ``reading``: of
what is held, creation date and status as they were read. ``set_control``: the group and transaction set that carries
it, in X12."""

control_number = sa.Table(
    "control_number",
    metadata,
    sa.Column("partner", sa.Text, primary_key=True),
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("serial", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("file_id", BigId, sa.ForeignKey("exported_file.id")),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("taken_at", UtcDateTime, nullable=False),
    sa.Index(None, "file_id"),
)
"""Every control number ever taken, by partner and level (interchange, group). ``serial`` counts on for ever, ``number``
is what stands in the file and begins again at 1 after 999,999,999. ``state``: USED, VOID, JUMPED."""

acknowledgement = sa.Table(
    "acknowledgement",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("feed", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("group_code", sa.Text),
    sa.Column("group_control", sa.BigInteger),
    sa.Column("set_control", sa.Text),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("file_id", BigId, sa.ForeignKey("exported_file.id")),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("feed", "sha256", "part"),
    sa.Index(None, "file_id"),
)
"""What a partner's 997 said of a group or a transaction set: A, E, P, R …; unmatched ones have no file."""

acknowledgement_file = sa.Table(
    "acknowledgement_file",
    metadata,
    sa.Column("feed", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger),
    sa.Column("mtime", sa.BigInteger),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Column("read_at", UtcDateTime, nullable=False),
)
"""Each file of a partner's acknowledgement folder as it was last read, so that it is not fetched at every poll.
``mtime`` is absent where the file was too young to be told from a later one; ``problem``: why it is no answer."""

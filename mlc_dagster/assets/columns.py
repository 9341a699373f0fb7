"""Columns that the UI shows: of what an asset stands for (``dagster/column_schema``) and of its tables."""

import dagster as dg


def _column(name: str, description: str, kind: str = "string") -> dg.TableColumn:
    return dg.TableColumn(name, kind, description=description)


FILES = (
    _column("file", "Name of the file in Stampli's folder."),
    _column("version", "Counts up when a file of the same name comes with other bytes.", "int"),
    _column("state", "READ, SAME_BYTES, RELEASED (waits), VANISHED or REJECTED."),
    _column("bytes", "Size as downloaded.", "int"),
    _column("rows", "Rows under the header.", "int"),
    _column("quarantined", "Rows that could not be read.", "int"),
    _column("invoices", "Invoices read from it.", "int"),
    _column("outcome", "What became of its invoices."),
    _column("why", "Why it waits or was refused; reasons of its parked invoices."),
)
PARKED = (
    _column("invoice", "Invoice number."),
    _column("vendor", "Vendor as Stampli names it."),
    _column("amount", "Amount and currency."),
    _column("file", "File and rows that it stands in."),
    _column("reason", "Reason code."),
    _column("field", "The offending field."),
    _column("value", "The offending value."),
    _column("remedy", "What to do."),
)
DIFFERENCES = (
    _column("what", "differs, missing, cancelled or a step that could not be done."),
    _column("invoice", "Which invoice, and how."),
)
BALANCE = (
    _column("side", "What was received, or where it is accounted for."),
    _column("invoices", "Number of appearances in files.", "int"),
    _column("amount", "Exact amount per currency."),
)

EXTRACTS = (
    _column("kind", "WINDOWS, LOOK_BACK or SWEEP."),
    _column("from", "First window's start, UTC."),
    _column("to", "Last window's end, UTC."),
    _column("records", "Whole records.", "int"),
    _column("lines", "Lines below them.", "int"),
    _column("sha256", "Hash of the extract, under which the archive keeps it."),
)
DELIVERED = (
    _column("file", "Name on the partner's server."),
    _column("outcome", "SENT, or why it is not."),
    _column("documents", "Records in it.", "int"),
    _column("bytes", "Size.", "int"),
    _column("sha256", "Hash of its bytes."),
)
HELD = (
    _column("record", "Id of the record."),
    _column("reason", "Reason code."),
    _column("why", "What does not fit, and what to do."),
)
FEEDS = (
    _column("feed", "Name in mlc.yaml."),
    _column("files", "Files of the windows.", "int"),
    _column("documents", "Records in them.", "int"),
    _column("waiting", "Files of any window not delivered yet.", "int"),
    _column("held", "Documents that wait for a person.", "int"),
)

SOURCE_FILE = dg.TableSchema(
    columns=[
        _column("path", "Path on Stampli's server."),
        _column("version", "Version of this path.", "int"),
        _column("size", "Bytes.", "int"),
        _column("mtime", "Modification time by the server's clock, whole seconds.", "int"),
        _column("sha256", "Hash of the archived bytes."),
        _column("state", "What became of the file."),
        _column("rows_total", "Rows under the header.", "int"),
        _column("rows_in_invoices", "Rows that belong to an invoice.", "int"),
        _column("rows_quarantined", "Rows that could not be read.", "int"),
        _column("amounts_minor", "Total per currency in minor units, as the reader counted."),
    ]
)
VALIDATED_INVOICE = dg.TableSchema(
    columns=[
        _column("company_id", "Stampli company."),
        _column("source_key", "Stampli's own id of the invoice."),
        _column("number", "Invoice number, as approved."),
        _column("vendor_id", "Vendor as Stampli names it."),
        _column("amount_text", "Amount as it was read; money is never a float.", "decimal"),
        _column("currency", "ISO code."),
        _column("state", "VALIDATED or PARKED."),
        _column("reason", "Why it is parked."),
        _column("supplier_id", "Fusion's SupplierId.", "int"),
        _column("business_unit", "Fusion's business unit."),
        _column("mapping", "The body that will be sent, frozen with the intent.", "json"),
    ]
)
POSTED_INVOICE = dg.TableSchema(
    columns=[
        _column("number", "Invoice number in Fusion."),
        _column("fusion_invoice_id", "Fusion's InvoiceId.", "int"),
        _column("state", "CONFIRMED once it was read back and is equal to the cent."),
        _column("attempts", "Requests to create it, each with proof of absence before it.", "int"),
        _column("invoice_group", "Names window, generation and run in Fusion."),
        _column("body_sha256", "Hash of the bytes that were sent."),
        _column("differences", "What Fusion holds differently.", "json"),
    ]
)
STATUS = dg.TableSchema(
    columns=[
        _column("fusion_invoice_id", "Fusion's InvoiceId.", "int"),
        _column("validation_status", "Fusion's word."),
        _column("approval_status", "Fusion's word."),
        _column("paid_status", "Fusion's word."),
        _column("accounting_status", "Fusion's word; followed until it is accounted in full."),
        _column("holds", "Names of unreleased holds."),
        _column("observed_at", "When we looked, UTC.", "timestamp"),
    ]
)
EXTRACT = dg.TableSchema(
    columns=[
        _column("source", "journals, invoices, purchase_orders or suppliers."),
        _column("kind", "WINDOWS, LOOK_BACK (read again in full) or SWEEP (found by comparing ids)."),
        _column("window_start", "First window's start, UTC.", "timestamp"),
        _column("window_end", "Last window's end, UTC.", "timestamp"),
        _column("read_at", "By Fusion's clock, UTC.", "timestamp"),
        _column("records", "Whole records.", "int"),
        _column("lines", "Lines below them.", "int"),
        _column("sha256", "Hash of the extract."),
    ]
)
EXPORTED_RECORD = dg.TableSchema(
    columns=[
        _column("record_id", "Fusion's id of the record."),
        _column("version", "Counts up per feed and record.", "int"),
        _column("change", "NEW, CHANGE or CANCEL."),
        _column("state", "PENDING, SENT, HELD, SUPERSEDED or ABANDONED."),
        _column("content_sha256", "Hash of what was sent."),
        _column("file_id", "The file that carries it.", "int"),
    ]
)
EXPORTED_FILE = dg.TableSchema(
    columns=[
        _column("feed", "Name in mlc.yaml."),
        _column("sequence", "Counts up per feed without a gap.", "int"),
        _column("name", "Name on the partner's server."),
        _column("state", "PENDING, UPLOADING, RENAMING, SENT, INFERRED, UNKNOWN or ABANDONED."),
        _column("sha256", "Hash of its bytes."),
        _column("documents", "Records in it.", "int"),
        _column("server_size", "Bytes, as the partner's server says.", "int"),
        _column("server_key", "Fingerprint of the host key that the server proved."),
    ]
)

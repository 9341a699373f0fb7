"""What a profile says about how invoices stand in a file: one row model for each family of shapes.

Belongs here: the declarations. Does not: reading (``delimited_rows``, ``split_rows``, ``typed_rows``, ``xml_rows``).
Each model is read into the same flat rows: one per invoice line, the invoice's columns repeated on each.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlc_dagster.stampli.parsing.profile_files import ProfileModel, Trailer, expression

FieldName = Literal[
    "company_id", "company_name", "invoice_id", "revision", "number", "invoice_type", "status", "vendor_id",
    "vendor_name", "vendor_site", "invoice_date", "due_date", "posting_date", "received_date", "currency", "amount",
    "tax_amount", "freight_amount", "exchange_rate_type", "exchange_rate_date", "exchange_rate", "payment_terms",
    "payment_method", "pay_group", "description", "approved_by", "approved_at", "document_url", "document_file",
    "line_number", "line_type", "line_description", "line_amount", "quantity", "unit_price", "uom", "gl_account",
    "po_number", "po_line", "po_schedule", "receipt_number", "tax_code", "tax_rate", "amort_start", "amort_end",
    "amort_account",
]  # fmt: skip
LINE_FIELDS = frozenset[str](
    {
        "line_number", "line_type", "line_description", "line_amount", "quantity", "unit_price", "uom", "gl_account",
        "po_number", "po_line", "po_schedule", "receipt_number", "tax_code", "tax_rate", "amort_start", "amort_end",
        "amort_account",
    }
)  # fmt: skip
"""Fields of a line; the others belong to the invoice and are equal on all its rows."""

NOT_USED = "-"
"""Stands for a cell that has no column."""


class _Rows(ProfileModel):
    key: tuple[FieldName, ...] = Field(default=("company_id", "invoice_id"), min_length=2)
    """Fields that together name an invoice; the first one is the company."""
    max_per_invoice: int = Field(default=50_000, ge=1)
    """Rows that one invoice may have: all rows of one are in memory together."""
    max_broken: int = Field(default=10_000, ge=0)
    """Rows of a file that may be set aside; with more the file is no such file and is refused as a whole."""


class RepeatedHeader(_Rows):
    """One row per invoice line; the columns of the invoice are repeated and equal on all its rows."""

    model: Literal["repeated_header"]


class Part(ProfileModel):
    """One file of a delivery."""

    file: str
    """Regular expression for its whole name."""
    total: str | None = None
    """The column whose sum the manifest holds."""

    _file_compiles = field_validator("file")(expression)


class Split(_Rows):
    """Two files with a header row each: one row per invoice in the one, one per line in the other."""

    model: Literal["split"]
    invoices: Part
    lines: Part
    join: tuple[str, ...] = Field(min_length=1)
    """Columns of both files that say to which invoice a line belongs."""


class Record(ProfileModel):
    """A record type of a typed file, and the columns of the cells after its type."""

    role: Literal["file", "invoice", "detail", "line", "split", "trailer"]
    """``file``: first, once. ``invoice``: begins one. ``detail``: more of the invoice, once. ``line``. ``split``:
    stands after its line and replaces it, together with its siblings; cells that it lacks are the line's."""
    cells: tuple[str, ...]
    """Column names; "-" for a cell that is not used."""
    constants: dict[str, str] = Field(default_factory=dict[str, str])
    """Columns that the type itself tells, such as the line type of a tax record."""


class Typed(_Rows):
    """Records of several types, told apart by their first cell; no header row, no quotes, one record a line."""

    model: Literal["typed"]
    escape: str = Field(default="\\", min_length=1, max_length=1, pattern=r"[^A-Za-z0-9\s]")
    """Stands before a delimiter that is text, and before itself."""
    records: dict[str, Record]

    def of_role(self, role: str) -> list[str]:
        """The record types of a role."""
        return [name for name, record in self.records.items() if record.role == role]

    def written(self) -> list[Record]:
        """The record types whose cells become columns."""
        return [record for record in self.records.values() if record.role != "trailer"]

    def problems(self, trailer: Trailer | None) -> list[str]:
        """What does not fit together, one line each."""
        problems = [
            f"rows.records: {role} is the role of {len(self.of_role(role))} types, one is allowed"
            for role in ("file", "invoice", "trailer")
            if len(self.of_role(role)) > 1
        ]
        problems += [f"rows.records: no type has role {role}" for role in ("invoice", "line") if not self.of_role(role)]
        last = self.of_role("trailer")
        if bool(last) != (trailer is not None):
            problems.append("a record of role trailer and the end rule trailer go together")
        if last and trailer is not None:
            known = self.records[last[0]].cells
            asked = {*trailer.counts, *trailer.totals, *([trailer.sha256] if trailer.sha256 else [])}
            problems += [f"file.end: the trailer has no cell {name!r}" for name in sorted(asked - set(known))]
            counted = {each for types in trailer.counts.values() for each in types}
            problems += [f"file.end.counts: {name!r} is no record type" for name in sorted(counted - set(self.records))]
        return problems


class XmlCells(ProfileModel):
    """Column to the path of its text: elements separated by "/", an attribute last, as ``Lines/Line/@number``.

    Namespaces are not looked at. Paths begin below the element of their group.
    """

    document: dict[str, str] = Field(default_factory=dict[str, str])
    """Below the document element, before the first invoice."""
    invoice: dict[str, str]
    line: dict[str, str]

    @model_validator(mode="after")
    def _columns_once(self) -> Self:
        names = [*self.document, *self.invoice, *self.line]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: a column has one path")
        return self


class Xml(_Rows):
    """An element per invoice with an element per line below it."""

    model: Literal["xml"]
    document: str
    """Name of the document element."""
    invoice: str
    """Path from the document element to the invoices."""
    line: str
    """Path from an invoice to its lines."""
    cells: XmlCells
    max_depth: int = Field(default=32, ge=3, le=200)
    """Elements within elements."""


RowRules = Annotated[RepeatedHeader | Split | Typed | Xml, Field(discriminator="model")]

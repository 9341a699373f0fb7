"""What a profile says about files as such: names, packing, and what tells that a file is whole.

Belongs here: the declarations. Does not: looking at a file (``file_ends``, ``deliveries``) and at rows.
"""

import re
from typing import Annotated, Literal

import pydantic
from pydantic import Field, field_validator

from mlc_dagster.stampli.parsing.unpacking import Compression


class ProfileModel(pydantic.BaseModel):
    """Part of a profile: unknown keys are refused, nothing changes after reading."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def expression(value: str) -> str:
    """``value``, which is a regular expression.

    Raises:
        ValueError: it is none.
    """
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


class InFlight(ProfileModel):
    """Names of files that a sender, a server or an editor is still writing."""

    suffixes: tuple[str, ...] = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
    prefixes: tuple[str, ...] = (".", "~$")


class FinalNewline(ProfileModel):
    """A whole file ends with a line end."""

    rule: Literal["final_newline"]


class NoEnd(ProfileModel):
    """Nothing at the end of the file tells whether it is whole."""

    rule: Literal["none"]


class XmlEnd(ProfileModel):
    """A whole file ends with the end tag of its document element."""

    rule: Literal["xml_end_tag"]


class Marker(ProfileModel):
    """A file is whole when another one, of any content, stands beside it."""

    rule: Literal["marker"]
    name: str = "{name}.done"
    """Of the marker: ``{name}`` is the file's name, ``{stem}`` the same without what follows its last dot."""

    @field_validator("name")
    @classmethod
    def _follows_the_file(cls, value: str) -> str:
        rest = value.replace("{name}", "").replace("{stem}", "")
        if rest == value or not rest or "/" in value or "{" in rest:
            raise ValueError(f"{value!r} must hold {{name}} or {{stem}} and something else, and no slash")
        return value

    def marker_of(self, file_name: str) -> str:
        """The name of the marker of a file."""
        stem = file_name.rpartition(".")[0] or file_name
        return self.name.replace("{stem}", stem).replace("{name}", file_name)


class Trailer(ProfileModel):
    """A whole file ends with its trailer record, and what the trailer says is true."""

    rule: Literal["trailer"]
    counts: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """Cell of the trailer to the record types that it counts together."""
    totals: dict[str, str] = Field(default_factory=dict[str, str])
    """Cell of the trailer to the column that it adds up; over all currencies, as a control."""
    sha256: str | None = None
    """Cell of the trailer with the SHA-256 of all bytes before it (without a byte order mark), in hex."""


class Manifest(ProfileModel):
    """Several files are one delivery; a JSON document names them. ``file.name`` is the manifest's own name.

    ``files``, ``name`` … are the keys under which the document holds these things.
    """

    rule: Literal["manifest"]
    files: str = "files"
    """A list with one object per file."""
    name: str = "name"
    sha256: str = "sha256"
    bytes: str = "bytes"
    records: str | None = None
    """Rows of the file, without its header row."""
    total: str | None = None
    """Sum of the file's control column (``rows.invoices.total``, ``rows.lines.total``)."""
    columns: dict[str, str] = Field(default_factory=dict[str, str])
    """Columns that the files do not have, to the key of the document with their text."""


EndRule = Annotated[FinalNewline | NoEnd | XmlEnd | Marker | Trailer | Manifest, Field(discriminator="rule")]


class FileRules(ProfileModel):
    name: str
    """Regular expression for the whole file name; a group named ``sequence`` orders the versions of an invoice."""
    in_flight: InFlight = InFlight()
    end: EndRule
    compression: Compression = "none"
    """How files are packed; ``auto``: gzip, zip (exactly one file in it) or not at all, by their first bytes."""
    max_unpacked_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_ratio: int = Field(default=200, ge=1)
    """Unpacked bytes per packed byte, from a megabyte on; exports of invoices shrink ten- to fiftyfold."""

    _name_compiles = field_validator("name")(expression)

"""An XML document as a stream of elements and texts, in bounded memory, without anything that XML can do to a reader.

Belongs here: parsing, and its limits: no document type, no entities of its own, nothing fetched from anywhere, bounded
depth, texts and names. Does not: what the elements mean (``xml_rows``).
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.reasons import shown

_CHUNK = 64 * 1024
_NO_CONTENT = "http://www.w3.org/2001/XMLSchema-instance}"
"""Attributes such as xsi:nil and xsi:schemaLocation speak about the document, not about an invoice."""
_BLANKS = " \t\r\n"
_NONE: dict[str, str] = {}


Begin = tuple[str, dict[str, str]]
"""A start tag: the element's name and its attributes, names without namespace."""
Event = Begin | str
"""A start tag; or an end tag, told by the element's own text without the blanks around it."""


class _Limits(Exception):
    """A limit is passed; raised through the parser."""


class _Target:
    """Takes expat's calls; ``events`` is emptied after each chunk."""

    def __init__(self, max_depth: int, max_text: int, max_names: int) -> None:
        self.events: list[Event] = []
        self._max_depth = max_depth
        self._max_text = max_text
        self._max_names = max_names
        self._locals: dict[str, str] = {}
        """Names with their namespace, to those without."""
        self._texts: list[list[str]] = []
        self._sizes: list[int] = []

    def start(self, tag: str, attributes: list[str]) -> None:
        """A start tag; ``attributes`` are names and values in turn."""
        own = self._own(tag, attributes) if attributes else _NONE
        name = self._locals.get(tag) or self._named(tag)
        if len(self._texts) >= self._max_depth:
            raise _Limits(f"has more than {self._max_depth} elements within each other (max_depth)")
        self._texts.append([])
        self._sizes.append(0)
        self.events.append((name, own))

    def _named(self, name: str) -> str:
        if name not in self._locals and len(self._locals) >= self._max_names:
            raise _Limits(f"has more than {self._max_names} different names (max_columns)")
        return self._locals.setdefault(name, name.rpartition("}")[2])

    def _own(self, tag: str, attributes: list[str]) -> dict[str, str]:
        """Attributes by their names without namespace."""
        own: dict[str, str] = {}
        for name, value in zip(attributes[::2], attributes[1::2], strict=True):
            if len(value) > self._max_text:
                raise _Limits(f"has an attribute longer than {self._max_text} characters (max_row_bytes)")
            if name.startswith(_NO_CONTENT):
                continue
            local = self._locals.get(name) or self._named(name)
            if local in own:
                raise _Limits(f"has an element {shown(self._named(tag))!r} with one attribute in two namespaces")
            own[local] = value.strip(_BLANKS)
        return own

    def data(self, data: str) -> None:
        """A text, or a part of one."""
        parts = self._texts[-1]
        if not parts and not data.strip(_BLANKS):
            # Blanks between elements: of no use, and there may be as many as elements.
            return
        self._sizes[-1] += len(data)
        if self._sizes[-1] > self._max_text:
            raise _Limits(f"has a text longer than {self._max_text} characters (max_row_bytes)")
        parts.append(data)

    def end(self, tag: str) -> None:
        """An end tag."""
        del tag
        self._sizes.pop()
        parts = self._texts.pop()
        self.events.append("".join(parts).strip(_BLANKS) if parts else "")


def read_events(
    stream: BinaryIO,
    *,
    encoding: str,
    max_depth: int,
    max_text: int,
    max_names: int,
    refused: Callable[[str], FileRejected],
) -> Iterator[list[Event]]:
    """The document from its start to its end, some events at a time.

    Args:
        stream: its bytes.
        encoding: that the profile declares; a document that declares another is refused.
        max_depth: elements within each other.
        max_text: characters of one text, and bytes of one tag.
        max_names: different names of elements and attributes.
        refused: makes the error of a text.

    Raises:
        FileRejected: it is no XML, is cut off, or passes a limit; the text tells line and column.
    """
    target = _Target(max_depth, max_text, max_names)
    parser: Any = DefusedXMLParser(target=target, encoding=encoding, forbid_dtd=True)
    expat: Any = parser.parser
    # Without the stop at ElementTree, which would translate each name once more.
    expat.StartElementHandler = target.start
    expat.EndElementHandler = target.end

    def declared(version: str, said: str | None, standalone: int) -> None:
        del version, standalone
        if said is not None and _same(said) != _same(encoding):
            raise _Limits(f"says that it is {shown(said)}, the profile says {encoding}: correct one of them")

    expat.XmlDeclHandler = declared
    fed = 0
    try:
        while chunk := stream.read(_CHUNK):
            if not fed and chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                # The parser would follow the mark against the profile's word.
                raise _Limits(f"is UTF-16, the profile says {encoding}: correct one of them")
            fed += len(chunk)
            parser.feed(chunk)
            yield target.events
            target.events.clear()
            if fed - max(0, expat.CurrentByteIndex) > max_text + 2 * _CHUNK:
                raise _Limits(f"has a tag or comment longer than {max_text} bytes (max_row_bytes)")
        parser.close()
        yield target.events
    except ParseError as error:
        line, column = error.position
        what = str(error).partition(": line ")[0]
        raise refused(f"is no whole XML document: {shown(what)} at line {line}, column {column + 1}") from None
    except DefusedXmlException:
        raise refused(
            "has a document type declaration, which could make the reader fetch files or run out of memory; "
            "have it exported without"
        ) from None
    except _Limits as limit:
        where = f"line {expat.CurrentLineNumber}, column {expat.CurrentColumnNumber + 1}"
        raise refused(f"{limit} at {where}") from None
    except (ValueError, LookupError) as error:
        raise refused(f"is no XML that can be read: {shown(str(error))}") from None


def _same(encoding: str) -> str:
    return encoding.lower().replace("_", "-").replace("iso-8859-", "iso8859-").replace("windows-", "cp")

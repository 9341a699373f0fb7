"""Answers of an API that is broken or not the one we think: typed errors, bounded texts, numbers that books have."""

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion.answers import MAX_DETAILS, MAX_TEXT, Answer, read_details, retry_after, write_failure
from mlc_dagster.fusion.changes import counted_page
from mlc_dagster.fusion.errors import FusionError, ResponseInvalid
from mlc_dagster.fusion.invoice_rows import InvoiceRow
from mlc_dagster.fusion.journal_lines import JournalLines
from mlc_dagster.fusion.journals import BATCHES, HEADERS, LINES
from mlc_dagster.fusion.paging import read_pages
from mlc_dagster.fusion.payables import TOP
from mlc_dagster.fusion.wire import MOST_DECIMALS, MOST_WHOLE, Id, day, flag, instant, item_of, money
from mlc_dagster_tests.fuzzing.effort import fuzzed

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
_STRANGE = st.sampled_from(
    [
        "1e999999",
        "-1e999999",
        "NaN",
        "sNaN123",
        "Infinity",
        "9" * 400,
        "1_000",
        "",
        " 5 ",
        "0x10",
        "true",
        "Y",
        "2026-13-45",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-10-14",
        "\x00",
        "\x1b]0;x\x07",
        "<script>alert(1)</script>",
        "\u202e",
        "../../x",
        "A" * 3000,
    ]
)
_SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), _STRANGE, st.text(max_size=10)
)
_NAMES = st.sampled_from(
    [
        "items",
        "count",
        "hasMore",
        "InvoiceId",
        "InvoiceAmount",
        "InvoiceDate",
        "CreationDate",
        "CanceledFlag",
        "invoiceLines",
        "LineNumber",
        "LineAmount",
        "o:errorDetails",
        "detail",
        "title",
        "o:errorCode",
        "o:errorPath",
        "error",
        "message",
    ]
)
_JSON = st.recursive(
    _SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=6),
    max_leaves=12,
)
_BODIES = st.one_of(
    _JSON.map(lambda document: json.dumps(document).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"[" * 100_000,
            b'{"items":' * 50_000,
            b'{"a":1e999999}',
            b'"\\ud800"',
            b"\xef\xbb\xbf{}",
            b"nul",
            b"<" * 20_000,
        ]
    ),
)


def answer(content: bytes, status: int = 200, **headers: str) -> Answer:
    return Answer(status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), content)


@fuzzed(400)
@given(content=_BODIES, status=st.integers(300, 599), kind=st.sampled_from(["application/json", "text/html", ""]))
def test_an_error_answer_of_any_bytes_is_told_in_a_few_lines(content: bytes, status: int, kind: str) -> None:
    """It is written to the ledger, to alerts and to screens; ten megabytes of a gateway's page must not be."""
    said = answer(content, status, content_type=kind)
    details = read_details(said)
    assert 1 <= len(details) <= MAX_DETAILS
    for detail in details:
        for text in detail:
            assert text is None or len(text) <= MAX_TEXT
            assert text is None or not any(hidden in text for hidden in "\0\x1b\u202e\n")
    assert isinstance(write_failure(said, where="POST invoices", now=NOW), FusionError)


@fuzzed(300)
@given(
    value=st.text(max_size=30)
    | st.sampled_from(["Sat, 31 Feb 2026 99:99:99 +9999", "1e9", "9" * 30, "Mon, 1 Jan 99999999 0:0:0 GMT"])
)
def test_any_retry_after_is_a_wait_or_nothing(value: str) -> None:
    """A header is text of somebody else's proxy."""
    said = Answer(503, httpx.Headers([(b"retry-after", value.encode("utf-8", "replace")), (b"date", b"nonsense")]), b"")
    wait = retry_after(said, NOW)
    assert wait is None or wait >= 0


@fuzzed(300)
@given(text=_STRANGE | st.text(max_size=30))
def test_any_text_is_a_date_a_time_a_flag_or_refused_briefly(text: str) -> None:
    """Dates decide over periods; what is none must be refused before it is compared."""
    for read in (day, instant, flag):
        try:
            read(text)
        except ResponseInvalid as refusal:
            assert len(str(refusal)) < 600  # noqa: PT017 - most texts are refused, some are values


@fuzzed(400)
@given(
    value=st.decimals()
    | st.sampled_from([Decimal("1e999999"), Decimal("1e-999999"), Decimal("9" * 60), Decimal("sNaN")])
)
def test_an_amount_is_unchanged_or_refused(value: Decimal) -> None:
    """1E+999999 is a number to Python; written out it is a megabyte, and a sum with it would round."""
    try:
        read = money(value)
    except ResponseInvalid:
        read = None
        assert not value.is_finite() or value.adjusted() >= MOST_WHOLE or _decimals(value) > MOST_DECIMALS
    assert read is None or (read == value and len(format(read, "f")) <= MOST_WHOLE + MOST_DECIMALS + 2)


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


class _Reader:
    """Gives the same answer to every request, then an empty page."""

    def __init__(self, content: bytes) -> None:
        self._content = [content]

    async def read(self, path: str, params: Mapping[str, str]) -> Answer:
        return answer(self._content.pop() if self._content else b'{"items":[],"count":0}')


async def _records(content: bytes) -> list[Any]:
    return [
        row.record()
        async for page in read_pages(_Reader(content), "invoices", InvoiceRow, {}, limit=25)
        for row in page
    ]


@fuzzed(400)
@given(content=_BODIES | _JSON.map(lambda row: json.dumps({"items": [row], "count": 1, "hasMore": False}).encode()))
def test_a_page_of_any_bytes_is_rows_or_a_refusal(content: bytes) -> None:
    """A page that cannot be read proves neither presence nor absence of an invoice."""
    try:
        records = asyncio.run(_records(content))
    except ResponseInvalid as refusal:
        records = []
        assert len(str(refusal)) < 1000  # noqa: PT017 - some are rows
    for record in records:
        assert abs(record.invoice_id) < 2**63
        assert record.amount is None or record.amount.is_finite()
        assert "\0" not in record.number


@fuzzed(300)
@given(
    content=_BODIES
    | st.dictionaries(
        st.sampled_from(["JeBatchId", "JournalName", "LedgerName", "EnteredDrAmount", "JeLineNumber", "InvoiceId"]),
        _SCALAR,
        max_size=5,
    ).map(lambda row: json.dumps({"items": [row], "count": 1}).encode()),
    level=st.sampled_from([BATCHES, HEADERS, LINES, TOP]),
)
def test_rows_of_documents_are_typed_or_refused(content: bytes, level: Any) -> None:
    """What is decoded here becomes a partner's file without anybody looking at it."""
    try:
        page = counted_page(level.row, answer(content), "GET x")
        rows = level.kept(page.items or [])
        values = [msgspec.structs.asdict(row) if isinstance(rows, JournalLines) else level.values(row) for row in rows]
    except ResponseInvalid:
        values = []
    for found in values:
        for value in found.values():
            assert not isinstance(value, Decimal) or value.adjusted() < MOST_WHOLE
            assert not isinstance(value, int) or abs(value) <= 2**63


class _Row(msgspec.Struct, rename="pascal"):
    invoice_id: Id
    number: str | None = None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"InvoiceId": 9223372036854775808}', "9223372036854775807"),
        (b'{"InvoiceId": "99999999999999999999999"}', "9223372036854775807"),
        (b'{"InvoiceId": 1, "Number": "a\\u0000b"}', "NUL"),
        (b'{"InvoiceId": 1, "Number": "\\ud800"}', ""),
        (b'{"InvoiceId": 1, "Other": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"InvoiceId": NaN}', ""),
        (b'{"InvoiceId": 1e400}', ""),
        (b'{"InvoiceId": [1]}', ""),
    ],
)
def test_json_that_no_ledger_could_keep_is_refused_while_decoding(content: bytes, said: str) -> None:
    """Refused here it is one clear error; let through, it would be the database's, in the middle of a transaction."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError), match=said or None):
        item_of(_Row, content)


def test_text_that_only_looks_like_an_escaped_nul_is_read() -> None:
    r"""``\\u0000`` in JSON is a backslash and five characters, as a description may have them."""
    assert item_of(_Row, b'{"InvoiceId": 1, "Number": "a\\\\u0000"}').number == "a\\u0000"


def test_of_a_name_that_is_there_twice_the_last_counts() -> None:
    """As in every other reader of JSON: two readings of one answer must not differ."""
    assert item_of(_Row, b'{"InvoiceId": 1, "InvoiceId": 2}').invoice_id == 2


def test_a_page_of_markup_costs_no_time() -> None:
    """Looking for the end of a million opened tags would take an hour."""
    content = b"<script " * 1_250_000
    assert len(read_details(answer(content, 502, content_type="text/html"))) == 1

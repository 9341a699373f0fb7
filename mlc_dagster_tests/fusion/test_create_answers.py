"""What each complete answer to an invoice's POST proves, and what is read out of it."""

import gzip
import json
from decimal import Decimal

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.errors import AccessRefused, BusinessRefusal, ErrorDetail, FusionError, OutcomeUnknown, Refused
from mlc_dagster.fusion.transport import Exchange
from mlc_dagster_tests.fusion.raw_server import (
    BODY,
    CREATED,
    RawServer,
    Script,
    answering,
    closes,
    failure_of_create,
    in_loop,
)


@pytest.mark.parametrize("status", [408, 409, 500, 501, 502, 504, 507])
@in_loop
async def test_statuses_that_prove_nothing_are_unknown(status: int) -> None:
    """A gateway says 502 and 504 about a server that may be committing at that moment."""
    error = await failure_of_create(answering(status, raw=b"<html><body>Gateway trouble</body></html>"))
    assert isinstance(error, OutcomeUnknown)
    assert error.status == status


@pytest.mark.parametrize(
    "script",
    [
        answering(201, raw=b"<html>signed in</html>", headers={"Content-Type": "text/html"}),
        answering(201, raw=b""),
        answering(201, {"InvoiceNumber": "NW-1"}),
        answering(201, {"InvoiceId": 1}),
        answering(201, {"InvoiceId": 1, "InvoiceNumber": "NW-1", "InvoiceDate": "soon"}),
        answering(201, {"InvoiceId": 1, "InvoiceNumber": "NW-1", "InvoiceAmount": "NaN"}),
        answering(201, raw=b"\xff\xfe{}"),
        answering(201, raw=b"no gzip at all", headers={"Content-Encoding": "gzip"}),
        answering(204, raw=b""),
        answering(202, CREATED),
    ],
)
@in_loop
async def test_success_without_a_readable_invoice_is_unknown(script: Script) -> None:
    """A proxy's sign-in page is a 200 too; only an invoice with its id is evidence of creation."""
    assert isinstance(await failure_of_create(script), OutcomeUnknown)


@in_loop
async def test_compressed_answer_is_read() -> None:
    """Fusion compresses; the bytes counted are those of the line."""
    packed = gzip.compress(json.dumps(CREATED).encode())
    script = answering(200, raw=packed, headers={"Content-Encoding": "gzip"})
    reports: list[Exchange] = []
    async with RawServer(script) as server, server.client(report=reports.append) as client:
        record = await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert record.invoice_id == 300000912345671
    assert reports[-1].response_bytes == len(packed)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "later"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
@in_loop
async def test_complete_busy_answer_is_refused_with_its_wait(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    """Fusion turned the request away and says when to come back, in seconds or as a date of its own clock."""
    error = await failure_of_create(answering(status, raw=b"busy", headers=headers))
    assert isinstance(error, Refused)
    assert (error.status, error.retry_after) == (status, seconds)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 403, 404, 405, 406, 415])
@in_loop
async def test_wrong_address_or_role_is_access_refused_and_not_followed(status: int) -> None:
    """A revoked role must stop the run, not park every invoice; a redirect must not carry the token elsewhere."""
    async with (
        RawServer(answering(status, raw=b"", headers={"Location": "/elsewhere"})) as server,
        server.client() as client,
    ):
        with pytest.raises(AccessRefused) as caught:
            await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert caught.value.status == status
    assert len(server.received) == 1


@in_loop
async def test_business_refusal_carries_codes_and_texts() -> None:
    """The code decides what the exception is about; the text is what the specialist reads."""
    document = {
        "title": "Bad Request",
        "status": "400",
        "o:errorDetails": [
            {
                "detail": "Number exists. (AP-810776)",
                "o:errorCode": "AP-810776",
                "o:errorPath": "/invoices/InvoiceNumber",
            }
        ],
    }
    error = await failure_of_create(answering(400, document))
    assert isinstance(error, BusinessRefusal)
    assert error.details == (ErrorDetail("AP-810776", "/invoices/InvoiceNumber", "Number exists. (AP-810776)"),)
    assert error.codes == ("AP-810776",)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (b"9007199254740993.01", Decimal("9007199254740993.01")),
        (b'"9007199254740993.01"', Decimal("9007199254740993.01")),
        (b"0.10", Decimal("0.10")),
        (b"1E+3", Decimal(1000)),
        (b'"1E+3"', Decimal(1000)),
        (b"-1180.5", Decimal("-1180.50")),
    ],
)
@in_loop
async def test_amounts_are_exact_as_number_and_as_text(written: bytes, amount: Decimal) -> None:
    """2**53 + 1 is where a float would lose the cent; framework version 9 sends numbers as text."""
    raw = b'{"InvoiceId":"300000912345671","InvoiceNumber":"NW-1","InvoiceAmount":%s}' % written
    async with RawServer(answering(201, raw=raw)) as server, server.client(framework_version=9) as client:
        record = await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert record.amount == amount
    assert record.invoice_id == 300000912345671


def without_secrets(text: str) -> bool:
    return "token-1" not in text and "s3cret" not in text and "Basic" not in text


@pytest.mark.parametrize("script", [closes, answering(400, raw=b"no"), answering(401, raw=b"")])
@in_loop
async def test_secrets_show_up_nowhere(script: Script) -> None:
    """Errors and exchanges end in logs and in the audit trail."""
    reports: list[Exchange] = []
    async with RawServer(script) as server, server.client(report=reports.append) as client:
        with pytest.raises(FusionError) as caught:
            await invoices.create(client, BODY, before_first_byte=lambda: None)
        assert without_secrets(repr(client) + repr(client._login) + str(vars(client)))
    assert without_secrets(f"{caught.value} {caught.value!r} {reports}")
    assert len(reports) >= 2

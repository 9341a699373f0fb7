"""Error answers in every shape they have been seen in; the code and a readable text come out of each."""

import json

import httpx
import pytest

from mlc_dagster.fusion.answers import MAX_TEXT, Answer, read_details
from mlc_dagster.fusion.errors import BusinessRefusal, ErrorDetail


def details(body: bytes | str | object, content_type: str = "application/json") -> tuple[ErrorDetail, ...]:
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    return read_details(Answer(400, httpx.Headers({"Content-Type": content_type}), content))


def structured(*entries: object, **more: object) -> dict[str, object]:
    return {"title": "Bad Request", "status": "400", "o:errorDetails": list(entries), **more}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            structured({"detail": "Bad query", "o:errorCode": "29140", "o:errorPath": "/invoices"}),
            ErrorDetail("JBO-29140", "/invoices", "Bad query"),
        ),
        (structured({"detail": "No", "code": "AP-810879"}), ErrorDetail("AP-810879", None, "No")),
        (structured({"detail": "No"}, **{"o:errorCode": 27024}), ErrorDetail("JBO-27024", None, "No")),
        (structured({"detail": "Exists. (AP-810776)"}), ErrorDetail("AP-810776", None, "Exists. (AP-810776)")),
        (structured({"title": "Only a title"}), ErrorDetail(None, None, "Only a title")),
        (structured("just text"), ErrorDetail(None, None, "just text")),
        (structured(), ErrorDetail(None, None, "Bad Request")),
        ({"title": "Bad", "detail": "Why", "status": 400}, ErrorDetail(None, None, "Why")),
        ({"error": "invalid_scope", "error_description": "Unknown scope"}, ErrorDetail(None, None, "Unknown scope")),
        ('"Plain string"', ErrorDetail(None, None, "Plain string")),
        ("JBO-27024: Failed to validate a row", ErrorDetail("JBO-27024", None, "JBO-27024: Failed to validate a row")),
        ("Number\n exists.   (AP-810245)", ErrorDetail("AP-810245", None, "Number exists. (AP-810245)")),
    ],
)
def test_code_path_and_text_are_found(body: object, expected: ErrorDetail) -> None:
    """The code is inside the array, beside it, or at the end of a text; bare digits are ADF's own."""
    assert details(body) == (expected,)


def test_several_refusals_in_one_answer_all_count() -> None:
    """The specialist should mend all faults at once instead of one per attempt."""
    found = details(structured({"detail": "a", "o:errorCode": "AP-810879"}, {"detail": "b", "o:errorCode": "29140"}))
    assert [(entry.code, entry.text) for entry in found] == [("AP-810879", "a"), ("JBO-29140", "b")]


def test_lines_of_plain_text_with_a_code_each_are_separate() -> None:
    """Without the error type the messages come one a line."""
    found = details("Amount missing. (AP-810879)\nNumber exists. (AP-810776)\n", "text/plain")
    assert [entry.code for entry in found] == ["AP-810879", "AP-810776"]


def test_html_is_reduced_to_its_words() -> None:
    """A gateway's error page must not fill the exception list with markup."""
    page = (
        "<html><style>p {x}</style><body><h1>403</h1><p>Blocked &amp; logged</p><script>alert(1)</script></body></html>"
    )
    assert details(page, "text/html") == (ErrorDetail(None, None, "403 Blocked & logged"),)


@pytest.mark.parametrize("body", [b"", b"   ", b"{}", b"[]", b"null", b"<html></html>", b"17"])
def test_answer_without_words_still_gives_an_entry(body: bytes) -> None:
    """Callers may rely on the first entry."""
    assert details(body)[0].text == "the answer has no text"


def test_undecodable_bytes_are_replaced() -> None:
    """An error while reading an error hides the first one."""
    assert details(b"caf\xe9 closed", "text/plain")[0].text == "caf\ufffd closed"


def test_long_texts_are_cut() -> None:
    """A stack trace of Fusion's is not for the ledger."""
    text = details("x" * 100_000, "text/plain")[0].text
    assert len(text) == MAX_TEXT
    assert text.endswith("…")


def test_error_text_names_code_once() -> None:
    """The code is shown to people, but not twice."""
    refusal = BusinessRefusal(
        400, (ErrorDetail("AP-1", None, "Exists (AP-1)"), ErrorDetail("JBO-2", None, "Row")), where="POST invoices"
    )
    assert str(refusal) == "POST invoices: refused by Fusion (HTTP 400): Exists (AP-1); JBO-2 Row"

"""Refusals as Fusion words them: structured where the request allows it, plain text elsewhere."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detail:
    """One entry of ``o:errorDetails``."""

    text: str
    code: str | None = None
    path: str | None = None


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    412: "Precondition Failed",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Refusal(Exception):
    """A request that Fusion answers with a status of 400 or above."""

    def __init__(self, status: int, *details: Detail, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.details = details
        self.headers = headers or {}
        super().__init__(f"{status}: " + "; ".join(detail.text for detail in details))

    def body(self, *, structured: bool) -> tuple[str, bytes]:
        """Content type and body. Without details the body is empty, as for 401 and 406."""
        if not self.details:
            return "text/plain", b""
        if not structured or self.status == 404:
            return "text/plain; charset=utf-8", "\n".join(detail.text for detail in self.details).encode()
        entries: list[dict[str, str]] = []
        for detail in self.details:
            entry = {"detail": detail.text}
            if detail.code:
                entry["o:errorCode"] = detail.code
            if detail.path:
                entry["o:errorPath"] = detail.path
            entries.append(entry)
        title = _TITLES.get(self.status, "Error")
        document = {"title": title, "status": str(self.status), "o:errorDetails": entries}
        return "application/vnd.oracle.adf.error+json", json.dumps(document, ensure_ascii=False).encode()


def bad_query(text: str, resource: str) -> Refusal:
    """400 for a ``q`` that cannot be read."""
    return Refusal(400, Detail(f"The q query parameter is not valid: {text} (JBO-29140)", "29140", f"/{resource}"))


def bad_parameter(text: str) -> Refusal:
    """400 for any other URL parameter or header."""
    return Refusal(400, Detail(text))

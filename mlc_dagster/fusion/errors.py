"""How a request to Fusion can fail, told apart by what the failure proves.

For a write the only question that matters is whether Fusion may have acted, so the types answer exactly that.
Every request ends in a value or in one of these; nothing of httpx or aiohttp reaches the caller.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from mlc_dagster.expected import Expected, FailureKind


class ErrorDetail(NamedTuple):
    """One entry of an error answer. ``code`` is the product code (``AP-810776``, ``JBO-27024``) where one was found."""

    code: str | None
    path: str | None
    text: str


class FusionError(Expected):
    """Base of everything this connector raises. ``where`` names the request, such as ``POST invoices``."""

    kind = FailureKind.REMOTE

    def __init__(self, text: str, *, where: str = "") -> None:
        self.where = where
        self.text = text
        super().__init__(f"{where}: {text}" if where else text)


class NotSent(FusionError):
    """Failed before the first byte of the body left (name look-up, connect, TLS): Fusion cannot have acted."""

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.reason = reason
        super().__init__(f"not sent, {reason}; safe to send again", where=where)


class OutcomeUnknown(FusionError):
    """The body was (perhaps) received and no complete, readable answer came back: Fusion may have acted.

    ``status`` is the HTTP status when there was one (408, 409, 5xx, or a 2xx with an unreadable body).
    """

    def __init__(self, reason: str, *, status: int | None = None, where: str = "") -> None:
        self.reason = reason
        self.status = status
        super().__init__(f"outcome unknown, {reason}; look it up before sending again", where=where)


class Refused(FusionError):
    """A complete 429 or 503 answer: Fusion was too busy and did not act. ``retry_after`` is in seconds."""

    def __init__(self, status: int, retry_after: float | None = None, *, where: str = "") -> None:
        self.status = status
        self.retry_after = retry_after
        wait = f", asks to wait {retry_after:g} s" if retry_after is not None else ""
        super().__init__(f"Fusion is too busy (HTTP {status}{wait})", where=where)


class NotAuthorised(FusionError):
    """401 also with a fresh token, or the token endpoint refused the credentials. Nothing was done."""

    def __init__(self, reason: str, *, where: str = "", remedy: str = "", status: int | None = None) -> None:
        self.reason = reason
        self.status = status
        """Of the answer to the request; None where there was no request, for want of a token."""
        super().__init__(f"{reason}; {remedy or 'check how fusion: signs in'}", where=where)


class AccessRefused(FusionError):
    """403, 404, 405, 406, 415 or ``Redirected``: the address, the role or the settings are wrong, not one document."""

    def __init__(self, status: int, details: tuple[ErrorDetail, ...] = (), *, where: str = "") -> None:
        self.status = status
        self.details = details
        meaning = _ACCESS.get(status, "the resource is elsewhere")
        super().__init__(f"{meaning} (HTTP {status}){_joined(details)}", where=where)


class Redirected(AccessRefused):
    """A redirect. It is never followed: whatever signs the request would go where some answer says."""

    def __init__(self, status: int, location: str, *, where: str = "", setting: str = "fusion.base_url") -> None:
        self.target = _without_query(location)
        super().__init__(status, where=where)
        to = f" to {self.target}" if self.target else ""
        self.text = f"the address answers with a redirect{to} (HTTP {status}), which is not followed; check {setting}"
        self.args = (f"{where}: {self.text}" if where else self.text,)


class BusinessRefusal(FusionError):
    """Any other 4xx: Fusion read the request and refused it. ``details`` has at least one entry."""

    def __init__(self, status: int, details: tuple[ErrorDetail, ...], *, where: str = "") -> None:
        self.status = status
        self.details = details
        super().__init__(f"refused by Fusion (HTTP {status}){_joined(details)}", where=where)

    @property
    def codes(self) -> tuple[str, ...]:
        """Product codes of the answer, in its order."""
        return tuple(detail.code for detail in self.details if detail.code is not None)


class RemoteDown(FusionError):
    """A read kept failing through its bounded retries, or the token endpoint is down.

    Raised by a write as well when no token could be had; then nothing was sent.
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.reason = reason
        super().__init__(f"Fusion does not answer, {reason}; try again later", where=where)


class Untrusted(RemoteDown):
    """The other side's TLS certificate or version is not acceptable, or it does not accept ours; nothing was sent."""

    def __init__(self, reason: str, *, where: str = "") -> None:
        super().__init__(reason, where=where)
        self.text = f"no trusted connection, {reason}"
        self.args = (f"{where}: {self.text}" if where else self.text,)


class ResponseInvalid(FusionError):
    """A read was answered with success but not in the documented shape."""

    def __init__(self, reason: str, *, where: str = "") -> None:
        self.reason = reason
        super().__init__(f"unexpected answer, {reason}", where=where)


class NotPlain(ValueError):
    """A value that must not be put into a ``q`` expression: Fusion documents no way to escape it."""

    def __init__(self, value: str) -> None:
        self.value = value
        super().__init__(
            f"{value!r} has characters outside A-Z a-z 0-9 . _ / - and blank; "
            "it cannot be asked for in q, read a wider set and compare"
        )


_ACCESS = {
    403: "the Fusion user lacks the privilege or data access",
    404: "no such resource; check fusion.base_url and the user's privileges",
    405: "the resource does not allow this operation",
    406: "the resource does not offer the requested representation; check fusion.framework_version",
    415: "the resource does not accept this content type",
}


def _without_query(location: str) -> str:
    """Scheme, host and path: what stands behind them may be a token."""
    try:
        parts = urlsplit(location.strip())
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that is none"
    place = f"{parts.scheme}://{host}{port}{parts.path}" if host else parts.path
    return "".join(character for character in place if character.isprintable())[:200]


def _joined(details: tuple[ErrorDetail, ...]) -> str:
    texts = [
        f"{detail.code} {detail.text}" if detail.code and detail.code not in detail.text else detail.text
        for detail in details
    ]
    return ": " + "; ".join(texts) if texts else ""

"""Logging in on an encrypted connection with a pinned server: by the key or the password that was given, and no other.

What belongs here: the methods, and what a server may ask for. What does not: agents, default keys, questions to people.
"""

import re

import paramiko

from .algorithms import SHA1_SIGNATURES, Sha1ClientKey
from .errors import LoginRefused, QuestionAsked
from .translation import REMOTE_FAULTS, Endpoint

_PASSWORD = re.compile(r"\bpassword\b", re.IGNORECASE)
_OTHER_PASSWORD = re.compile(r"\b(new|old|current|change|expired|one[- ]time)\b", re.IGNORECASE)


class QuestionsOnly(Exception):
    """The server takes no password as such but asks questions (keyboard-interactive); the connection is closed."""


def log_in(
    transport: paramiko.Transport,
    username: str,
    password: str | None,
    private_key: paramiko.PKey | None,
    endpoint: Endpoint,
) -> None:
    """Logs in by the private key when there is one, else by the password; closes the transport when that fails.

    Raises:
        QuestionsOnly: see ``answer_question``.
        LoginRefused: the server says no, or wants a second factor.
        SftpError: the connection broke.
    """
    method = "password" if private_key is None else "private_key"
    try:
        if private_key is not None:
            further = transport.auth_publickey(username, _signing(private_key, transport))
        else:
            further = transport.auth_password(username, password or "", fallback=False)
    except REMOTE_FAULTS as error:
        transport.close()
        if (
            private_key is None
            and isinstance(error, paramiko.BadAuthenticationType)
            and "keyboard-interactive" in error.allowed_types
        ):
            raise QuestionsOnly from None
        # "from None": an authentication exception is the one place where a library could quote what was sent.
        raise endpoint.login_fault(error, username, method) from None
    _refuse_more(transport, username, method, further, endpoint)


def answer_question(transport: paramiko.Transport, username: str, password: str, endpoint: Endpoint) -> None:
    """Gives the password to a server that asks for it by a question; closes the transport when that fails.

    Any other question, such as for a new password or a code, must not get the password for an answer, and neither must
    a second one.

    Raises:
        QuestionAsked: it asks for something else; that was not answered.
        LoginRefused, SftpError: as ``log_in``.
    """
    asked: list[str] = []

    def answer(_title: str, _instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        for question, shown in prompts:
            if asked or shown or not _PASSWORD.search(question) or _OTHER_PASSWORD.search(question):
                raise _NotAPassword(question)
            asked.append(question)
        return [password] * len(prompts)

    try:
        further = transport.auth_interactive(username, answer)
    except _NotAPassword as error:
        transport.close()
        raise QuestionAsked(endpoint.host, username, str(error)) from None
    except REMOTE_FAULTS as error:
        transport.close()
        raise endpoint.login_fault(error, username, "password") from None
    _refuse_more(transport, username, "password", further, endpoint)


class _NotAPassword(paramiko.SSHException):
    """Raised where paramiko asks for answers, in its own thread; carries the question."""


def _refuse_more(
    transport: paramiko.Transport, username: str, method: str, further: list[str], endpoint: Endpoint
) -> None:
    if further:
        transport.close()
        raise LoginRefused(endpoint.host, username, f"{method} alone", further)


def _signing(key: paramiko.PKey, transport: paramiko.Transport) -> paramiko.PKey:
    if isinstance(key, paramiko.RSAKey) and SHA1_SIGNATURES in transport.preferred_pubkeys:
        return Sha1ClientKey(key=key.key)
    return key

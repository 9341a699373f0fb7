"""Keeps resolved secrets out of log lines.

What belongs here: masking known values in text and in log records, tracebacks included. What does not: finding the
values; a ``SecretResolver`` knows them. Goes on the handlers that the command and the code location set up.
"""

import logging
from collections.abc import Iterable
from typing import Final

from mlc_dagster.vault.references import SecretResolver

MASK: Final = "**********"

SHORTEST_LINE: Final = 16
"""Characters. Shorter lines of a key or certificate occur elsewhere by chance."""

SHORTEST_MASKED: Final = 4
"""Characters. A shorter value would mask every "a" or "22" of a log and so give itself away."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every one of ``secrets`` masked; of secrets with several lines (keys) also each long line."""
    parts = {part for secret in secrets for part in (secret, *_long_lines(secret)) if len(part) >= SHORTEST_MASKED}
    # Longest first: a secret that contains another must not leave its rest behind.
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, MASK)
    return text


def _long_lines(secret: str) -> list[str]:
    lines = secret.splitlines()
    # The -----BEGIN and -----END lines are no secret.
    return [line for line in lines if len(lines) > 1 and len(line) >= SHORTEST_LINE and not line.startswith("-----")]


class RedactingFilter(logging.Filter):
    """A logging filter that lets every record through with the resolver's values masked."""

    def __init__(self, resolver: SecretResolver) -> None:
        super().__init__()
        self._resolver = resolver

    def filter(self, record: logging.LogRecord) -> bool:
        """True always; the record's message, traceback and stack are masked in place."""
        secrets = self._resolver.values
        if not secrets:
            return True
        # Formatting is what merges arguments into the message, so it happens here, before the handler's formatter.
        record.msg = redact(record.getMessage(), secrets)
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text, secrets)
        if record.stack_info:
            record.stack_info = redact(record.stack_info, secrets)
        return True

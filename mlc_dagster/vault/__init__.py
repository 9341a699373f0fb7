"""Secrets: from the references that mlc.yaml may hold to the values that connectors need.

What belongs here: the reference schemes, the errors that name a reference and never a value, and the log filter that
keeps resolved values out of logs. What does not: who needs which secret. Comes from settings; goes to resources.
"""

from collections.abc import Mapping
from pathlib import Path

from mlc_dagster.vault.redaction import MASK, RedactingFilter, redact
from mlc_dagster.vault.references import SecretError, SecretResolver, SecretText

__all__ = ["MASK", "RedactingFilter", "SecretError", "SecretResolver", "SecretText", "redact", "resolve"]


def resolve(reference: str, *, environ: Mapping[str, str], root: Path) -> str:
    """The secret behind ``reference``, for a caller that needs one only.

    Args:
        reference: ``env:NAME`` or ``file:/path``.
        environ: the environment that ``env:`` reads.
        root: folder that a relative ``file:`` path starts from, that of mlc.yaml.

    Raises:
        SecretError: the reference cannot be resolved.
    """
    return SecretResolver(environ, root).resolve(reference)

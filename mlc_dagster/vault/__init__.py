"""Secrets: from the references that mlc.yaml may hold to the values that connectors need.

What belongs here: the encrypted store and the other providers, errors that name a reference and never a value, and the
masking that keeps resolved values out of logs. What does not: who needs which secret. Comes from settings; goes to
resources.
"""

from mlc_dagster.vault.errors import ProviderDown, SecretError, SecretText
from mlc_dagster.vault.providers import SecretProvider
from mlc_dagster.vault.redaction import MASK, guard_process, mask, redact, scrub
from mlc_dagster.vault.references import SecretResolver

__all__ = [
    "MASK",
    "ProviderDown",
    "SecretError",
    "SecretProvider",
    "SecretResolver",
    "SecretText",
    "guard_process",
    "mask",
    "redact",
    "scrub",
]

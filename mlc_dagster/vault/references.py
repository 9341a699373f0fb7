"""References to secrets and their resolution: ``store:name``, ``env:NAME``, ``file:/path``, ``vault:path#key``.

What belongs here: choosing the provider by scheme, and remembering what was handed out, so that it can be kept out of
logs and its use be told. What does not: how a provider reads.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from mlc_dagster.settings import SecretsSettings, Settings
from mlc_dagster.settings.values import is_secret_reference
from mlc_dagster.vault.errors import SecretError, SecretText
from mlc_dagster.vault.hashicorp import VaultProvider
from mlc_dagster.vault.keys import KeySource
from mlc_dagster.vault.providers import (
    EnvironmentProvider,
    FileProvider,
    SecretProvider,
    StoreProvider,
    plugged_provider,
)
from mlc_dagster.vault.store import FILE_NAME, SecretStore

_PASSING_KEPT = 64
"""Short-lived values that are still masked: hours of tokens, and no more than a log line can be compared with."""


class SecretResolver:
    """Resolves references and remembers the values, so that they can be kept out of logs."""

    def __init__(
        self,
        environ: Mapping[str, str],
        root: Path,
        *,
        settings: SecretsSettings | None = None,
        data_path: Path | None = None,
    ) -> None:
        """Args: ``environ`` that ``env:`` reads; ``root``, the folder of mlc.yaml; ``data_path``, that of the store."""
        settings = settings or SecretsSettings()
        self.store = SecretStore((data_path or root / ".mlc") / FILE_NAME, KeySource(environ, root / settings.key_file))
        self._providers: dict[str, SecretProvider] = {
            "env": EnvironmentProvider(environ),
            "file": FileProvider(root),
            "store": StoreProvider(self.store),
            "vault": VaultProvider(settings.vault, root, self.resolve),
        }
        self._lock = threading.Lock()
        self._uses: Counter[str] = Counter()
        self._values: set[str] = set()
        self._passing: deque[str] = deque(maxlen=_PASSING_KEPT)

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """As mlc.yaml says; addresses of alerts that stand there, and passwords of proxies, count as handed out."""
        resolver = cls(environ, settings.root, settings=settings.secrets, data_path=settings.data_path)
        resolver.register(entry for entry in settings.alerts.to if not is_secret_reference(entry))
        resolver.register(_proxy_passwords(environ))
        return resolver

    def __repr__(self) -> str:
        """The references resolved so far, without their values."""
        return f"SecretResolver({sorted(self._uses)})"

    @property
    def values(self) -> frozenset[str]:
        """Every value handed out so far; of a rotated secret the old value too, which others may still hold."""
        with self._lock:
            return frozenset(self._values).union(self._passing)

    @property
    def uses(self) -> Mapping[str, int]:
        """How often each reference was resolved so far."""
        with self._lock:
            return dict(self._uses)

    def register(self, values: Iterable[str]) -> None:
        """Count ``values`` as handed out: what was typed, or came from elsewhere, is kept out of logs as well."""
        with self._lock:
            self._values.update(SecretText(value) for value in values if value)

    def register_passing(self, values: Iterable[str]) -> None:
        """As ``register``, for values that expire, such as tokens: the newest are kept, as new ones never end."""
        with self._lock:
            self._passing.extend(SecretText(value) for value in values if value and value not in self._passing)

    def resolve(self, reference: str) -> str:
        """The secret behind ``reference``, read anew at each call so that a rotated secret is picked up.

        Raises:
            SecretError: unknown scheme, unset variable, missing or unsafe file, no key, a row that needs re-entry,
                an empty secret, or what the provider refuses with.
        """
        scheme, _, target = reference.partition(":")
        provider = self._provider(scheme) if target else None
        if provider is None:
            # What stands here may be the secret itself, typed by mistake: it is not repeated.
            remedy = "write store:name, env:NAME or file:/path instead of the secret itself"
            raise SecretError("(not shown)", "is not a secret reference", remedy)
        try:
            value = provider.get(target)
        except SecretError:
            raise
        except Exception as error:  # noqa: BLE001 - a foreign provider may raise anything; its text may hold a secret
            fault = f"the provider of {scheme}: failed ({type(error).__name__})"
            raise SecretError(reference, fault, "see its own documentation") from None
        if not value:
            raise SecretError(reference, "is empty", "put the secret there")
        self.register([value])
        with self._lock:
            self._uses[reference] += 1
        return SecretText(value)

    def _provider(self, scheme: str) -> SecretProvider | None:
        if scheme not in self._providers and (plugged := plugged_provider(scheme)) is not None:
            self._providers[scheme] = plugged
        return self._providers.get(scheme)


def _proxy_passwords(environ: Mapping[str, str]) -> Iterator[str]:
    """Passwords in HTTPS_PROXY and the like, also where the address has no scheme or cannot be read."""
    for name, address in environ.items():
        if name.lower().endswith("_proxy") and name.lower() != "no_proxy":
            account = address.rpartition("@")[0]
            password = account.rpartition("://")[2].partition(":")[2]
            yield from {password, unquote(password)}

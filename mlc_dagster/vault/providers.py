"""Where references point: one provider per scheme, behind one method; packages add schemes by an entry point.

What belongs here: ``env:``, ``file:``, ``store:`` and finding the providers of other packages. What does not: Vault
(``hashicorp``), and who asks (``references``).
"""

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from mlc_dagster.settings.values import SECRET_PROVIDERS
from mlc_dagster.vault.errors import SecretError
from mlc_dagster.vault.secret_file import read_secret_file
from mlc_dagster.vault.store import SecretStore

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretProvider(Protocol):
    """Reads secrets of one scheme.

    An entry point of the group ``mlc_dagster.secret_providers`` is named after the scheme and loads something that,
    called without arguments, makes a provider: a class, usually.
    """

    def get(self, target: str) -> str:
        """The value behind ``target``, the reference without its scheme and colon.

        Raises:
            SecretError: with what to do. The text of any other exception is not shown to anybody.
        """
        ...


class EnvironmentProvider:
    """``env:NAME``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, target: str) -> str:
        """The variable's value; raises SecretError."""
        if not _ENV_NAME.fullmatch(target):
            raise SecretError("env:(not shown)", "is not the name of a variable", "write env:NAME")
        if target not in self._environ:
            fault = f"environment variable {target} is not set"
            raise SecretError(f"env:{target}", fault, "set it where mlc runs")
        return self._environ[target]


class FileProvider:
    """``file:/path``; a relative path starts from ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, target: str) -> str:
        """The file's text without its last newline; raises SecretError."""
        return read_secret_file(f"file:{target}", self._root / target)


class StoreProvider:
    """``store:name``."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def get(self, target: str) -> str:
        """The value from the encrypted store; raises SecretError."""
        return self._store.get(target)


def plugged_provider(scheme: str) -> SecretProvider | None:
    """The provider that an installed package adds for ``scheme``; None when there is none.

    Raises:
        SecretError: the package cannot be loaded.
    """
    for entry in entry_points(group=SECRET_PROVIDERS, name=scheme):
        try:
            make: Any = entry.load()
            return make()
        except Exception as error:  # noqa: BLE001 - a foreign package may raise anything; its text may hold a secret
            fault = f"its provider {entry.value} cannot be loaded ({type(error).__name__})"
            raise SecretError(f"{scheme}:…", fault, "install the package that brings it again") from None
    return None

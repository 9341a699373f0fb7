"""Connects to the Fusion environment of mlc.yaml: secrets resolved, files found.

References become values here, whenever a client is made, so that a rotated secret is used from then on.
"""

from collections.abc import Callable

from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.settings import FusionSettings, Settings
from mlc_dagster.vault import SecretResolver


def fusion_account(
    settings: Settings, secrets: SecretResolver, *, report: Callable[[Exchange], None] | None = None
) -> FusionClient:
    """A client for the environment; nothing is contacted yet.

    Raises:
        SecretError: a reference cannot be resolved.
        SettingsError: ca_bundle, client_certificate, client_key or assertion_key cannot be used.
    """
    return FusionClient(*resolved_account(settings, secrets), report=report)


def resolved_account(settings: Settings, secrets: SecretResolver) -> tuple[FusionSettings, FusionCredentials]:
    """``fusion:`` with absolute paths, and the secrets behind its references; raises SecretError."""
    fusion = settings.fusion
    paths = {
        name: settings.path(path)
        for name in ("ca_bundle", "client_certificate")
        if (path := getattr(fusion, name)) is not None
    }

    def resolved(reference: str | None) -> str | None:
        return None if reference is None else secrets.resolve(reference)

    credentials = FusionCredentials(
        client_secret=resolved(fusion.client_secret),
        password=resolved(fusion.password),
        assertion_key=resolved(fusion.assertion_key),
        assertion_key_passphrase=resolved(fusion.assertion_key_passphrase),
        client_key=resolved(fusion.client_key),
        client_key_passphrase=resolved(fusion.client_key_passphrase),
        remember=secrets.register_passing,
    )
    return (fusion.model_copy(update=paths) if paths else fusion), credentials

"""Opens the ledger that mlc.yaml names; its address may be a secret."""

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver


def ledger_url(settings: Settings, secrets: SecretResolver) -> str:
    """The ledger's address; a file in the data folder when none is given. Relative files are below mlc.yaml."""
    if settings.ledger.url_secret is not None:
        return secrets.resolve(settings.ledger.url_secret)
    url = settings.ledger.url
    if url is None:
        return f"sqlite:///{settings.data_path / 'ledger.sqlite'}"
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(f"{prefix}/"):
        return f"{prefix}{(settings.root / url.removeprefix(prefix)).resolve()}"
    return url


def open_settings_ledger(settings: Settings, secrets: SecretResolver, *, actor: str | None = None) -> Ledger:
    """The ledger of a configuration; raises LedgerError."""
    ledger = open_ledger(ledger_url(settings, secrets), actor=actor)
    ledger.approvers = tuple(settings.approvers)
    return ledger

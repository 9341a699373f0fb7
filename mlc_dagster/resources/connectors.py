"""The two remote sides and the ledger: where they are, who we are there, and the references to our secrets.

What stands in these fields is what is used: a resource that replaces one of mlc.yaml's takes its place everywhere.
Everything else (page sizes, time limits, companies) comes from mlc.yaml and is not repeated.
"""

# ruff: noqa: PLC0415 - SQLAlchemy's engine and the connectors are imported by the run that uses them.

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr, ValidationError

from mlc_dagster.resources.wiring import Wiring
from mlc_dagster.settings import FusionSettings, LedgerSettings, Settings, SettingsError, SftpSettings
from mlc_dagster.vault import scrub

if TYPE_CHECKING:
    from mlc_dagster.ledger.database import Ledger

Part = TypeVar("Part", FusionSettings, SftpSettings)


class FusionResource(dg.ConfigurableResource):
    """Oracle Fusion Cloud: the pod that invoices are posted to."""

    base_url: str = Field(description="Address of the Fusion pod.")
    token_url: str = Field(default="", description="OAuth2 token endpoint of the identity domain; none with Basic.")
    client_id: str = Field(
        default="", description="OAuth2 client; with client credentials also the Fusion user that posts."
    )
    client_secret: str | None = Field(
        default=None, description="Reference to the client's secret (env:, file:, store:), never the secret."
    )
    scope: str = Field(default="", description="OAuth2 scope of the pod.")

    @classmethod
    def of(cls, settings: FusionSettings) -> Self:
        """As mlc.yaml says."""
        return cls(
            base_url=settings.base_url,
            token_url=settings.token_url,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            scope=settings.scope,
        )

    def applied_to(self, settings: Settings) -> Settings:
        """``settings`` with this pod and client in them; raises SettingsError when a value cannot be one."""
        named = {name: getattr(self, name) for name in ("base_url", "token_url", "client_id", "client_secret", "scope")}
        fusion = settings.fusion
        changed = {name: value for name, value in named.items() if value != getattr(fusion, name)}
        return settings.model_copy(update={"fusion": _checked(fusion, changed)}) if changed else settings

    def __repr__(self) -> str:
        """The address and the client, no reference."""
        return f"FusionResource({self.base_url}{' as ' if self.client_id else ''}{self.client_id})"

    __str__ = __repr__


class StampliSftpResource(dg.ConfigurableResource):
    """The SFTP server that Stampli writes its exports to."""

    host: str = Field(description="Host name or address.")
    port: int = Field(default=22, description="TCP port.")
    username: str = Field(description="Account on the server.")
    password: str | None = Field(default=None, description="Reference to the password, never the password.")
    private_key: str | None = Field(default=None, description="Reference to the private key, never the key.")
    passphrase: str | None = Field(default=None, description="Reference to the private key's passphrase.")
    host_key: list[str] = Field(description="Pinned host keys: SHA256 fingerprints or known_hosts lines.")
    directory: str = Field(default=".", description="Folder that is polled.")

    @classmethod
    def of(cls, settings: SftpSettings) -> Self:
        """As mlc.yaml says."""
        return cls(
            host=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password,
            private_key=settings.private_key,
            passphrase=settings.passphrase,
            host_key=settings.host_keys,
            directory=settings.directory,
        )

    def applied_to(self, settings: Settings) -> Settings:
        """``settings`` with this server and account in them; raises SettingsError when a value cannot be one."""
        stampli = settings.stampli
        if stampli is None:
            return settings
        names = ("host", "port", "username", "password", "private_key", "passphrase", "directory")
        changed = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(stampli.sftp, name)}
        if self.host_key != stampli.sftp.host_keys:
            changed["host_key"] = self.host_key
        if not changed:
            return settings
        return settings.model_copy(
            update={"stampli": stampli.model_copy(update={"sftp": _checked(stampli.sftp, changed)})}
        )

    def __repr__(self) -> str:
        """The server, the account and the folder, no reference."""
        return f"StampliSftpResource({self.username}@{self.host}:{self.port}/{self.directory.lstrip('/')})"

    __str__ = __repr__


class LedgerResource(dg.ConfigurableResource):
    """The ledger: what was seen, decided, sent and found, with the audit trail."""

    url: str | None = Field(
        default=None, description="Address without a password; sqlite:///… or postgresql+psycopg://…"
    )
    url_secret: str | None = Field(default=None, description="Reference to the address, where it has a password in it.")
    wiring: dg.ResourceDependency[Wiring]

    _opened: "Ledger | None" = PrivateAttr(default=None)
    _uses_before: Mapping[str, int] = PrivateAttr(default_factory=dict[str, int])

    @classmethod
    def of(cls, settings: LedgerSettings, wiring: Wiring) -> Self:
        """As mlc.yaml says, which refuses an address with a password: everybody would read it in the UI."""
        return cls(url=settings.url, url_secret=settings.url_secret, wiring=wiring)

    def open(self) -> "Ledger":
        """The ledger, opened at first use and brought to this version; closed after the execution.

        Raises:
            LedgerError: it cannot be reached, or belongs to a newer version.
            SecretError: its address cannot be resolved.
        """
        if self._opened is None:
            from mlc_dagster.ledger.opening import open_settings_ledger

            ledger = LedgerSettings(url=self.url, url_secret=self.url_secret)
            settings = self.wiring.settings.model_copy(update={"ledger": ledger})
            self._uses_before = self.wiring.secrets.uses
            self._opened = open_settings_ledger(settings, self.wiring.secrets)
        return self._opened

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Tell which secrets the run used, seal what it added to the audit trail, and close the engine.

        However the run ended.
        """
        ledger, self._opened = self._opened, None
        if ledger is None:
            return
        from mlc_dagster.ledger.audit_sealing import seal_and_checkpoint

        try:
            if context.run is not None:
                self._tell_used(ledger, context.run.run_id)
            seal_and_checkpoint(ledger, self.wiring.settings, self.wiring.secrets)
        except Exception as error:
            # Dagster keeps its text with the run.
            scrub(error)
            raise
        finally:
            ledger.close()

    def _tell_used(self, ledger: "Ledger", run_id: str) -> None:
        """One event per reference that was resolved since the ledger was opened; runs only, not every tick."""
        uses = self.wiring.secrets.uses
        used = [reference for reference, times in uses.items() if times > self._uses_before.get(reference, 0)]
        if not used:
            return
        with ledger.transaction() as transaction:
            for reference in sorted(used):
                transaction.audit("secret.used", reference, run_id=run_id)

    def __repr__(self) -> str:
        """The address, or the reference to it."""
        return f"LedgerResource({self.url or self.url_secret or 'in data_dir'})"

    __str__ = __repr__


def _checked(part: Part, changed: dict[str, object]) -> Part:
    try:
        return type(part).model_validate({**part.model_dump(), **changed})
    except ValidationError as error:
        # Without the input: a secret typed in place of its reference must not reach the event log.
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)]
        raise SettingsError("resource", faults) from None

"""Builds the inbound flow's wiring from mlc.yaml: secrets resolved, profile and crosswalks loaded, ledger opened.

The one place where references become values; they go into the connectors and nowhere else.
"""

import random
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager

from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.settings import Settings, SettingsError, SftpSettings, StampliSettings
from mlc_dagster.sftp.errors import Unreachable
from mlc_dagster.sftp.session import SftpCredentials, SftpSession, open_session
from mlc_dagster.stampli.accounts import TemplateFault, template_of
from mlc_dagster.stampli.crosswalks import load_crosswalks
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.profile import load_profile
from mlc_dagster.vault import SecretResolver

_CONNECTS = 3


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
    return open_ledger(ledger_url(settings, secrets), actor=actor)


def connect_inbound(settings: Settings, secrets: SecretResolver, ledger: Ledger) -> Inbound:
    """The inbound flow's wiring.

    Raises:
        SettingsError: there is no ``stampli:`` part, or an account template does not fit its chart.
        SecretError: a reference cannot be resolved.
        ProfileError, CrosswalkError: a file named in mlc.yaml cannot be used.
    """
    stampli = settings.stampli
    if stampli is None:
        raise SettingsError(str(settings.root / "mlc.yaml"), ["stampli: is absent, so there is no inbound flow"])

    _check_templates(settings, stampli)

    def session() -> AbstractContextManager[SftpSession]:
        # Resolved at every connection, so that a rotated secret is used from then on.
        sftp = stampli.sftp
        credentials = SftpCredentials(
            password=secrets.resolve(sftp.password) if sftp.password else None,
            private_key=secrets.resolve(sftp.private_key) if sftp.private_key else None,
            passphrase=secrets.resolve(sftp.passphrase) if sftp.passphrase else None,
        )
        return _patient_session(sftp, credentials)

    def client(report: Callable[[Exchange], None]) -> AbstractAsyncContextManager[FusionClient]:
        return FusionClient(settings.fusion, secrets.resolve(settings.fusion.client_secret), report=report)

    return Inbound(
        settings=settings,
        stampli=stampli,
        ledger=ledger,
        archive=LocalArchive(settings.data_path / "archive"),
        profile=load_profile(_profile_name(settings, stampli.profile)),
        crosswalks=load_crosswalks(stampli.crosswalks, settings.root),
        open_session=session,
        open_client=client,
    )


def _check_templates(settings: Settings, stampli: StampliSettings) -> None:
    problems: list[str] = []
    for company_id, company in stampli.companies.items():
        try:
            template_of(company, settings.fusion.charts[company.chart])
        except TemplateFault as fault:
            problems.append(f"stampli.companies.{company_id}: {fault}")
    if problems:
        raise SettingsError(str(settings.root / "mlc.yaml"), problems)


@contextmanager
def _patient_session(settings: SftpSettings, credentials: SftpCredentials) -> Generator[SftpSession]:
    """A connection; refused or dropped ones are tried again, with jitter.

    A busy OpenSSH drops new connections at random. A login that was answered with no is never repeated here.
    """
    with ExitStack() as stack:
        yield _connect(stack, settings, credentials)


def _connect(stack: ExitStack, settings: SftpSettings, credentials: SftpCredentials) -> SftpSession:
    for attempt in range(1, _CONNECTS):
        try:
            return stack.enter_context(open_session(settings, credentials))
        except Unreachable:
            time.sleep(random.uniform(0.2, 1.0) * attempt)
    return stack.enter_context(open_session(settings, credentials))


def _profile_name(settings: Settings, name: str) -> str:
    """A path is relative to mlc.yaml; a bare name is one of the product's own profiles."""
    return str((settings.root / name).resolve()) if "/" in name or name.endswith((".yaml", ".yml")) else name

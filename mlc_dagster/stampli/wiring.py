"""Builds the inbound flow's wiring from mlc.yaml: secrets resolved, profile and crosswalks loaded.

The one place where references become values; they go into the connectors and nowhere else.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from mlc_dagster.fusion.account import fusion_account
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.settings import Settings, SettingsError, StampliSettings
from mlc_dagster.sftp.account import open_account
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.crosswalks import load_crosswalks
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster.stampli.validation.accounts import TemplateFault, template_of
from mlc_dagster.vault import SecretResolver


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
    profile = load_profile(profile_name(settings, stampli.profile))

    def session() -> AbstractContextManager[SftpSession]:
        return open_account(stampli.sftp, secrets)

    def client(report: Callable[[Exchange], None]) -> AbstractAsyncContextManager[FusionClient]:
        return fusion_account(settings, secrets, report=report)

    return Inbound(
        settings=settings,
        stampli=stampli,
        ledger=ledger,
        archive=LocalArchive(settings.data_path / "archive"),
        profile=profile,
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


def profile_name(settings: Settings, name: str) -> str:
    """A path is relative to mlc.yaml; a bare name is one of the product's own profiles."""
    return str((settings.root / name).resolve()) if "/" in name or name.endswith((".yaml", ".yml")) else name

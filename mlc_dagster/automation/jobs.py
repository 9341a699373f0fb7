"""The jobs over assets and checks, with their resources: what the sensors ask for and what ``mlc run`` executes.

No pool and no concurrency key: a run that was killed would keep its slot, and every later one would queue behind it.
One run per window at a time is held by the ledger's lease, the number of requests to Fusion by the client's limiter.
"""

import os
from collections.abc import Mapping

import dagster as dg

from mlc_dagster.assets import GROUP, WINDOWED, build_assets
from mlc_dagster.checks import build_checks
from mlc_dagster.partitions import inbound_windows
from mlc_dagster.resources import (
    FusionResource,
    InboundResource,
    LedgerResource,
    Progress,
    Silent,
    StampliSftpResource,
    Wiring,
)
from mlc_dagster.settings import Settings, SettingsError
from mlc_dagster.vault import SecretResolver

INBOUND_JOB = "stampli_to_fusion"
STATUS_JOB = "observe_fusion_invoices"


def wiring_of(
    settings: Settings, *, environ: Mapping[str, str] | None = None, progress: Progress | None = None
) -> Wiring:
    """Settings with what resolves their secrets; ``environ`` is this process's own when not given."""
    secrets = SecretResolver(os.environ if environ is None else environ, settings.root)
    return Wiring(settings, secrets, progress or Silent())


def inbound_resources(wiring: Wiring, overrides: Mapping[str, object] | None = None) -> dict[str, object]:
    """Resources by key; ``overrides`` replace them, also where one is part of another.

    Raises:
        SettingsError: there is no ``stampli:`` part, or the ledger's address shows a password.
    """
    settings, given = wiring.settings, dict(overrides or {})
    if settings.stampli is None:
        raise SettingsError(str(settings.root / "mlc.yaml"), ["stampli: is absent, so there is no flow to run"])
    parts: dict[str, object] = {
        "fusion": FusionResource.of(settings.fusion),
        "stampli_sftp": StampliSftpResource.of(settings.stampli.sftp),
        "ledger": LedgerResource.of(settings.ledger, wiring),
        **given,
    }
    inbound = InboundResource(
        fusion=parts["fusion"], stampli_sftp=parts["stampli_sftp"], ledger=parts["ledger"], wiring=wiring
    )
    return {"inbound": inbound, **parts}


def build_flow(wiring: Wiring, *, resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """Assets, checks, jobs and resources of the inbound flow; what starts them is added by ``build_defs``."""
    settings = wiring.settings
    group = f"{GROUP}_SANDBOX" if settings.sandbox else GROUP
    assets = build_assets(inbound_windows(settings.poll), group=group)
    note = "SANDBOX configuration: no mlc.yaml was found. " if settings.sandbox else ""
    return dg.Definitions(
        assets=assets,
        asset_checks=build_checks(),
        jobs=[
            dg.define_asset_job(
                INBOUND_JOB,
                selection=dg.AssetSelection.assets(*WINDOWED),
                description=f"{note}A poll window from Stampli's files to invoices in Fusion, with its controls.",
                tags={"mlc/flow": "inbound"},
            ),
            dg.define_asset_job(
                STATUS_JOB,
                selection=dg.AssetSelection.assets("fusion_invoice_status"),
                description=f"{note}Statuses of posted invoices, and the causes of parked ones.",
                tags={"mlc/flow": "inbound"},
            ),
        ],
        resources=inbound_resources(wiring, resource_overrides),
        executor=dg.in_process_executor,
    )

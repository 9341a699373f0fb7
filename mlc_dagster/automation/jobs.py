"""The jobs over assets and checks, with their resources: what the sensors ask for and what ``mlc run`` executes.

No pool and no concurrency key: a run that was killed would keep its slot, and every later one would queue behind it.
One run per window at a time is held by the ledger's lease, the number of requests to Fusion by the client's limiter.
"""

import os
from collections.abc import Mapping

import dagster as dg

from mlc_dagster.assets import EXPORT_GROUP, GROUP, WINDOWED, build_assets, build_export_assets
from mlc_dagster.checks import build_checks, build_export_checks
from mlc_dagster.partitions import inbound_windows, outbound_windows
from mlc_dagster.resources import (
    FusionResource,
    InboundResource,
    LedgerResource,
    OutboundResource,
    Progress,
    Silent,
    StampliSftpResource,
    Wiring,
)
from mlc_dagster.settings import Settings, SettingsError
from mlc_dagster.vault import SecretResolver, guard_process

INBOUND_JOB = "stampli_to_fusion"
STATUS_JOB = "observe_fusion_invoices"
OUTBOUND_JOB = "fusion_to_sftp"


def wiring_of(
    settings: Settings, *, environ: Mapping[str, str] | None = None, progress: Progress | None = None
) -> Wiring:
    """Settings with what resolves their secrets; ``environ`` is this process's own when not given.

    From here on nothing that the resolver hands out reaches a log of this process, Dagster's own included.
    """
    secrets = SecretResolver.of(settings, os.environ if environ is None else environ)
    guard_process(secrets)
    return Wiring(settings, secrets, progress or Silent())


def inbound_resources(wiring: Wiring, overrides: Mapping[str, object] | None = None) -> dict[str, object]:
    """Resources by key; ``overrides`` replace them, also where one is part of another.

    Raises:
        SettingsError: there is no ``stampli:`` part, or the ledger's address shows a password.
    """
    settings, given = wiring.settings, dict(overrides or {})
    if settings.stampli is None:
        raise SettingsError(str(settings.root / "mlc.yaml"), ["stampli: is absent, so there is no inbound flow to run"])
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


def outbound_resources(wiring: Wiring, overrides: Mapping[str, object] | None = None) -> dict[str, object]:
    """Resources by key; ``overrides`` replace them, also where one is part of another."""
    settings = wiring.settings
    parts: dict[str, object] = {
        "fusion": FusionResource.of(settings.fusion),
        "ledger": LedgerResource.of(settings.ledger, wiring),
        **(overrides or {}),
    }
    return {"outbound": OutboundResource(fusion=parts["fusion"], ledger=parts["ledger"], wiring=wiring), **parts}


def build_flow(wiring: Wiring, *, resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """Assets, checks, jobs and resources of both flows; what starts them is added by ``build_defs``.

    Raises:
        SettingsError: there is neither a ``stampli:`` part nor a feed under ``exports:``.
    """
    settings = wiring.settings
    if settings.stampli is None and not settings.exports:
        source = str(settings.root / "mlc.yaml")
        raise SettingsError(source, ["stampli: and exports: are both absent, so there is no flow to run"])
    resources: dict[str, object] = {}
    flows: list[dg.Definitions] = []
    # One ledger resource for both: it is opened once per run.
    if settings.stampli is not None:
        resources |= inbound_resources(wiring, resource_overrides)
        flows.append(_inbound_flow(settings))
    if settings.exports:
        resources |= outbound_resources(wiring, {**(resource_overrides or {}), **resources})
        flows.append(_outbound_flow(settings))
    return dg.Definitions.merge(*flows, dg.Definitions(resources=resources, executor=dg.in_process_executor))


def _note(settings: Settings) -> str:
    return "SANDBOX configuration: no mlc.yaml was found. " if settings.sandbox else ""


def _group(name: str, settings: Settings) -> str:
    return f"{name}_SANDBOX" if settings.sandbox else name


def _inbound_flow(settings: Settings) -> dg.Definitions:
    return dg.Definitions(
        assets=build_assets(inbound_windows(settings.poll), group=_group(GROUP, settings)),
        asset_checks=build_checks(),
        jobs=[
            dg.define_asset_job(
                INBOUND_JOB,
                selection=dg.AssetSelection.assets(*WINDOWED),
                description=f"{_note(settings)}A poll window: Stampli files to invoices in Fusion, with controls.",
                tags={"mlc/flow": "inbound"},
            ),
            dg.define_asset_job(
                STATUS_JOB,
                selection=dg.AssetSelection.assets("fusion_invoice_status"),
                description=f"{_note(settings)}Statuses of posted invoices, and the causes of parked ones.",
                tags={"mlc/flow": "inbound"},
            ),
        ],
    )


def _outbound_flow(settings: Settings) -> dg.Definitions:
    assets = build_export_assets(
        settings.exports, outbound_windows(settings.poll), group=_group(EXPORT_GROUP, settings)
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=build_export_checks(settings.exports),
        jobs=[
            dg.define_asset_job(
                OUTBOUND_JOB,
                selection=dg.AssetSelection.assets(*assets),
                description=f"{_note(settings)}What changed in Fusion, as files at its partners, with its controls.",
                tags={"mlc/flow": "outbound"},
            )
        ],
    )

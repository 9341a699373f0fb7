"""The graph: one file per kind of asset, each from context to domain call to MaterializeResult.

    stampli_invoice_files → validated_invoices → posted_fusion_invoices        per poll window
    fusion_invoice_status                                                      unpartitioned
    fusion_journals │ fusion_invoices │ …  → sftp_exports/<feed> → sftp_exports        per closed window

Assets pass windows, never data: invoices and files live in the ledger and the archive, so there is no IO manager.
"""

import warnings
from collections.abc import Sequence

import dagster as dg

from mlc_dagster.assets.exporting import EXPORTS
from mlc_dagster.assets.fusion_invoice_status import build_fusion_invoice_status
from mlc_dagster.assets.fusion_sources import SOURCES, build_source
from mlc_dagster.assets.posted_fusion_invoices import build_posted_fusion_invoices
from mlc_dagster.assets.sftp_exports import build_feed, build_summary, feed_key
from mlc_dagster.assets.stampli_invoice_files import build_stampli_invoice_files
from mlc_dagster.assets.validated_invoices import build_validated_invoices
from mlc_dagster.settings import ExportSettings

GROUP = "stampli_to_fusion"
EXPORT_GROUP = "fusion_to_sftp"
WINDOWED = ("stampli_invoice_files", "validated_invoices", "posted_fusion_invoices")
"""The inbound assets on poll windows, in the order in which they run."""


def build_assets(windows: dg.TimeWindowPartitionsDefinition, *, group: str = GROUP) -> list[dg.AssetsDefinition]:
    """All assets of the inbound flow; the three on poll windows share one partitions object."""
    return [
        build_stampli_invoice_files(windows, group),
        build_validated_invoices(windows, group),
        build_posted_fusion_invoices(windows, group),
        build_fusion_invoice_status(group),
    ]


def build_export_assets(
    feeds: Sequence[ExportSettings], windows: dg.TimeWindowPartitionsDefinition, *, group: str = EXPORT_GROUP
) -> list[dg.AssetsDefinition]:
    """All assets of the outbound flow: the sources that have a feed, the feeds, and the summary."""
    used = {feed.source for feed in feeds}
    with warnings.catch_warnings():
        # Backfill policies are called beta by Dagster; what we use of them is covered by our tests.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            *(build_source(source, windows, group) for source in SOURCES if source.name in used),
            *(build_feed(feed, windows, group) for feed in feeds),
            build_summary(feeds, windows, group),
        ]


__all__ = ["EXPORTS", "EXPORT_GROUP", "GROUP", "WINDOWED", "build_assets", "build_export_assets", "feed_key"]

"""The graph: one file per asset, each from context to domain call to MaterializeResult.

    stampli_invoice_files → validated_invoices → posted_fusion_invoices        per poll window
    fusion_invoice_status                                                      unpartitioned

Assets pass a window and its generation, never data: invoices live in the ledger, so there is no IO manager.
"""

import dagster as dg

from mlc_dagster.assets.fusion_invoice_status import build_fusion_invoice_status
from mlc_dagster.assets.posted_fusion_invoices import build_posted_fusion_invoices
from mlc_dagster.assets.stampli_invoice_files import build_stampli_invoice_files
from mlc_dagster.assets.validated_invoices import build_validated_invoices

GROUP = "stampli_to_fusion"
WINDOWED = ("stampli_invoice_files", "validated_invoices", "posted_fusion_invoices")
"""The assets on poll windows, in the order in which they run."""


def build_assets(windows: dg.TimeWindowPartitionsDefinition, *, group: str = GROUP) -> list[dg.AssetsDefinition]:
    """All assets of the inbound flow; the three on poll windows share one partitions object."""
    return [
        build_stampli_invoice_files(windows, group),
        build_validated_invoices(windows, group),
        build_posted_fusion_invoices(windows, group),
        build_fusion_invoice_status(group),
    ]


__all__ = ["GROUP", "WINDOWED", "build_assets"]

"""The controls, as asset checks named the way an auditor would name them.

Each compares two things that were counted apart from each other, shows both numbers, and can fail. They run with the
assets; run alone and without a partition, they judge everything that was ever received.
"""

import dagster as dg

from mlc_dagster.checks.control_totals_match import control_totals_match
from mlc_dagster.checks.every_invoice_accounted_for import every_invoice_accounted_for
from mlc_dagster.checks.exports import build_export_checks
from mlc_dagster.checks.fusion_agrees_with_ledger import fusion_agrees_with_ledger
from mlc_dagster.checks.no_blind_reposts import no_blind_reposts


def build_checks() -> list[dg.AssetChecksDefinition]:
    """All checks of the inbound flow."""
    return [control_totals_match, every_invoice_accounted_for, fusion_agrees_with_ledger, no_blind_reposts]


__all__ = ["build_checks", "build_export_checks"]

"""The controls of the outbound flow, on each feed's asset: what left Fusion is complete, exact, delivered and in order.

``debits_equal_credits`` · ``exported_equals_fusion`` · ``delivered_bytes_match`` · ``sequence_has_no_gap`` ·
``acknowledged_in_time``. One check per feed and control; run without a window they judge everything.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import feed_key
from mlc_dagster.assets.exporting import windows_of
from mlc_dagster.assets.failures import ABOUT_FILE, KIND, FailureKind, kind_of, said
from mlc_dagster.checks.scope import verdict
from mlc_dagster.resources import OutboundResource
from mlc_dagster.settings import ExportSettings
from mlc_dagster.vault import scrub

if TYPE_CHECKING:
    from mlc_dagster.exports.controls import Finding, Range
    from mlc_dagster.exports.outbound import Feed, Outbound

Control = Callable[["Outbound", "Feed", "Range"], "Finding"]

DESCRIPTIONS = {
    "debits_equal_credits": (
        "The journals in the delivered files are read again from their extracts: debits equal credits per journal and "
        "currency (STAT is exempt), and the sums equal the totals that the writer counted."
    ),
    "exported_equals_fusion": (
        "Every id that Fusion shows for the windows was read at that version or later, and what was read of it is in a "
        "file, or held with a reason."
    ),
    "delivered_bytes_match": (
        "The archived bytes have their hash and size; the partner's server said the same size; what still lies there "
        "says so now; no file's outcome is unknown."
    ),
    "sequence_has_no_gap": "File numbers and X12 control numbers count up without a hole; voided ones are explained.",
    "acknowledged_in_time": "The partner's 997 came in time for every delivered file, and accepted it.",
}


def build_export_checks(feeds: Sequence[ExportSettings]) -> list[dg.AssetChecksDefinition]:
    """All checks of the outbound flow; those about journals and acknowledgements where a feed has them."""
    checks: list[dg.AssetChecksDefinition] = []
    for feed in feeds:
        names = ["exported_equals_fusion", "delivered_bytes_match", "sequence_has_no_gap"]
        if feed.source == "journals":
            names.insert(0, "debits_equal_credits")
        if feed.acknowledgement != "none":
            names.append("acknowledged_in_time")
        checks += [_check(feed.name, name) for name in names]
    return checks


def _check(feed: str, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=feed_key(feed), name=name, description=DESCRIPTIONS[name])
    def _asset_check(context: dg.AssetCheckExecutionContext, outbound: OutboundResource) -> dg.AssetCheckResult:
        try:
            wired = outbound.connect(only=(feed,))
            windows = windows_of(context, wired.settings.poll.minutes)
            finding = _controls()[name](wired, wired.feeds[feed], (windows.first, windows.end) if windows else None)
        except Exception as error:
            scrub(error)
            kind = kind_of(error)
            if kind is FailureKind.UNEXPECTED:
                raise
            # Not seen is neither agreement nor disagreement, and no reason to call the delivery wrong.
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"could not be compared: {said(error)}",
                metadata={KIND: str(kind)},
            )
        return dg.AssetCheckResult(
            passed=not finding.faults,
            description=verdict(finding.faults),
            metadata={
                **finding.numbers,
                "faults": len(finding.faults),
                **({"not_compared": finding.uncertain} if finding.uncertain else {}),
                # What has an alert of its own is not told a second time.
                **({ABOUT_FILE: "told by itself"} if finding.faults and finding.told == len(finding.faults) else {}),
            },
        )

    return _asset_check


def _controls() -> dict[str, Control]:
    from mlc_dagster.exports import controls

    return {
        "debits_equal_credits": controls.debits_equal_credits,
        "exported_equals_fusion": controls.exported_equals_fusion,
        "delivered_bytes_match": controls.delivered_bytes_match,
        "sequence_has_no_gap": lambda outbound, feed, _windows: controls.sequence_has_no_gap(outbound, feed),
        "acknowledged_in_time": lambda outbound, feed, _windows: controls.acknowledged_in_time(outbound, feed),
    }

"""Check ``every_invoice_accounted_for``: nothing that was received is lost, in count and per currency."""

# ruff: noqa: PLC0415 - the domain is imported by the run that uses it.

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets.columns import BALANCE
from mlc_dagster.assets.metadata import money, table
from mlc_dagster.checks.scope import verdict, window_of
from mlc_dagster.resources import InboundResource

if TYPE_CHECKING:
    from mlc_dagster.ledger.equation import Equation

DESCRIPTION = """
occurrences received = created + already in Fusion + duplicate + superseded + stale + parked + rejected + unknown

The left side is what the reader counted beside each file, the right side what the ledger's rows say. A file of the
window that nobody has read, and that no run is going to read, has no side yet: it is named.
"""


@dg.asset_check(asset="posted_fusion_invoices", blocking=True, description=DESCRIPTION)
def every_invoice_accounted_for(
    context: dg.AssetCheckExecutionContext, inbound: InboundResource
) -> dg.AssetCheckResult:
    """The one equation, over the window's files."""
    from mlc_dagster.ledger.equation import BUCKETS, equation
    from mlc_dagster.ledger.retries import stranded_files
    from mlc_dagster.stampli.inbound import FEED
    from mlc_dagster.stampli.steps import amounts

    with inbound.ledger.open().reading() as reading:
        found = equation(reading, FEED, window_of(context))
        stranded = stranded_files(reading, FEED, window_of(context))
    faults = [*found.faults, *(f"{row['path']} is {row['state']}, and no run reads it" for row in stranded)]
    return dg.AssetCheckResult(
        passed=not faults,
        description=verdict(faults),
        metadata={
            "received": found.received.count,
            **{name: found.count(name) for name in BUCKETS},
            "unread_files": len(stranded),
            "unpriced": sum(tally.unpriced for tally in found.buckets.values()),
            **money("received_amount", amounts(found.received.minor)),
            "table_of_balance": table(BALANCE, _balance(found)),
        },
    )


def _balance(found: "Equation") -> Iterator[tuple[object, ...]]:
    from mlc_dagster.stampli.steps import amounts

    for side, tally in (("received", found.received), *found.buckets.items()):
        exact = ", ".join(f"{amount:f} {currency}" for currency, amount in amounts(tally.minor).items())
        yield side, tally.count, exact

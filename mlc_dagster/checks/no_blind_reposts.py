"""Check ``no_blind_reposts``: nothing was sent to Fusion a second time without proof that the first was not stored."""

# ruff: noqa: PLC0415 - the domain is imported by the run that uses it.

import dagster as dg

from mlc_dagster.assets.metadata import table
from mlc_dagster.checks.scope import verdict, window_of
from mlc_dagster.resources import InboundResource

DESCRIPTION = """
Every attempt to create an invoice after its first follows an attempt that is proven to have stored nothing: refused
(429, 503) and looked up once, unknown and looked up twice, refused for its content, or never sent.
"""
COLUMNS = (
    dg.TableColumn("invoice", description="Invoice number."),
    dg.TableColumn("attempt", "int", description="Which attempt."),
    dg.TableColumn("after", description="How the attempt before it ended."),
    dg.TableColumn("proofs", "int", description="Look-ups that proved absence before it."),
    dg.TableColumn("fault", description="What proof is missing."),
)


@dg.asset_check(asset="posted_fusion_invoices", description=DESCRIPTION)
def no_blind_reposts(context: dg.AssetCheckExecutionContext, inbound: InboundResource) -> dg.AssetCheckResult:
    """Every further attempt in the ledger, with the end of the one before."""
    from mlc_dagster.ledger.controls import reposts

    with inbound.ledger.open().reading() as reading:
        found = sorted(reposts(reading, window_of(context)), key=lambda repost: repost.fault is None)
    blind = [repost for repost in found if repost.fault is not None]
    return dg.AssetCheckResult(
        passed=not blind,
        description=verdict([f"invoice {repost.number}, attempt {repost.attempt}: {repost.fault}" for repost in blind]),
        metadata={
            "further_attempts": len(found),
            "without_proof": len(blind),
            "table_of_attempts": table(
                COLUMNS,
                ((repost.number, repost.attempt, repost.after, repost.absences, repost.fault) for repost in found),
            ),
        },
    )

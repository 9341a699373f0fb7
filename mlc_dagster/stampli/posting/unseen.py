"""Invoices that Fusion refused while it showed nothing of their business unit: looked for again once it does.

Without data access every request of a business unit is refused, as a faulty one is, and nobody can prove that nothing
was stored. Once an invoice of the unit is visible that can be proven: the window's next run looks, and sends the same
bytes again when it is not there. Refused again, it is for a person.
"""

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger import recovery
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.absence import AbsenceProver

_BY = "an invoice of its business unit is visible now"


def unseen_remedy(business_unit: str, posting_user: str) -> str:
    """What a person is told of such a refusal."""
    return (
        f"No invoice of business unit {business_unit} is visible to {posting_user}: check its data access. Once one is "
        "visible, this invoice is looked for and sent again by itself. Where the unit is new and has none, do what "
        "Fusion's text says."
    )


async def look_again(inbound: Inbound, client: FusionClient) -> int:
    """Have what was refused unseen looked for again where it can be; how many. One question per business unit.

    Raises:
        FusionError: Fusion cannot be read.
    """
    with inbound.ledger.reading() as reading:
        rows = recovery.refused_unseen(reading, inbound.pod)
    prover = AbsenceProver(inbound.ledger, client, inbound.pod)
    visible = {unit for unit in sorted({row["business_unit"] for row in rows}) if await prover.shows_any(unit)}
    if not visible:
        return 0
    with inbound.ledger.transaction() as transaction:
        keys = [row["id"] for row in rows if row["business_unit"] in visible]
        return sum(recovery.reopen_refused(transaction, key, by=_BY) for key in keys)

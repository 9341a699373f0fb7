"""The body of a request under the supplier's present name.

Belongs here: what is put in its place. Does not: when a refused invoice is sent again (``uncertainty``).
"""

import json
from typing import Any

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.suppliers import read_supplier_by_id
from mlc_dagster.ledger.database import Row


async def under_present_name(client: FusionClient, row: Row, fields: dict[str, Any]) -> bytes | None:
    """The attempt's body, when its supplier was renamed since reference data was read; None when he was not.

    Raises:
        FusionError: Fusion cannot be read.
    """
    supplier = await read_supplier_by_id(client, row["supplier_id"])
    if supplier is None or (supplier.name, supplier.number) == (fields["Supplier"], fields["SupplierNumber"]):
        return None
    body: bytes = row["body"]
    for name, value in (("Supplier", supplier.name), ("SupplierNumber", supplier.number)):
        before = json.dumps(fields[name], ensure_ascii=False)
        after = json.dumps(value, ensure_ascii=False)
        body = body.replace(f'"{name}":{before}'.encode(), f'"{name}":{after}'.encode(), 1)
    # The same bytes again would be refused again, for ever.
    return None if body == row["body"] else body

"""Suppliers as documents to export (``suppliers`` with their sites).

What posting an invoice needs to know of a supplier is read by ``suppliers``.
"""

from mlc_dagster.fusion.documents import Node, Source
from mlc_dagster.fusion.levels import Level, latest
from mlc_dagster.fusion.records import Read, SupplierPlace, SupplierRecord
from mlc_dagster.fusion.wire import instant

NAME = "suppliers"

SITES = Level("sites", SupplierPlace, ("site_id",), "SupplierSiteId:asc")
TOP = Level("suppliers", SupplierRecord, ("supplier_id",), "SupplierId:asc", children=(SITES,))


def _reads(node: Node) -> list[Read]:
    supplier: SupplierRecord = node.record()
    return [
        Read(
            source=NAME,
            record_id=supplier.record_id,
            fusion_id=supplier.supplier_id,
            content=supplier,
            last_update_date=latest(node.changed()),
            creation_date=instant(node.row.creation_date),
        )
    ]


SUPPLIERS = Source(NAME, TOP, "SupplierId", _reads)

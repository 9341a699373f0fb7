"""One feed of purchase orders as X12, for tests of what runs by itself: orders in Fusion, and what the partner has."""

from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.schema import window_run
from mlc_dagster_tests.exports.x12.partner import split
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal

FEED = "orders"
_BEGINNINGS = {"850": "BEG", "860": "BCH"}


def purchase_order_feed(remote: PartnerRehearsal, **change: Any) -> None:
    """The only feed of mlc.yaml: orders to one partner, whose server is tried once a run."""
    remote.change_config(exports=[])
    feed = {
        "source": "purchase_orders",
        "layout": "x12_orders_850",
        "partner": {"sender": "ZZ:MLC", "receiver": "01:123456789"},
        "upload": {"retry_for": 0},
    }
    remote.change_feed(FEED, **{**feed, **change})


def order_paper(remote: PartnerRehearsal, number: str) -> int:
    """A new order in Fusion; its POHeaderId."""
    line = {"description": "A4 paper", "quantity": "10", "price": "5.5", "uom": "BX", "item": "PAPER-A4"}
    order_id: int = remote.world.create_purchase_order([line], number=number)
    return order_id


def transaction_sets(remote: PartnerRehearsal) -> list[tuple[str, str]]:
    """(850 or 860, the order's number) of everything that the partner has, in the order of the files."""
    found: list[tuple[str, str]] = []
    for name in remote.delivered():
        segments = split((remote.inbox / name).read_bytes())
        for start, beginning in pairwise(segments):
            if start[0] == "ST":
                assert beginning[0] == _BEGINNINGS[start[1]]
                found.append((start[1], beginning[3]))
    return found


def pause_passes(remote: PartnerRehearsal) -> None:
    """The pause after a failed attempt is over."""
    with remote.ledger.transaction() as transaction:
        transaction.execute(sa.update(window_run).values(not_before=None))

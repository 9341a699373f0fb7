"""Two people who agree, for tests of other things."""

from mlc_dagster.ledger.approval import Approval

BOTH = Approval(by="anna", approved_by="bob", reason="checked with the supplier")

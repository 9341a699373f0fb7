"""What is wrong with the ledger itself: opening it, using it, committing to it.

What a rule of the ledger refuses has an error of its own, beside that rule.
"""

from mlc_dagster.expected import Expected, FailureKind


class LedgerError(Expected):
    """The ledger cannot be opened or used; the text says why and what to do."""

    kind = FailureKind.CONFIGURATION


class NotCommitted(LedgerError):
    """The database gave the transaction up before its end: nothing of it is in the ledger."""

    def __init__(self) -> None:
        super().__init__(
            "the database has given up the transaction that was about to be committed, after an error in it that "
            "nobody heard of: nothing of it was written; do it again"
        )

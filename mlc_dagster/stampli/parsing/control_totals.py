"""Counts and sums that a sender states about its own file, held against what was read.

Belongs here: adding up a column exactly, and saying that two numbers differ. Does not: where they stand in the file.
"""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import cast

from mlc_dagster.stampli.parsing.cells import CellFault, decimal_converter
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import ValueRules
from mlc_dagster.stampli.reasons import shown

# Numbers have at most 24 whole digits and 12 decimals: no file has enough rows for a sum that is not exact.
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])


class ControlTotal:
    """The sum of one column, from the text of its cells."""

    def __init__(self, rules: ValueRules) -> None:
        self._convert = decimal_converter(rules)
        self._nulls = frozenset(rules.nulls) | {""}
        self.value = Decimal(0)
        self.proven = True
        """False once a cell was no number: its invoice is parked, and nobody can say what the sum should be."""

    def add(self, cell: str) -> None:
        """Count a cell in."""
        if cell in self._nulls:
            return
        try:
            self.value = _EXACT.add(self.value, cast("Decimal", self._convert(cell)))
        except CellFault:
            self.proven = False

    def refuse_other(self, stated: str, what: str) -> None:
        """Compare with the sender's own sum.

        Raises:
            FileRejected: it is another one, or no number.
        """
        try:
            expected = cast("Decimal", self._convert(stated))
        except CellFault as fault:
            raise FileRejected("FILE_SCHEMA", f"{what} is {shown(stated)!r}: {fault.remedy}") from None
        if self.proven and expected != self.value:
            raise FileRejected("FILE_SCHEMA", f"{what} is {expected:f}, the rows add up to {self.value:f}; {_AGAIN}")


def refuse_other_count(stated: str, counted: int, what: str) -> None:
    """Compare a count with the sender's own.

    Raises:
        FileRejected: it is another one, or no number.
    """
    if not (stated.isascii() and stated.isdigit() and len(stated) < 19):
        raise FileRejected("FILE_SCHEMA", f"{what} is {shown(stated)!r}: write a whole number")
    if int(stated) != counted:
        raise FileRejected("FILE_SCHEMA", f"{what} is {int(stated)}, the file has {counted}; {_AGAIN}")


_AGAIN = "something is missing or was changed on the way: have the file sent again"

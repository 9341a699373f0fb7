"""What canonical JSON of records is made with: their base, the encoder, and the one spelling of a number.

Equal content must give equal bytes: a version's hash is taken over them.
"""

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation

import msgspec


class Record(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True, kw_only=True):
    """Base of all: immutable, absent values left out, attributes under Fusion's names in JSON."""


ENCODER = msgspec.json.Encoder(decimal_format="string")
"""Fields in their order, no blanks, decimals as exact text."""

_EXACT = Context(prec=5_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation])
"""Fusion's rates have some forty digits, more than Decimal's usual 28; what is longer than this raises."""


def plain(value: Decimal) -> Decimal:
    """The decimal in its one spelling: 100, 100.00 and 1E+2 are the same amount and must give the same hash.

    No digit is lost: raises decimal.Inexact for more of them than any number of Fusion's has.
    """
    if value == value.to_integral_value():
        return Decimal(int(value))
    return value.normalize(_EXACT)

"""What may be said of a secret: errors that name its reference, and text whose repr does not show it."""

from mlc_dagster.expected import Expected, FailureKind


class SecretError(Expected):
    """A secret cannot be had. ``reference`` and ``remedy`` are for people; the value is in neither."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, reference: str, fault: str, remedy: str) -> None:
        self.reference = reference
        self.fault = fault
        self.remedy = remedy
        super().__init__(f"{reference}: {fault}; {remedy}")


class ProviderDown(SecretError):
    """What keeps the secret does not answer now; the reference itself may be right."""

    kind = FailureKind.REMOTE


class SecretText(str):
    """A secret as text: usable wherever a str is, but ``repr`` and ``%r`` do not show it.

    Tracebacks with local variables, dataclass and pydantic reprs and debuggers print reprs; that is where secrets leak.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """A mask of fixed length: the length of a secret is a secret too."""
        return "SecretText('**********')"

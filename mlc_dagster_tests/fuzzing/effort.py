"""How hard the parsers are fuzzed: some seconds in all by default, more when ``MLC_FUZZ_EXAMPLES`` says so."""

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("MLC_FUZZ_EXAMPLES")


def fuzzed(examples: int) -> settings:
    """Settings of one test; ``examples`` take it below five seconds."""
    return settings(
        max_examples=int(_ASKED) if _ASKED else examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )

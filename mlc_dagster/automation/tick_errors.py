"""What a sensor raises is kept with its tick and shown in the UI: secrets in it are masked first."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mlc_dagster.vault import scrub

Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")


def masking_errors(evaluate: Callable[Parameters, Found]) -> Callable[Parameters, Found]:
    """``evaluate``, whose errors show nothing that was resolved in this process."""

    @functools.wraps(evaluate)
    def masked(*args: Parameters.args, **named: Parameters.kwargs) -> Found:
        try:
            return evaluate(*args, **named)
        except Exception as error:
            scrub(error)
            raise

    return masked

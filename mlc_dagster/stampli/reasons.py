"""Why an invoice, a row or a file was set aside, and what a person does about it.

Belongs here: the catalogue of reason codes (data in ``reasons.yaml``) and ``Problem``, one finding. Does not: the
rules that find problems. Every code used anywhere in the product is in the catalogue; a misspelt one raises.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
import pydantic
import yaml

_SHOWN = 200
"""Characters of an offending value that are shown; a cell may hold a whole page."""


class Reason(pydantic.BaseModel):
    """One reason code."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    code: str = pydantic.Field(pattern=r"^[A-Z][A-Z0-9_]+$")
    kind: Literal["business", "technical"] = pydantic.Field(alias="class")
    owner: Literal["ap_specialist", "supplier_master", "gl_accountant", "tax", "controller", "integration_engineer"]
    retry: Literal["time", "reference", "crosswalk", "period", "manual"]
    """What cures it: the clock, reference data in Fusion, a crosswalk or setting, a period being opened, a person."""
    title: str
    remedy: str
    warning: bool = False
    """True for findings that are told and never park an invoice."""

    @property
    def cured_by_fusion(self) -> bool:
        """It may be gone once reference data or periods are read again."""
        return self.retry in ("reference", "period")

    @property
    def cures_itself(self) -> bool:
        """It may be gone without anybody saying so: what is parked for it is looked at again by itself."""
        return self.cured_by_fusion or self.retry == "crosswalk"


class UnknownReason(LookupError):
    """A reason code that is not in the catalogue."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"reason code {code!r} is not in reasons.yaml; add it there")


@cache
def reasons() -> dict[str, Reason]:
    """The catalogue by code, in the order of reasons.yaml."""
    text = (files("mlc_dagster.stampli") / "reasons.yaml").read_text(encoding="utf-8")
    entries: dict[str, dict[str, object]] = yaml.safe_load(text)
    return {code: Reason.model_validate({"code": code, **entry}) for code, entry in entries.items()}


def reason(code: str) -> Reason:
    """The catalogue entry of ``code``; a suffix in brackets, as in ``FUSION_REJECTED(AP-810776)``, is ignored.

    Raises:
        UnknownReason: no such code.
    """
    found = reasons().get(code.partition("(")[0])
    if found is None:
        raise UnknownReason(code)
    return found


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One finding about one invoice: which rule, where, the offending value, what to do."""

    reason: str
    field: str | None = None
    value: str | None = None
    remedy: str = ""
    row: int | None = None
    """Line number in the file, from 1 (the header row is 1)."""

    @property
    def text(self) -> str:
        """One sentence for people: title, place, value, remedy."""
        places: list[str] = []
        if self.field is not None:
            places.append(self.field if self.value is None else f"{self.field}: {self.value}")
        elif self.value is not None:
            places.append(self.value)
        if self.row is not None:
            places.append(f"row {self.row}")
        where = f" ({', '.join(places)})" if places else ""
        return f"{reason(self.reason).title}{where}: {self.remedy}"


def shown(value: str) -> str:
    """``value`` fit for a message: control and invisible characters escaped, at most 200 characters."""
    text = value if value.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def problem(
    code: str,
    *,
    field: str | None = None,
    value: str | None = None,
    remedy: str | None = None,
    row: int | None = None,
) -> Problem:
    """A Problem whose remedy defaults to the catalogue's and whose value is fit to print.

    Raises:
        UnknownReason: ``code`` is not in the catalogue.
    """
    entry = reason(code)
    return Problem(code, field, None if value is None else shown(value), remedy or entry.remedy, row)


def problem_rows(problems: Iterable[msgspec.Struct]) -> tuple[Mapping[str, Any], ...]:
    """Problems as the ledger keeps them."""
    return tuple(msgspec.to_builtins(found) for found in problems)

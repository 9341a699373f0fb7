"""Reading the JSON of a request: exact numbers, known attributes only, each value of its attribute's kind.

Every fault of a payload is reported, not only the first one, as Fusion does.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.resources import BOOLEAN, DATE, INTEGER, NUMBER, STRING, Resource
from mlc_dagster.sandbox.fusion.selection import instant

MISSING_VALUE = "JBO-27014"
WRONG_TYPE = "JBO-25009"


def _no_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, numbers as ``Decimal`` or int. Raises ``Refusal`` 400."""
    try:
        document = json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, Detail(f"The request payload is not valid JSON: {error}")) from None
    if not isinstance(document, dict):
        raise Refusal(400, Detail("The request payload must be a JSON object."))
    return document


class Payload:
    """A row's worth of attributes taken from a JSON object, with the faults found on the way."""

    def __init__(self, resource: Resource, document: Mapping[str, Any], path: str, faults: list[Detail]) -> None:
        self.resource = resource
        self.path = path
        self.faults = faults
        self.values: dict[str, Any] = {}
        self.children: dict[str, list[dict[str, Any]]] = {}
        for name, value in document.items():
            self._take(name, value)

    def fault(self, name: str, text: str, code: str | None = None) -> None:
        self.faults.append(Detail(text, code, f"{self.path}/{name}"))

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def require(self, names: Iterable[str], code: str = MISSING_VALUE) -> None:
        """Notes a fault for each attribute that is absent, null or blank."""
        for name in names:
            if self.values.get(name) in (None, "") and not any(f.path == f"{self.path}/{name}" for f in self.faults):
                self.fault(name, f"You must provide a value for the attribute {name}. ({code})", code)

    def longest(self, limits: Mapping[str, int]) -> None:
        for name, limit in limits.items():
            value = self.values.get(name)
            if isinstance(value, str) and len(value) > limit:
                text = f"The value of attribute {name} has {len(value)} characters, more than {limit}. (JBO-27028)"
                self.fault(name, text, "JBO-27028")

    def _take(self, name: str, value: Any) -> None:
        if name in self.resource.children:
            if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
                self.children[name] = value
            else:
                self.fault(name, f"The child {name} in the payload must be an array of objects.", WRONG_TYPE)
            return
        attribute = self.resource.attributes.get(name)
        if attribute is None:
            self.fault(name, f'Invalid attribute "{name}" in the payload.')
            return
        if value is None:
            return
        try:
            self.values[name] = _convert(value, attribute.kind)
        except (ValueError, InvalidOperation):
            shown = json.dumps(value, default=str)[:60]
            text = f"Attribute {name}: {shown} is not a {attribute.kind} value. ({WRONG_TYPE})"
            self.fault(name, text, WRONG_TYPE)


def _convert(value: Any, kind: str) -> Any:
    if kind in {NUMBER, INTEGER}:
        # Numbers may be sent as text ("130.80"); a JSON boolean is not a number although Python thinks so.
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            raise ValueError(value)
        number = Decimal(value.strip() if isinstance(value, str) else value)
        if not number.is_finite():
            raise ValueError(value)
        if kind == NUMBER:
            return number
        if number != number.to_integral_value():
            raise ValueError(value)
        return int(number)
    if kind == BOOLEAN:
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value not in _BOOLEANS:
            raise ValueError(value)
        return _BOOLEANS[value]
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - one error type for every unfit value
    if kind == STRING:
        return value
    return dt.date.fromisoformat(_plain_date(value)).isoformat() if kind == DATE else instant(value)


_BOOLEANS = {"true": True, "false": False, "Y": True, "N": False}


def _plain_date(value: str) -> str:
    if len(value) != 10:
        raise ValueError(value)
    return value

"""Reading mlc.yaml: YAML, ``${ENV}``, and errors in the words of the file.

What belongs here: finding the file, filling in the environment, and saying of every fault which key it is and what to
do. What does not: what a key means and which values it takes (``settings``).
"""

import difflib
import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from mlc_dagster.bounded_yaml import read_yaml, yaml_fault
from mlc_dagster.settings import Settings, SettingsError

_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _fill_env(value: Any, environ: Mapping[str, str], path: str, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _fill_env(v, environ, f"{path}.{k}" if path else str(k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill_env(v, environ, f"{path}[{i}]", problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] not in environ:
            problems.append(f"{path}: environment variable {match[1]} is not set; set it or write the value")
            return ""
        return environ[match[1]]

    return _ENV.sub(replace, value)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Names valid where an unknown key stood, found by walking the model along the error's location."""
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
        args = [a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        if args:
            model = args[-1]
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [name for name in model.model_fields if name not in ("root", "sandbox")]
    return []


_SECRET_KEYS = ("secret", "password", "passphrase", "private_key", "assertion_key", "client_key", "alerts")
"""Values of keys with such a name are not shown in errors, whatever their type; addresses of alerts hold passwords."""


def _explain(error: pydantic.ValidationError) -> list[str]:
    problems: list[str] = []
    for fault in error.errors(include_url=False):
        location = fault["loc"]
        key = ".".join(str(part) for part in location)
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _fields_at(location), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(_fields_at(location))}"
            problems.append(f"{key}: unknown key; {hint}")
        elif fault["type"] == "missing":
            problems.append(f"{key}: is required and absent")
        elif fault["type"] == "value_error":
            text = fault["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {text}" if key else text)
        else:
            shown = "" if any(name in key for name in _SECRET_KEYS) else f" (found {reprlib.repr(fault['input'])})"
            problems.append(f"{key}: {fault['msg']}{shown}")
    return problems


def _read_yaml(text: str, source: str) -> object:
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(source, [yaml_fault(error)]) from None


def parse_settings(
    text: str, *, source: str, root: Path, environ: Mapping[str, str] | None = None, sandbox: bool = False
) -> Settings:
    """Settings from YAML text.

    Raises:
        SettingsError: not YAML, an unset ``${ENV}``, an unknown key (with the nearest valid one) or a wrong value.
    """
    environ = os.environ if environ is None else environ
    document = _read_yaml(text, source)
    if not isinstance(document, dict):
        raise SettingsError(source, ["must be a mapping with the keys fusion, stampli, poll, …"])
    problems: list[str] = []
    filled: dict[str, Any] = _fill_env(document, environ, "", problems)
    problems.extend(
        f"{reserved}: unknown key; it cannot be set in the file"
        for reserved in ("root", "sandbox")
        if reserved in filled
    )
    if problems:
        raise SettingsError(source, problems)
    try:
        return Settings.model_validate({**filled, "root": root, "sandbox": sandbox})
    except pydantic.ValidationError as error:
        raise SettingsError(source, _explain(error)) from None


def load_settings(path: Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file at ``path``; raises SettingsError when it is missing or wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(str(path), ["no such file; write one with `mlc init`"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None
    return parse_settings(text, source=str(path), root=path.resolve().parent, environ=environ)


def find_settings_file(environ: Mapping[str, str], working_directory: Path) -> Path | None:
    """``MLC_CONFIG`` when set (whether or not it exists), else ``mlc.yaml`` in the working directory, else None."""
    if named := environ.get("MLC_CONFIG"):
        return Path(named)
    candidate = working_directory / "mlc.yaml"
    return candidate if candidate.exists() else None

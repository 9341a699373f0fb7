"""YAML of layouts: mappings whose keys are text and unique, plain values, and the line each key stands on.

Only ``true`` and ``false`` are truth values and only ``null`` is nothing, so that ``off``, ``no`` and ``007`` stay what
people meant (007 is refused where text is asked for). Does not know what a layout is (``model``).
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from mlc_dagster.bounded_yaml import BoundedLoader
from mlc_dagster.exports.layouts.errors import LayoutError


class _Loader(BoundedLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  As yaml has it.

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002, FBT001, FBT002
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            key = str(key_node.value)  # Also where YAML would read null or true.
            if key in result:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            result[key] = self.construct_object(value_node, deep=True)
        return result


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
    ("tag:yaml.org,2002:null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))  # pyright: ignore[reportUnknownMemberType]


class YamlText:
    """A document with the places of its keys."""

    def __init__(self, text: str, source_file: str) -> None:
        """Raises LayoutError: not YAML, a key that is there twice, or no mapping at the top."""
        try:
            self._root = yaml.compose(text, Loader=_Loader)
            document: object = yaml.load(text, Loader=_Loader)  # noqa: S506  A SafeLoader.
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f"line {mark.line + 1}: " if mark else ""
            raise LayoutError(source_file, [f"{place}is not YAML: {error.problem}"]) from None
        except yaml.YAMLError as error:
            raise LayoutError(source_file, [f"is not YAML: {' '.join(str(error).split())}"]) from None
        if not isinstance(document, dict):
            raise LayoutError(source_file, ["must be a mapping with the keys format, name, version, source, …"])
        self.document: dict[str, Any] = document

    def line_of(self, path: Sequence[int | str]) -> int:
        """Line, from 1, of the key at ``path``; of the nearest one above it where there is no such key."""
        node: Any = self._root
        line = 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
                if found is None:
                    continue  # Parts that the check put in between, such as the name of a variant.
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

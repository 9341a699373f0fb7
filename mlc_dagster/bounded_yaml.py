"""YAML that people or partners wrote, read within bounds: size, depth, values after aliases, keys written once.

Belongs here: what makes every document either plain values or one ``yaml.YAMLError`` that tells the place. Does not:
which words are truth values, and what a document means. No tag makes anything but plain values.
"""

from collections.abc import Iterable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

MOST_CHARACTERS = 1024 * 1024
DEEPEST = 50
MOST_VALUES = 200_000
"""Values of a document, each counted as often as aliases repeat it."""


class BoundedLoader(yaml.SafeLoader):
    """A SafeLoader that refuses what would take time, memory or the stack, and keys that are there twice."""

    def __init__(self, stream: str) -> None:
        """Raises yaml.YAMLError: the text is too long, or has characters that YAML has not."""
        self._depth = 0
        if len(stream) > MOST_CHARACTERS:
            raise yaml.YAMLError(f"has {len(stream)} characters, {MOST_CHARACTERS} are allowed")
        super().__init__(stream)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ComposerError(
                None,
                None,
                f"is nested more than {DEEPEST} levels deep",
                self.peek_event().start_mark,
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, [])
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  As yaml has it.
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            # 2026-13-45, !!int x: yaml lets Python's own errors through. The value may be a secret and is not told.
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(
                None, None, f"a value that is no {kind}; put it in quotes if it is text", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:str":
                if key_node.value in seen:
                    fault = f"the key {key_node.value!r} is there twice"
                    raise ConstructorError(None, None, fault, key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> object:
    """The one document in ``text``; None where there is none.

    Raises:
        yaml.YAMLError: it is not YAML, not plain, or beyond the bounds.
    """
    return yaml.load(text, Loader=BoundedLoader)  # noqa: S506  A SafeLoader.


def yaml_fault(error: yaml.YAMLError) -> str:
    """One line for people: the place and what is wrong there, without the text of the line, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}is not YAML: {error.problem}"
    return f"is not YAML: {' '.join(str(error).split())}"


def _count(node: yaml.Node, known: dict[int, tuple[int, int]], above: list[int]) -> tuple[int, int]:
    """Values and levels of ``node``, itself included; raises ComposerError beyond the bounds, and for a cycle."""
    number = id(node)
    if number in above:
        raise ComposerError(None, None, "a value holds itself by an alias", node.start_mark)
    if number in known:
        return known[number]
    above.append(number)
    below = [_count(child, known, above) for child in _children(node)]
    above.pop()
    total, levels = 1 + sum(count for count, _ in below), 1 + max((deep for _, deep in below), default=0)
    if total > MOST_VALUES or levels > DEEPEST:
        raise ComposerError(
            None,
            None,
            f"has more than {MOST_VALUES} values or {DEEPEST} levels, aliases counted",
            node.start_mark,
        )
    known[number] = total, levels
    return known[number]


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return ()

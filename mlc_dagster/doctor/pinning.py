"""Host keys that a person has confirmed, written into mlc.yaml: one value changes, every other character stays.

What belongs here: which accounts need a pin, and the edit of the text. What does not: asking the person, the audit
event (``cli``). The text is edited at the place of the YAML node, read again, and compared: whatever cannot be edited
so that nothing else changes is refused.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlc_dagster.bounded_yaml import BoundedLoader, read_yaml, yaml_fault
from mlc_dagster.settings import Settings, SettingsError, SftpSettings
from mlc_dagster.settings_file import parse_settings
from mlc_dagster.sftp import OfferedHostKey, PinUnreadable, offered_host_keys
from mlc_dagster.sftp.keys import parse_pin

NO_PIN = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""What the starter file has in place of a pin; it is no server's."""


class NotWritten(Exception):
    """mlc.yaml cannot be edited without changing something else; the text says which line to write by hand."""

    def __init__(self, why: str, pins: Sequence[str]) -> None:
        self.pins = tuple(pins)
        super().__init__(f"{why}; write by hand: host_key: {_written(pins)}")


class Place(NamedTuple):
    """Where an account stands: ``stampli.sftp``, or the number of its feed."""

    name: str
    path: tuple[str | int, ...]


@dataclass(frozen=True)
class Unpinned:
    """A server and the accounts of mlc.yaml on it that pin none of the keys it offers now."""

    places: tuple[Place, ...]
    sftp: SftpSettings
    offered: tuple[OfferedHostKey, ...]

    @property
    def names(self) -> str:
        return ", ".join(place.name for place in self.places)

    @property
    def pins(self) -> list[str]:
        """What is pinned so far, the starter's empty pin left out."""
        return [pin for pin in self.sftp.host_keys if pin != NO_PIN]


def settings_without_pins(text: str, path: Path) -> Settings:
    """The settings in ``text``, where accounts may lack ``host_key``.

    Raises:
        SettingsError: anything else is wrong.
    """
    try:
        root = yaml.compose(text, Loader=BoundedLoader)
    except yaml.YAMLError as error:
        raise SettingsError(str(path), [yaml_fault(error)]) from None
    for place in _places(root):
        if _entry(_node(root, place.path), "host_key") is None and "host_key" not in _value(text, place.path):
            text = with_pins(text, place.path, [NO_PIN])
            root = yaml.compose(text, Loader=BoundedLoader)
    return parse_settings(text, source=str(path), root=path.resolve().parent)


def places_of(settings: Settings) -> list[tuple[Place, SftpSettings]]:
    """Every account with its place."""
    found: list[tuple[Place, SftpSettings]] = []
    if settings.stampli is not None:
        found.append((Place("stampli", ("stampli", "sftp")), settings.stampli.sftp))
    for number, entry in enumerate(settings.exports):
        found.append((Place(entry.name, ("exports", number, "sftp")), entry.sftp))
    return found


Ask = Callable[[SftpSettings], list[OfferedHostKey]]


def ask_server(timeout: float) -> Ask:
    """Asks a server for its host keys, in ``timeout`` seconds."""
    return lambda sftp: offered_host_keys(sftp.host, sftp.port, timeout, allow_algorithms=sftp.allow_algorithms)


def needing_pins(accounts: Sequence[tuple[Place, SftpSettings]], offered: Sequence[OfferedHostKey]) -> Unpinned | None:
    """The accounts, all on the server that offers these keys and with the same pins; None when they are pinned."""
    sftp = accounts[0][1]
    if {key.fingerprint for key in offered} & set(_fingerprints(sftp.host_keys)):
        return None
    return Unpinned(tuple(place for place, _ in accounts), sftp, tuple(offered))


def by_server(accounts: Sequence[tuple[Place, SftpSettings]]) -> Iterator[list[tuple[Place, SftpSettings]]]:
    """Accounts together that have the same server and the same pins: one answer is for all of them."""
    groups: dict[tuple[Any, ...], list[tuple[Place, SftpSettings]]] = {}
    for place, sftp in accounts:
        groups.setdefault((sftp.host, sftp.port, *sftp.host_keys), []).append((place, sftp))
    yield from groups.values()


def _fingerprints(pins: Sequence[str]) -> Iterator[str]:
    for pin in pins:
        # One that cannot be read pins nothing, and is replaced.
        with suppress(PinUnreadable):
            yield parse_pin(pin).fingerprint


def with_pins(text: str, path: tuple[str | int, ...], pins: Sequence[str]) -> str:
    """``text`` with these pins for the account at ``path``, comments and layout as they were.

    Raises:
        NotWritten: it would change something else, or the pin comes from the environment.
        LookupError: there is no such account.
    """
    root = yaml.compose(text, Loader=BoundedLoader)
    mapping = _node(root, path)
    entry = _entry(mapping, "host_key")
    edited = _inserted(text, mapping, pins) if entry is None else _replaced(text, entry[1], pins)
    _compare(text, edited, path, pins)
    return edited


def _replaced(text: str, node: yaml.Node, pins: Sequence[str]) -> str:
    start, end = node.start_mark.index, _end(text, node)
    before = text[start:end]
    if "${" in before:
        raise NotWritten("host_key is taken from an environment variable: change it there", pins)
    anchor = f"{before.split(maxsplit=1)[0]} " if before.startswith("&") else ""
    # A list in lines begins on a line of its own, which goes as well.
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        start = len(text[:start].rstrip())
        anchor = f" {anchor}"
    return f"{text[:start]}{anchor}{_written(pins)}{text[end:]}"


def _end(text: str, node: yaml.Node) -> int:
    # The end of a list in lines is where the next thing begins, behind comments and blank lines.
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(text, node.value[-1])
    end = node.end_mark.index
    # So is that of a text in lines (| or >).
    folded = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
    return len(text[:end].rstrip()) if folded else end


def _inserted(text: str, mapping: yaml.MappingNode, pins: Sequence[str]) -> str:
    names = [key.value for key, _ in mapping.value]
    after = names.index("host") + 1 if "host" in names else 0
    key = mapping.value[after if after < len(names) else after - 1][0]
    start = key.start_mark.index
    parting = ", " if mapping.flow_style else "\n" + " " * key.start_mark.column
    return f"{text[:start]}host_key: {_written(pins)}{parting}{text[start:]}"


def _written(pins: Sequence[str]) -> str:
    # JSON's text is YAML's in quotes.
    return json.dumps(pins[0]) if len(pins) == 1 else f"[{', '.join(json.dumps(pin) for pin in pins)}]"


def _compare(text: str, edited: str, path: tuple[str | int, ...], pins: Sequence[str]) -> None:
    """Refuse an edit after which anything but host keys of the same node is other than before."""
    try:
        was, now = read_yaml(text), read_yaml(edited)
    except yaml.YAMLError:
        raise NotWritten("mlc.yaml is written in a way that cannot be edited safely", pins) from None
    wanted = pins[0] if len(pins) == 1 else list(pins)
    if _value(edited, path).get("host_key") != wanted or _without_pins(was) != _without_pins(now):
        raise NotWritten("mlc.yaml is written in a way that cannot be edited safely", pins)


def _without_pins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_pins(inner) for key, inner in value.items() if key != "host_key"}
    return [_without_pins(inner) for inner in value] if isinstance(value, list) else value


def _value(text: str, path: tuple[str | int, ...]) -> Any:
    value: Any = read_yaml(text)
    for part in path:
        value = value[part]
    return value


def _node(root: yaml.Node | None, path: tuple[str | int, ...]) -> yaml.MappingNode:
    node = root
    for part in path:
        if isinstance(node, yaml.MappingNode) and isinstance(part, str):
            entry = _entry(node, part)
            node = None if entry is None else entry[1]
        else:
            node = node.value[part] if isinstance(node, yaml.SequenceNode) and isinstance(part, int) else None
    if isinstance(node, yaml.MappingNode):
        return node
    raise LookupError(".".join(map(str, path)))


def _entry(mapping: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in mapping.value if key.value == name), None)


def _places(root: yaml.Node | None) -> Iterator[Place]:
    """Accounts as the file has them, whatever is wrong with the rest of it."""
    candidates: list[tuple[str | int, ...]] = [("stampli", "sftp")]
    candidates += [("exports", number, "sftp") for number in range(_exports(root))]
    for path in candidates:
        with suppress(LookupError):
            _node(root, path)
            yield Place(".".join(map(str, path)), path)


def _exports(root: yaml.Node | None) -> int:
    entry = _entry(root, "exports") if isinstance(root, yaml.MappingNode) else None
    return len(entry[1].value) if entry is not None and isinstance(entry[1], yaml.SequenceNode) else 0


def replace_file(path: Path, text: str) -> None:
    """Write ``text`` in place of the file at once, with its mode and owner; raises OSError, the old file stays."""
    # The file itself, not a link to it.
    target = path.resolve()
    status = target.stat()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            os.fchmod(stream.fileno(), status.st_mode & 0o7777)
            own = os.fstat(stream.fileno())
            if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise

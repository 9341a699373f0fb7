"""Checkpoints of the chain: which link had which hash when, signed, and kept in a second place as well.

A chain alone does not show that its newest part is gone: whoever can change the ledger deletes the last events with
their links, or rebuilds everything from a changed event on. A checkpoint file that he cannot write to still names the
hash of a later link; that is what the second place stops. Whoever can write there too is stopped by the signature from
changing a checkpoint, but not from deleting the newest ones: put the file where it can only grow.
"""

import base64
import binascii
import datetime as dt
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger.types import UTC_FORMAT, canonical_json, utc_text

FILE_NAME = "audit-checkpoints.jsonl"
_PURPOSE = b"mlc-audit-checkpoint-1\n"
"""Begins what is signed: a signature for anything else cannot pass for one of a checkpoint."""
_GAP_PURPOSE = b"mlc-audit-gap-1\n"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_NUMBERS = frozenset(["seq", "event_id", "gap", "restored_seq", "restored_event_id", "proven", "first", "last"])
_MAYBE = frozenset(["key_id", "signature"])
"""Null where there is no key."""


class SigningKeyUnusable(Expected):
    """The text behind ``audit.signing_key`` is no Ed25519 private key; it is not shown."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, why: str) -> None:
        super().__init__(f"audit.signing_key: {why}; make one with `mlc audit keygen`")


class CheckpointRefused(Exception):
    """No checkpoint is made, because the chain no longer holds what an earlier one says."""


def key_id(public_key: str) -> str:
    """Fingerprint of a public key (base64): ``SHA256:…``, as OpenSSH writes fingerprints."""
    digest = hashlib.sha256(base64.b64decode(public_key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class SigningKey:
    """An Ed25519 private key, which shows itself to nobody."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = base64.b64encode(key.public_key().public_bytes_raw()).decode()
        self.key_id = key_id(self.public_key)

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_text(cls, text: str) -> "SigningKey":
        """From 32 bytes in base64 (one line, as ``private_text``), or from PEM as openssl writes it.

        Raises:
            SigningKeyUnusable: it is neither.
        """
        if "-----BEGIN" in text:
            try:
                key = serialization.load_pem_private_key(text.encode(), password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                raise SigningKeyUnusable("is not a private key without a passphrase") from None
            if not isinstance(key, Ed25519PrivateKey):
                raise SigningKeyUnusable("is a key of another kind than Ed25519")
            return cls(key)
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.strip(), validate=True)))
        except (binascii.Error, ValueError):
            raise SigningKeyUnusable("is neither 32 bytes in base64 nor PEM") from None

    def private_text(self) -> str:
        """The secret itself, one line, for the vault or a file of mode 0600."""
        return base64.b64encode(self._key.private_bytes_raw()).decode()

    def sign(self, message: bytes) -> str:
        """The signature in base64."""
        return base64.b64encode(self._key.sign(message)).decode()

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


@dataclass(frozen=True)
class Checkpoint:
    """Link ``seq`` sealed event ``event_id`` and had this hash at ``at`` (UTC text); unsigned without a key."""

    seq: int
    event_id: int
    hash: str
    at: str
    key_id: str | None = None
    signature: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Checkpoint":
        """From a row of the ledger."""
        moment = utc_text(cast("dt.datetime", row["at"]).astimezone(dt.UTC))
        return cls(row["seq"], row["event_id"], row["hash"], moment, row["key_id"], row["signature"])

    @classmethod
    def parse(cls, line: str) -> "Checkpoint | None":
        """From a line of the file; None for one that was cut short or is something else."""
        found = _fields(line)
        if found is None or not {"seq", "event_id", "hash", "at"} <= set(found) <= set(cls.__dataclass_fields__):
            return None
        return cls(**found)

    @property
    def moment(self) -> dt.datetime:
        return dt.datetime.strptime(self.at, UTC_FORMAT).replace(tzinfo=dt.UTC)

    def message(self) -> bytes:
        """What is signed."""
        said = {"at": self.at, "event_id": self.event_id, "hash": self.hash, "key_id": self.key_id, "seq": self.seq}
        return _PURPOSE + canonical_json(said).encode()

    def signed(self, key: SigningKey) -> "Checkpoint":
        """The same, signed."""
        named = Checkpoint(self.seq, self.event_id, self.hash, self.at, key.key_id)
        return Checkpoint(self.seq, self.event_id, self.hash, self.at, key.key_id, key.sign(named.message()))

    def line(self) -> str:
        """As the file holds it, without the line's end."""
        return canonical_json({name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Gap:
    """Two people's statement that the ledger was restored, and which links were lost by it; always signed.

    The chain goes on from the restored head. What earlier lines of the second place say of lost links is true of a
    chain that is no longer there; they are named one by one, so that nothing else is excused.
    """

    gap: int
    """From 1, counted in the second place."""
    at: str
    restored_seq: int
    """The last link that was in the backup; 0 where there was none."""
    restored_event_id: int
    restored_hash: str
    proven: int
    """The newest link of those restored of which there is a checkpoint; no checkpoint speaks for those after it."""
    first: int
    """Links lost, as far as checkpoints tell: from here …"""
    last: int
    """… to here."""
    checkpoint: Mapping[str, Any]
    """The last one that was made of a lost link."""
    lines: Sequence[str]
    """SHA-256 of each line of the second place that speaks of what is lost."""
    by: str
    approved_by: str
    reason: str
    key_id: str | None = None
    signature: str | None = None

    @classmethod
    def parse(cls, line: str) -> "Gap | None":
        """From a line of the file, or of an event; None for something else."""
        found = _fields(line)
        return cls(**found) if found is not None and found.keys() == cls.__dataclass_fields__.keys() else None

    @property
    def links(self) -> int:
        """How many links were lost."""
        return self.last - self.first + 1

    @property
    def told(self) -> str:
        """For people."""
        return (
            f"links {self.first} to {self.last} ({self.links}) were lost when the ledger was restored to link "
            f"{self.restored_seq}; documented {self.at} by {self.by}, approved by {self.approved_by}: {self.reason}"
        )

    def message(self) -> bytes:
        """What is signed."""
        return _GAP_PURPOSE + canonical_json(self._said(without=("signature",))).encode()

    def signed(self, key: SigningKey) -> "Gap":
        """The same, signed."""
        named = replace(self, key_id=key.key_id)
        return replace(named, signature=key.sign(named.message()))

    def line(self) -> str:
        """As the file holds it, without the line's end."""
        return canonical_json(self._said())

    def _said(self, without: Sequence[str] = ()) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in without}


def _fields(line: str) -> dict[str, Any] | None:
    """A line's fields, each of the type that the product writes; None for anything else, whatever JSON it is."""
    try:
        found: Any = json.loads(line)
        canonical_json(found)
        # Text that is no text (half of a surrogate pair) has no bytes of its own to be hashed or signed.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields = cast("dict[str, Any]", found)
    return fields if all(_fits(name, value) for name, value in fields.items()) else None


def _fits(name: str, value: Any) -> bool:
    if name in _NUMBERS:
        # What is no more than the database can count to; True is no number.
        return type(value) is int and 0 <= value < 1 << 63
    if name == "checkpoint":
        return isinstance(value, dict)
    if name == "lines":
        return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))
    if name == "at":
        return isinstance(value, str) and _is_moment(value)
    return isinstance(value, str) or (value is None and name in _MAYBE)


def _is_moment(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return _MOMENT.fullmatch(text) is not None


Line = Checkpoint | Gap


def line_sha256(line: Line) -> str:
    """By which a gap names a line."""
    return hashlib.sha256(line.line().encode()).hexdigest()


@dataclass(frozen=True)
class KeyRing:
    """The public keys whose lines are believed, base64."""

    public_keys: Sequence[str] = ()

    def vouches(self, line: Line) -> bool:
        """Whether a line has a good signature: one without any proves nothing, though there is no fault in it."""
        return line.signature is not None and self.fault(line) is None

    def fault(self, line: Line) -> str | None:
        """What is wrong with a line's signature; None for a good one, and for a line that has none."""
        if line.signature is None and line.key_id is None:
            return None
        public = next((key for key in self.public_keys if key_id(key) == line.key_id), None)
        if public is None:
            return (
                f"is signed by {line.key_id}, which is neither the signing key nor among audit.public_keys; "
                "add the public key if it is yours"
            )
        try:
            signature = base64.b64decode(line.signature or "", validate=True)
            if base64.b64encode(signature).decode() != line.signature:
                # Other letters for the same bytes: not as the product wrote it.
                raise ValueError
            Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(signature, line.message())
        except (InvalidSignature, ValueError):
            return f"has a signature that is not of {line.key_id}: it was changed"
        return None


class Foreign(NamedTuple):
    """A line of the second place that is nothing of ours, by its number."""

    number: int
    whole: bool
    """It is whole JSON: no power cut leaves that, somebody put it in."""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class CheckpointFile:
    """The second place: a file of JSON lines that is only ever appended to."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def append(self, lines: Iterable[Line]) -> None:
        """Add lines and force them to the disk, alone; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            # A line that a power cut left unfinished must not swallow the next one.
            cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            text = ("\n" if cut else "") + "".join(f"{line.line()}\n" for line in lines)
            left = memoryview(text.encode())
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def read(self) -> tuple[list[Checkpoint], list[Foreign]]:
        """(checkpoints in the order of the file, lines that are nothing of ours); also those of lost links.

        Which of them stand is ``audit_gaps.standing``'s to say.
        """
        lines, unreadable = self.lines()
        return [line for line in lines if isinstance(line, Checkpoint)], unreadable

    def lines(self) -> tuple[list[Line], list[Foreign]]:
        """(all lines that are ours, in order, the others); nothing where there is no file."""
        found: list[Line] = []
        unreadable: list[Foreign] = []
        try:
            with self.path.open(encoding="utf-8", errors="replace") as lines:
                for number, text in enumerate(lines, 1):
                    line = Checkpoint.parse(text) or Gap.parse(text)
                    if line is None:
                        unreadable.append(Foreign(number, _is_json(text)))
                    else:
                        found.append(line)
        except FileNotFoundError:
            pass
        return found, unreadable


@dataclass(frozen=True)
class Checkpointing:
    """Where checkpoints go, how often, by which key, and whose are believed."""

    file: CheckpointFile
    every: int
    key: SigningKey | None = None
    ring: KeyRing = field(default_factory=KeyRing)

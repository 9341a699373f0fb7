"""Private keys from text, and pins that a server's host key must match.

What belongs here: reading both from the forms people have them in. What does not: where the text comes from, and
asking a server for its key.
"""

import base64
import binascii
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from paramiko.pkey import UnknownKeyType

from mlc_dagster.vault.private_keys import PrivateKeyFault, read_private_key

from .errors import KeyUnreadable, PinUnreadable

HOST_KEY_FAMILIES: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Key type as known_hosts names it, and the signature algorithms to negotiate for it, best first."""


def load_private_key(text: str, passphrase: str | None = None) -> paramiko.PKey:
    """An RSA, ECDSA or Ed25519 key that logs in, from every form in which ``read_private_key`` reads it.

    PKCS#8, openssl's default, is among them, which paramiko cannot read by itself.

    Raises:
        KeyUnreadable: says what is wrong and never quotes the text.
    """
    try:
        return _as_paramiko(read_private_key(text, passphrase))
    except PrivateKeyFault as fault:
        raise KeyUnreadable(fault.reason) from None


def _as_paramiko(key: object) -> paramiko.PKey:
    if isinstance(key, rsa.RSAPrivateKey):
        kind = paramiko.RSAKey
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        kind = paramiko.ECDSAKey
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        kind = paramiko.Ed25519Key
    elif isinstance(key, dsa.DSAPrivateKey | ed448.Ed448PrivateKey):
        raise KeyUnreadable("DSA and Ed448 keys are not accepted by SSH servers; make an ed25519 key")
    else:
        raise KeyUnreadable(f"{type(key).__name__} cannot log in over SSH; make an ed25519 key")
    openssh = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        return kind.from_private_key(io.StringIO(openssh.decode()))
    except paramiko.SSHException as error:
        raise KeyUnreadable(f"cannot be used: {error}") from None


@dataclass(frozen=True, slots=True)
class Pin:
    """One accepted host key. ``family`` is its known_hosts type, or None for a bare fingerprint."""

    fingerprint: str
    family: str | None = None


class OfferedHostKey(NamedTuple):
    """A host key as a server proved it, before anybody trusted it."""

    algorithm: str
    fingerprint: str
    """``SHA256:…``"""
    known_hosts_line: str


def offered_host_key(host: str, port: int, key: paramiko.PKey) -> OfferedHostKey:
    """What a person compares, and a line for known_hosts."""
    place = host if port == 22 else f"[{host}]:{port}"
    return OfferedHostKey(key.get_name(), fingerprint(key), f"{place} {key.get_name()} {key.get_base64()}")


def fingerprint(key: paramiko.PKey) -> str:
    """``SHA256:…`` exactly as ``ssh-keygen -l`` prints it."""
    return key.fingerprint


def parse_pin(text: str) -> Pin:
    """Reads a ``SHA256:…`` fingerprint or a known_hosts line.

    The line's host part is ignored: the pin belongs to the server it is configured for, under whatever name.

    Raises:
        PinUnreadable: neither of the two.
    """
    stripped = text.strip()
    if stripped.startswith("SHA256:"):
        digest = stripped.removeprefix("SHA256:").rstrip("=")
        if len(_decoded(text, digest)) != 32:
            raise PinUnreadable(text, "a SHA256 fingerprint has 43 characters after SHA256:")
        return Pin(f"SHA256:{digest}")
    words = stripped.split()
    if words and words[0].startswith("@"):
        raise PinUnreadable(text, f"the marker {words[0]} is not supported; pin the server's own key")
    for family, blob in itertools.pairwise(words):
        if family in HOST_KEY_FAMILIES:
            decoded = _decoded(text, blob.rstrip("="))
            try:
                key = paramiko.PKey.from_type_string(family, decoded)
            except (paramiko.SSHException, UnknownKeyType, ValueError, IndexError):
                raise PinUnreadable(text, f"its {family} key is damaged") from None
            return Pin(fingerprint(key), family)
    if stripped.startswith("MD5:") or stripped.count(":") == 15:
        raise PinUnreadable(text, "MD5 fingerprints can be forged and are not accepted")
    raise PinUnreadable(text, "is neither a fingerprint nor a known_hosts line with an ed25519, ecdsa or rsa key")


def _decoded(pin: str, unpadded: str) -> bytes:
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise PinUnreadable(pin, "is not valid base64") from None


def parse_pins(texts: Sequence[str]) -> list[Pin]:
    """All pins of a setting.

    Raises:
        PinUnreadable: one is damaged, or there is none: a server is never trusted at first sight.
    """
    if not texts:
        raise PinUnreadable("", "no host key is pinned")
    return [parse_pin(text) for text in texts]

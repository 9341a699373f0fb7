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

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from paramiko.pkey import UnknownKeyType

from .errors import KeyUnreadable, PinUnreadable

HOST_KEY_FAMILIES: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Key type as known_hosts names it, and the signature algorithms to negotiate for it, best first."""

_FOREIGN_FORMATS = {
    "PuTTY-User-Key-File": "is a PuTTY .ppk file; export it as an OpenSSH key with PuTTYgen",
    "BEGIN PUBLIC KEY": "is a public key; give the private half",
    "BEGIN SSH2 PUBLIC KEY": "is a public key; give the private half",
    "BEGIN CERTIFICATE": "is a certificate; give the private key",
    "ssh-": "is a public key; give the private half",
    "ecdsa-": "is a public key; give the private half",
}


def load_private_key(text: str, passphrase: str | None = None) -> paramiko.PKey:
    r"""Reads an RSA, ECDSA or Ed25519 private key.

    OpenSSH, PKCS#1, SEC1 and PKCS#8 (openssl's default, which paramiko cannot read), encrypted or not, with CRLF line
    ends, without the last newline, or with the ``\n`` written out as environment variables often carry it.

    Raises:
        KeyUnreadable: says what is wrong and never quotes the text.
    """
    stripped = text.strip().lstrip("\ufeff")
    for mark, reason in _FOREIGN_FORMATS.items():
        if stripped.startswith((mark, f"-----{mark}", f"---- {mark}")):
            raise KeyUnreadable(reason)
    if "\n" not in stripped:
        stripped = stripped.replace("\\n", "\n")
    pem = ("\n".join(line.strip() for line in stripped.splitlines()) + "\n").encode()
    load = serialization.load_ssh_private_key if b"BEGIN OPENSSH" in pem else serialization.load_pem_private_key
    try:
        key = load(pem, passphrase.encode() if passphrase else None)
    except TypeError:
        # cryptography says by TypeError that a passphrase is missing, or was given for a key that has none.
        if passphrase:
            return load_private_key(text)
        raise KeyUnreadable("is encrypted and passphrase is absent; add passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase:
            raise KeyUnreadable("passphrase is wrong, or the text is not a whole private key") from None
        raise KeyUnreadable(
            "is not a whole OpenSSH, PKCS#1 or PKCS#8 private key; check that all lines are there"
        ) from None
    return _as_paramiko(key)


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

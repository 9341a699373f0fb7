"""Assertions: short-lived statements, signed by our key, of who asks for a token and for which user (RFC 7523).

What belongs here: the key, the claims as Oracle's identity domains want them, the signature. What does not: sending it.
"""

import base64
import datetime as dt
import json
import uuid
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mlc_dagster.settings import SettingsError
from mlc_dagster.vault.private_keys import PrivateKeyFault, read_private_key

AUDIENCE = "https://identity.oraclecloud.com/"
LIFETIME = dt.timedelta(minutes=5)
LEAST_BITS = 2048


class AssertionKey:
    """The key that signs, and the alias under which its certificate was uploaded. Never shown by ``repr``."""

    def __init__(self, text: str, passphrase: str | None, alias: str) -> None:
        """Raises SettingsError when the text is no RSA key of at least 2048 bits."""
        try:
            key = read_private_key(text, passphrase)
        except PrivateKeyFault as fault:
            raise _unusable(fault.reason) from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < LEAST_BITS:
            raise _unusable(f"must be an RSA key of at least {LEAST_BITS} bits, which RS256 signs with")
        self._key = key
        self._alias = alias

    def assertion(self, *, client_id: str, subject: str, now: dt.datetime) -> str:
        """A statement of ``client_id`` about ``subject`` that is good for five minutes and for one use."""
        issued = int(now.timestamp())
        claims = {
            "iss": client_id,
            "sub": subject,
            "aud": [AUDIENCE],
            "iat": issued,
            "exp": issued + int(LIFETIME.total_seconds()),
            "jti": uuid.uuid4().hex,
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": self._alias}
        signed = f"{_encoded(header)}.{_encoded(claims)}"
        signature = self._key.sign(signed.encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


def _encoded(document: Mapping[str, object]) -> str:
    return _base64url(json.dumps(document, separators=(",", ":")).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _unusable(fault: str) -> SettingsError:
    return SettingsError("mlc.yaml", [f"fusion.assertion_key: {fault}"])

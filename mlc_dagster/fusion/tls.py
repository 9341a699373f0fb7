"""Whom we trust over HTTPS and who we are there: one TLS context per process, and what a failed handshake means.

What belongs here: authorities, our own certificate, versions, the words for each failure. What does not: connections
(``transport``). Verification cannot be switched off.
"""

import functools
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
from cryptography.hazmat.primitives import serialization

from mlc_dagster.settings import FusionSettings, SettingsError
from mlc_dagster.vault.private_keys import PrivateKeyFault, read_private_key


class _File(NamedTuple):
    path: Path
    changed: int
    """Time of its last change, so that a renewed file is read anew."""


def trusted_context(
    settings: FusionSettings, client_key: str | None, client_key_passphrase: str | None
) -> ssl.SSLContext:
    """The context for every connection of ``settings``; made once per process, for it takes longer than most requests.

    Raises:
        SettingsError: ca_bundle, client_certificate or client_key cannot be used.
    """
    return _context(
        _file("ca_bundle", settings.ca_bundle),
        _file("client_certificate", settings.client_certificate),
        client_key,
        client_key_passphrase,
    )


def _file(key: str, path: Path | None) -> _File | None:
    if path is None:
        return None
    try:
        return _File(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise _unusable(key, f"{path} cannot be read: {error.strerror}") from None


def _unusable(key: str, fault: str) -> SettingsError:
    return SettingsError("mlc.yaml", [f"fusion.{key}: {fault}"])


@functools.lru_cache(maxsize=4)
def _context(
    authorities: _File | None, certificate: _File | None, key: str | None, passphrase: str | None
) -> ssl.SSLContext:
    if authorities is None:
        context = httpx.create_ssl_context()
    else:
        try:
            context = ssl.create_default_context(cafile=authorities.path)
        except OSError:  # ssl.SSLError among them, which says "NO_CERTIFICATE_OR_CRL_FOUND" and the like.
            raise _unusable("ca_bundle", f"{authorities.path} holds no PEM certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None and key is not None:
        _identify(context, certificate.path, key, passphrase)
    return context


def _identify(context: ssl.SSLContext, certificate: Path, key: str, passphrase: str | None) -> None:
    try:
        loaded = read_private_key(key, passphrase)
    except PrivateKeyFault as fault:
        raise _unusable("client_key", fault.reason) from None
    # Python's ssl reads keys from files alone. The file holds the key encrypted under a password that exists only here.
    password = secrets.token_bytes(32)
    text = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.hex().encode()),
    )
    descriptor, name = tempfile.mkstemp(prefix="mlc-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        context.load_cert_chain(certificate, name, password.hex())
    except ssl.SSLError as error:
        fault = (
            "is not the key of client_certificate"
            if error.reason == "KEY_VALUES_MISMATCH"
            else f"and client_certificate {certificate} cannot be used: {error.reason or 'not PEM'}"
        )
        raise _unusable("client_key", fault) from None
    except OSError as error:
        raise _unusable("client_certificate", f"{certificate} cannot be read: {error.strerror}") from None
    finally:
        Path(name).unlink()


def distrust(failure: BaseException) -> str | None:
    """Why TLS with the other side failed, and the remedy; None for a failure that is not one of trust."""
    for error in _chain(failure):
        if isinstance(error, ssl.SSLCertVerificationError):
            said = error.verify_message.rstrip(".")
            cause, remedy = _CERTIFICATE.get(
                error.verify_code, ("its certificate is not valid", "tell the server's owner")
            )
            return f"{cause} ({said}); {remedy}"
        if isinstance(error, ssl.SSLError) and error.reason:
            for words, (cause, remedy) in _HANDSHAKE.items():
                if any(word in error.reason for word in words):
                    return f"{cause} ({error.reason}); {remedy}"
    return None


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    # aiohttp hides OpenSSL's own error in attributes, httpx in the cause.
    while failure is not None:
        for hidden in ("certificate_error", "os_error"):
            inner = getattr(failure, hidden, None)
            if isinstance(inner, BaseException):
                yield inner
        yield failure
        failure = failure.__cause__ or failure.__context__


_OWNER = "the server's owner must renew it; is this machine's clock right?"
_ISSUER = (
    "its certificate was issued by an authority that is not trusted",
    "put that authority's certificate into the file of fusion.ca_bundle, when the server's owner confirms it",
)
_HOST = (
    "its certificate is for another host",
    "check fusion.base_url and fusion.token_url, or ask the server's owner for a certificate with this name",
)
_CERTIFICATE = {
    9: ("its certificate is not valid yet", _OWNER),
    10: ("its certificate expired", _OWNER),
    18: _ISSUER,
    19: _ISSUER,
    20: _ISSUER,
    21: _ISSUER,
    23: ("its certificate was revoked", "do not use it; ask the server's owner"),
    62: _HOST,
    64: _HOST,
}
"""By OpenSSL's verification code."""

_HANDSHAKE = {
    ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"): (
        "it speaks only versions of TLS older than 1.2",
        "the server's owner must enable TLS 1.2 or 1.3",
    ),
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"): (
        "it does not answer with TLS",
        "check the port in the address, and whether a proxy stands in between",
    ),
    ("CERTIFICATE_REQUIRED",): (
        "it asks for a client certificate",
        "set fusion.client_certificate and fusion.client_key",
    ),
    (
        "UNKNOWN_CA",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "ALERT_ACC",
    ): (
        "it refuses our client certificate",
        "check fusion.client_certificate with the server's owner",
    ),
    ("HANDSHAKE_FAILURE",): (
        "it refuses the handshake, usually for want of a client certificate or of a common cipher",
        "where it asks for one, set fusion.client_certificate and fusion.client_key",
    ),
    ("KEY_TOO_SMALL", "MD_TOO_WEAK"): (
        "its key or signature is too weak",
        "the server's owner must renew the certificate",
    ),
}
"""By a part of OpenSSL's reason."""

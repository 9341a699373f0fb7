"""The identity domain's token endpoint, and whom a request is from.

Client credentials or a user's assertion in, opaque bearer tokens out, RFC 6749 errors; Basic needs no token.
"""

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mlc_dagster.sandbox.fusion.answer import Answer
from mlc_dagster.sandbox.fusion.errors import Refusal

AUDIENCE = "https://identity.oraclecloud.com/"
BY_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLOCK_SKEW = 60.0
"""Seconds that an assertion may come from the future."""


class TokenRefused(Exception):
    def __init__(self, status: int, error: str, description: str) -> None:
        self.status = status
        self.error = error
        self.description = description
        super().__init__(f"{error}: {description}")


class Tokens:
    """Issues and checks tokens.

    The Fusion user behind a client's token is the client id itself, behind that of an assertion its subject.

    Attributes:
        users: Passwords by user name; for Basic, and as the subjects of assertions.
        certificates: Those uploaded to the client, by alias.
        basic_refusals: Requests that were refused for a wrong user or password.
    """

    def __init__(self, clients: Mapping[str, str], scope: str, lifetime: float) -> None:
        self.clients = dict(clients)
        self.scope = scope
        self.lifetime = lifetime
        self.issued = 0
        self.users: dict[str, str] = {}
        self.certificates: dict[str, x509.Certificate] = {}
        self.basic_refusals = 0
        self._assertions_seen: set[str] = set()
        self._valid: dict[str, tuple[str, float]] = {}

    def expire_all(self) -> None:
        """Makes every token issued so far worthless, long before its announced end."""
        self._valid.clear()

    def user_of(self, authorization: str) -> str:
        """The user behind an Authorization header. Raises ``Refusal`` 401 with an empty body."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "basic" and self.users:
            return self._basic_user(token)
        known = self._valid.get(token.strip()) if kind.lower() == "bearer" else None
        if known is None or known[1] <= time.monotonic():
            challenge = 'Bearer realm="fusion", error="invalid_token"' if authorization else 'Bearer realm="fusion"'
            raise Refusal(401, headers={"WWW-Authenticate": challenge})
        return known[0]

    def _basic_user(self, encoded: str) -> str:
        user, _, password = _decoded(encoded).partition(":")
        expected = self.users.get(user)
        if expected is None or not secrets.compare_digest(expected.encode(), password.encode()):
            self.basic_refusals += 1
            raise Refusal(401, headers={"WWW-Authenticate": 'Basic realm="fusion"'})
        return user

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a token request."""
        try:
            user = self._user(headers, body)
        except TokenRefused as refused:
            document: dict[str, object] = {"error": refused.error, "error_description": refused.description}
            extra = {"WWW-Authenticate": 'Basic realm="oauth2"'} if refused.status == 401 else {}
            return Answer(refused.status, json.dumps(document).encode(), headers=extra)
        token = secrets.token_urlsafe(48)
        now = time.monotonic()
        if len(self._valid) > 1000:
            self._valid = {kept: entry for kept, entry in self._valid.items() if entry[1] > now}
        self._valid[token] = (user, now + self.lifetime)
        self.issued += 1
        document = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        return Answer(200, json.dumps(document).encode(), headers={"Cache-Control": "no-store"})

    def _user(self, headers: Mapping[str, str], body: bytes) -> str:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise TokenRefused(400, "invalid_request", "The body must be form-urlencoded.")
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        form = dict(pairs)
        if len(form) != len(pairs):
            raise TokenRefused(400, "invalid_request", "A parameter is repeated.")
        client = self._client(headers, form)
        if "grant_type" not in form:
            raise TokenRefused(400, "invalid_request", "grant_type is missing.")
        if form["grant_type"] not in {"client_credentials", BY_ASSERTION}:
            raise TokenRefused(400, "unsupported_grant_type", f"Grant type {form['grant_type']} is not supported.")
        if form.get("scope") != self.scope:
            raise TokenRefused(400, "invalid_scope", "The requested scope is not granted to this client.")
        if form["grant_type"] == BY_ASSERTION:
            return self._subject(form.get("assertion", ""), client)
        return client

    def _client(self, headers: Mapping[str, str], form: Mapping[str, str]) -> str:
        if form.get("client_assertion_type") == CLIENT_ASSERTION:
            client = form.get("client_id", "")
            claims = self._claims(form.get("client_assertion", ""), "invalid_client")
            if client not in self.clients or (claims.get("iss"), claims.get("sub")) != (client, client):
                raise TokenRefused(401, "invalid_client", "Client authentication failed.")
            return client
        client, secret = self._credentials(headers.get("authorization", ""), form)
        expected = self.clients.get(client)
        if expected is None or not secrets.compare_digest(expected.encode(), secret.encode()):
            raise TokenRefused(401, "invalid_client", "Client authentication failed.")
        return client

    def _subject(self, assertion: str, client: str) -> str:
        claims = self._claims(assertion, "invalid_grant")
        if claims.get("iss") != client:
            raise TokenRefused(400, "invalid_grant", "The issuer of the assertion is not this client.")
        if claims.get("sub") not in self.users:
            raise TokenRefused(400, "invalid_grant", "The subject of the assertion is not a user.")
        return claims["sub"]

    def _claims(self, assertion: str, error: str) -> dict[str, Any]:
        """The claims of an assertion that one of the certificates signed, that is in time and was never used."""
        status = 401 if error == "invalid_client" else 400
        try:
            header, claims, signature = assertion.split(".")
            alias = json.loads(_base64url(header))
            certificate = self.certificates[alias["kid"]]
            key = certificate.public_key()
            if alias["alg"] != "RS256" or not isinstance(key, rsa.RSAPublicKey):
                raise TokenRefused(status, error, "The assertion must be signed with RS256.")
            signed = f"{header}.{claims}".encode()
            key.verify(_base64url(signature), signed, padding.PKCS1v15(), hashes.SHA256())
            read: dict[str, Any] = json.loads(_base64url(claims))
            audience, issued, expires, unique = read["aud"], int(read["iat"]), int(read["exp"]), str(read["jti"])
        except (ValueError, KeyError, TypeError, InvalidSignature):
            raise TokenRefused(status, error, "The signature of the assertion could not be verified.") from None
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRefused(status, error, "The assertion is for another audience.")
        if not issued - CLOCK_SKEW <= time.time() < expires:
            raise TokenRefused(status, error, "The assertion has expired or is not valid yet.")
        if unique in self._assertions_seen:
            raise TokenRefused(status, error, "The assertion was used before.")
        self._assertions_seen.add(unique)
        return read

    def _credentials(self, authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
        if not authorization:
            return form.get("client_id", ""), form.get("client_secret", "")
        if "client_secret" in form:
            raise TokenRefused(400, "invalid_request", "The client authenticates in two ways at once.")
        kind, _, encoded = authorization.partition(" ")
        decoded = _decoded(encoded)
        client, colon, secret = decoded.partition(":")
        if kind.lower() != "basic" or not colon:
            raise TokenRefused(401, "invalid_client", "Client authentication failed.")
        if client in self.clients:
            return client, secret
        # RFC 6749 has both parts form-encoded before they are joined; many clients do not.
        return unquote_plus(client), unquote_plus(secret)


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""The identity domain's token endpoint: client credentials in, opaque bearer tokens out, RFC 6749 errors."""

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from mlc_dagster.sandbox.fusion.answer import Answer
from mlc_dagster.sandbox.fusion.errors import Refusal


class TokenRefused(Exception):
    def __init__(self, status: int, error: str, description: str) -> None:
        self.status = status
        self.error = error
        self.description = description
        super().__init__(f"{error}: {description}")


class Tokens:
    """Issues and checks tokens. The Fusion user behind a token is the client id itself."""

    def __init__(self, clients: Mapping[str, str], scope: str, lifetime: float) -> None:
        self.clients = dict(clients)
        self.scope = scope
        self.lifetime = lifetime
        self.issued = 0
        self._valid: dict[str, tuple[str, float]] = {}

    def expire_all(self) -> None:
        """Makes every token issued so far worthless, long before its announced end."""
        self._valid.clear()

    def user_of(self, authorization: str) -> str:
        """The user behind an Authorization header. Raises ``Refusal`` 401 with an empty body."""
        kind, _, token = authorization.partition(" ")
        known = self._valid.get(token.strip()) if kind.lower() == "bearer" else None
        if known is None or known[1] <= time.monotonic():
            challenge = 'Bearer realm="fusion", error="invalid_token"' if authorization else 'Bearer realm="fusion"'
            raise Refusal(401, headers={"WWW-Authenticate": challenge})
        return known[0]

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a token request."""
        try:
            client = self._client(headers, body)
        except TokenRefused as refused:
            document: dict[str, object] = {"error": refused.error, "error_description": refused.description}
            extra = {"WWW-Authenticate": 'Basic realm="oauth2"'} if refused.status == 401 else {}
            return Answer(refused.status, json.dumps(document).encode(), headers=extra)
        token = secrets.token_urlsafe(48)
        now = time.monotonic()
        if len(self._valid) > 1000:
            self._valid = {kept: entry for kept, entry in self._valid.items() if entry[1] > now}
        self._valid[token] = (client, now + self.lifetime)
        self.issued += 1
        document = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        return Answer(200, json.dumps(document).encode(), headers={"Cache-Control": "no-store"})

    def _client(self, headers: Mapping[str, str], body: bytes) -> str:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise TokenRefused(400, "invalid_request", "The body must be form-urlencoded.")
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        form = dict(pairs)
        if len(form) != len(pairs):
            raise TokenRefused(400, "invalid_request", "A parameter is repeated.")
        client, secret = self._credentials(headers.get("authorization", ""), form)
        expected = self.clients.get(client)
        if expected is None or not secrets.compare_digest(expected.encode(), secret.encode()):
            raise TokenRefused(401, "invalid_client", "Client authentication failed.")
        if "grant_type" not in form:
            raise TokenRefused(400, "invalid_request", "grant_type is missing.")
        if form["grant_type"] != "client_credentials":
            raise TokenRefused(400, "unsupported_grant_type", f"Grant type {form['grant_type']} is not supported.")
        if form.get("scope") != self.scope:
            raise TokenRefused(400, "invalid_scope", "The requested scope is not granted to this client.")
        return client

    def _credentials(self, authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
        if not authorization:
            return form.get("client_id", ""), form.get("client_secret", "")
        if "client_secret" in form:
            raise TokenRefused(400, "invalid_request", "The client authenticates in two ways at once.")
        kind, _, encoded = authorization.partition(" ")
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        client, colon, secret = decoded.partition(":")
        if kind.lower() != "basic" or not colon:
            raise TokenRefused(401, "invalid_client", "Client authentication failed.")
        if client in self.clients:
            return client, secret
        # RFC 6749 has both parts form-encoded before they are joined; many clients do not.
        return unquote_plus(client), unquote_plus(secret)

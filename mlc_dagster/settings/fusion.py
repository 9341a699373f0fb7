"""``fusion:`` - the Oracle Fusion environment, how to sign in to it, and its charts of accounts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mlc_dagster.settings.values import Model, RemoteUrl, Seconds, SecretRef, TimeLimit


class ChartSettings(Model):
    """A chart of accounts: the names Fusion's account combination list gives to the segments, in their order."""

    ledgers: list[str]
    delimiter: str = "-"
    segments: list[str] = Field(min_length=1)
    natural_account: str
    cost_center: str | None = None
    balancing: str | None = None
    """Segment that carries the balancing (company) value; the first segment when absent."""
    cost_center_value_set: str | None = None
    """Code of the value set behind the cost centre segment; when given, cost centres are checked against it too."""

    @model_validator(mode="after")
    def _segments_known(self) -> Self:
        for key in ("natural_account", "cost_center", "balancing"):
            name = getattr(self, key)
            if name is not None and name not in self.segments:
                msg = f"{key}: {name!r} is not one of the segments {self.segments}"
                raise ValueError(msg)
        if len(self.delimiter) != 1:
            msg = f"delimiter: {self.delimiter!r} must be one character"
            raise ValueError(msg)
        return self

    @property
    def balancing_segment(self) -> str:
        return self.balancing or self.segments[0]


Auth = Literal["client_credentials", "jwt_assertion", "basic"]

_NEEDED: dict[Auth, frozenset[str]] = {
    "client_credentials": frozenset({"token_url", "client_id", "client_secret", "scope"}),
    "jwt_assertion": frozenset({"token_url", "client_id", "scope", "username", "assertion_key", "certificate_alias"}),
    "basic": frozenset({"username", "password"}),
}
_POSSIBLE: dict[Auth, frozenset[str]] = {
    "client_credentials": frozenset({"username"}),
    "jwt_assertion": frozenset({"client_secret", "assertion_key_passphrase"}),
    "basic": frozenset(),
}
"""Beside those that are needed. What a way of signing in does not use is refused, so that nobody takes it for used."""

_BY_AUTH = {name for names in (*_NEEDED.values(), *_POSSIBLE.values()) for name in names}


class FusionSettings(Model):
    base_url: RemoteUrl
    auth: Auth = "client_credentials"
    """How to sign in: as an OAuth client; as a client on behalf of ``username`` by an assertion that ``assertion_key``
    signs; or with ``username`` and ``password`` at every request (Basic), which Oracle advises against."""
    token_url: RemoteUrl = Field(default="", validate_default=True)
    client_id: str = Field(default="", validate_default=True)
    client_secret: SecretRef | None = Field(default=None, validate_default=True)
    """The OAuth client's secret. With ``jwt_assertion`` it may be absent: the client then signs for itself too."""
    scope: str = Field(default="", validate_default=True)
    username: str | None = Field(default=None, validate_default=True)
    """Fusion user behind the token; with client credentials it is the client id (the default)."""
    password: SecretRef | None = Field(default=None, validate_default=True)
    """Password of ``username``, for Basic."""
    assertion_key: SecretRef | None = Field(default=None, validate_default=True)
    """RSA private key that signs the assertion; its certificate is uploaded to the OAuth client."""
    assertion_key_passphrase: SecretRef | None = Field(default=None, validate_default=True)
    certificate_alias: str | None = Field(default=None, validate_default=True)
    """Alias under which that certificate was uploaded."""
    ca_bundle: Path | None = None
    """PEM file of the authorities to trust for Fusion and the token endpoint, instead of the public ones that come with
    the product. Where both kinds are needed, put both into the file."""
    client_certificate: Path | None = None
    """PEM file of our certificate, with its chain, for servers that ask for one (mutual TLS)."""
    client_key: SecretRef | None = None
    """Private key of ``client_certificate``."""
    client_key_passphrase: SecretRef | None = None
    max_response_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    """Largest answer that is read, as it arrives and unpacked; a page of ``page_size`` records must fit."""
    charts: dict[str, ChartSettings]
    framework_version: int = Field(default=4, ge=2, le=9)
    page_size: int = Field(default=499, ge=1, le=500)
    max_in_flight: int = Field(default=16, ge=1, le=64)
    request_timeout: TimeLimit = 60.0
    """Seconds one request may take in all; leases last longer."""
    refused_wait: Seconds = 5.0
    ambiguous_wait: Seconds = 360.0
    """Seconds before an unknown outcome is looked up; longer than the server's own time limit (about 5 minutes)."""
    wait_in_run: Seconds = 30.0
    """A run waits this long for rows that become due; later ones are left to the next poll."""
    retry_after_cap: Seconds = 300.0
    reference_max_age: Seconds = 3600.0
    period_max_age: Seconds = 300.0
    accounted_status: str = "Accounted"
    """Fusion's word, in the posting user's language, for an invoice that is accounted in full."""

    @field_validator(*sorted(_BY_AUTH), mode="wrap")
    @classmethod
    def _as_auth_asks(cls, value: Any, check: Callable[[Any], Any], info: ValidationInfo) -> Any:
        auth: Auth | None = info.data.get("auth")
        name = info.field_name or ""
        # Without a valid "auth" its own error is the one to show.
        if value in ("", None):
            if auth is not None and name in _NEEDED[auth]:
                msg = "is required and absent" + ("" if auth == "client_credentials" else f" (auth: {auth})")
                raise ValueError(msg)
            return cls.model_fields[name].default
        if auth is not None and name not in _NEEDED[auth] | _POSSIBLE[auth]:
            msg = f"is not used with auth: {auth}; remove it, or choose another auth"
            raise ValueError(msg)
        return check(value)

    @model_validator(mode="after")
    def _client_certificate_whole(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            msg = "client_certificate and client_key belong together; give both or neither"
            raise ValueError(msg)
        if self.client_key_passphrase is not None and self.client_key is None:
            msg = "client_key_passphrase belongs to client_key, which is absent"
            raise ValueError(msg)
        return self

    @property
    def posting_user(self) -> str:
        return self.username or self.client_id

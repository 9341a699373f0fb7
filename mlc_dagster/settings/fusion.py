"""``fusion:`` - the Oracle Fusion environment, how to sign in to it, and its charts of accounts."""

from typing import Self

from pydantic import Field, model_validator

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


class FusionSettings(Model):
    base_url: RemoteUrl
    token_url: RemoteUrl
    client_id: str
    client_secret: SecretRef
    scope: str
    username: str | None = None
    """Fusion user behind the token; with client credentials it is the client id (the default)."""
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

    @property
    def posting_user(self) -> str:
        return self.username or self.client_id

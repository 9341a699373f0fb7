"""What is asked of the token endpoint: the two grants that customers of Oracle use between machines.

What belongs here: header and form of a token request. What does not: sending it, keeping the token (``token``).
"""

import base64
import datetime as dt
from typing import NamedTuple, Protocol

from mlc_dagster.fusion.assertions import AssertionKey
from mlc_dagster.fusion.login import FusionCredentials, Remember
from mlc_dagster.settings import FusionSettings

BY_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenRequest(NamedTuple):
    """``secrets`` are the parts of it that no text may show."""

    headers: dict[str, str]
    form: dict[str, str]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"TokenRequest({self.form.get('grant_type')!r})"


class Grant(Protocol):
    """Makes token requests."""

    remedy: str
    """What to check when one is refused."""

    @property
    def remember(self) -> Remember:
        """Hears of every token that is granted."""
        ...

    def request(self, now: dt.datetime) -> TokenRequest:
        """The request to send at ``now``."""
        ...


def grant_of(settings: FusionSettings, credentials: FusionCredentials) -> Grant:
    """The grant that ``fusion.auth`` names; raises SettingsError when its key cannot be used."""
    if settings.auth == "jwt_assertion":
        return _UserAssertion(settings, credentials)
    return _ClientCredentials(settings, credentials)


class _ClientCredentials:
    remedy = "check client_id, client_secret and scope, and that a Fusion user of that name exists"

    def __init__(self, settings: FusionSettings, credentials: FusionCredentials) -> None:
        client_secret = credentials.client_secret or ""
        self.remember = credentials.remember
        self._scope = settings.scope
        self._login = _basic(settings.client_id, client_secret)
        self._secrets = (client_secret, self._login.partition(" ")[2])

    def request(self, now: dt.datetime) -> TokenRequest:  # noqa: ARG002 - other grants carry the time
        form = {"grant_type": "client_credentials", "scope": self._scope}
        return TokenRequest({"Authorization": self._login}, form, self._secrets)


class _UserAssertion:
    remedy = (
        "check client_id, client_secret, scope, username, assertion_key and certificate_alias, that the certificate is "
        "uploaded to the OAuth client, and this machine's clock"
    )

    def __init__(self, settings: FusionSettings, credentials: FusionCredentials) -> None:
        self.remember = credentials.remember
        self._client_id = settings.client_id
        self._scope = settings.scope
        self._user = settings.posting_user
        self._client_secret = credentials.client_secret
        self._key = AssertionKey(
            credentials.assertion_key or "", credentials.assertion_key_passphrase, settings.certificate_alias or ""
        )

    def request(self, now: dt.datetime) -> TokenRequest:
        assertion = self._key.assertion(client_id=self._client_id, subject=self._user, now=now)
        form = {"grant_type": BY_ASSERTION, "assertion": assertion, "scope": self._scope}
        if self._client_secret is not None:
            login = _basic(self._client_id, self._client_secret)
            secrets = (assertion, self._client_secret, login.partition(" ")[2])
            self.remember([assertion])
            return TokenRequest({"Authorization": login}, form, secrets)
        # A client without a secret proves itself in the same manner as it speaks for the user.
        own = self._key.assertion(client_id=self._client_id, subject=self._client_id, now=now)
        form |= {"client_id": self._client_id, "client_assertion_type": CLIENT_ASSERTION, "client_assertion": own}
        self.remember([assertion, own])
        return TokenRequest({}, form, (assertion, own))


def _basic(client_id: str, client_secret: str) -> str:
    return f"Basic {base64.b64encode(f'{client_id}:{client_secret}'.encode()).decode('ascii')}"

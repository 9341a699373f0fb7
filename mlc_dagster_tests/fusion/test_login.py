"""The other ways to sign in: an assertion about a user, and Basic; each against the embedded Fusion."""

import asyncio
import base64
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.account import fusion_account
from mlc_dagster.fusion.client import FusionClient, Seams
from mlc_dagster.fusion.errors import FusionError, NotAuthorised
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.transport import Exchange
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.settings import FusionSettings, SettingsError
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, answering, collection, in_loop, no_wait
from mlc_dagster_tests.sandbox.fusion_caller import invoice
from mlc_dagster_tests.servers.certificates import Authority, Issued
from mlc_dagster_tests.settings.configuration import ABSENT
from mlc_dagster_tests.settings.configuration import settings as configuration

USER = "stampli.integration"
PASSWORD = "canary-passw0rd"
ALIAS = "mlc-2026"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return Authority(tmp_path_factory.mktemp("keys")).issue("mlc")


@pytest.fixture
def sandbox(ours: Issued) -> Iterator[FusionSandbox]:
    """A Fusion with one more user, whose OAuth client knows our certificate."""
    with FusionSandbox(Seed()) as fusion:
        fusion.tokens.users[USER] = PASSWORD
        fusion.tokens.certificates[ALIAS] = x509.load_pem_x509_certificate(ours.certificate.read_bytes())
        yield fusion


def by_assertion(
    fusion: FusionSandbox,
    credentials: FusionCredentials,
    *,
    ahead: float = 0,
    reports: list[Exchange] | None = None,
    **changes: Any,
) -> FusionClient:
    """``ahead`` is by how many seconds our clock is wrong."""
    given = {
        "auth": "jwt_assertion",
        "base_url": fusion.base_url,
        "token_url": fusion.token_url,
        "client_id": fusion.client_id,
        "client_secret": "env:SECRET" if credentials.client_secret else None,
        "scope": fusion.scope,
        "username": USER,
        "assertion_key": "env:KEY",
        "certificate_alias": ALIAS,
        "charts": {},
    }
    settings = FusionSettings.model_validate({**given, **changes})
    seams = Seams(sleep=no_wait, now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead))
    return FusionClient(settings, credentials, report=None if reports is None else reports.append, seams=seams)


def by_basic(base_url: str, password: str, *, reports: list[Exchange] | None = None) -> FusionClient:
    given = {"auth": "basic", "base_url": base_url, "username": USER, "password": "env:PASSWORD", "charts": {}}
    settings = FusionSettings.model_validate(given)
    return FusionClient(
        settings,
        FusionCredentials(password=password),
        report=None if reports is None else reports.append,
        seams=Seams(sleep=no_wait),
    )


@pytest.mark.parametrize("with_secret", [True, False])
@in_loop
async def test_an_assertion_signs_in_as_the_user_that_it_names(
    sandbox: FusionSandbox, ours: Issued, with_secret: bool
) -> None:
    """What is posted is the integration user's, not the client's; a client without a secret signs for itself too."""
    credentials = FusionCredentials(sandbox.client_secret if with_secret else None, assertion_key=ours.key_text)
    async with by_assertion(sandbox, credentials) as client:
        made = await invoices.create(client, json.dumps(invoice()).encode(), before_first_byte=lambda: None)
        record = (await invoices.read_back(client, [made.invoice_id]))[made.invoice_id]
    assert record.created_by == USER == client.settings.posting_user


@in_loop
async def test_each_token_request_has_an_assertion_of_its_own(sandbox: FusionSandbox, ours: Issued) -> None:
    """The identity domain takes none twice; after a revoked token the next request signs anew."""
    credentials = FusionCredentials(sandbox.client_secret, assertion_key=ours.key_text)
    async with by_assertion(sandbox, credentials) as client:
        await client.read("ledgersLOV")
        sandbox.expire_tokens()
        answer = await client.read("ledgersLOV")
    assert answer.status == 200
    assert sandbox.tokens.issued == 2


@in_loop
async def test_the_assertion_is_as_the_identity_domain_wants_it(ours: Issued) -> None:
    """RS256, the certificate's alias as key id, five minutes, and the documented audience."""
    async with RawServer(answering(200, {"items": []})) as server:
        changes: dict[str, Any] = {
            "auth": "jwt_assertion",
            "username": USER,
            "assertion_key": "env:KEY",
            "certificate_alias": ALIAS,
        }
        async with server.client(credentials=FusionCredentials("s", assertion_key=ours.key_text), **changes) as client:
            await client.read("ledgersLOV")
    form = dict(part.split("=", 1) for part in server.token_requests[0].body.decode().split("&"))
    assert form["grant_type"] == "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in form["assertion"].split(".")[:2])
    assert header == {"alg": "RS256", "typ": "JWT", "kid": ALIAS}
    assert claims["exp"] - claims["iat"] == 300
    assert {name: claims[name] for name in ("iss", "sub", "aud")} == {
        "iss": "mlc-client",
        "sub": USER,
        "aud": ["https://identity.oraclecloud.com/"],
    }
    assert claims["jti"]


@pytest.mark.parametrize(
    ("changes", "ahead", "words"),
    [
        ({"certificate_alias": "other"}, 0, "signature"),
        ({"username": "nobody"}, 0, "not a user"),
        ({}, -3600, "expired"),
        ({}, 3600, "not valid yet"),
    ],
    ids=["alias", "user", "clock-behind", "clock-ahead"],
)
@in_loop
async def test_a_refused_assertion_says_what_to_check(
    sandbox: FusionSandbox, ours: Issued, changes: dict[str, Any], ahead: float, words: str
) -> None:
    """Alias, user and clock are what goes wrong; the assertion itself is good for a token and is not shown."""
    credentials = FusionCredentials(sandbox.client_secret, assertion_key=ours.key_text)
    async with by_assertion(sandbox, credentials, ahead=ahead, **changes) as client:
        with pytest.raises(NotAuthorised, match=words) as caught:
            await client.read("ledgersLOV")
    assert "certificate_alias" in str(caught.value)
    assert "clock" in str(caught.value)
    assert "eyJ" not in str(caught.value)


@in_loop
async def test_an_endpoint_that_echoes_the_assertion_does_not_spread_it(ours: Issued) -> None:
    """Some identity proxies print the request that they refuse; the assertion in it is as good as a password."""

    async def echo(received: Received, connection: Connection) -> None:
        await connection.answer(400, {"error": "invalid_grant", "error_description": received.body.decode()})

    changes: dict[str, Any] = {
        "auth": "jwt_assertion",
        "username": USER,
        "assertion_key": "env:KEY",
        "certificate_alias": ALIAS,
    }
    credentials = FusionCredentials(assertion_key=ours.key_text)
    async with (
        RawServer(answering(200, {}), token_script=echo) as server,
        server.client(credentials=credentials, client_secret=None, **changes) as client,
    ):
        with pytest.raises(NotAuthorised, match="invalid_grant") as caught:
            await client.read("ledgersLOV")
    sent = dict(part.split("=", 1) for part in server.token_requests[0].body.decode().split("&"))
    assert sent["assertion"].split(".")[2] not in str(caught.value)
    assert sent["client_assertion"].split(".")[2] not in str(caught.value)


def pem(key: Any) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_a_key_that_cannot_sign_is_refused_before_anything_is_sent(sandbox: FusionSandbox, ours: Issued) -> None:
    """RS256 needs RSA; a short key can be factored."""
    for text, words in (
        (pem(ec.generate_private_key(ec.SECP256R1())), "RSA key of at least 2048 bits"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "RSA key of at least 2048 bits"),  # noqa: S505
        (ours.certificate.read_text(), "is a certificate"),
        (ours.key_text[:300], "not a whole"),
    ):
        with pytest.raises(SettingsError, match=f"fusion.assertion_key: .*{words}") as caught:
            by_assertion(sandbox, FusionCredentials("s", assertion_key=text))
        assert ours.key_text.splitlines()[1] not in str(caught.value)


@in_loop
async def test_basic_signs_in_as_the_user(sandbox: FusionSandbox) -> None:
    """No token endpoint takes part."""
    async with by_basic(sandbox.base_url, PASSWORD) as client:
        made = await invoices.create(client, json.dumps(invoice()).encode(), before_first_byte=lambda: None)
        record = (await invoices.read_back(client, [made.invoice_id]))[made.invoice_id]
    assert record.created_by == USER
    assert sandbox.tokens.issued == 0


@in_loop
async def test_a_wrong_password_is_tried_once_however_many_wait(sandbox: FusionSandbox) -> None:
    """Sixteen refusals in a second lock the integration user out, for every other program as well."""
    async with by_basic(sandbox.base_url, "wrong-canary") as client:
        failures = await asyncio.gather(*(client.read("ledgersLOV") for _ in range(16)), return_exceptions=True)
        with pytest.raises(NotAuthorised, match="check username and password"):
            await client.read("ledgersLOV")
    assert sandbox.tokens.basic_refusals == 1
    assert {type(failure) for failure in failures} == {NotAuthorised}
    assert "canary" not in " ".join(map(repr, failures))


@in_loop
async def test_many_requests_go_side_by_side_once_the_password_is_proven() -> None:
    """Only the first one goes alone."""
    under_way, most = 0, 0
    gathered = asyncio.Event()

    async def script(received: Received, connection: Connection) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if received.path == "many":
            if under_way == 4:
                gathered.set()
            await gathered.wait()
        under_way -= 1
        await connection.answer(200, collection([], received))

    async with RawServer(script) as server, by_basic(server.url, PASSWORD) as client:
        await client.read("first")
        await asyncio.gather(*(client.read("many") for _ in range(4)))
    assert most == 4


@in_loop
async def test_the_password_shows_nowhere() -> None:
    """Not in an error page that repeats it, in no form, and not in what is reported and printed."""
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    page = f"Forbidden: {PASSWORD} {encoded}".encode()
    reports: list[Exchange] = []
    script = answering(403, raw=page, headers={"Content-Type": "text/plain"})
    async with RawServer(script) as server, by_basic(server.url, PASSWORD, reports=reports) as client:
        with pytest.raises(FusionError, match="Forbidden") as caught:
            await client.read("ledgersLOV")
        shown = f"{caught.value!r} {caught.value} {reports} {client!r} {vars(client)}"
    assert PASSWORD not in shown
    assert encoded not in shown


def test_credentials_have_a_repr_without_them() -> None:
    """Tracebacks with local variables print it."""
    credentials = FusionCredentials("a-secret", "a-password", "a-key", "a-passphrase", "b-key", "b-passphrase")
    assert repr(credentials) == "FusionCredentials()"


@in_loop
async def test_an_account_is_opened_from_mlc_yaml(sandbox: FusionSandbox, ours: Issued, tmp_path: Path) -> None:
    """References become values, and paths start at the folder of mlc.yaml."""
    authority = Authority(tmp_path)
    mutual = authority.issue("mlc.example.com")
    settings = configuration(
        {
            "fusion.auth": "jwt_assertion",
            "fusion.base_url": sandbox.base_url,
            "fusion.token_url": sandbox.token_url,
            "fusion.client_id": sandbox.client_id,
            "fusion.client_secret": ABSENT,
            "fusion.scope": sandbox.scope,
            "fusion.username": USER,
            "fusion.assertion_key": "env:ASSERTION_KEY",
            "fusion.certificate_alias": ALIAS,
            "fusion.ca_bundle": authority.bundle.name,
            "fusion.client_certificate": mutual.certificate.name,
            "fusion.client_key": "env:CLIENT_KEY",
        }
    ).model_copy(update={"root": tmp_path})
    environ = {"ASSERTION_KEY": ours.key_text, "CLIENT_KEY": mutual.key_text}
    async with fusion_account(settings, SecretResolver(environ, tmp_path)) as client:
        answer = await client.read("ledgersLOV")
    assert answer.status == 200
    assert client.settings.ca_bundle == authority.bundle

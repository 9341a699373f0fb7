"""Trust over HTTPS: whom we believe, who we are, and where an answer may send us."""

import datetime as dt
import ssl
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.errors import AccessRefused, Redirected, Untrusted
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.tls import trusted_context
from mlc_dagster.fusion.transport import Exchange
from mlc_dagster.settings import SettingsError
from mlc_dagster_tests.fusion.raw_server import (
    BODY,
    SECRET,
    Connection,
    RawServer,
    Received,
    answering,
    collection,
    in_loop,
)
from mlc_dagster_tests.servers.certificates import DAY, Authority, refusing_server, server_context

EMPTY = {"items": [], "count": 0, "hasMore": False, "limit": 25, "offset": 0}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def empty(received: Received, connection: Connection) -> None:
    await connection.answer(200, collection([], received))


async def refused_by(tls: ssl.SSLContext | None, authority: Authority | None, **how: Any) -> Untrusted:
    """What reading from such a server, of which nothing else is wrong, ends in."""
    if authority is not None:
        how["ca_bundle"] = authority.bundle
    reports: list[Exchange] = []
    with refusing_server(tls) as address:
        changes = {"base_url": address, "token_url": f"{address}/token", **how}
        async with RawServer(empty).client(report=reports.append, **changes) as client:
            with pytest.raises(Untrusted) as caught:
                await client.read("ledgersLOV")
    assert len(reports) == 1
    return caught.value


@in_loop
async def test_an_authority_of_our_own_is_trusted_by_ca_bundle(authority: Authority) -> None:
    """Proxies that look inside, and test pods, have certificates of a company's own authority."""
    tls = server_context(authority.issue())
    async with RawServer(empty, tls=tls) as server, server.client(ca_bundle=authority.bundle) as client:
        answer = await client.read("ledgersLOV")
    assert answer.status == 200


@in_loop
async def test_an_unknown_authority_is_refused_at_once_with_the_remedy(authority: Authority) -> None:
    """Six attempts would not make it known; the setting that does is named."""
    error = await refused_by(server_context(authority.issue()), None)
    assert "authority that is not trusted" in str(error)
    assert "fusion.ca_bundle" in str(error)
    assert "localhost" in str(error)


@in_loop
async def test_ca_bundle_stands_in_place_of_the_public_authorities(authority: Authority, tmp_path: Path) -> None:
    """Who names an authority means that one and not also a hundred others."""
    other = Authority(tmp_path, "Other Authority")
    error = await refused_by(server_context(authority.issue()), other)
    assert "authority that is not trusted" in str(error)
    settings = RawServer(empty)
    settings.url = "https://localhost"
    context = trusted_context(settings.settings(ca_bundle=other.bundle), None, None)
    [trusted] = context.get_ca_certs()
    assert "Other Authority" in str(trusted["subject"])


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ({"ends": -dt.timedelta(hours=1), "begins": -2 * DAY}, ["certificate expired", "clock"]),
        ({"begins": dt.timedelta(hours=1)}, ["not valid yet", "clock"]),
        ({"host": "other.example.com"}, ["another host", "localhost", "fusion.base_url"]),
    ],
    ids=["expired", "not-yet", "other-host"],
)
@in_loop
async def test_a_wrong_certificate_is_named_by_what_is_wrong(
    authority: Authority, certificate: dict[str, Any], words: list[str]
) -> None:
    """Each has another remedy, and OpenSSL's own words are for those who know them."""
    error = await refused_by(server_context(authority.issue(**certificate)), authority)
    assert [word for word in words if word not in str(error)] == []


@in_loop
async def test_a_server_with_tls_1_1_alone_is_refused(authority: Authority) -> None:
    """TLS 1.2 is the least that is spoken."""
    context = server_context(authority.issue())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    except (ValueError, ssl.SSLError):
        pytest.skip("this OpenSSL has no TLS 1.1")
    error = await refused_by(context, authority)
    assert "older than 1.2" in str(error)


def test_no_older_version_and_no_unverified_peer(authority: Authority) -> None:
    """Whatever the system's OpenSSL would allow."""
    for bundle in (None, authority.bundle):
        context = trusted_context(
            RawServer(empty).settings(base_url="https://x", token_url="https://x", ca_bundle=bundle), None, None
        )
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


@in_loop
async def test_a_server_without_tls_is_named(authority: Authority) -> None:
    """https:// to a port that speaks http is a typing error, not an attack; it says so."""
    error = await refused_by(None, authority)
    assert "does not answer with TLS" in str(error)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@in_loop
async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """Mutual TLS: with it the request passes, without it the error names the two settings."""
    context = server_context(authority.issue(), clients=authority)
    context.maximum_version = version
    error = await refused_by(context, authority)
    assert "fusion.client_certificate and fusion.client_key" in str(error)
    ours = authority.issue("mlc.example.com", passphrase="open sesame")
    credentials = FusionCredentials(SECRET, client_key=ours.key_text, client_key_passphrase="open sesame")
    settings = {
        "ca_bundle": authority.bundle,
        "client_certificate": ours.certificate,
        "client_key": "env:KEY",
        "client_key_passphrase": "env:PASS",
    }
    async with RawServer(empty, tls=context) as server, server.client(credentials=credentials, **settings) as client:
        answer = await client.read("ledgersLOV")
    assert answer.status == 200


@in_loop
async def test_a_client_certificate_that_is_refused_is_named(authority: Authority, tmp_path: Path) -> None:
    """It is ours that is wrong, not the server's."""
    stranger = Authority(tmp_path, "Strange Authority").issue("mlc.example.com")
    context = server_context(authority.issue(), clients=authority)
    error = await refused_by(
        context,
        authority,
        credentials=FusionCredentials(SECRET, client_key=stranger.key_text),
        client_certificate=stranger.certificate,
        client_key="env:KEY",
    )
    assert "refuses our client certificate" in str(error)


def context_of(
    authority: Authority, key: str | None = None, passphrase: str | None = None, **files: Path
) -> ssl.SSLContext:
    changes: dict[str, Any] = {
        "base_url": "https://x",
        "token_url": "https://x",
        "ca_bundle": authority.bundle,
        **files,
    }
    if key is not None:
        changes["client_key"] = "env:KEY"
    return trusted_context(RawServer(empty).settings(**changes), key, passphrase)


def test_what_is_wrong_with_our_own_files_is_said_by_key(authority: Authority, tmp_path: Path) -> None:
    """Before anything is sent, with the line of mlc.yaml to change, and without the key."""
    ours, other = authority.issue("a"), authority.issue("b")
    sealed = authority.issue("c", passphrase="open sesame")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no certificate")
    for words, key, passphrase, files in (
        ("fusion.ca_bundle: .*absent.pem cannot be read", None, None, {"ca_bundle": tmp_path / "absent.pem"}),
        ("fusion.ca_bundle: .*holds no PEM certificates", None, None, {"ca_bundle": nothing}),
        ("fusion.client_key: is not the key of", other.key_text, None, {"client_certificate": ours.certificate}),
        ("fusion.client_key: .*nothing.pem cannot be used", ours.key_text, None, {"client_certificate": nothing}),
        (
            "fusion.client_key: .*passphrase is absent",
            sealed.key_text,
            None,
            {"client_certificate": sealed.certificate},
        ),
        ("fusion.client_key: .*passphrase is wrong", sealed.key_text, "x", {"client_certificate": sealed.certificate}),
        ("fusion.client_key: is a certificate", ours.certificate.read_text(), None, {"client_certificate": nothing}),
    ):
        with pytest.raises(SettingsError, match=words) as caught:
            context_of(authority, key, passphrase, **files)
        assert "PRIVATE KEY" not in str(caught.value)


def test_the_key_leaves_no_file(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes through a file, encrypted, since OpenSSL takes it in no other way; nothing of it stays."""
    ours = authority.issue("a")
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert context_of(authority, ours.key_text, client_certificate=ours.certificate) is not None
    assert list(folder.iterdir()) == []


def test_one_context_serves_the_process_until_a_file_changes(authority: Authority, tmp_path: Path) -> None:
    """Reading authorities takes longer than most requests; a renewed bundle must count without a restart."""
    first = context_of(authority)
    assert context_of(authority) is first
    authority.bundle.write_bytes(Authority(tmp_path, "Next Authority").bundle.read_bytes())
    assert context_of(authority) is not first


LOCATION = "https://user:pass@login.example.com:8443/sso/start?token=t0ken-canary#t0ken-canary"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@in_loop
async def test_a_redirect_is_not_followed_and_tells_where_it_points(status: int) -> None:
    """A pod that was moved, or a login page: the address helps, its query may be a secret."""
    script = answering(status, raw=b"", headers={"Location": LOCATION})
    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(Redirected) as caught:
            await client.read("ledgersLOV")
    assert caught.value.target == "https://login.example.com:8443/sso/start"
    assert "fusion.base_url" in str(caught.value)
    assert "canary" not in repr(caught.value) + str(caught.value)
    assert isinstance(caught.value, AccessRefused)


@in_loop
async def test_the_next_host_hears_nothing_of_a_redirect() -> None:
    """Neither a read nor a write nor a token request arrives there, so no token and no secret does."""
    async with RawServer(empty) as other:
        elsewhere = answering(307, raw=b"", headers={"Location": f"{other.url}/token"})
        async with RawServer(elsewhere) as server, server.client() as client:
            with pytest.raises(Redirected):
                await client.read("ledgersLOV")
            with pytest.raises(Redirected):
                await invoices.create(client, BODY, before_first_byte=lambda: None)
        async with RawServer(empty, token_script=elsewhere) as server, server.client() as client:
            with pytest.raises(Redirected, match=r"fusion\.token_url"):
                await client.read("ledgersLOV")
    assert other.connections == 0


@in_loop
async def test_a_redirect_does_not_repeat_the_token() -> None:
    """Some gateways put what they received into the path."""
    script = answering(302, raw=b"", headers={"Location": "/login/token-1/x"})
    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(Redirected) as caught:
            await client.read("ledgersLOV")
    assert "token-1" not in str(caught.value)


@in_loop
async def test_an_error_page_does_not_repeat_the_token() -> None:
    """Debug pages print the headers that they received."""
    script = answering(403, raw=b"Forbidden. Authorization: Bearer token-1", headers={"Content-Type": "text/plain"})
    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(AccessRefused, match="Forbidden") as caught:
            await client.read("ledgersLOV")
    assert "token-1" not in str(caught.value)


@in_loop
async def test_an_untrusted_token_endpoint_is_asked_once_and_gets_no_secret(authority: Authority) -> None:
    """The client secret leaves only to a host that proved itself."""
    tls = server_context(authority.issue())
    async with (
        RawServer(empty, tls=tls) as identity,
        RawServer(empty) as server,
        server.client(token_url=f"{identity.url}/token") as client,
    ):
        with pytest.raises(Untrusted, match="token endpoint"):
            await client.read("ledgersLOV")
    assert (identity.token_requests, server.received) == ([], [])


@in_loop
async def test_what_was_percent_encoded_arrives_so() -> None:
    """The length of an address is counted encoded, and a gateway may not take a bare quote or comma for what it is."""
    async with RawServer(empty) as server, server.client() as client:
        await client.read("invoices", {"q": "InvoiceNumber in ('A 1','B/2')"})
    assert server.received[0].target.endswith("?q=InvoiceNumber%20in%20%28%27A%201%27%2C%27B%2F2%27%29")

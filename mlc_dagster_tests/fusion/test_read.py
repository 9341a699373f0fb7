"""Reads are repeated, writes are not; and what a read ends in when repeating does not help."""

import asyncio
import ssl
import traceback

import pytest

from mlc_dagster.fusion.client import Seams, path_below_root
from mlc_dagster.fusion.errors import AccessRefused, BusinessRefusal, RemoteDown, ResponseInvalid
from mlc_dagster.fusion.transport import Exchange, Transport, environment_proxy
from mlc_dagster.settings import SettingsError
from mlc_dagster.vault import SecretResolver, redact
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, collection, in_loop
from mlc_dagster_tests.settings.configuration import settings


class Waits:
    """A sleep that is over at once and remembers how long it should have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def seams(self) -> Seams:
        return Seams(sleep=self, draw=lambda: 1.0)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
@in_loop
async def test_read_is_repeated_until_it_succeeds(status: int) -> None:
    """A read changes nothing; one hiccup among ten thousand must not end a run."""
    waits = Waits()

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) < 3:
            await connection.answer(status, raw=b"hiccup")
        else:
            await connection.answer(200, collection([], received))

    async with RawServer(script) as server, server.client(seams=waits.seams()) as client:
        answer = await client.read("ledgersLOV")
    assert answer.status == 200
    assert waits.seconds == [0.5, 1.0]


@in_loop
async def test_broken_answers_are_repeated_too() -> None:
    """A cut-off page is not an empty page."""

    async def script(received: Received, connection: Connection) -> None:
        match len(server.received):
            case 1:
                connection.reset()
            case 2:
                await connection.answer(200, raw=b'{"items":[]', claimed_length=4000)
                connection.close()
            case _:
                await connection.answer(200, collection([], received))

    async with RawServer(script) as server, server.client() as client:
        answer = await client.read("ledgersLOV")
    assert answer.status == 200


@in_loop
async def test_read_gives_up_after_a_bounded_number_of_attempts() -> None:
    """An outage must end the run with words, not hang it."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(503, raw=b"maintenance until 06:00")

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(RemoteDown, match="maintenance until 06:00"):
            await client.read("ledgersLOV")
    assert len(server.received) == 6


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("9000", 300.0)])
@in_loop
async def test_retry_after_is_obeyed_up_to_the_cap(asked: str, waited: float) -> None:
    """Coming back sooner than asked prolongs the throttling; a day of waiting helps nobody."""
    waits = Waits()

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) == 1:
            await connection.answer(503, raw=b"", headers={"Retry-After": asked})
        else:
            await connection.answer(200, collection([], received))

    async with RawServer(script) as server, server.client(seams=waits.seams()) as client:
        await client.read("ledgersLOV")
    assert waits.seconds == [waited + 0.5]


@pytest.mark.parametrize(
    ("status", "error"), [(400, BusinessRefusal), (403, AccessRefused), (404, AccessRefused), (302, AccessRefused)]
)
@in_loop
async def test_permanent_refusals_are_not_repeated(status: int, error: type[Exception]) -> None:
    """Repeating a wrong question thousands of times has been an incident of its own elsewhere."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(status, raw=b"no", headers={"Location": "/login"})

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(error):
            await client.read("ledgersLOV")
    assert len(server.received) == 1


@in_loop
async def test_success_without_content_is_not_an_answer() -> None:
    """204 to a read proves neither presence nor absence."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(204, raw=b"")

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid):
            await client.read("ledgersLOV")


@in_loop
async def test_406_is_asked_once_more_plainly_for_its_message() -> None:
    """Some resources say nothing but 406 to the version header and name the fault only without it."""

    async def script(received: Received, connection: Connection) -> None:
        if "rest-framework-version" in received.headers:
            await connection.answer(406, raw=b"")
        else:
            await connection.answer(400, raw=b"Search term too short. (EGP-2776154)")

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(AccessRefused, match="EGP-2776154") as caught:
            await client.read("items")
    assert caught.value.status == 406
    assert [request.headers["accept"] for request in server.received][1] == "application/json"


@in_loop
async def test_every_request_is_reported_with_its_attempt() -> None:
    """The audit trail counts requests; a retry that nobody sees is a request that nobody can explain."""
    reports: list[Exchange] = []

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) == 1:
            await connection.answer(500, raw=b"oops")
        else:
            await connection.answer(200, collection([], received))

    async with RawServer(script) as server, server.client(report=reports.append) as client:
        await client.read("ledgersLOV", {"q": "Name='A b+c;d'"})
    token, first, second = reports
    assert (token.method, token.path, token.status) == ("POST", "/token", 200)
    assert (first.status, first.attempt, first.response_bytes) == (500, 1, 4)
    assert (second.status, second.attempt, second.error) == (200, 2, None)
    assert second.path == "/fscmRestApi/resources/11.13.18.05/ledgersLOV"
    assert server.received[0].params == {"q": "Name='A b+c;d'"}


@in_loop
async def test_cookies_are_not_kept() -> None:
    """A session cookie of an earlier request would compete with the token for who we are."""

    async def script(received: Received, connection: Connection) -> None:
        headers = {"Set-Cookie": "JSESSIONID=abc; Path=/"}
        await connection.answer(200, collection([], received), headers=headers)

    async with RawServer(script) as server, server.client() as client:
        await client.read("ledgersLOV")
        await client.read("ledgersLOV")
    assert ["cookie" in request.headers for request in server.received] == [False, False]


@in_loop
async def test_rate_limit_silences_all_requests_for_a_moment() -> None:
    """429 is about all of our requests, so the next one waits although it has not been refused itself."""
    now = 0.0
    backing_off = asyncio.Event()

    async def sleep(seconds: float) -> None:
        backing_off.set()

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) == 1:
            await connection.answer(429, raw=b"", headers={"Retry-After": "5"})
        else:
            await connection.answer(200, collection([], received))

    seams = Seams(clock=lambda: now, sleep=sleep)
    async with RawServer(script) as server, server.client(seams=seams) as client:
        refused = asyncio.create_task(client.read("ledgersLOV"))
        await backing_off.wait()
        other = asyncio.create_task(client.read("ledgersLOV"))
        await asyncio.sleep(0)
        assert (client.limiter.free_slots, client.limiter.in_flight) == (0, 0)
        now = 6.0
        client.limiter.pause(0)
        await asyncio.gather(refused, other)
    assert len(server.received) == 3


def test_links_are_cut_to_the_path_below_the_root() -> None:
    """Links carry the port 443; following one to another host would hand that host our token."""
    href = "https://pod.example:443/fscmRestApi/resources/11.13.18.05/invoices/0002/child/invoiceLines"
    assert path_below_root(href) == "invoices/0002/child/invoiceLines"
    assert path_below_root("https://evil.example/invoices") is None


def test_proxy_of_the_environment_is_used_but_never_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finance networks reach the internet through a proxy; the sandbox on this machine must not go through it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    assert environment_proxy("https://pod.fa.example") == "http://proxy.example:3128"
    assert environment_proxy("https://direct.example") is None
    assert environment_proxy("http://127.0.0.1:8080") is None


@pytest.mark.parametrize(
    "proxy",
    [
        "bob:hunter2@proxy.example:3128",
        "http://bob:hunter2/x@proxy.example:3128",
        "http://bob:hunter2@proxy.example:port",
        "http://bob:hunter2@[proxy.example:3128",
        "socks5://bob:hunter2@proxy.example:1080",
        "http://bob:hunter2@",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address was quoted by whatever library stumbled over it first."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(
        SettingsError, match=r"HTTPS_PROXY \(not shown\): is no proxy; write http://host:port"
    ) as caught:
        Transport(("https://pod.fa.example",), connections=1, tls=ssl.create_default_context())
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    values = SecretResolver.of(settings(), {"HTTPS_PROXY": proxy}).values
    assert "hunter2" not in redact(f"cannot use {proxy}", values)

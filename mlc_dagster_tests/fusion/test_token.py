"""Signing in: one request for many waiters, renewed in time, silent about the secret."""

import asyncio
import base64

import pytest

from mlc_dagster.fusion.client import Seams
from mlc_dagster.fusion.errors import NotAuthorised, RemoteDown
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster_tests.fusion.raw_server import SECRET, Connection, RawServer, Received, collection, in_loop, no_wait


async def empty(received: Received, connection: Connection) -> None:
    await connection.answer(200, collection([], received))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Hands out token-1, token-2, … that live ``lifetime`` seconds."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.issued = 0
        self.lifetime = lifetime
        self.down = False

    async def __call__(self, received: Received, connection: Connection) -> None:
        if self.down:
            await connection.answer(503, raw=b"")
            return
        self.issued += 1
        granted = {"access_token": f"token-{self.issued}", "token_type": "Bearer", "expires_in": self.lifetime}
        await connection.answer(200, granted)


@in_loop
async def test_many_requests_wait_for_one_token() -> None:
    """The token endpoint has its own rate limit; sixteen workers starting together must not spend it."""
    async with RawServer(empty, token_script=(issuer := Issuer())) as server, server.client() as client:
        await asyncio.gather(*(client.read("ledgersLOV") for _ in range(16)))
    assert issuer.issued == 1
    assert len(server.received) == 16


@in_loop
async def test_client_signs_in_with_its_id_secret_and_scope() -> None:
    """The documented form: Basic credentials, form body, scope percent-encoded."""
    async with RawServer(empty) as server, server.client() as client:
        await client.read("ledgersLOV")
    asked = server.token_requests[0]
    login = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
    assert login == f"mlc-client:{SECRET}"
    assert asked.body == (
        b"grant_type=client_credentials&scope=urn%3Aopc%3Aresource%3Afa%3Ainstanceid%3D1"
        b"urn%3Aopc%3Aresource%3Aconsumer%3A%3Aall"
    )


@pytest.mark.parametrize(
    ("lifetime", "age", "tokens"), [(3600, 3299, 1), (3600, 3301, 2), (400, 199, 1), (400, 201, 2)]
)
@in_loop
async def test_token_is_renewed_before_it_expires(lifetime: float, age: float, tokens: int) -> None:
    """Five minutes early, so that none expires on the way; a short-lived one at half its life."""
    clock, issuer = Clock(), Issuer(lifetime)
    seams = Seams(clock=clock, sleep=no_wait)
    async with RawServer(empty, token_script=issuer) as server, server.client(seams=seams) as client:
        await client.read("ledgersLOV")
        clock.now += age
        await client.read("ledgersLOV")
    assert issuer.issued == tokens


@in_loop
async def test_401_in_many_requests_asks_for_one_new_token() -> None:
    """A revoked token is refused sixteen times at once; one new token serves them all."""
    issuer = Issuer()

    async def script(received: Received, connection: Connection) -> None:
        if received.headers["authorization"] == "Bearer token-1":
            await connection.answer(401, raw=b"")
        else:
            await empty(received, connection)

    async with RawServer(script, token_script=issuer) as server, server.client() as client:
        await asyncio.gather(*(client.read("ledgersLOV") for _ in range(16)))
    assert issuer.issued == 2


@in_loop
async def test_token_that_still_lives_is_used_while_the_endpoint_is_down() -> None:
    """Five minutes of margin are there to be used."""
    clock, issuer = Clock(), Issuer()
    seams = Seams(clock=clock, sleep=no_wait)
    async with RawServer(empty, token_script=issuer) as server, server.client(seams=seams) as client:
        await client.read("ledgersLOV")
        issuer.down = True
        clock.now += 3400
        await client.read("ledgersLOV")
        clock.now += 300
        with pytest.raises(RemoteDown):
            await client.read("ledgersLOV")
    assert len(server.received) == 2


@in_loop
async def test_refused_credentials_say_so_without_the_secret() -> None:
    """invalid_client is for a person to mend; a server that echoes the secret must not spread it."""

    async def refuse(received: Received, connection: Connection) -> None:
        document = {"error": "invalid_client", "error_description": f"Client authentication failed for {SECRET}."}
        await connection.answer(401, document)

    async with RawServer(empty, token_script=refuse) as server, server.client() as client:
        with pytest.raises(NotAuthorised, match="invalid_client") as caught:
            await client.read("ledgersLOV")
    assert len(server.token_requests) == 1
    assert SECRET not in f"{caught.value!r} {caught.value}"


@in_loop
async def test_endpoint_that_answers_without_a_token_is_down() -> None:
    """A maintenance page with status 200 is not a token."""

    async def page(received: Received, connection: Connection) -> None:
        await connection.answer(200, raw=b"<html>Maintenance</html>", headers={"Content-Type": "text/html"})

    async with RawServer(empty, token_script=page) as server, server.client() as client:
        with pytest.raises(RemoteDown):
            await client.read("ledgersLOV")
    assert len(server.token_requests) == 4


@in_loop
async def test_cancelling_the_first_waiter_does_not_fail_the_others() -> None:
    """Whoever asked first may be stopped; the token is everybody's."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(received: Received, connection: Connection) -> None:
        asked.set()
        await release.wait()
        await connection.answer(200, {"access_token": "token-1", "expires_in": 3600})

    async with RawServer(empty, token_script=slow) as server, server.client() as client:
        first = asyncio.create_task(client.read("ledgersLOV"))
        second = asyncio.create_task(client.read("ledgersLOV"))
        await asked.wait()
        first.cancel()
        release.set()
        answer = await second
    assert answer.status == 200
    assert first.cancelled()
    assert len(server.token_requests) == 1


@in_loop
async def test_every_token_is_told_to_whoever_keeps_logs_clean() -> None:
    """A token is good for an hour at Fusion, whoever has it: log lines of other libraries must not show it either."""
    told: list[str] = []
    credentials = FusionCredentials(client_secret=SECRET, remember=told.extend)
    async with (
        RawServer(empty, token_script=Issuer(lifetime=0)) as server,
        server.client(credentials=credentials) as client,
    ):
        await client.read("ledgersLOV")
        await client.read("ledgersLOV")
    assert told == ["token-1", "token-2"]


@pytest.mark.parametrize("before", [990, 995, 1000])
@in_loop
async def test_a_refusal_that_is_cut_shows_no_half_of_the_secret(before: int) -> None:
    """Long texts are shortened for people; the cut may fall into what the endpoint repeats of us."""

    async def repeats(received: Received, connection: Connection) -> None:
        await connection.answer(401, {"error_description": "x" * before + SECRET})

    async with RawServer(empty, token_script=repeats) as server, server.client() as client:
        with pytest.raises(NotAuthorised) as caught:
            await client.read("ledgersLOV")
    assert SECRET[:5] not in str(caught.value)

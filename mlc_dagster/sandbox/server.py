"""Starting and stopping the embedded Fusion: in a thread for tests, in a process for ``mlc sandbox``."""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import socket
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from mlc_dagster.sandbox.books import Books
from mlc_dagster.sandbox.faults import Faults
from mlc_dagster.sandbox.fusion import invoice_actions
from mlc_dagster.sandbox.fusion.admin import Admin, reset
from mlc_dagster.sandbox.fusion.app import FusionApp
from mlc_dagster.sandbox.fusion.invoice_rules import create_invoice
from mlc_dagster.sandbox.fusion.tokens import Tokens
from mlc_dagster.sandbox.fusion.world import Policies, World, utc_now
from mlc_dagster.sandbox.seed import Seed

CLIENT_ID = "mlc-sandbox-client"
CLIENT_SECRET = "mlc-sandbox-secret"
SCOPE = "urn:opc:resource:fa:instanceid=123456789urn:opc:resource:consumer::all"


class FusionSandbox:
    """One embedded Fusion.

    As a context manager it serves from a thread on a free loopback port until the block ends; ``serve`` blocks instead.
    """

    def __init__(
        self,
        seed: Seed | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        books: Path | str | None = None,
        faults: Path | str | dict[str, Any] | None = None,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        scope: str = SCOPE,
        token_lifetime: float = 3600.0,
        policies: Policies | None = None,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.scope = scope
        self.books = Books(books)
        self.faults = Faults()
        if faults is not None:
            self.faults.load(faults)
        self.world = World(seed or Seed(), self.books, policies=policies, clock=clock)
        self.tokens = Tokens({client_id: client_secret}, scope, token_lifetime)
        self.admin = Admin(self.world, self.books, self.faults, self.tokens)
        self.app = FusionApp(self.world, self.books, self.faults, self.tokens, self.admin.application())
        self._socket = socket.create_server((host, port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self.base_url = f"http://{host}:{self.port}"
        self.token_url = f"{self.base_url}/oauth2/v1/token"
        self.resources_url = f"{self.base_url}/fscmRestApi/resources/11.13.18.05"
        self._server = _Server(self.app)
        self._thread: threading.Thread | None = None

    @property
    def seed(self) -> Seed:
        return self.world.seed

    @property
    def policies(self) -> Policies:
        return self.world.policies

    def addresses(self) -> dict[str, Any]:
        """What a client needs to connect."""
        return {
            "base_url": self.base_url,
            "token_url": self.token_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": self.scope,
            "admin_url": f"{self.base_url}/sandbox",
        }

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="fusion", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(20):
            msg = "the embedded Fusion did not start within 20 seconds"
            raise RuntimeError(msg)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops serving; requests still open are cut off. The books stay readable."""
        self.faults.clear()
        self._server.end()
        if self._thread is not None:
            self._thread.join(15)
            self._thread = None
        self._socket.close()
        self.books.close()

    def serve(self, *, announce: Callable[[], None] | None = None) -> None:
        """Serves in this thread until a signal ends it."""
        self._server.announce = announce
        try:
            self._server.run([self._socket])
        finally:
            self._socket.close()
            self.books.close()

    # What people do in Fusion by hand, for tests in the same process.

    def create_supplier(self, number: str, name: str, **place: str) -> int:
        """As a buyer would; ``site`` and ``business_unit`` may be given. Gives the SupplierId."""
        return self.world.create_supplier(number, name, **place)

    def change_supplier(self, number: str, *, name: str | None = None, active: bool | None = None) -> None:
        self.world.change_supplier(number, name=name, active=active)

    def set_period(self, name: str, status: str, **which: Any) -> int:
        """``set_period("Nov-26", "C")``; ``application`` (101, 200) and ``ledger`` narrow it."""
        return self.world.set_period(name, status, **which)

    def enter_invoice(self, document: dict[str, Any], *, user: str = "AP.CLERK") -> int:
        """A clerk's manual entry, under the same rules as a POST. Gives the InvoiceId."""
        exact = json.loads(json.dumps(document, default=str), parse_float=Decimal)
        return int(create_invoice(self.world, exact, user).key)

    def cancel_invoice(self, invoice_id: int) -> None:
        with self.world.lock:
            invoice_actions.cancel(self.world, self.world.tables["invoices"].rows[invoice_id], "AP.CLERK")

    def validate_invoice(self, invoice_id: int) -> None:
        with self.world.lock:
            invoice_actions.validate(self.world, self.world.tables["invoices"].rows[invoice_id], "AP.CLERK")

    def delete_invoice(self, invoice_id: int) -> bool:
        return self.world.delete_invoice(invoice_id)

    def create_accounting(self) -> int:
        """Accounts every validated invoice; gives their number."""
        return invoice_actions.create_accounting(self.world)

    def expire_tokens(self) -> None:
        self.tokens.expire_all()

    def reset(self) -> None:
        """Back to the seed, with nothing stored and no faults."""
        reset(self.world, self.books, self.faults)


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready and lets go of requests that a fault keeps waiting."""

    def __init__(self, app: FusionApp) -> None:
        self.app = app
        self.ready = threading.Event()
        self.announce: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            # The date is the world's, see FusionApp.
            date_header=False,
            timeout_graceful_shutdown=2,
            # Longer than any client keeps an idle connection, so that the server never closes one in its face.
            timeout_keep_alive=120,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
        if self.announce is not None:
            self.announce()

    def end(self) -> None:
        """Ends serving; may be called from any thread."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it shall end, as a signal asks it to; ``end`` wakes it.
        self._loop = asyncio.get_running_loop()
        waits = {asyncio.create_task(super().main_loop()), asyncio.create_task(self._ending.wait())}
        _, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.stopping.set()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        # Idle connections close in the loop's next turn. uvicorn waits a tenth of a second for them in any case.
        await asyncio.sleep(0)
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        # After this uvicorn repeats the signal that ended it, and no later line of this process runs.
        self.app.books.flush()


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``python -m mlc_dagster.sandbox.fusion``: prints one JSON line when ready, then serves."""
    parser = argparse.ArgumentParser(prog="python -m mlc_dagster.sandbox.fusion", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--seed-suppliers", type=int, default=20)
    parser.add_argument("--today", type=dt.date.fromisoformat, help="ISO date that decides which periods are open")
    parser.add_argument("--books", type=Path, help="SQLite file that keeps the books")
    parser.add_argument("--faults", type=Path, help="YAML or JSON file with faults and quirks")
    parser.add_argument("--token-lifetime", type=float, default=3600.0, help="seconds")
    parser.add_argument("--client-id", default=CLIENT_ID)
    parser.add_argument("--client-secret", default=CLIENT_SECRET)
    options = parser.parse_args(arguments)
    seed = Seed(options.seed_suppliers, options.today) if options.today else Seed(options.seed_suppliers)
    sandbox = FusionSandbox(
        seed,
        host=options.host,
        port=options.port,
        books=options.books,
        faults=options.faults,
        token_lifetime=options.token_lifetime,
        client_id=options.client_id,
        client_secret=options.client_secret,
    )

    def announce() -> None:
        sys.stdout.write(json.dumps(sandbox.addresses()) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        sandbox.serve(announce=announce)

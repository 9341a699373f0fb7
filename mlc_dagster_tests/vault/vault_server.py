"""A small HTTP server that speaks the key-value engine of HashiCorp Vault, version 2, as far as reading goes.

Written from Vault's HTTP API documentation: ``GET /v1/MOUNT/data/PATH`` with ``X-Vault-Token``, and
``X-Vault-Namespace`` where namespaces are used; 403 for a wrong token, 404 for no secret, 503 when sealed.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeVault:
    """What the server knows, and what it was asked."""

    address: str
    token: str = "hvs.canary-token"
    namespace: str | None = None
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By MOUNT/PATH."""
    sealed: bool = False
    redirect: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and token of every request."""

    def answer(self, path: str, token: str | None, namespace: str | None) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, token))
        if self.redirect:
            return 307, {}
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if token != self.token or namespace != self.namespace:
            return 403, {"errors": ["permission denied"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/data/")
        if (found := self.secrets.get(f"{mount}/{rest}")) is None:
            return 404, {"errors": []}
        metadata = {"version": 3, "created_time": "2026-11-21T09:30:00Z", "deletion_time": "", "destroyed": False}
        return 200, {"request_id": "1", "lease_id": "", "data": {"data": found, "metadata": metadata}}


@contextmanager
def running_vault() -> Generator[FakeVault]:
    """A server on a loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = vault.answer(
                self.path, self.headers.get("X-Vault-Token"), self.headers.get("X-Vault-Namespace")
            )
            content = json.dumps(document).encode()
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"{vault.redirect}{self.path}")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Not on the terminal of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        vault = FakeVault(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield vault
        finally:
            server.shutdown()
            thread.join()

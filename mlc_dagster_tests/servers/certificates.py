"""An authority of one test: certificates for servers and clients, right ones and wrong ones in every way.

What belongs here: keys, certificates, the server's TLS context made of them, and a server that says why it refuses a
handshake, which asyncio's does not: it hangs up before its alert has left.
"""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Issued(NamedTuple):
    """A certificate file, and its private key as a file and as text."""

    certificate: Path
    key: Path
    key_text: str


class Authority:
    """Signs certificates; ``bundle`` is its own certificate as a PEM file."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issued = 0
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / f"{name.replace(' ', '_')}.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, host: str = "localhost", *, begins: dt.timedelta = -DAY, ends: dt.timedelta = DAY, passphrase: str = ""
    ) -> Issued:
        """A certificate for ``host``, valid from and until so long after now."""
        self._issued += 1
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        encryption = (
            serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        )
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()
        stem = self._folder / f"{self.bundle.stem}_{self._issued}"
        stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_text(text)
        return Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"), text)


def server_context(issued: Issued, *, clients: Authority | None = None) -> ssl.SSLContext:
    """TLS of a server with this certificate, which asks for one of ``clients`` when given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.bundle)
    return context


@contextlib.contextmanager
def refusing_server(tls: ssl.SSLContext | None) -> Generator[str]:
    """An https address where handshakes fail with their alert; without ``tls`` it answers plain http."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.settimeout(5)
                with connection:
                    _refuse(connection, tls)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        over.set()
        # Closing alone does not wake the thread that accepts.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _refuse(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    if tls is None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    else:
        with contextlib.suppress(ssl.SSLError):
            # The descriptor is shared: OpenSSL writes its alert, and the socket stays open for it to be read.
            tls.wrap_socket(connection.dup(), server_side=True).close()
    # What was sent must not be overtaken by a reset: read until the client has hung up.
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass

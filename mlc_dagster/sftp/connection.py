"""From an address to a logged-in SSH transport whose host key is pinned.

What belongs here: TCP, host key check, time-outs of each. What does not: which algorithms are spoken (``algorithms``),
the login itself (``login``), SFTP (``channel`` and above). paramiko's SSHClient, which would look for keys and agents,
is not used.
"""

import logging
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import paramiko

from mlc_dagster.settings import SftpSettings
from mlc_dagster.settings.sftp import WEAK_ALGORITHMS

from .algorithms import Transport, missing, restrict, signatures
from .deadline import Deadline
from .errors import HostKeyRejected, NoCommonAlgorithm
from .keys import HOST_KEY_FAMILIES, OfferedHostKey, Pin, fingerprint, offered_host_key
from .login import QuestionsOnly, answer_question, log_in
from .translation import Endpoint

KEEPALIVE_SECONDS = 30
# paramiko prints tracebacks of its reader thread on stderr when nobody listens, and paths and user names below
# WARNING. All it has to say reaches the caller as an exception, so it logs where nobody is.
_WIRE_LOG = "mlc_dagster.sftp.wire"


def _quiet_log() -> str:
    log = logging.getLogger(_WIRE_LOG)
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.propagate = False
    log.setLevel(logging.CRITICAL)
    return _WIRE_LOG


@dataclass(frozen=True, slots=True)
class _Server:
    """Where to connect, time limits in seconds, and the weak algorithms that are allowed there."""

    host: str
    port: int
    connect_timeout: float
    channel_timeout: float
    allowed: tuple[str, ...]


def connect(
    settings: SftpSettings,
    pins: list[Pin],
    password: str | None,
    private_key: paramiko.PKey | None,
    endpoint: Endpoint,
) -> paramiko.Transport:
    """A transport that is encrypted with a pinned server and logged in.

    Raises:
        HostKeyRejected: none of its keys is pinned.
        LoginRefused, QuestionAsked: it refuses the credentials, or wants a second factor.
        NoCommonAlgorithm, Unreachable, SftpTimeout, PollDeadlineExceeded: no usable connection.
    """
    server = _Server(
        settings.host,
        settings.port,
        settings.connect_timeout,
        settings.channel_timeout,
        tuple(settings.allow_algorithms),
    )
    transport = _pinned(server, pins, endpoint)
    try:
        log_in(transport, settings.username, password, private_key, endpoint)
    except QuestionsOnly:
        # On a connection of its own: many servers allow no second beginning on one.
        transport = _pinned(server, pins, endpoint)
        answer_question(transport, settings.username, password or "", endpoint)
    return transport


def _pinned(server: _Server, pins: list[Pin], endpoint: Endpoint) -> Transport:
    """A server has several host keys and proves one.

    When it proves another one than the pinned fingerprint's, the type of which is unknown, it is asked again for its
    keys of the other types, without any credential being sent.
    """
    wanted = {pin.family for pin in pins}
    families = [name for name in HOST_KEY_FAMILIES if name in wanted]
    if None in wanted or not families:
        families += [name for name in HOST_KEY_FAMILIES if name not in wanted]
    rejected: HostKeyRejected | None = None
    while families:
        try:
            transport = _encrypted(server, families, endpoint)
        except NoCommonAlgorithm:
            if rejected is None:
                # The pinned types are not offered. Asking for any type tells which key the server has instead.
                others = [name for name in HOST_KEY_FAMILIES if name not in families]
                if not others:
                    raise
                transport = _encrypted(server, others, endpoint)
            else:
                break
        offered = transport.get_remote_server_key()
        if fingerprint(offered) in {pin.fingerprint for pin in pins}:
            return transport
        transport.close()
        rejected = rejected or HostKeyRejected(endpoint.host, fingerprint(offered), [pin.fingerprint for pin in pins])
        if None not in wanted or offered.get_name() not in families:
            break
        families.remove(offered.get_name())
    raise rejected or NoCommonAlgorithm(endpoint.host, "no host key type in common")


def offered_host_keys(
    host: str, port: int, timeout: float, *, allow_algorithms: Collection[str] = ()
) -> list[OfferedHostKey]:
    """Every host key that a server proves, for a person to compare and pin; nobody logs in and nothing is trusted.

    Args:
        host: name or address.
        port: of TCP.
        timeout: seconds for all of it.
        allow_algorithms: weak algorithms to speak with it.

    Raises:
        NoCommonAlgorithm, Unreachable, SftpTimeout, PollDeadlineExceeded: no usable connection.
    """
    found: list[OfferedHostKey] = []
    server = _Server(host, port, timeout, timeout, tuple(allow_algorithms))
    waiting = list(HOST_KEY_FAMILIES)
    with Deadline(timeout) as deadline:
        endpoint = Endpoint(f"{host}:{port}", deadline)
        while waiting:
            # A server proves one key at a time; the others it is asked for by leaving out those already seen.
            transport = _encrypted(server, waiting, endpoint)
            key = transport.get_remote_server_key()
            transport.close()
            found.append(offered_host_key(host, port, key))
            offered = set(transport.offer.host_keys)
            waiting = [
                family
                for family in waiting
                if family != key.get_name() and offered & set(signatures([family], server.allowed))
            ]
    return found


def _encrypted(server: _Server, families: list[str], endpoint: Endpoint) -> Transport:
    deadline = endpoint.deadline
    with endpoint.remote("connecting"):
        try:
            connection = socket.create_connection(
                (server.host, server.port), timeout=min(server.connect_timeout, deadline.remaining)
            )
        except TimeoutError:
            raise
        except OSError as error:
            # Refused, unresolved, no route: with these a file's "no such" never applies.
            raise ConnectionError(f"{error.strerror or error}") from error
    deadline.closes(connection.close)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Linux: gives up on unacknowledged bytes, which keepalives do not notice.
        milliseconds = max(1, int(server.channel_timeout * 1000))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    transport = Transport(connection)
    transport.set_log_channel(_quiet_log())
    transport.banner_timeout = server.connect_timeout
    transport.handshake_timeout = server.connect_timeout
    transport.auth_timeout = server.connect_timeout
    transport.channel_timeout = server.channel_timeout
    restrict(transport, families, server.allowed)

    def close() -> None:
        transport.close()
        # Before the handshake the transport is not "active" and leaves its socket open.
        with suppress(OSError):
            connection.close()

    deadline.closes(close)
    try:
        with endpoint.remote("key exchange"):
            transport.start_client(timeout=server.connect_timeout)
            if not transport.initial_kex_done:
                raise TimeoutError
    except NoCommonAlgorithm as error:
        close()
        offered = dict(missing(transport))
        allowable = [name for name in WEAK_ALGORITHMS if any(name in names for names in offered.values())]
        raise NoCommonAlgorithm(endpoint.host, error.detail, offered, allowable) from None
    except BaseException:
        close()
        raise
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport

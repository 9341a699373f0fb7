"""From an address to a logged-in SSH transport whose host key is pinned.

What belongs here: TCP, algorithms, host key check, login, time-outs of each. What does not: SFTP itself (``channel``
and above). paramiko's Transport is used without its SSHClient, which would look for keys and agents.
"""

import logging
import socket
from contextlib import suppress

import paramiko

from mlc_dagster.settings import SftpSettings

from .errors import HostKeyRejected, LoginRefused, NoCommonAlgorithm
from .keys import HOST_KEY_FAMILIES, Pin, fingerprint
from .translation import REMOTE_FAULTS, Endpoint

# AES-GCM first: one pass instead of AES and HMAC, a fifth faster. CTR stays for older servers; CBC, 3DES, MD5 and
# SHA-1, which paramiko still offers, do not (CVE-2023-48795 concerned CBC with encrypt-then-MAC).
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")

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


def connect(
    settings: SftpSettings,
    pins: list[Pin],
    password: str | None,
    private_key: paramiko.PKey | None,
    endpoint: Endpoint,
) -> paramiko.Transport:
    """A transport that is encrypted with a pinned server and logged in.

    A server has several host keys and proves one. When it proves another one than the pinned fingerprint's, the type
    of which is unknown, it is asked again for its keys of the other types, without any credential being sent.

    Raises:
        HostKeyRejected: none of its keys is pinned.
        LoginRefused: it refuses the credentials, or wants a second factor.
        NoCommonAlgorithm, Unreachable, SftpTimeout, PollDeadlineExceeded: no usable connection.
    """
    wanted = {pin.family for pin in pins}
    families = [name for name in HOST_KEY_FAMILIES if name in wanted]
    if None in wanted or not families:
        families += [name for name in HOST_KEY_FAMILIES if name not in wanted]
    rejected: HostKeyRejected | None = None
    while families:
        try:
            transport = _encrypted(settings, families, endpoint)
        except NoCommonAlgorithm:
            if rejected is None:
                # The pinned types are not offered. Asking for any type tells which key the server has instead.
                others = [name for name in HOST_KEY_FAMILIES if name not in families]
                if not others:
                    raise
                transport = _encrypted(settings, others, endpoint)
            else:
                break
        offered = transport.get_remote_server_key()
        if fingerprint(offered) in {pin.fingerprint for pin in pins}:
            _log_in(transport, settings.username, password, private_key, endpoint)
            return transport
        transport.close()
        rejected = rejected or HostKeyRejected(endpoint.host, fingerprint(offered), [pin.fingerprint for pin in pins])
        if None not in wanted or offered.get_name() not in families:
            break
        families.remove(offered.get_name())
    raise rejected or NoCommonAlgorithm(endpoint.host, "no host key type in common")


def _encrypted(settings: SftpSettings, families: list[str], endpoint: Endpoint) -> paramiko.Transport:
    deadline = endpoint.deadline
    with endpoint.remote("connecting"):
        try:
            connection = socket.create_connection(
                (settings.host, settings.port), timeout=min(settings.connect_timeout, deadline.remaining)
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
        milliseconds = max(1, int(settings.channel_timeout * 1000))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    transport = paramiko.Transport(connection)
    transport.set_log_channel(_quiet_log())
    transport.banner_timeout = settings.connect_timeout
    transport.handshake_timeout = settings.connect_timeout
    transport.auth_timeout = settings.connect_timeout
    transport.channel_timeout = settings.channel_timeout
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    options.digests = MACS
    options.key_types = [algorithm for family in families for algorithm in HOST_KEY_FAMILIES[family]]

    def close() -> None:
        transport.close()
        # Before the handshake the transport is not "active" and leaves its socket open.
        with suppress(OSError):
            connection.close()

    deadline.closes(close)
    try:
        with endpoint.remote("key exchange"):
            transport.start_client(timeout=settings.connect_timeout)
            if not transport.initial_kex_done:
                raise TimeoutError
    except BaseException:
        close()
        raise
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport


def _log_in(
    transport: paramiko.Transport,
    username: str,
    password: str | None,
    private_key: paramiko.PKey | None,
    endpoint: Endpoint,
) -> None:
    method = "password" if private_key is None else "private_key"
    try:
        if private_key is not None:
            further = transport.auth_publickey(username, private_key)
        else:
            further = transport.auth_password(username, password or "")
    except REMOTE_FAULTS as error:
        transport.close()
        # "from None": an authentication exception is the one place where a library could quote what was sent.
        raise endpoint.login_fault(error, username, method) from None
    if further:
        transport.close()
        raise LoginRefused(endpoint.host, username, f"{method} alone", further)

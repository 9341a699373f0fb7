"""Errors of the layers below as lines: what is wrong, and whether it is ours to change or the other side's.

Their texts name the remedy themselves. What Fusion's statuses mean for one resource is told by ``fusion_resources``.
"""

import errno
import socket
import ssl

from sqlalchemy.exc import ArgumentError, DBAPIError

from mlc_dagster.doctor.findings import Cause, Wrong
from mlc_dagster.fusion.errors import FusionError, RemoteDown, ResponseInvalid, Untrusted
from mlc_dagster.fusion.tls import distrust
from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.settings import SettingsError
from mlc_dagster.sftp import NoSuchPath, ServerRefused, SftpError
from mlc_dagster.vault import ProviderDown, SecretError

_NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA)


def diagnosed(error: Exception) -> Wrong:
    """The line for ``error``; a step that fails in any other way is a fault of the product."""
    match error:
        case ProviderDown():
            return Wrong(f"{error.reference}: {error.fault}", error.remedy, Cause.REMOTE)
        case SecretError():
            return Wrong(f"{error.reference}: {error.fault}", error.remedy)
        case SettingsError():
            return Wrong("; ".join(error.problems))
        case FusionError():
            down = isinstance(error, RemoteDown | ResponseInvalid) and not isinstance(error, Untrusted)
            return Wrong(str(error), cause=Cause.REMOTE if down else Cause.HERE)
        case NoSuchPath():
            return Wrong(f"{error.path!r}: no such folder", "create it on the server, or correct the name in mlc.yaml")
        case SftpError():
            # A server that answers "Failure" names no cause; a full disk and a missing right look alike.
            disk = "the server names no cause: its disk may be full, or the account may not do this; ask its owner"
            refused = isinstance(error, ServerRefused)
            return Wrong(str(error), disk if refused else "", Cause.REMOTE if error.transient else Cause.HERE)
        case ArgumentError():
            # Its text may show the address, with its password.
            return Wrong(
                "it is no address of a database", "write sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
            )
        case LedgerError():
            return Wrong(str(error))
        case DBAPIError():
            # Its own text shows the statement with its values.
            return Wrong(" ".join(str(error.orig).split()), "check ledger.url, and that the database runs and lets us")
        case ssl.SSLError():
            return Wrong(distrust(error) or f"TLS failed: {error.reason or error}")
        case socket.gaierror():
            return _not_resolved(error)
        case OSError():
            return _of_the_system(error)
        case _:
            fix = "this is a fault of mlc itself; please report it with this line"
            return Wrong(f"the check failed: {type(error).__name__}: {error}", fix, Cause.PRODUCT)


def _not_resolved(error: socket.gaierror) -> Wrong:
    if error.errno in _NO_SUCH_HOST:
        return Wrong("no such host name", "correct the name in mlc.yaml; from outside the company it may need a VPN")
    return Wrong(
        f"the name cannot be looked up: {error.strerror}", "check this machine's DNS and network", Cause.REMOTE
    )


def _of_the_system(error: OSError) -> Wrong:
    said = error.strerror or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        fix = "a firewall that drops packets looks like this: have the port opened for this machine's address"
        return Wrong(f"no answer in time ({said})", fix, Cause.REMOTE)
    if isinstance(error, ConnectionError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        fix = "check the port in mlc.yaml; if it is right, the server is down or a firewall refuses this machine"
        return Wrong(said, fix, Cause.REMOTE)
    place = f"{error.filename}: " if error.filename else ""
    return Wrong(f"{place}{said}", "see that there is room, and that the user who runs mlc may write there")

"""The inbound flow's wiring for one run or one tick, made from the three resources.

What belongs here: bringing settings, secrets, ledger and connectors together. What does not: any step of the flow.
"""

# ruff: noqa: PLC0415 - the connectors (paramiko, httpx) are imported by the run that uses them.

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import dagster as dg

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.resources.connectors import FusionResource, LedgerResource, StampliSftpResource
from mlc_dagster.resources.wiring import Wiring
from mlc_dagster.settings import Settings

if TYPE_CHECKING:
    from mlc_dagster.stampli.inbound import Inbound

_SANDBOX_ANSWERS_WITHIN = 2.0


class SandboxDown(Expected):
    """There is no mlc.yaml, and the sandbox that the definitions show instead is not running."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(
            f"no mlc.yaml found (MLC_CONFIG is not set and the working directory has none), and no sandbox answers at "
            f"{where}: write one with `mlc init`, or start the sandbox with `mlc sandbox` and reload the code location"
        )


class InboundResource(dg.ConfigurableResource):
    """From Stampli's folder to Fusion: everything that a run of the inbound flow works with."""

    fusion: FusionResource
    stampli_sftp: StampliSftpResource
    ledger: LedgerResource
    wiring: dg.ResourceDependency[Wiring]

    def connect(self, *, sftp_deadline: float | None = None) -> "Inbound":
        """The wiring; nothing is connected yet but the ledger.

        Args:
            sftp_deadline: seconds that one SFTP session may take, where less than mlc.yaml allows.

        Raises:
            SandboxDown: the sandbox configuration, and no sandbox.
            LedgerError, SettingsError, SecretError, ProfileError, CrosswalkError: something cannot be used.
        """
        from mlc_dagster.stampli.wiring import connect_inbound

        settings = self.stampli_sftp.applied_to(self.fusion.applied_to(self.wiring.settings))
        if settings.sandbox:
            require_sandbox(settings)
        if sftp_deadline is not None:
            settings = _in_a_hurry(settings, sftp_deadline)
        return connect_inbound(settings, self.wiring.secrets, self.ledger.open())

    def __repr__(self) -> str:
        """From where to where."""
        return f"InboundResource({self.stampli_sftp} to {self.fusion})"

    __str__ = __repr__


def require_sandbox(settings: Settings) -> None:
    """Raises SandboxDown when nothing listens where the sandbox's Fusion would be."""
    address = urlsplit(settings.fusion.base_url)
    place = (address.hostname or "", address.port or (443 if address.scheme == "https" else 80))
    try:
        socket.create_connection(place, timeout=_SANDBOX_ANSWERS_WITHIN).close()
    except OSError:
        raise SandboxDown(settings.fusion.base_url) from None


def _in_a_hurry(settings: Settings, seconds: float) -> Settings:
    """``settings`` with SFTP limits of at most ``seconds``."""
    stampli = settings.stampli
    if stampli is None:
        return settings
    sftp = stampli.sftp
    limits = {
        name: min(seconds, getattr(sftp, name)) for name in ("poll_deadline", "connect_timeout", "channel_timeout")
    }
    hurried = stampli.model_copy(update={"sftp": sftp.model_copy(update=limits)})
    return settings.model_copy(update={"stampli": hurried})

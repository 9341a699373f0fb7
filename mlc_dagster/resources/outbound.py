"""The outbound flow's wiring for one run or one tick, made from the resources.

What belongs here: bringing settings, secrets, ledger, layouts and connectors together. What does not: any step.
"""

# ruff: noqa: PLC0415 - the connectors (paramiko, httpx) are imported by the run that uses them.

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.resources.connectors import FusionResource, LedgerResource
from mlc_dagster.resources.inbound import require_sandbox
from mlc_dagster.resources.wiring import Wiring

if TYPE_CHECKING:
    from mlc_dagster.exports.outbound import Outbound


class OutboundResource(dg.ConfigurableResource):
    """From Fusion to partners' servers: everything that a run of the outbound flow works with."""

    fusion: FusionResource
    ledger: LedgerResource
    wiring: dg.ResourceDependency[Wiring]

    def connect(self, *, only: Collection[str] | None = None) -> "Outbound":
        """The wiring; nothing is connected yet but the ledger.

        Args:
            only: the feeds that are needed; all when absent.

        Raises:
            SandboxDown: the sandbox configuration, and no sandbox.
            LedgerError, SettingsError, SecretError, LayoutError: something cannot be used.
        """
        from mlc_dagster.exports.wiring import connect_outbound

        settings = self.fusion.applied_to(self.wiring.settings)
        if settings.sandbox:
            require_sandbox(settings)
        return connect_outbound(settings, self.wiring.secrets, self.ledger.open(), only=only)

    def __repr__(self) -> str:
        """From where."""
        return f"OutboundResource({self.fusion})"

    __str__ = __repr__

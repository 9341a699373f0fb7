"""Dagster's view of the outside: Fusion, the SFTP servers and the ledger, as configurable resources.

Their fields are addresses and references to secrets, which anybody may read in the UI. Values of secrets are resolved
when a connection is made and are kept in no field.
"""

from mlc_dagster.resources.connectors import FusionResource, LedgerResource, StampliSftpResource
from mlc_dagster.resources.inbound import InboundResource, SandboxDown
from mlc_dagster.resources.outbound import OutboundResource
from mlc_dagster.resources.wiring import Progress, Silent, Wiring

__all__ = [
    "FusionResource",
    "InboundResource",
    "LedgerResource",
    "OutboundResource",
    "Progress",
    "SandboxDown",
    "Silent",
    "StampliSftpResource",
    "Wiring",
]

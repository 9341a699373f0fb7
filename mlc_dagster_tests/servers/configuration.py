"""The parts of an mlc.yaml that both flows' rehearsals write: secrets in files beside it, and the embedded Fusion."""

from pathlib import Path
from typing import Any

from mlc_dagster.sandbox.server import FusionSandbox

SEGMENTS = ["entity", "department", "account", "subAccount", "location", "future1"]


def keep_secret(folder: Path, name: str, value: str) -> str:
    """Writes the secret to a file that nobody else may read; the reference to it."""
    path = folder / name
    path.write_text(value)
    path.chmod(0o600)
    return f"file:{name}"


def fusion_part(folder: Path, fusion: FusionSandbox, **more: Any) -> dict[str, Any]:
    """``fusion:`` for the embedded server, with ``more`` keys of it."""
    return {
        "base_url": fusion.base_url,
        "token_url": fusion.token_url,
        "client_id": fusion.client_id,
        "client_secret": keep_secret(folder, "fusion_secret", fusion.client_secret),
        "scope": fusion.scope,
        "charts": {
            "US1": {
                "ledgers": ["US Primary Ledger"],
                "segments": SEGMENTS,
                "natural_account": "account",
                "cost_center": "department",
            }
        },
        **more,
    }

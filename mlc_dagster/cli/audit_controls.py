"""What the controls of the outbound flow find for an evidence pack, and mlc.yaml as a pack may show it.

What belongs here: running each control so that one that cannot be compared says why. What does not: the controls
(``exports.controls``), and those that the ledger answers by itself (``ledger.evidence``).
"""

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_dagster.cli.errors import explain
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.evidence import ControlResult
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver, redact

if TYPE_CHECKING:
    from mlc_dagster.exports.controls import Range
    from mlc_dagster.exports.outbound import Feed, Outbound

REMOTE = ("exported_equals_fusion", "delivered_bytes_match")
"""Controls that ask Fusion and the partner's server."""


def outbound_controls(
    settings: Settings, secrets: SecretResolver, ledger: Ledger, period: tuple[dt.datetime, dt.datetime], *, ask: bool
) -> Iterator[ControlResult]:
    """Each control of each feed over the period; with ``ask`` also those that need the remote sides."""
    from mlc_dagster.exports import controls
    from mlc_dagster.exports.wiring import connect_outbound

    for entry in settings.exports:
        named = {
            "debits_equal_credits": lambda o, f: controls.debits_equal_credits(o, f, period),
            "exported_equals_fusion": lambda o, f: controls.exported_equals_fusion(o, f, _read_of(o, f, period)),
            "delivered_bytes_match": lambda o, f: controls.delivered_bytes_match(o, f, period),
            "sequence_has_no_gap": controls.sequence_has_no_gap,
            "acknowledged_in_time": controls.acknowledged_in_time,
        }
        if entry.source != "journals":
            del named["debits_equal_credits"]
        if entry.acknowledgement == "none":
            del named["acknowledged_in_time"]
        for name, control in named.items():
            scope = f"feed {entry.name}"
            if name in REMOTE and not ask:
                yield ControlResult(name, scope, None, text="asks the remote side: not run without --ask-remote")
                continue
            try:
                outbound = connect_outbound(settings, secrets, ledger, only=[entry.name])
                found = control(outbound, outbound.feeds[entry.name])
            except Exception as error:
                explained = explain(error)
                if explained is None:
                    raise
                yield ControlResult(name, scope, None, text="; ".join(explained[1]))
                continue
            holds = None if found.uncertain and not found.faults else not found.faults
            yield ControlResult(name, scope, holds, found.faults, found.numbers, found.uncertain or "")


def _read_of(outbound: "Outbound", feed: "Feed", period: tuple[dt.datetime, dt.datetime]) -> "Range":
    """The part of the period that was read so far: what Fusion shows after it is not due yet."""
    from mlc_dagster.ledger import extracts

    with outbound.ledger.reading() as reading:
        end = extracts.read_until(reading, feed.source)
    first = max(period[0], outbound.source_start(feed.source))
    return (first, max(first, min(period[1], end))) if end is not None else None


def configuration_of(settings: Settings, path: Path, secrets: SecretResolver) -> dict[str, Any]:
    """mlc.yaml as it was understood, with its references, and the SHA-256 of the file."""
    from mlc_dagster.settings.values import SECRET_SCHEMES

    document = settings.model_dump(mode="json")
    # An address for alerts may carry a token, and mlc.yaml takes it as it is.
    document["alerts"]["to"] = [
        address if address.startswith(tuple(f"{scheme}:" for scheme in SECRET_SCHEMES)) else _scheme_of(address)
        for address in settings.alerts.to
    ]
    raw = path.read_bytes()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "settings": _masked(document, secrets),
    }


def _scheme_of(address: str) -> str:
    return f"{address.partition('://')[0]}://…" if "://" in address else "…"


def _masked(value: Any, secrets: SecretResolver) -> Any:
    """A secret that somebody wrote as a value is not shown, wherever it stands."""
    if isinstance(value, dict):
        return {key: _masked(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, secrets) for inner in value]
    return redact(value, secrets.values) if isinstance(value, str) else value

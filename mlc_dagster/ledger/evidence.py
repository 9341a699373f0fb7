"""The evidence pack: what an auditor asks for a period, in files that prove themselves without us.

What belongs here: the pack's files, its manifest, and the part of the chain that covers the period. The rows of the
population are ``evidence_population``'s, the program that checks a pack is ``evidence_verifier``, which is copied into
it. A pack shows references to secrets, never values.
"""

import datetime as dt
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.audit_gaps import standing
from mlc_dagster.ledger.audit_rows import GENESIS, RawEvent, event_text, last_link, walk
from mlc_dagster.ledger.checkpoints import Checkpoint, Checkpointing, Line
from mlc_dagster.ledger.controls import file_controls, reposts
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.evidence_population import Period, Population
from mlc_dagster.ledger.schema import audit_chain, audit_checkpoint, audit_event, source_file
from mlc_dagster.ledger.types import canonical_json, utc_text

FORMAT = "mlc-evidence-1"
VERIFIER = "verify_evidence.py"
_MANIFEST_PURPOSE = b"mlc-evidence-manifest-1\n"
_README = "README.txt"


class EvidenceRefused(Exception):
    """No pack can be made; the text says why and what to do."""


@dataclass(frozen=True)
class ControlResult:
    """What one control found; ``holds`` None where it could not be compared, which ``text`` explains."""

    control: str
    scope: str
    holds: bool | None
    faults: Sequence[str] = ()
    numbers: Mapping[str, int | str] | None = None
    text: str = ""


@dataclass(frozen=True)
class Request:
    """What pack is asked for, by whom and why."""

    period: Period
    by: str
    reason: str
    configuration: Mapping[str, Any]
    """mlc.yaml with its references, and its hash."""
    controls: Sequence[ControlResult]
    """What controls found that ask more than the ledger."""


@dataclass(frozen=True)
class Pack:
    """A pack that was written."""

    place: Path
    manifest_sha256: str
    signed_by: str | None
    events: int
    links: tuple[int, int]
    controls_not_held: tuple[str, ...]


def write_pack(ledger: Ledger, checkpointing: Checkpointing, request: Request, out: Path) -> Pack:
    """Write a pack to a new folder, or to a new zip file where the name ends in ``.zip``; it goes on record.

    Raises:
        EvidenceRefused: ``out`` is there already.
        OSError: it cannot be written.
    """
    if out.exists():
        raise EvidenceRefused(f"{out}: is there already and is not overwritten; name another place or move it away")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        pack = _Writer(folder, checkpointing).write(ledger, request, out)
        if out.suffix == ".zip":
            _zip(folder, out)
            shutil.rmtree(folder)
        else:
            folder.replace(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with ledger.transaction() as transaction:
        transaction.audit_action(
            "audit.exported", "audit", by=request.by, reason=request.reason, before={},
            after={"manifest_sha256": pack.manifest_sha256, "place": str(out)},
            period=[_time(moment) for moment in request.period], links=list(pack.links),
        )  # fmt: skip
    return pack


class _Writer:
    """One pack in the making."""

    def __init__(self, folder: Path, checkpointing: Checkpointing) -> None:
        self._folder = folder
        self._checkpointing = checkpointing
        self._files: dict[str, dict[str, Any]] = {}

    def write(self, ledger: Ledger, request: Request, out: Path) -> Pack:
        # Before the ledger: a line outside is written after the link that it speaks of, so that none is taken for lost.
        lines = self._checkpointing.file.lines()[0]
        with ledger.reading() as reading:
            trail = self._trail(reading, request.period, lines)
            population = Population(reading, request.period)
            self._put("population/source_files.csv", population.source_files())
            self._put("population/invoices.csv", population.invoices())
            self._put("population/exported_files.csv", population.exported_files())
            self._put_json("population/totals.json", population.totals)
            self._put_json("configuration/settings.json", request.configuration)
            versions = population.versions()
            versions["crosswalks"] = [
                {"file": f"configuration/crosswalks/{name}", **said}
                for name, said, content in population.crosswalks(versions["mapped_with"])
                if self._put(f"configuration/crosswalks/{name}", [content])
            ]
            self._put_json("configuration/versions.json", versions)
            controls = [*_ledger_controls(reading, population), *request.controls]
            self._put_json("control_results.json", [asdict(control) for control in controls])
            now = reading.now
        self._put(VERIFIER, [(files("mlc_dagster.ledger") / "evidence_verifier.py").read_bytes()])
        self._put(_README, [_readme(request, trail).encode()])
        digest, signed_by = self._manifest(request, trail, now)
        failed = tuple(f"{control.control} ({control.scope})" for control in controls if control.holds is False)
        return Pack(out, digest, signed_by, trail["events"], (trail["first_seq"], trail["last_seq"]), failed)

    def _put(self, name: str, parts: Iterable[bytes]) -> bool:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            for part in parts:
                stream.write(part)
                digest.update(part)
                size += len(part)
        self._files[name] = {"sha256": digest.hexdigest(), "bytes": size}
        return True

    def _put_json(self, name: str, document: Any) -> None:
        text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)
        self._put(name, [f"{text}\n".encode()])

    def _trail(self, reading: Transaction, period: Period, lines: Sequence[Line]) -> dict[str, Any]:
        """Events, links and checkpoints from the checkpoint before the period to the one after it.

        And checkpoints of links behind the end of the chain, whatever the period: they show that it was cut.
        """
        first, last, before = _range(reading, period, signed=bool(self._checkpointing.ring.public_keys))
        head = last_link(reading)
        end = 0 if head is None else head[0]
        where = sa.or_(audit_checkpoint.c.seq.between(first - 1, last), audit_checkpoint.c.seq > end)
        kept = [Checkpoint.of(row) for row in reading.rows(sa.select(audit_checkpoint).where(where))]
        outside = standing(lines, self._checkpointing.ring)
        apart = [found for found in outside.checkpoints if first - 1 <= found.seq <= last or found.seq > end]
        told = sorted({*kept, *apart}, key=lambda found: (found.seq, found.at))
        self._put("trail/checkpoints.jsonl", (f"{found.line()}\n".encode() for found in told))
        if outside.gaps:
            # Whatever the period: who reads a pack must hear that links are lost.
            lost = [line for gap in outside.gaps for line in outside.lost[gap.gap]]
            self._put("trail/gaps.jsonl", (f"{gap.line()}\n".encode() for gap in outside.gaps))
            self._put("trail/lost.jsonl", (f"{line.line()}\n".encode() for line in lost))
        scratch = self._folder / "operator_actions"
        state: dict[str, Any] = {"count": 0, "hash": before}
        with (
            scratch.open("wb") as actions,
            (self._folder / "links").open("w+b") as links,
        ):

            def events() -> Iterator[bytes]:
                for seq, event_id, previous, link, *event in walk(reading, first, last):
                    row: RawEvent = (event[0], event[1], event[2], event[3], event[4], event[5])
                    line = f"{event_text(row)}\n".encode()
                    if _is_action(row):
                        actions.write(line)
                    said = {"seq": seq, "event_id": event_id, "previous_hash": previous, "hash": link}
                    links.write(f"{canonical_json(said)}\n".encode())
                    state["count"], state["hash"] = state["count"] + 1, link
                    yield line

            self._put("trail/events.jsonl", events())
            links.seek(0)
            self._put("trail/chain.jsonl", iter(lambda: links.read(1 << 20), b""))
        with scratch.open("rb") as actions:
            self._put("operator_actions.jsonl", iter(lambda: actions.read(1 << 20), b""))
        scratch.unlink()
        (self._folder / "links").unlink()
        unsealed = _unsealed(reading, period)
        return {
            "first_seq": first, "last_seq": first + state["count"] - 1, "previous_hash": before,
            "last_hash": state["hash"], "events": state["count"], "unsealed_events_of_the_period": unsealed,
        }  # fmt: skip

    def _manifest(self, request: Request, trail: Mapping[str, Any], now: dt.datetime) -> tuple[str, str | None]:
        key = self._checkpointing.key
        manifest = {
            "format": FORMAT,
            "product": f"mlc-dagster {version('mlc-dagster')}",
            "made_at": _time(now),
            "made_by": request.by,
            "reason": request.reason,
            "period": {"from": _time(request.period[0]), "to": _time(request.period[1])},
            "trail": trail,
            "keys": sorted(set(self._checkpointing.ring.public_keys)),
            "signed_by": None if key is None else key.key_id,
            "files": self._files,
        }
        raw = f"{json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True)}\n".encode()
        digest = hashlib.sha256(raw).hexdigest()
        (self._folder / "manifest.json").write_bytes(raw)
        (self._folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n", encoding="ascii")
        if key is not None:
            said = {"key_id": key.key_id, "signature": key.sign(_MANIFEST_PURPOSE + raw)}
            (self._folder / "manifest.sig").write_text(f"{json.dumps(said)}\n", encoding="ascii")
        return digest, None if key is None else key.key_id


def _range(reading: Transaction, period: Period, *, signed: bool) -> tuple[int, int, str]:
    """(first link, last link, hash before the first): the period's events, widened to the checkpoints around them.

    The chain proves an order, not times: an event that was sealed among those of the period is in the pack whatever
    its time says. A period without events has no links: the last one is before the first. With ``signed`` the end is a
    signed checkpoint, so that one from before there was a key is followed by one that proves it.
    """
    of_period = (audit_event.c.at >= period[0], audit_event.c.at < period[1])
    found = reading.row(
        sa.select(sa.func.min(audit_chain.c.seq).label("first"), sa.func.max(audit_chain.c.seq).label("last"))
        .join(audit_event, audit_event.c.id == audit_chain.c.event_id)
        .where(*of_period)
    )
    if found is None or found["first"] is None:
        return 1, 0, GENESIS
    seq = audit_checkpoint.c.seq
    before = reading.value(sa.select(sa.func.max(seq)).where(seq < found["first"])) or 0
    after = reading.value(sa.select(sa.func.min(seq)).where(seq >= found["last"]))
    if signed:
        by_key = seq >= found["last"], audit_checkpoint.c.signature.is_not(None)
        after = reading.value(sa.select(sa.func.min(seq)).where(*by_key)) or after
    last = after or reading.value(sa.select(sa.func.max(audit_chain.c.seq)))
    previous = reading.value(sa.select(audit_chain.c.previous_hash).where(audit_chain.c.seq == before + 1))
    return before + 1, last, previous or GENESIS


def _unsealed(reading: Transaction, period: Period) -> int:
    statement = sa.select(sa.func.count()).where(
        audit_event.c.at >= period[0],
        audit_event.c.at < period[1],
        ~sa.exists().where(audit_chain.c.event_id == audit_event.c.id),
    )
    return int(reading.value(statement))


def _is_action(event: RawEvent) -> bool:
    """Whether a person had it done: the event says by whom."""
    detail = event[5]
    try:
        return detail.__class__ is str and '"by":' in detail and "by" in json.loads(detail)
    except (ValueError, TypeError, RecursionError):
        # Put in by somebody: it is sealed as it is, and must not keep a pack from being made.
        return False


def _ledger_controls(reading: Transaction, population: Population) -> Iterator[ControlResult]:
    """The controls that the ledger answers by itself."""
    faults = population.equation.faults
    yield ControlResult("every_invoice_accounted_for", "the period", not faults, faults)
    for row in reading.rows(sa.select(source_file.c.feed).distinct().order_by(source_file.c.feed)):
        found = file_controls(reading, row["feed"])
        wrong = [f"{file.path} (version {file.version}): {fault}" for file in found for fault in file.faults]
        numbers = {"files": len(found), "rows": sum(file.rows for file in found)}
        yield ControlResult("control_totals_match", f"all files of {row['feed']}", not wrong, wrong, numbers)
    again = reposts(reading)
    blind = [f"{each.number}, attempt {each.attempt}: {each.fault}" for each in again if each.fault]
    yield ControlResult("no_blind_reposts", "all invoices", not blind, blind, {"further_attempts": len(again)})


def _time(moment: dt.datetime) -> str:
    return utc_text(moment.astimezone(dt.UTC))


def _zip(folder: Path, out: Path) -> None:
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
        stream.flush()
        os.fsync(stream.fileno())


def _readme(request: Request, trail: Mapping[str, Any]) -> str:
    template = (files("mlc_dagster.ledger") / "evidence_readme.txt").read_text(encoding="utf-8")
    return template.format(
        begin=_time(request.period[0]), end=_time(request.period[1]), by=request.by, reason=request.reason, **trail
    )

"""Checks an evidence pack of mlc-dagster's audit trail. Needs Python 3.9 or newer and nothing else.

    python3 -I -S verify_evidence.py [FOLDER | PACK.zip] [--key SHA256:… | --manifest-sha256 HEX] [--json]

Without an argument it checks the folder it lies in. It computes again: the hash of every file in the manifest, the
chain over the events, the Ed25519 signatures (RFC 8032) of checkpoints and manifest, and the counts and totals of the
population. Exit code 0: everything holds; 1: something does not; 2: it is no evidence pack; 3: it is consistent with
itself only, because neither --key nor --manifest-sha256 was given. A gap that two people documented after a restore of
the ledger, under the signing key, is told and is no fault.

A pack proves itself only from a point that its maker cannot choose. Take one of these from somebody else than whoever
gave you the pack: the fingerprint of the signing key (--key), or the SHA-256 of the manifest (--manifest-sha256); and
take this program from the product rather than from the pack.

It is copied into every pack and read by auditors as it stands: one file, longer than the product's others on purpose.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast

FORMAT = "mlc-evidence-1"
GENESIS = "0" * 64
GAP_KIND, GAP_SUBJECT = "audit.restored", "audit:gaps"
CHAIN_CONTROL = "audit_chain_holds"
CHECKPOINT_PURPOSE = b"mlc-audit-checkpoint-1\n"
MANIFEST_PURPOSE = b"mlc-evidence-manifest-1\n"
GAP_PURPOSE = b"mlc-audit-gap-1\n"
BESIDE = ("manifest.json", "manifest.sha256", "manifest.sig")
PARTS = (
    "configuration/settings.json", "configuration/versions.json", "control_results.json", "operator_actions.jsonl",
    "population/exported_files.csv", "population/invoices.csv", "population/source_files.csv", "population/totals.json",
    "trail/chain.jsonl", "trail/checkpoints.jsonl", "trail/events.jsonl",
)  # fmt: skip
"""What every pack has, be it empty: a part that the manifest does not name is not missing by chance."""
MOST = 50
ALONE = (
    "The evidence is consistent with itself only; nothing you trust was compared. Whoever makes up a pack can make it "
    "so: run again with --key or --manifest-sha256, as somebody else than the maker of this pack told you."
)
MANIFEST_KEYS = ["files", "format", "keys", "made_at", "made_by", "period", "product", "reason", "signed_by", "trail"]
LINK_KEYS = ["event_id", "hash", "previous_hash", "seq"]
CHECKPOINT_KEYS = ["at", "event_id", "hash", "key_id", "seq", "signature"]
GAP_KEYS = [
    "approved_by", "at", "by", "checkpoint", "first", "gap", "key_id", "last", "lines", "proven", "reason",
    "restored_event_id", "restored_hash", "restored_seq", "signature",
]  # fmt: skip
EVENT_KEYS = ["actor", "at", "detail", "id", "kind", "subject"]


# --- Ed25519, RFC 8032 section 5.1: verification only ----------------------------------------------------------------

Point = tuple[int, int, int, int]

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a: Point, b: Point) -> Point:
    """Sum of two points in extended coordinates."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    t, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, z - t, z + t, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    """``scalar`` times ``point``."""
    total = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def recover_x(y: int, sign: int) -> int | None:
    """The x of a point by its y and the sign of x; None when there is no such point."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def decompress(encoded: bytes) -> Point | None:
    """A point from its 32 bytes; None when they are none."""
    if len(encoded) != 32:
        return None
    y = int.from_bytes(encoded, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0) or 0
BASE: Point = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """True when ``signature`` (64 bytes) is that of ``message`` by the key with these 32 public bytes."""
    a = decompress(public)
    if a is None or len(signature) != 64:
        return False
    r, s = decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- The pack ---------------------------------------------------------------------------------------------------------


class NoPack(Exception):
    """This is no evidence pack."""


class Folder:
    """A pack in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Files, relative; a link to a file is read as what it points to, one to a folder is no part of any pack."""
        found = (p for p in self.path.rglob("*") if p.is_symlink() or not p.is_dir())
        return sorted(str(p.relative_to(self.path).as_posix()) for p in found)

    def open(self, name: str) -> IO[bytes]:
        """The bytes of a file as a stream."""
        return (self.path / name).open("rb")


class Zip:
    """A pack in a zip file; nothing is unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        names = [info.filename for info in self.archive.infolist() if not info.is_dir()]
        if len(set(names)) != len(names):
            raise NoPack("the zip file holds two files of one name")

    def names(self) -> list[str]:
        """Files."""
        return sorted(info.filename for info in self.archive.infolist() if not info.is_dir())

    def open(self, name: str) -> IO[bytes]:
        """The bytes of a file as a stream."""
        return self.archive.open(name)


def open_pack(path: Path) -> Folder | Zip:
    """The pack at ``path``."""
    if path.is_dir():
        return Folder(path)
    if zipfile.is_zipfile(path):
        return Zip(path)
    raise NoPack(f"{path} is neither a folder nor a zip file")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks, as the ledger writes it, with half of a surrogate pair as its escape."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def fingerprint(public: str) -> str:
    """SHA256:… of a public key in base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(public)).digest()).decode().rstrip("=")


def bytes_of(text: Any) -> bytes:
    """Bytes from base64 that is written the one right way; none from anything else."""
    try:
        raw = base64.b64decode(text or "", validate=True)
    except (ValueError, TypeError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


class Check:
    """One pack being checked: what was found, and what does not hold."""

    def __init__(self, pack: Folder | Zip, key: str | None = None, manifest_sha256: str | None = None) -> None:
        self.pack = pack
        self.key = key
        self.manifest_sha256 = manifest_sha256
        self.compared = key is not None or manifest_sha256 is not None
        self.faults: list[str] = []
        self.told: dict[str, Any] = {}
        self.notes: list[str] = []
        self.manifest: dict[str, Any] = {}
        self.keys: dict[str, bytes] = {}
        self.lost_until: list[tuple[int, str, int]] = []

    def fault(self, text: str) -> None:
        """Something does not hold."""
        if len(self.faults) < MOST:
            self.faults.append(text)

    def run(self) -> None:
        """Everything, in an order in which each step stands on the one before."""
        self.read_manifest()
        self.check_files()
        self.check_chain()
        self.check_population()
        self.check_controls()

    def lines(self, name: str) -> Iterator[bytes]:
        """Lines of a file of the pack, without their ends; none of a missing one, which is a fault already."""
        if name not in self.manifest["files"] or name not in self.pack.names():
            return
        with self.pack.open(name) as stream:
            for line in stream:
                yield line.rstrip(b"\n")

    def document(self, name: str) -> Any:
        """A JSON file of the pack."""
        try:
            return json.loads(b"\n".join(self.lines(name)).decode("utf-8"), parse_float=Decimal)
        except ValueError:
            self.fault(f"{name} is no JSON")
            return None

    def table(self, name: str) -> Iterator[dict[str, str]]:
        """Rows of a CSV file of the pack."""
        text = io.StringIO("\n".join(line.decode("utf-8", "replace") for line in self.lines(name)), newline="")
        return iter(csv.DictReader(text))

    def read_manifest(self) -> None:
        """The manifest, its hash and its signature."""
        names = self.pack.names()
        if "manifest.json" not in names:
            raise NoPack("there is no manifest.json")
        with self.pack.open("manifest.json") as stream:
            raw = stream.read()
        manifest = record(raw, MANIFEST_KEYS)
        if manifest is None or manifest["format"] != FORMAT:
            raise NoPack(f"manifest.json is not that of a pack this program knows ({FORMAT})")
        self.manifest = manifest
        self.keys = {fingerprint(public): bytes_of(public) for public in self.manifest["keys"]}
        digest = hashlib.sha256(raw).hexdigest()
        self.told["manifest_sha256"] = digest
        self.told["keys"] = sorted(self.keys)
        if self.key is not None and self.key not in self.keys:
            self.fault(
                "the pack names the keys {}, not {} that you trust".format(", ".join(self.keys) or "none", self.key)
            )
        if self.manifest_sha256 is not None and self.manifest_sha256.lower() != digest:
            self.fault(f"manifest.json has SHA-256 {digest}, not the one you were told")
        if "manifest.sha256" not in names:
            self.fault("manifest.sha256 is missing")
        else:
            with self.pack.open("manifest.sha256") as stream:
                if stream.read() != (f"{digest}  manifest.json\n").encode():
                    self.fault("manifest.json is not the file that manifest.sha256 was written for")
        self.check_manifest_signature(raw, names)

    def check_manifest_signature(self, raw: bytes, names: list[str]) -> None:
        """Whoever changes a file and the manifest with it cannot sign it."""
        self.told["manifest_signed_by"] = None
        if "manifest.sig" not in names:
            if self.manifest.get("signed_by") or self.key:
                self.fault("manifest.sig is missing")
            else:
                self.notes.append("the manifest is not signed: compare its SHA-256 with what the export printed")
            return
        with self.pack.open("manifest.sig") as stream:
            text = stream.read()
        said = record(text, ["key_id", "signature"]) or {}
        name, signature = str(said.get("key_id")), bytes_of(said.get("signature"))
        trusted = name == self.key if self.key else name in self.keys
        exact = text == (json.dumps(said) + "\n").encode()
        if exact and trusted and signature_holds(self.keys.get(name, b""), MANIFEST_PURPOSE + raw, signature):
            self.told["manifest_signed_by"] = name
        else:
            self.fault("manifest.sig is not a signature of manifest.json by a key that counts")
        if name != self.manifest.get("signed_by"):
            self.fault("manifest.sig is by another key than manifest.json names")

    def check_files(self) -> None:
        """Every file has the hash that the manifest names, and there is no other."""
        names = self.pack.names()
        for name in PARTS:
            if name not in self.manifest["files"]:
                self.fault(f"{name} is not in the manifest: every pack has one, it was left out")
        for name, said in sorted(self.manifest["files"].items()):
            if name not in names:
                self.fault(f"{name} is missing")
                continue
            digest, size = hashlib.sha256(), 0
            with self.pack.open(name) as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
                    size += len(block)
            if digest.hexdigest() != said["sha256"] or size != said["bytes"]:
                self.fault(f"{name} was changed: it is not the file that the manifest names")
        for name in names:
            if name not in self.manifest["files"] and name not in BESIDE:
                self.fault(f"{name} is not in the manifest: it was put in")
        self.told["files"] = len(self.manifest["files"])

    def check_chain(self) -> None:
        """The events hash to the links, link after link, and the checkpoints agree."""
        said = self.manifest["trail"]
        by_seq: dict[int, list[dict[str, Any]]] = {}
        for checkpoint in self.read_checkpoints():
            by_seq.setdefault(checkpoint["seq"], []).append(checkpoint)
        newest = max(by_seq, default=0)
        gaps = self.read_gaps()
        for gap in gaps.values():
            head = {"hash": gap["restored_hash"], "event_id": gap["restored_event_id"], "at": gap["at"]}
            by_seq.setdefault(gap["restored_seq"], []).append(head)
        documented: list[str] = []
        actions = self.read_actions()
        seq, previous, count = int(said["first_seq"]) - 1, str(said["previous_hash"]), 0
        if seq == 0 and previous != GENESIS:
            self.fault("the first link of the chain must follow 64 zeros")
        if seq > 0 and seq not in by_seq:
            self.fault(f"no checkpoint says what link {seq} was, which the chain of the pack follows")
        self.agree(by_seq, seq, previous, None)
        events = self.lines("trail/events.jsonl")
        for raw in self.lines("trail/chain.jsonl"):
            event = next(events, None)
            link = record(raw, LINK_KEYS)
            if link is None or event is None:
                self.fault(f"trail: after link {seq} a line is no link, or its event is missing")
                return
            read = record(event, EVENT_KEYS)
            self.check_link(link, read, event, seq, previous)
            self.agree(by_seq, link["seq"], link["hash"], link["event_id"])
            if read is None:
                self.fault(f"event {link['event_id']} (link {link['seq']}) is not as the product writes any")
            else:
                self.check_action(read, event, actions)
                self.check_time(link["seq"], read)
                self.check_statement(read, link["seq"], gaps, documented)
            seq, previous, count = link["seq"], link["hash"], count + 1
        if next(events, None) is not None:
            self.fault("trail/events.jsonl has more events than the chain has links")
        if (seq, previous, count) != (said["last_seq"], said["last_hash"], said["events"]):
            self.fault(f"the chain ends at link {seq}, the manifest says {said['last_seq']}: links were removed")
        if actions:
            self.fault(f"{len(actions)} lines of operator_actions.jsonl are no events of the chain, or not of people")
        self.check_end(seq, newest, int(said["unsealed_events_of_the_period"]))
        for name, gap in gaps.items():
            if name not in documented:
                self.notes.append(f"the event of gap {gap['gap']} is not among the links of this pack")
        self.told.update(events=count, links=[said["first_seq"], seq], head=previous)

    def check_link(
        self, link: dict[str, Any], read: dict[str, Any] | None, event: bytes, seq: int, previous: str
    ) -> None:
        """A link follows the one before it and is that of its event; ``read`` is None for one that cannot be read."""
        if link["seq"] != seq + 1:
            self.fault(f"link {seq + 1} is missing: the chain goes on with {link['seq']}")
        if link["previous_hash"] != previous:
            self.fault(f"link {link['seq']} does not follow the link before it")
        if read is not None and link["event_id"] != read["id"]:
            self.fault(f"link {link['seq']} seals event {link['event_id']}, the pack has event {read['id']}")
        if hashlib.sha256(str(link["previous_hash"]).encode() + event).hexdigest() != link["hash"]:
            event_id, kind = (link["event_id"], "unreadable") if read is None else (read["id"], read["kind"])
            self.fault(f"event {event_id} (link {link['seq']}, {kind}) was changed")

    def read_actions(self) -> set[bytes]:
        """Hashes of the lines of operator_actions.jsonl; each is there once."""
        found: set[bytes] = set()
        for line in self.lines("operator_actions.jsonl"):
            digest = hashlib.sha256(line).digest()
            if digest in found:
                self.fault("operator_actions.jsonl has a line twice")
            found.add(digest)
        return found

    def check_action(self, read: dict[str, Any], event: bytes, actions: set[bytes]) -> None:
        """Whatever a person had done, by what the event says, is in operator_actions.jsonl."""
        if not isinstance(read["detail"], dict) or "by" not in read["detail"]:
            return
        digest = hashlib.sha256(event).digest()
        if digest in actions:
            actions.remove(digest)
        else:
            self.fault(
                f"event {read['id']} ({read['kind']}) says who had it done, and is not in operator_actions.jsonl"
            )

    def read_gaps(self) -> dict[str, dict[str, Any]]:
        """Documented gaps by the SHA-256 of their line: each signed, each naming the checkpoints it is about."""
        gaps: dict[str, dict[str, Any]] = {}
        lost: dict[str, dict[str, Any]] = {}
        for raw in self.lines("trail/lost.jsonl"):
            found = parse(raw)
            if not isinstance(found, dict) or raw != canonical(found):
                self.fault("trail/lost.jsonl: a line is none that the product writes")
                continue
            lost[hashlib.sha256(raw).hexdigest()] = found
        left = set(lost)
        last = 0
        for raw in self.lines("trail/gaps.jsonl"):
            gap = record(raw, GAP_KEYS)
            if gap is None or raw != canonical(gap):
                self.fault("trail/gaps.jsonl: a line is no documented gap")
                continue
            fault = self.gap_fault(gap, lost, left)
            if fault is not None:
                self.fault(f"the documented gap {gap['gap']} {fault}")
                continue
            if gap["gap"] <= last:
                self.fault(f"the documented gap {gap['gap']} comes after gap {last}: they were moved or numbered anew")
            last = gap["gap"]
            until = max(lost[name]["at"] for name in gap["lines"] if "seq" in lost[name])
            self.lost_until.append((gap["restored_seq"], until, gap["gap"]))
            left -= set(gap["lines"])
            gaps[hashlib.sha256(raw).hexdigest()] = gap
        if left:
            self.fault(f"trail/lost.jsonl: {len(left)} lines are named by no documented gap")
        self.told["gaps"] = [
            {name: gap[name] for name in ("first", "last", "restored_seq", "at", "by", "approved_by", "reason")}
            for gap in gaps.values()
        ]
        return gaps

    def gap_fault(self, gap: dict[str, Any], lost: dict[str, dict[str, Any]], left: set[str]) -> str | None:
        """What is wrong with a documented gap."""
        message = GAP_PURPOSE + canonical({k: v for k, v in gap.items() if k != "signature"})
        if not signature_holds(self.keys.get(gap["key_id"], b""), message, bytes_of(gap["signature"])):
            return f"has no good signature of {gap['key_id']}: it was made up or changed"
        if any(name not in left for name in gap["lines"]) or len(set(gap["lines"])) != len(gap["lines"]):
            return "names lines that are not in trail/lost.jsonl, or that another gap names"
        head: int = gap["restored_seq"]
        named: list[tuple[dict[str, Any], int]] = []
        for found in (lost[name] for name in gap["lines"]):
            if "seq" in found:
                named.append((found, head))
            else:
                # A documented gap that was itself lost: what followed it went on from its own head.
                head = min(head, found["restored_seq"])
        restored: int = gap["restored_seq"]
        if (restored == 0) != (gap["restored_hash"] == GENESIS) or gap["proven"] > restored:
            return "does not say what was restored"
        if not named or named[-1][0] != gap["checkpoint"]:
            return "does not name the checkpoints that it is about"
        if any(found["seq"] <= before for found, before in named):
            return "names checkpoints of links that it says were restored"
        first, last = min(before for _, before in named) + 1, max(found["seq"] for found, _ in named)
        if (gap["first"], gap["last"]) != (first, last):
            return "does not say which links were lost"
        newest = named[-1][0]
        message = CHECKPOINT_PURPOSE + canonical({k: v for k, v in newest.items() if k != "signature"})
        if not signature_holds(self.keys.get(newest["key_id"], b""), message, bytes_of(newest["signature"])):
            return "names a checkpoint whose signature is not good"
        return None

    def check_time(self, link: int, event: dict[str, Any]) -> None:
        """What follows a restored link is later than all that was lost; else it was rewritten, whoever signed that."""
        for head, until, gap in self.lost_until:
            if link > head and event["at"] <= until:
                self.fault(
                    f"event {event['id']} (link {link}) is of {event['at']}, but the documented gap {gap} says that "
                    f"all links behind {head} were lost, to {until}: it was rewritten, or the clock went back"
                )

    def check_statement(
        self, event: dict[str, Any], link: int, gaps: dict[str, dict[str, Any]], documented: list[str]
    ) -> None:
        """An event that documents a gap has the words of one in trail/gaps.jsonl, once, after the restored link."""
        if (event["kind"], event["subject"]) != (GAP_KIND, GAP_SUBJECT):
            return
        detail: dict[str, Any] = {}
        if isinstance(event["detail"], dict):
            detail.update(cast("dict[str, Any]", event["detail"]))
        name = hashlib.sha256(canonical(detail.get("statement"))).hexdigest()
        if name not in gaps or name in documented:
            self.fault(f"event {event['id']} documents a gap that trail/gaps.jsonl does not have, or has once")
        elif link <= gaps[name]["restored_seq"]:
            self.fault(f"event {event['id']} documents a gap from within what it says was restored")
        documented.append(name)

    def check_end(self, last: int, newest: int, unsealed: int) -> None:
        """How the end of the chain is covered: by a checkpoint, by the manifest alone, or by nothing."""
        if unsealed:
            self.notes.append(f"{unsealed} events of the period were in no link yet: nothing proves them")
        if newest < last:
            self.notes.append(f"links {newest + 1} to {last} have no checkpoint: only the manifest stands for them")
        elif newest > last:
            self.fault(f"there is a checkpoint of link {newest}, the pack ends at {last}: links were removed")

    def agree(self, by_seq: dict[int, list[dict[str, Any]]], seq: int, link_hash: str, event_id: int | None) -> None:
        """A link is what its checkpoints say."""
        for checkpoint in by_seq.get(seq, ()):
            if checkpoint["hash"] != link_hash or event_id not in (None, checkpoint["event_id"]):
                self.fault(f"link {seq} is not what the checkpoint of {checkpoint['at']} says")

    def read_checkpoints(self) -> Iterator[dict[str, Any]]:
        """Checkpoints with a good signature, or none where no key is used."""
        signed: list[int] = []
        unsigned: list[int] = []
        for raw in self.lines("trail/checkpoints.jsonl"):
            found = record(raw, CHECKPOINT_KEYS)
            if found is None:
                self.fault("trail/checkpoints.jsonl: a line is no checkpoint")
                continue
            name, signature = found["key_id"], found["signature"]
            if signature is None and name is None:
                unsigned.append(found["seq"])
            else:
                message = CHECKPOINT_PURPOSE + canonical({k: v for k, v in found.items() if k != "signature"})
                if signature_holds(self.keys.get(name, b""), message, bytes_of(signature)):
                    signed.append(found["seq"])
                else:
                    self.fault(f"the checkpoint of link {found['seq']} has no good signature of {name}")
            yield found
        if unsigned:
            # Before the first signed one there may have been no key; a signed one proves the links before it.
            late = [seq for seq in unsigned if signed and seq >= min(signed)]
            if late:
                self.fault(f"the checkpoint of link {late[0]} has no signature, that of link {min(signed)} has one")
            elif not signed and (self.key or self.keys):
                self.fault(f"none of {len(unsigned)} checkpoints has a signature although a key is in use")
            self.notes.append(f"{len(unsigned)} checkpoints are not signed")
        self.told["checkpoints"] = {"signed": len(signed), "unsigned": len(unsigned)}

    def check_population(self) -> None:
        """The rows add up again: rows in = rows out for each file, and the control totals."""
        totals = self.document("population/totals.json")
        if totals is None:
            return
        rows: dict[str, int] = {}
        invoices: dict[str, int] = {}
        buckets: dict[str, int] = {}
        amounts: dict[str, Decimal] = {}
        sums: dict[str, dict[str, Decimal]] = {}
        appearances: set[str] = set()
        for row in self.table("population/invoices.csv"):
            file = row["file_id"]
            if row["occurrence_id"] in appearances:
                self.fault(f"population/invoices.csv has appearance {row['occurrence_id']} twice")
            appearances.add(row["occurrence_id"])
            rows[file] = rows.get(file, 0) + number(row["rows"])
            invoices[file] = invoices.get(file, 0) + 1
            buckets[row["bucket"]] = buckets.get(row["bucket"], 0) + 1
            if row["amount"]:
                for of in (amounts, sums.setdefault(row["bucket"], {})):
                    of[row["currency"]] = of.get(row["currency"], Decimal(0)) + Decimal(row["amount"])
        self.check_rows(rows, invoices)
        received, counted = totals["received"], sum(buckets.values())
        if not same_amounts(received["amounts"], amounts):
            self.fault("the amounts of the population are not the totals that the file reader counted")
        for name, told_of in totals["accounted_for"].items():
            if not same_amounts(told_of["amounts"], sums.pop(name, {})):
                self.fault(f"the amounts of the invoices that are {name} are not those in totals.json")
        if buckets != {name: said["count"] for name, said in totals["accounted_for"].items() if said["count"]}:
            self.fault("the outcomes of the population are not the counts in totals.json")
        if counted != received["count"]:
            self.fault(f"{received['count']} invoices were received, {counted} are accounted for")
        exported = self.check_exported()
        if exported != totals["exported"]:
            self.fault("the exported files are not the counts in totals.json")
        told = {currency: format(amount, "f") for currency, amount in sorted(amounts.items())}
        self.told["population"] = {"invoices": buckets, "amounts": told, "exported": exported}

    def check_rows(self, rows: dict[str, int], invoices: dict[str, int]) -> None:
        """Rows in = rows out of each file that was read: in invoices, or quarantined."""
        for row in self.table("population/source_files.csv"):
            inside, aside = number(row["rows_in_invoices"]), number(row["rows_quarantined"])
            held = rows.pop(row["file_id"], 0), invoices.pop(row["file_id"], 0)
            if not row["rows_total"]:
                continue
            if number(row["rows_total"]) != inside + aside or aside != number(row["quarantined_in_ledger"]):
                self.fault(f"{row['path']}: {row['rows_total']} rows in, {inside} in invoices, {aside} quarantined")
            if held != (inside, number(row["invoices"])):
                self.fault(
                    f"{row['path']}: the reader counted {inside} rows in {row['invoices']} invoices, "
                    f"the population has {held[0]} in {held[1]}"
                )
        if rows:
            self.fault("population/invoices.csv has rows of files that are not in source_files.csv")

    def check_exported(self) -> dict[str, int]:
        """Counts of the exported files; each holds the documents that the ledger has of it."""
        counts = {"files": 0, "documents": 0, "rows": 0, "bytes": 0}
        for row in self.table("population/exported_files.csv"):
            counts["files"] += 1
            for name in ("documents", "rows", "bytes"):
                counts[name] += number(row[name])
            documents, held = row["documents"], row["records_in_ledger"]
            if number(documents) != number(held):
                self.fault(f"{row['name']}: {documents} documents in the file, {held} in the ledger")
        return counts

    def check_controls(self) -> None:
        """What the controls found is told; one that did not hold is no fault of the proof, but that of the chain is.

        Whoever made the pack saw more of the trail than is in it.
        """
        held: list[str] = []
        broken: list[str] = []
        open_: list[str] = []
        whole: list[bool] = []
        for control in self.document("control_results.json") or ():
            place = held if control["holds"] is True else broken if control["holds"] is False else open_
            place.append(f"{control['control']} ({control['scope']})")
            if control["control"] == CHAIN_CONTROL:
                whole.append(control["holds"] is True)
                if control["holds"] is not True:
                    said = "; ".join(map(str, control["faults"])) or "it was not compared"
                    self.fault(f"the audit trail did not hold when the pack was made: {said}")
        if not whole:
            self.fault(f"control_results.json does not say whether the audit trail held ({CHAIN_CONTROL})")
        self.told["controls"] = {"held": held, "not_held": broken, "not_compared": open_}


def parse(raw: bytes) -> Any:
    """JSON of a line; None when it is none."""
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def record(raw: bytes, keys: list[str]) -> dict[str, Any] | None:
    """A line that is a JSON object with exactly these keys."""
    found: Any = parse(raw)
    return found if isinstance(found, dict) and sorted(map(str, list(found))) == keys else None  # type: ignore[arg-type]


def same_amounts(told: dict[str, str], found: dict[str, Decimal]) -> bool:
    """Whether amounts by currency are those that were told; a currency that comes to nothing need not be there."""
    read = {currency: Decimal(text) for currency, text in told.items()}
    return {c: a for c, a in read.items() if a} == {c: a for c, a in found.items() if a}


def number(text: str) -> int:
    """A count from a cell; an empty one is 0."""
    return int(text or 0)


def listed(parts: list[str]) -> str:
    """Words with commas."""
    return ", ".join(parts) or "none"


def say(check: Check) -> str:
    """The findings for people."""
    said, manifest = check.told, check.manifest
    period = manifest["period"]
    out = [
        f"Evidence of the audit trail from {period['from']} to {period['to']}",
        f"Made {manifest['made_at']} by {manifest['made_by']}: {manifest['reason']}",
        f"Manifest: SHA-256 {said['manifest_sha256']}, signed by {said['manifest_signed_by'] or 'nobody'}",
    ]
    if "links" in said:
        first, last = said["links"]
        counts = said["checkpoints"]
        out.append(f"Chain: {said['events']} events, links {first} to {last}, head {said['head']}")
        out.append(f"Checkpoints: {counts['signed']} signed, {counts['unsigned']} unsigned")
    out += [
        f"GAP, documented: links {gap['first']} to {gap['last']} were lost when the ledger was restored to link "
        f"{gap['restored_seq']}; documented {gap['at']} by {gap['by']}, approved by {gap['approved_by']}: "
        f"{gap['reason']}"
        for gap in said.get("gaps", ())
    ]
    if "population" in said:
        found, exported = said["population"], said["population"]["exported"]
        out.append(f"Invoices: {listed([f'{count} {name}' for name, count in sorted(found['invoices'].items())])}")
        out.append(f"Amounts: {listed([f'{amount} {code}' for code, amount in found['amounts'].items()])}")
        out.append(f"Exported: {exported['files']} files, {exported['documents']} documents, {exported['bytes']} bytes")
    if "controls" in said:
        found = said["controls"]
        out.append(f"Controls that held: {listed(found['held'])}")
        out.append(f"Controls that did NOT hold: {listed(found['not_held'])}")
        out.append(f"Controls that could not be compared: {listed(found['not_compared'])}")
    out += [f"Note: {note}" for note in check.notes]
    out += [f"FAULT: {fault}" for fault in check.faults]
    gaps = ", ".join(f"from link {gap['first']} to {gap['last']}" for gap in said.get("gaps", ()))
    holds = f"The evidence holds, with a documented gap {gaps}." if gaps else "The evidence holds."
    out.append("The evidence does NOT hold." if check.faults else holds if check.compared else ALONE)
    return "\n".join(out)


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit code."""
    parser = argparse.ArgumentParser(description="Checks an evidence pack of mlc-dagster's audit trail.")
    parser.add_argument("pack", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--key", help="fingerprint (SHA256:…) of the key that must have signed")
    parser.add_argument("--manifest-sha256", help="SHA-256 that manifest.json must have")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        # What a pack says may hold characters that no screen has.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        check = Check(open_pack(chosen.pack), chosen.key, chosen.manifest_sha256)
        check.run()
    except NoPack as error:
        sys.stderr.write(f"verify_evidence: {error}\n")
        return 2
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError, zipfile.BadZipFile) as error:
        # Hashes were compared before: what cannot be read after that was not written by the product.
        sys.stderr.write(f"FAULT: the pack cannot be read: {type(error).__name__}: {error}\n")
        return 1
    if chosen.json:
        found: dict[str, Any] = {"holds": not check.faults and check.compared, "compared": check.compared}
        found.update(faults=check.faults, notes=check.notes)
        sys.stdout.write(json.dumps({**found, **check.told}, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(say(check) + "\n")
    return 1 if check.faults else 0 if check.compared else 3


if __name__ == "__main__":
    sys.exit(main())

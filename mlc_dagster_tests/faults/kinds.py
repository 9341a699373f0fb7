"""Everything that goes wrong at the two remote sides, each kind by its name.

A kind strikes at a place: by default where it hurts most (the POST of the second invoice, the first file), else at the
n-th request that it can strike. Kinds that do not end by themselves are relieved, as an administrator elsewhere would.
"""

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlc_dagster.sandbox.faults import Fault
from mlc_dagster_tests.protocols.posting import clerk, one
from mlc_dagster_tests.servers.faulty_sftp import Faults as SftpFaults
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv

BOOKS = ("INV-1", "INV-2", "INV-3", "INV-4")
BUCKETS = {"created": 4, "parked": 1, "duplicate": 1}
FIRST = invoice_csv([*one("INV-1"), *one("INV-2", "10.00", "20.00"), *one("INV-3")])
SECOND = invoice_csv([*one("INV-4"), *one("INV-1", invoice_id="id-INV-1"), *one("INV-9", vendor_id="99999")])

REQUESTS = 19
"""So many requests to Fusion do the first two polls make, tokens apart."""
READS = 15
LOOK_UPS = 5
"""Those of the reads that are for invoices, the read-back with them."""
TOKENS = 2
PACKETS = 10
"""And so many to the SFTP server."""
HTML = "<html><head><title>Sign In</title></head><body>Welcome</body></html>"


def prepare(flow: Rehearsal) -> None:
    """Two files, and a business unit that has an invoice already; waits are short."""
    waits = {"refused_wait": 0.1, "ambiguous_wait": 0.3, "wait_in_run": 2, "retry_after_cap": 0.5}
    flow.change_config({"fusion": waits})
    be_patient(flow, 1)
    clerk(flow)
    flow.drop(file_name(1), FIRST)
    flow.drop(file_name(2), SECOND)


def be_patient(flow: Rehearsal, seconds: float) -> None:
    """How long each remote side may take to answer."""
    sftp = {"channel_timeout": seconds, "connect_timeout": 5 * seconds}
    flow.change_config({"fusion": {"request_timeout": seconds}, "stampli": {"sftp": sftp}})


@dataclass(frozen=True)
class FusionKind:
    """``strike`` sets it up and gives the faults that must have fired; ``lasts``: until it is relieved."""

    name: str
    strike: Callable[[Rehearsal, int | None], Sequence[Fault]]
    lasts: bool = False
    places: int = REQUESTS


def _where(place: int | None) -> dict[str, Any]:
    return {"method": "POST", "path": "invoices", "skip": 1} if place is None else {"skip": place}


def _struck(name: str, kind: str, *, lasts: bool = False, places: int = REQUESTS, **how: Any) -> FusionKind:
    how = how if lasts else {"count": 1, **how}
    return FusionKind(
        name, lambda flow, place: [flow.fusion.faults.add(kind, **(_where(place) | how))], lasts=lasts, places=places
    )


def _everywhere(name: str, kind: str, *, lasts: bool = True, places: int = REQUESTS, **how: Any) -> FusionKind:
    """From the n-th request on, whatever it is; the first look-up by default."""
    return FusionKind(
        name,
        lambda flow, place: [flow.fusion.faults.add(kind, **{"skip": place or 0, **how})],
        lasts=lasts,
        places=places,
    )


def _quirk(name: str) -> FusionKind:
    """The answers to POSTs are lost as well: what is there must be found, whatever a page says of the next one."""

    def strike(flow: Rehearsal, place: int | None) -> Sequence[Fault]:
        flow.change_config({"fusion": {"page_size": 1}})
        flow.fusion.faults.add_quirk(name)
        lost = {"path": "invoices", "count": len(BOOKS), "skip": place or 0}
        return [flow.fusion.faults.add("commit_then_reset", **lost)]

    return FusionKind(name.replace("_", " "), strike, places=len(BOOKS))


def _skewed(name: str, by: dt.timedelta) -> FusionKind:
    def strike(flow: Rehearsal, place: int | None) -> Sequence[Fault]:
        flow.fusion.world.move_clock(by)
        return [flow.fusion.faults.add("status", retry_at=2, count=2, **_where(place))]

    return FusionKind(name, strike)


def _capped(flow: Rehearsal, _place: int | None) -> Sequence[Fault]:
    flow.fusion.faults.add("latency", path="invoices", seconds=0.1)
    return [flow.fusion.faults.add("concurrency_cap", cap=2)]


def _token_gone(flow: Rehearsal, place: int | None) -> Sequence[Fault]:
    """The token is refused in the middle, and there is no other. Validating and posting have got one each by then."""
    refused = flow.fusion.faults.add("status", status=401, count=1, **_where(place))
    return [refused, flow.fusion.faults.add("token_down", skip=2)]


def _answer_of_another(flow: Rehearsal, place: int | None) -> Sequence[Fault]:
    """A proxy gives the answer that it kept from another invoice, and nothing is stored."""
    [other] = flow.fusion.books.invoices()
    answer = {"body": json.dumps({"InvoiceId": other.invoice_id, "InvoiceNumber": other.number}), "status": 201}
    where = {"method": "POST", "path": "invoices", "skip": 1 if place is None else place, "count": 1}
    return [flow.fusion.faults.add("status", content_type="application/json", **answer, **where)]


FUSION_KINDS = (
    _struck("503", "status", count=4),
    _struck("429 with Retry-After", "status", status=429, retry_after=0.2, count=4),
    _everywhere("bursts of 503", "status", lasts=False, every=5, burst=2, count=12),
    _everywhere("bursts of 429", "status", lasts=False, status=429, every=5, burst=2, count=12),
    FusionKind("a hard cap of two at once", _capped, places=1),
    _everywhere("token endpoint down", "token_down", places=TOKENS),
    FusionKind("token refused and endpoint down", _token_gone, lasts=True),
    _struck("401", "status", status=401, count=3),
    _struck("reset", "reset"),
    _struck("time-out", "hang"),
    _struck("answer stuck half-way", "stuck"),
    _struck("answer that trickles", "trickle", seconds=0.3),
    _struck("answer cut off", "cut_off"),
    _struck("half an answer as if it were whole", "truncated"),
    _struck("HTML instead of JSON", "status", status=200, body=HTML),
    _struck("an HTML error page", "status", status=502, body=HTML),
    _struck("a sign-in page", "status", status=302, body=HTML),
    FusionKind("another invoice's answer", _answer_of_another, places=len(BOOKS)),
    _struck("stored, then a time-out", "commit_then_hang", places=len(BOOKS)),
    _struck("stored, then a reset", "commit_then_reset", places=len(BOOKS)),
    _struck("stored, then HTML", "commit_then_status", status=200, body=HTML, places=len(BOOKS)),
    _struck("stored, then 503", "commit_then_status", status=503, places=len(BOOKS)),
    _struck("a time-out, stored between the look-ups", "commit_late", path="invoices", reads=1, places=len(BOOKS)),
    _struck("a time-out, stored after both look-ups", "commit_late", path="invoices", reads=2, places=len(BOOKS)),
    _everywhere("lost data access", "zero_rows", method="GET", places=READS),
    _everywhere("invoices hidden", "zero_rows", method="GET", path="invoices*", places=LOOK_UPS),
    _everywhere("a wrong dialect", "wrong_dialect", method="GET", places=READS),
    _everywhere("a wrong dialect for invoices", "wrong_dialect", method="GET", path="invoices", places=LOOK_UPS),
    _everywhere("a revoked role", "revoked"),
    _struck("a role revoked for posting", "revoked", lasts=True, places=len(BOOKS), method="POST", path="invoices"),
    _everywhere("slow answers", "latency", lasts=False, seconds=0.1, jitter=0.1),
    _quirk("has_more_always_false"),
    _quirk("has_more_always_true"),
    _quirk("no_items_when_empty"),
    _quirk("shuffled_pages"),
    _skewed("Fusion's clock a day ahead", dt.timedelta(days=1)),
    _skewed("Fusion's clock a day behind", -dt.timedelta(days=1)),
)


@dataclass(frozen=True)
class SftpKind:
    """``strike`` gives what relieves it; None where it stays for ever or ends by itself."""

    name: str
    strike: Callable[[Rehearsal, FaultySftp, int], Callable[[], object] | None]
    places: int = 1
    struck: Callable[[FaultySftp], bool] = lambda _: True
    """Whether it has; for those that may miss."""


def _set(name: str, *, lasts: bool = False, **faults: Any) -> SftpKind:
    def strike(_flow: Rehearsal, server: FaultySftp, _place: int) -> Callable[[], object] | None:
        before = {field: getattr(server.faults, field) for field in faults}

        def put(values: dict[str, Any]) -> None:
            for field, value in values.items():
                setattr(server.faults, field, value)

        put(faults)
        return (lambda: put(before)) if lasts else None

    return SftpKind(name, strike)


def _at(name: str, field: str) -> SftpKind:
    def strike(_flow: Rehearsal, server: FaultySftp, place: int) -> None:
        setattr(server.faults, field, place)

    return SftpKind(name, strike, places=PACKETS, struck=lambda server: getattr(server.faults, field) is None)


def _once(name: str, field: str, value: int) -> SftpKind:
    return replace(_at(name, field), places=1, strike=lambda _flow, server, _: setattr(server.faults, field, value))


def _frozen(_flow: Rehearsal, server: FaultySftp, _place: int) -> Callable[[], object]:
    server.faults.frozen.set()
    return server.faults.frozen.clear


def _other_host_key(_flow: Rehearsal, server: FaultySftp, _place: int) -> Callable[[], object]:
    right = server.change_host_key()
    return lambda: server.change_host_key(right)


def _nothing(_path: Path, _offset: int) -> None:
    """What happens before a read otherwise."""


def _at_first_read(faults: SftpFaults, name: str, change: Callable[[Path], object]) -> None:
    def before_read(path: Path, _offset: int) -> None:
        if path.name == name:
            faults.before_read = _nothing
            change(path)

    faults.before_read = before_read


def _was_read(server: FaultySftp) -> bool:
    return server.faults.before_read is _nothing


def _growing(flow: Rehearsal, server: FaultySftp, _place: int) -> None:
    """Half of its invoices, ended as a whole file is; the other half comes while it is read."""
    half = FIRST.index(b"\n", FIRST.index(b"INV-2")) + 1
    flow.drop(file_name(1), FIRST[:half])

    def grow(path: Path) -> None:
        with path.open("ab") as stream:
            stream.write(FIRST[half:])

    _at_first_read(server.faults, file_name(1), grow)


def _replaced(flow: Rehearsal, server: FaultySftp, _place: int) -> None:
    """Another file of the same size under its name; what was there before must not be posted."""
    flow.drop(file_name(1), FIRST.replace(b"INV-3", b"OLD-3"))

    def replace(path: Path) -> None:
        new = path.with_name("new")
        new.write_bytes(FIRST)
        later = path.stat().st_mtime + 1
        os.utime(new, (later, later))
        new.replace(path)

    _at_first_read(server.faults, file_name(1), replace)


SFTP_KINDS = (
    SftpKind("frozen", _frozen),
    _at("frozen at a request", "freeze_at"),
    _at("dropped at a request", "drop_at"),
    _set("frozen within a listing", freeze_after_names=1, lasts=True),
    _once("a listing that fails", "fail_listing_after", 1),
    _set("dropped while reading", drop_on_read=0, lasts=True),
    SftpKind("a file that grows", _growing, struck=_was_read),
    SftpKind("a file that is replaced", _replaced, struck=_was_read),
    _set("names in latin-1", extra_names=(b"stampli_invoices_C100_20261030T170000Z_00000\xe9.csv", b"\xff\xfe")),
    _set("missing sizes", no_sizes=True),
    _set("missing types", no_types=True),
    _set("names shown twice", doubled_names=True),
    _set("slow", latency=0.05),
    _set("CLOSE fails", close_fails=True),
    _set("CLOSE is forbidden", close_is_forbidden=True),
    _set("no second channel", refuse_sessions_after=1),
    SftpKind("a wrong host key", _other_host_key),
)

"""The benchmark of the inbound flow: files of invoices to Fusion, against latency, a peer and what the machine allows.

``python -m bench.inbound [--check] [--quick] [--only CASE] [--invoices N]``; ``--check`` exits 1 below a floor. What
each case measures, and why in these units, is in ``README.md``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.findings import Finding, all_good, measure, table
from bench.inbound_site import IN_FLIGHT, REFUSED_WAIT, Site, inbound_site
from bench.invoice_files import LINES, check_books, total_cents, write_files
from bench.measuring import Run, WrongResult, cpu_pressure, require_equal, run_module
from mlc_dagster_tests.servers.sshd import RealSshd

LATENCY = 0.080
CAP = 8
NOISE = 0.05
PER_FILE = 500


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    invoices: int
    """Posted at full speed; a tenth of them at each setting of the controller."""
    large: int
    """In one file."""
    old_files: tuple[int, int]
    rounds: int


Case = Callable[[Plan, Path], Iterator[Finding]]


def posted(plan: Plan, folder: Path) -> Iterator[Finding]:
    """Invoices of 3 lines from the folder to Fusion at 80 ms and 16 in flight: share of what latency allows."""
    count = plan.invoices
    run, site_cpu = _flow(folder / "ours", count)
    naive = _naive_posting(folder / "naive", 30)
    post = run.facts["steps"]["post"]
    bound = IN_FLIGHT / LATENCY
    requests = sum(step.get("requests", 0) for step in run.facts["steps"].values())
    whole = count / run.wall
    yield Finding(
        f"{count:,} invoices: share of the latency bound ({bound:.0f} posts/s)",
        whole / bound,
        0.75,
        detail=f"{whole:.1f}/s from the first look at the folder to the last read-back, {run.wall:.1f} s; aim 0.90",
    )
    rate = count / post["wall"]
    yield Finding("  posting alone", rate / bound, detail=f"{rate:.1f}/s with look-ups and read-back")
    yield Finding(
        "  requests per invoice",
        requests / count,
        1.10,
        at_most=True,
        detail=f"{requests} with look-ups, POST, read-back, reference data and tokens",
    )
    yield Finding(
        "  CPU of the client per invoice, ms",
        1000 * run.cpu / count,
        detail="; ".join(f"{name} {1000 * step['cpu'] / count:.2f}" for name, step in run.facts["steps"].items())
        + f"; the sandbox {1000 * site_cpu / count:.2f}",
    )
    yield Finding("  peak RSS without Dagster, MiB", run.peak_mib, 400.0, at_most=True)
    yield Finding(
        "  against requests, one after the other, with a look-up each",
        whole / naive.facts["rate"],
        detail=f"{naive.facts['rate']:.1f}/s, {1000 * naive.cpu / naive.facts['invoices']:.2f} CPU ms per invoice",
    )


def parsed(plan: Plan, folder: Path) -> Iterator[Finding]:
    """Files to checked invoices with canonical JSON and digest, against csv and pydantic; CPU seconds."""
    files = [str(path) for path in write_files(folder, plan.invoices, max(1, plan.invoices // PER_FILE))]
    ours: list[Run] = []
    naive: list[Run] = []
    for number in range(plan.rounds):
        naive.append(run_module("bench.naive_invoices", *files))
        ours.append(run_module("bench.ours_inbound", "parse", *files))
        for run in (naive[-1], ours[-1]):
            require_equal("invoices read", run.facts["invoices"], plan.invoices)
            require_equal("rows read", run.facts["rows"], plan.invoices * LINES)
            require_equal("cents read", run.facts["amount"].replace(".", ""), str(total_cents(plan.invoices)))
        _tell(f"round {number + 1}", naive=naive[-1], ours=ours[-1])
    mine, theirs = (median(run.cpu for run in runs) for runs in (ours, naive))
    rows = plan.invoices * LINES / 1e6
    yield Finding(
        "parse and validate, CPU against csv + pydantic",
        theirs / mine,
        4.0,
        detail=f"CPU µs per row of 41 columns: {mine / rows:.1f} against {theirs / rows:.1f}",
    )


def controlled(plan: Plan, folder: Path) -> Iterator[Finding]:
    """One controller under 503 as noise and under a hard cap, against fixed concurrency; waits as printed."""
    count = max(200, plan.invoices // 5)
    waits = f"refused_wait {REFUSED_WAIT:g} s, {count:,} invoices"
    noise = {"kind": "status", "status": 503, "method": "POST", "path": "invoices", "probability": NOISE}
    cap = {"kind": "concurrency_cap", "status": 503, "cap": CAP, "path": "*"}
    noisy: dict[str, list[float]] = {"ours": [], "fixed": []}
    capped: dict[str, list[float]] = {"ours": [], "oracle": []}
    shares: list[float] = []
    for number in range(min(3, plan.rounds)):
        for pace, rates in noisy.items():
            run, _ = _flow(folder / f"noise-{pace}-{number}", count, fault=noise, pace=pace)
            rates.append(_post_rate(run, count))
        oracle, _ = _flow(folder / f"oracle-{number}", count, fault=cap, pace="fixed", max_in_flight=CAP)
        capped["oracle"].append(_post_rate(oracle, count))
        run, _ = _flow(folder / f"cap-{number}", count, fault=cap)
        capped["ours"].append(_post_rate(run, count))
        shares.append(run.facts["steps"]["post"]["refused"] / run.facts["steps"]["post"]["posts"])
        rates = {**{f"noise {k}": v[-1] for k, v in noisy.items()}, **{f"cap {k}": v[-1] for k, v in capped.items()}}
        sys.stdout.write(f"  round {number + 1}: {', '.join(f'{k} {v:.1f}/s' for k, v in rates.items())}\n")
    mine, fixed = (median(noisy[name]) for name in ("ours", "fixed"))
    yield Finding("5 % random 503: rate against 16 in flight, fixed", mine / fixed, 0.95, detail=waits)
    mine, best = (median(capped[name]) for name in ("ours", "oracle"))
    yield Finding("hard cap of 8: rate against 8 in flight, fixed", mine / best, 0.70, detail=waits)
    yield Finding("  share of 503 answers to POST", median(shares), 0.10, at_most=True)


def large_file(plan: Plan, folder: Path) -> Iterator[Finding]:
    """One file of many invoices, read into the ledger and validated: memory must not follow the file."""
    peaks: list[float] = []
    for count in (plan.large // 10, plan.large):
        run, _ = _flow(folder / f"{count}", count, files=1, until="validate", latency=0.0)
        peaks.append(run.peak_mib)
        steps = run.facts["steps"]
        sys.stdout.write(
            f"  {count:,} invoices: {run.peak_mib:.0f} MiB; CPU s: receive {steps['receive']['cpu']:.1f}, "
            f"validate {steps['validate']['cpu']:.1f}\n"
        )
    yield Finding(f"{plan.large:,} invoices in one file: peak RSS, MiB", peaks[1], 400.0, at_most=True)
    yield Finding("  against a tenth of them", peaks[1] / peaks[0], 1.5, at_most=True, detail=f"{peaks[0]:.0f} MiB")


def old_files(plan: Plan, folder: Path) -> Iterator[Finding]:
    """A poll of a folder of old files on OpenSSH: listing and look-up, nothing downloaded."""
    for count, most in zip(plan.old_files, (1.0, 5.0), strict=True):
        place = folder / str(count)
        with inbound_site(place / "site", latency=0.0) as site, RealSshd(place / "sshd") as sshd:
            for number in range(count):
                (sshd.root / f"stampli_invoices_C100_20260101T000000Z_{number:06}.csv").touch()
            config = site.configure()
            (place / "key").write_text(sshd.private_key)
            document = yaml.safe_load(config.read_text("utf-8"))
            document["stampli"]["sftp"] = {
                "host": sshd.host,
                "port": sshd.port,
                "username": sshd.username,
                "private_key": f"file:{place / 'key'}",
                "host_key": sshd.fingerprint,
                "directory": str(sshd.root),
            }
            config.write_text(yaml.safe_dump(document), encoding="utf-8")
            (place / "key").chmod(0o600)
            run = run_module("bench.ours_inbound", "poll", str(config), "--files", str(count))
        yield Finding(
            f"poll of {count:,} old files, s",
            run.wall,
            most,
            at_most=True,
            detail=f"{run.cpu:.2f} CPU s; sign-in, listing, look-up; peak {run.peak_mib:.0f} MiB",
        )


def durable_rows(plan: Plan, folder: Path) -> Iterator[Finding]:
    """A durable row of the ledger against fdatasync of 4 KiB on the same disk."""
    runs: list[Run] = []
    for number in range(plan.rounds):
        place = folder / str(number)
        place.mkdir()
        runs.append(run_module("bench.ledger_rows", str(place)))
    share = median(run.facts["rows"] / run.facts["syncs"] for run in runs)
    rows, syncs = (median(run.facts[name] for run in runs) for name in ("rows", "syncs"))
    yield Finding("ledger: a commit per row against fdatasync", share, 0.25, detail=f"{rows:.0f}/s, {syncs:.0f}/s")
    yield Finding("  500 rows per commit against one", median(run.facts["batch"] / run.facts["rows"] for run in runs))


CASES: dict[str, Case] = {
    "post": posted,
    "parse": parsed,
    "controller": controlled,
    "large": large_file,
    "poll": old_files,
    "ledger": durable_rows,
}


def _flow(
    folder: Path,
    count: int,
    *,
    files: int | None = None,
    until: str = "post",
    latency: float = LATENCY,
    fault: dict[str, Any] | None = None,
    pace: str = "ours",
    **fusion: Any,
) -> tuple[Run, float]:
    """One run of ours against a new sandbox, judged by its books; and the CPU seconds of the sandbox meanwhile."""
    with inbound_site(folder, latency=latency) as site:
        write_files(site.outbound, count, files or max(1, count // PER_FILE))
        if fault is not None:
            site.fault(**fault)
        before = site.cpu_seconds()
        arguments = ("flow", str(site.configure(**fusion)), "--until", until, "--pace", pace)
        run = run_module("bench.ours_inbound", *arguments)
        used = site.cpu_seconds() - before
        steps = run.facts["steps"]
        require_equal("invoices validated", steps["validate"]["invoices"], count)
        if until == "post":
            _judge(site, steps["post"], count)
    return run, used


def _judge(site: Site, post: dict[str, Any], count: int) -> None:
    books = site.books()
    check_books(books, count)
    require_equal("invoices created by our account", post["invoices"], count)
    require_equal("invoices read back and equal", post["confirmed"], count)
    require_equal("faults of our equation", post["faults"], [])
    if books["high_water"] > IN_FLIGHT:
        raise WrongResult(f"the server saw {books['high_water']} requests in flight")


def _post_rate(run: Run, count: int) -> float:
    return count / run.facts["steps"]["post"]["wall"]


def _naive_posting(folder: Path, count: int) -> Run:
    with inbound_site(folder, latency=LATENCY) as site:
        files = write_files(folder, count, 1)
        run = run_module("bench.naive_posting", str(site.configure()), *map(str, files))
        check_books(site.books(), count)
    return run


def _tell(what: str, **runs: Run) -> None:
    parts = [f"{name} {run.cpu:.2f} CPU s, {run.wall:.2f} s, {run.peak_mib:.0f} MiB" for name, run in runs.items()]
    sys.stdout.write(f"  {what}: {'; '.join(parts)}; CPU pressure {cpu_pressure()}\n")
    sys.stdout.flush()


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure is below its floor")
    parser.add_argument("--quick", action="store_true", help="few invoices, one round; figures are rough")
    parser.add_argument("--invoices", type=int, default=10_000)
    parser.add_argument("--only", choices=list(CASES), action="append", help="this case only; may be repeated")
    chosen = parser.parse_args()
    plan = Plan(chosen.invoices, 100_000, (10_000, 100_000), 5)
    if chosen.quick:
        plan = Plan(1_000, 10_000, (1_000, 10_000), 1)
    sys.stdout.write(
        f"{plan.invoices:,} invoices of {LINES} lines, {LATENCY * 1000:.0f} ms, {IN_FLIGHT} in flight; "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, CPU pressure {cpu_pressure()}\n"
    )
    findings = measure(CASES, chosen.only, plan)
    sys.stdout.write(f"\n{table(findings)}\nCPU pressure at the end: {cpu_pressure()}\n")
    return 1 if chosen.check and not all_good(findings) else 0


if __name__ == "__main__":
    sys.exit(main())

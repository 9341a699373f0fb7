"""The benchmark of the audit trail: what the chain costs per event, and how fast it is verified.

``python -m bench.audit [--check] [--quick] [--events N] [--rounds R] [--postgres URL]``; ``--check`` exits 1 below a
floor. What each figure is, and why in these units, is in ``README.md``.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.findings import Finding, all_good, table
from bench.measuring import ChildFailed, Run, WrongResult, cpu_pressure, run_module

INSERTS = 500
"""Durable commits of one round: each waits for the disk."""


def _work(name: str, url: str, events: int) -> Run:
    return run_module("bench.trail", name, "--ledger", url, "--events", str(events))


def _micro(seconds: float, events: int) -> float:
    return seconds / events * 1e6


def measure(place: str, urls: list[str], events: int) -> list[Finding]:
    """One new ledger per round: filled, sealed, verified; then durable commits one by one, in the same round.

    Args:
        place: name of the database, for the table.
        urls: an empty ledger for each round.
        events: of each trail.
    """
    rounds: dict[str, list[Run]] = {"seal": [], "verify": [], "insert": [], "insert-bare": []}
    for number, url in enumerate(urls):
        _work("fill", url, events)
        rounds["seal"].append(_work("seal", url, events))
        rounds["verify"].append(_work("verify", url, events))
        rounds["insert"].append(_work("insert", url, INSERTS))
        if place == "SQLite":
            rounds["insert-bare"].append(_work("insert-bare", url, INSERTS))
        told = [
            f"{name} {_micro(runs[-1].cpu, size):.1f} CPU µs, {_micro(runs[-1].wall, size):.1f} µs"
            for name, runs in rounds.items()
            if runs
            for size in [INSERTS if name.startswith("insert") else events]
        ]
        sys.stdout.write(f"  {place} round {number + 1}: {'; '.join(told)}; CPU pressure {cpu_pressure()}\n")
        sys.stdout.flush()
    seal = _micro(median(run.cpu for run in rounds["seal"]), events)
    verify = [_micro(median(getattr(run, unit) for run in rounds["verify"]), events) for unit in ("cpu", "wall")]
    insert = [_micro(median(getattr(run, unit) for run in rounds["insert"]), INSERTS) for unit in ("cpu", "wall")]
    findings = [
        Finding(f"{place}: chain, CPU µs per event (read, hash, insert the link)", seal, 10.0, at_most=True),
        Finding(
            f"{place}: verify against a durable commit per event, CPU",
            insert[0] / verify[0],
            20.0,
            detail=f"{verify[0]:.1f} against {insert[0]:.0f} CPU µs",
        ),
        Finding("  by the clock", insert[1] / verify[1], detail=f"{verify[1]:.1f} against {insert[1]:.0f} µs"),
    ]
    if rounds["insert-bare"]:
        bare = [
            _micro(median(getattr(run, unit) for run in rounds["insert-bare"]), INSERTS) for unit in ("cpu", "wall")
        ]
        findings.append(
            Finding(
                "  against the bare driver's durable commit, by the clock",
                bare[1] / verify[1],
                20.0,
                detail=f"{verify[1]:.1f} against {bare[1]:.0f} µs ({bare[0]:.0f} CPU µs)",
            )
        )
    return findings


def memory(folder: Path, events: int) -> list[Finding]:
    """Peak memory of a verification, and its growth with the trail."""
    peaks: list[float] = []
    for size in (events, events * 5):
        url = f"sqlite:///{folder / f'memory-{size}.sqlite'}"
        _work("fill", url, size)
        _work("seal", url, size)
        peaks.append(_work("verify", url, size).peak_mib)
    return [
        Finding(f"verify, growth of peak RSS from {events:,} to {events * 5:,} events", peaks[1] / peaks[0], 1.1,
                at_most=True, detail=f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB")
    ]  # fmt: skip


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure is below its floor")
    parser.add_argument("--quick", action="store_true", help="a quarter of the events, one round; figures are rough")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", metavar="URL", help="an empty database: one round there as well")
    chosen = parser.parse_args()
    events, rounds = (chosen.events // 4, 1) if chosen.quick else (chosen.events, chosen.rounds)
    sys.stdout.write(
        f"{events:,} events, {rounds} rounds, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"CPU pressure {cpu_pressure()}\n"
    )
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="mlc-bench-") as name:
        folder = Path(name)
        try:
            # A first small one: afterwards all modules are compiled and in the page cache.
            _work("fill", f"sqlite:///{folder / 'warm.sqlite'}", 10)
            urls = [f"sqlite:///{folder / f'round-{number}.sqlite'}" for number in range(rounds)]
            findings += measure("SQLite", urls, events)
            if chosen.postgres:
                findings += measure("PostgreSQL", [chosen.postgres], events)
            findings += memory(folder, events)
        except (ChildFailed, WrongResult) as failure:
            sys.stdout.write(f"  {failure}\n")
            findings.append(Finding(f"audit: {failure}"[:110], None))
    sys.stdout.write(f"\n{table(findings)}\nCPU pressure at the end: {cpu_pressure()}\n")
    return 1 if chosen.check and not all_good(findings) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The benchmark of the outbound flow: ours and its peers side by side, in interleaved rounds.

``python -m bench.outbound [--check] [--quick] [--lines N] [--rounds R]``; ``--check`` exits 1 below a floor. What each
case measures, and why in these units, is in ``README.md``.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import frameworks
from bench.findings import Finding, all_good, measure, table
from bench.journal_books import Books
from bench.journal_files import check_csv, check_same_rows
from bench.measuring import MockFusion, Run, WrongResult, cpu_pressure, mock_fusion, run_module

IN_FLIGHT = 8
LATENCY = 0.040
PAGE = 500


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    lines: int
    many_lines: int
    """For the growth of memory."""
    rounds: int
    documents: int
    """Invoices of the X12 case."""
    peer_python: str
    """Interpreter that has the frameworks."""


Case = Callable[[Plan, Path], Iterator[Finding]]


def journals_to_csv(plan: Plan, folder: Path) -> Iterator[Finding]:
    """200,000 lines to a CSV file, against requests, json and csv.DictWriter; no latency, CPU seconds."""
    books = Books.of_lines(plan.lines)
    ours: list[Run] = []
    naive: list[Run] = []
    with mock_fusion(books.lines, 0.0) as server:
        for number in range(plan.rounds):
            peer_file = folder / "naive.csv"
            naive.append(run_module("bench.naive", server.url, str(peer_file), "--page", str(PAGE)))
            ours.append(_our_csv(server, books, folder / f"csv-{number}"))
            if number == 0:
                check_csv(peer_file, books)
                check_same_rows(Path(ours[0].facts["file"]), peer_file)
            _tell_round(number, naive=naive[-1], ours=ours[-1])
    per_100k = 100_000 / books.lines
    mine, theirs = (median(run.cpu for run in runs) for runs in (ours, naive))
    yield Finding(
        "journals → CSV, CPU against requests+json+DictWriter",
        theirs / mine,
        2.0,
        detail=f"CPU s per 100k: {mine * per_100k:.2f} against {theirs * per_100k:.2f}; aim 2.5",
    )
    whole = [median(run.whole_cpu for run in runs) for runs in (naive, ours)]
    yield Finding(
        "  with the start of both processes",
        whole[0] / whole[1],
        detail=f"CPU s: {whole[1]:.2f} against {whole[0]:.2f}",
    )


def share_of_latency(plan: Plan, folder: Path) -> Iterator[Finding]:
    """At 40 ms and 8 in flight: how near reading, and reading to the file, come to what latency allows."""
    books = Books.of_lines(plan.lines)
    bound = books.lines / PAGE * LATENCY / IN_FLIGHT
    reads: list[Run] = []
    files: list[Run] = []
    requests = 0
    with mock_fusion(books.lines, LATENCY) as server:
        for number in range(plan.rounds):
            server.counters()
            reads.append(
                run_module("bench.ours", "read", server.url, "--lines", str(books.lines), "--in-flight", str(IN_FLIGHT))
            )
            seen = server.counters()
            requests = seen["requests"]
            if seen["peak"] > IN_FLIGHT or seen["refused"]:
                raise WrongResult(f"the server saw {seen['peak']} in flight and refused {seen['refused'][:1]}")
            files.append(_our_csv(server, books, folder / f"latency-{number}"))
            _tell_round(number, read=reads[-1], file=files[-1])
    read, whole = (median(run.wall for run in runs) for runs in (reads, files))
    yield Finding(
        "40 ms, 8 in flight: share of the latency bound, read and decode",
        bound / read,
        0.80,
        detail=f"{read:.2f} s, bound {bound:.2f} s; {requests} requests, bound counts {books.lines // PAGE}",
    )
    yield Finding("  to the CSV file", bound / whole, 0.50, detail=f"{whole:.2f} s")


def memory(plan: Plan, folder: Path) -> Iterator[Finding]:
    """Peak resident memory of our process, and its growth with the number of lines; no latency."""
    peaks: list[float] = []
    for lines in (plan.lines, plan.many_lines):
        books = Books.of_lines(lines)
        with mock_fusion(books.lines, 0.0) as server:
            run = _our_csv(server, books, folder / f"memory-{lines}")
        peaks.append(run.peak_mib)
        sys.stdout.write(f"  {books.lines:,} lines: {run.peak_mib:.0f} MiB, {run.cpu:.2f} CPU s\n")
    yield Finding(f"peak RSS at {plan.lines:,} lines, MiB", peaks[0], 250.0, at_most=True)
    yield Finding(
        f"  growth to {plan.many_lines:,} lines", peaks[1] / peaks[0], 1.2, at_most=True, detail=f"{peaks[1]:.0f} MiB"
    )


def x12_invoices(plan: Plan, folder: Path) -> Iterator[Finding]:
    """Invoices of three lines as X12 810, per CPU second."""
    del folder
    runs = []
    for number in range(plan.rounds):
        runs.append(run_module("bench.writers", "x12", "--documents", str(plan.documents)))
        _tell_round(number, x12=runs[-1])
    rate = plan.documents / median(run.cpu for run in runs)
    yield Finding("X12 810 of 3 lines, invoices per CPU second", rate, 25_000.0)


def fixed_width(plan: Plan, folder: Path) -> Iterator[Finding]:
    """Journal lines as fixed width, against a Python loop of f-strings that gives the same bytes."""
    del folder
    lines = str(min(plan.lines, 100_000))
    ours: list[Run] = []
    loop: list[Run] = []
    for number in range(plan.rounds):
        loop.append(run_module("bench.writers", "fixed-loop", "--documents", lines))
        ours.append(run_module("bench.writers", "fixed", "--documents", lines))
        _tell_round(number, loop=loop[-1], ours=ours[-1])
        if ours[-1].facts["sha256"] != loop[-1].facts["sha256"]:
            raise WrongResult("fixed width: ours and the loop wrote different bytes")
    mine, theirs = (median(run.cpu for run in runs) for runs in (ours, loop))
    yield Finding(
        "fixed width, CPU against a Python f-string loop",
        theirs / mine,
        3.0,
        detail=f"{mine:.2f} against {theirs:.2f} s",
    )


def other_frameworks(plan: Plan, folder: Path) -> Iterator[Finding]:
    """dlt, singer-sdk and airbyte-cdk over the same lines, where they are installed; told, not judged."""
    books = Books.of_lines(min(plan.lines, 50_000))
    with mock_fusion(books.lines, 0.0) as server:
        found = [name for name in frameworks.RUNNERS if frameworks.installed(name, plan.peer_python)]
        for name in frameworks.RUNNERS.keys() - set(found):
            sys.stdout.write(f"  {name}: not installed\n")
        ours = _our_csv(server, books, folder / "ours").cpu if found else 0.0
        for name in found:
            server.counters()
            run = run_module("bench.frameworks", name, server.url, str(folder / name), python=plan.peer_python)
            if (asked := server.counters()["requests"]) < books.lines // PAGE:
                raise WrongResult(f"{name}: asked for {asked} pages of {books.lines // PAGE}")
            rate = run.cpu * 100_000 / books.lines
            yield Finding(
                f"{name} to its own files, CPU against ours to CSV",
                run.cpu / ours,
                detail=f"CPU s per 100k: {rate:.2f}; {books.lines:,} lines, one run",
            )


CASES: dict[str, Case] = {
    "csv": journals_to_csv,
    "latency": share_of_latency,
    "memory": memory,
    "x12": x12_invoices,
    "fixed": fixed_width,
    "frameworks": other_frameworks,
}


def _our_csv(server: MockFusion, books: Books, folder: Path) -> Run:
    folder.mkdir()
    run = run_module(
        "bench.ours", "csv", server.url, "--lines", str(books.lines), "--in-flight", str(IN_FLIGHT),
        "--folder", str(folder),
    )  # fmt: skip
    check_csv(Path(run.facts["file"]), books)
    return run


def _tell_round(number: int, **runs: Run) -> None:
    parts = [f"{name} {run.cpu:.2f} CPU s, {run.wall:.2f} s, {run.peak_mib:.0f} MiB" for name, run in runs.items()]
    sys.stdout.write(f"  round {number + 1}: {'; '.join(parts)}; CPU pressure {cpu_pressure()}\n")
    sys.stdout.flush()


def warm_up() -> None:
    """One small run of ours and of the peer: afterwards all modules are compiled and in the page cache."""
    books = Books.of_lines(1)
    with tempfile.TemporaryDirectory(prefix="mlc-bench-") as folder, mock_fusion(books.lines, 0.0) as server:
        _our_csv(server, books, Path(folder) / "ours")
        run_module("bench.naive", server.url, str(Path(folder) / "naive.csv"))


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure is below its floor")
    parser.add_argument("--quick", action="store_true", help="a quarter of the lines, one round; figures are rough")
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(CASES), action="append", help="this case only; may be repeated")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="interpreter that has dlt, singer-sdk, airbyte-cdk"
    )
    chosen = parser.parse_args()
    lines, rounds = (chosen.lines // 4, 1) if chosen.quick else (chosen.lines, chosen.rounds)
    documents = 5_000 if chosen.quick else 25_000
    plan = Plan(lines, lines * 5, rounds, documents, chosen.peer_python)
    sys.stdout.write(
        f"{plan.lines:,} lines, {plan.rounds} rounds, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"CPU pressure {cpu_pressure()}\n"
    )
    warm_up()
    findings = measure(CASES, chosen.only, plan)
    sys.stdout.write(f"\n{table(findings)}\nCPU pressure at the end: {cpu_pressure()}\n")
    return 1 if chosen.check and not all_good(findings) else 0


if __name__ == "__main__":
    sys.exit(main())

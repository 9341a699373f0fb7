"""What a benchmark found: figures against their floors, as a table, and how its cases are gone through.

Belongs here: what all benchmarks share of telling. Does not: how something is measured (``measuring``) and what.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.measuring import ChildFailed, WrongResult, cpu_pressure

PlanT = TypeVar("PlanT")


@dataclass(frozen=True)
class Finding:
    """One figure and what it must be; ``floor`` None for figures that are only told."""

    name: str
    value: float | None
    floor: float | None = None
    at_most: bool = False
    detail: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "FAILED"
        if self.floor is None:
            return ""
        return "ok" if (self.value <= self.floor if self.at_most else self.value >= self.floor) else "BELOW"

    @property
    def good(self) -> bool:
        return self.verdict in ("ok", "")


def measure(
    cases: Mapping[str, Callable[[PlanT, Path], Iterator[Finding]]], names: Iterable[str] | None, plan: PlanT
) -> list[Finding]:
    """The named cases, or all, in their order; one that fails does not stop the others."""
    findings: list[Finding] = []
    for name in names or cases:
        sys.stdout.write(f"{name}: {(cases[name].__doc__ or '').strip()} CPU pressure {cpu_pressure()}\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(prefix="mlc-bench-") as folder:
            try:
                findings.extend(cases[name](plan, Path(folder)))
            except (ChildFailed, WrongResult) as failure:
                sys.stdout.write(f"  {failure}\n")
                findings.append(Finding(f"{name}: {failure}"[:110], None))
    return findings


def table(findings: list[Finding]) -> str:
    """The findings as text."""
    rows: list[str] = []
    for finding in findings:
        value = "" if finding.value is None else f"{finding.value:,.2f}"
        sign = "≤" if finding.at_most else "≥"
        floor = "" if finding.floor is None else f"{sign} {finding.floor:,.2f}"
        rows.append(f"{finding.name:<66} {value:>12} {floor:>13}  {finding.verdict:<6} {finding.detail}".rstrip())
    return "\n".join(rows)


def all_good(findings: Iterable[Finding]) -> bool:
    """Whether none is below its floor, and none failed."""
    return all(finding.good for finding in findings)

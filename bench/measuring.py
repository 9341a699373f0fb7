"""Clocks of the benchmark: child processes with their CPU seconds, peak memory, and the load of the machine.

A measured program prints one JSON object as its last line. CPU seconds are user plus system; ``work`` counts from the
moment its imports are done, ``whole`` is the process with its start, by the kernel's account at its end.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent


class ChildFailed(Exception):
    """A measured program ended with an error; the text is what it said last."""


class WrongResult(Exception):
    """Something was measured that did not do its work."""


def require_equal(what: str, found: object, expected: object) -> None:
    """Raises WrongResult, which ends the benchmark: the speed of a wrong result is worth nothing."""
    if found != expected:
        raise WrongResult(f"{what}: {found}, expected {expected}")


class Run(NamedTuple):
    """One run of a measured program. Seconds, MiB."""

    cpu: float
    """Of the work."""
    wall: float
    """Of the work."""
    whole_cpu: float
    """Of the process, its start included."""
    peak_mib: float
    facts: Mapping[str, Any]
    """What else it said."""


class Stopwatch:
    """CPU and wall clock of this process from now on; time spent in ``aside`` does not count."""

    def __init__(self) -> None:
        self._cpu = _own_cpu()
        self._wall = time.perf_counter()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For checks that are no part of the work."""
        cpu, wall = _own_cpu(), time.perf_counter()
        try:
            yield
        finally:
            self._cpu += _own_cpu() - cpu
            self._wall += time.perf_counter() - wall

    def stop(self) -> dict[str, float]:
        """Seconds so far, and the peak of resident memory."""
        return {
            "cpu": _own_cpu() - self._cpu,
            "wall": time.perf_counter() - self._wall,
            "peak_mib": peak_mib(),
        }


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Highest resident memory of this process so far (VmHWM: unlike ru_maxrss it knows nothing of the parent)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def tell(**facts: object) -> None:
    """The measured program's last words."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def run_module(module: str, *arguments: str, python: str = sys.executable) -> Run:
    """Runs ``python -m module`` from the repository and waits for it; raises ChildFailed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            [python, "-m", module, *arguments], cwd=ROOT, stdout=out, stderr=err, env=_environment()
        )
        try:
            # Not child.wait(): only wait4 tells what this one child used.
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said, complaint = out.read().strip(), err.read().strip()
    if child.returncode != 0:
        last = (complaint or said or f"exit code {child.returncode}").splitlines()[-1]
        raise ChildFailed(f"{module} {' '.join(arguments[:1])}: {last}")
    facts = json.loads(said.splitlines()[-1])
    return Run(
        cpu=facts.pop("cpu"),
        wall=facts.pop("wall"),
        whole_cpu=used.ru_utime + used.ru_stime,
        peak_mib=facts.pop("peak_mib"),
        facts=facts,
    )


def _environment() -> dict[str, str]:
    """Ours, but compiled modules are kept, beside the sources of nobody: an installed product has them compiled."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "mlc-bench-pycache")}


@contextmanager
def mock_fusion(lines: int, latency: float) -> Iterator["MockFusion"]:
    """The server in a process of its own; ``latency`` in seconds."""
    command = [sys.executable, "-m", "bench.mock_fusion", "--lines", str(lines), "--latency", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            port = (child.stdout.readline() if child.stdout else "").strip()
            if not port:
                raise ChildFailed("the server did not start")
            yield MockFusion(f"http://127.0.0.1:{port}")
        finally:
            child.terminate()


class MockFusion(NamedTuple):
    """A running server."""

    url: str

    def counters(self) -> dict[str, Any]:
        """Requests, peak in flight, bytes and refused questions since the last call."""
        with urlopen(f"{self.url}/bench", timeout=10) as answer:  # noqa: S310 - a loopback address of our own
            return json.load(answer)


def cpu_pressure() -> str:
    """Share of time that runnable tasks waited for a CPU, as the kernel averages it over 10 s, 60 s and 300 s."""
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return "unknown"
    return " ".join(part for part in some.split() if part.startswith("avg"))

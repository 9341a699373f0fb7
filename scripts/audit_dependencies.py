"""Compares every locked package with the known vulnerabilities, by pip-audit; a step of ``make test``.

A vulnerability that has a fix is a failure, unless ``audit_ignored.toml`` says why not, and until when. One without a
fix is told. Where the source cannot be reached, or does not know our packages, one line says that nothing was compared:
being offline is no failure. Needs only Python 3.11 or newer, and pip-audit beside it.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
SECONDS = 30.0
PROBED = 3
"""Packages that are asked about first: a source that knows none of them is not worth a hundred questions."""


class Fault(Exception):
    """The comparison itself is not possible for a reason that is ours."""


class NotCompared(Exception):
    """The source did not answer, or not in time."""


class Found(NamedTuple):
    """A vulnerability of a package that we use."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixes: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        fix = f"fixed in {', '.join(self.fixes)}" if self.fixes else "no fix yet"
        return f"{self.package} {self.version}: {self.ids[0]}{_also(self.ids[1:])}: {fix}"


def _also(ids: tuple[str, ...]) -> str:
    return f" ({', '.join(ids)})" if ids else ""


class Ignored(NamedTuple):
    """An entry of the list of exceptions."""

    package: str
    id: str
    until: dt.date


def main() -> int:
    """0: nothing is wrong, or nothing could be compared; 1: something has to be done."""
    parser = argparse.ArgumentParser(description="Compare locked packages with known vulnerabilities.")
    parser.add_argument("--lock", type=Path, default=HERE.parent / "uv.lock", help="uv's lock file")
    parser.add_argument("--ignored", type=Path, default=HERE / "audit_ignored.toml", help="exceptions with reasons")
    parser.add_argument("--osv-url", help="ask this address, which speaks OSV's protocol, instead of PyPI")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit")
    options = parser.parse_args()
    try:
        packages = locked(options.lock)
        ignored = exceptions(options.ignored)
        found, unknown = compared(packages, options.osv_url, options.seconds)
    except Fault as fault:
        print(f"audit: {fault}")
        return 1
    except NotCompared as reason:
        print(f"skipped: {len(packages)} locked packages were not compared with known vulnerabilities: {reason}")
        return 0
    return judged(found, ignored, len(packages), unknown)


def locked(lock: Path) -> list[str]:
    """``name==version`` of everything locked, the tools of development too."""
    packages: list[dict[str, Any]] = tomllib.loads(lock.read_text("utf-8"))["package"]
    return [f"{each['name']}=={each['version']}" for each in packages if "registry" in each["source"]]


def exceptions(path: Path) -> list[Ignored]:
    """The list of exceptions; each names a package, an id, a reason, and a day after which it counts no more.

    Raises:
        Fault: an entry is not whole.
    """
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8")).get("ignored", [])
    for entry in entries:
        whole = all(isinstance(entry.get(key), str) and entry[key].strip() for key in ("package", "id", "reason"))
        if not whole or type(entry.get("until")) is not dt.date:
            raise Fault(f"{path.name}: {entry}: give package, id, reason, and until as a date such as 2027-01-31")
    return [Ignored(entry["package"], entry["id"], entry["until"]) for entry in entries]


def compared(packages: list[str], osv_url: str | None, seconds: float) -> tuple[list[Found], int]:
    """(vulnerabilities, number of packages that the source does not know).

    Raises:
        Fault: pip-audit is not installed.
        NotCompared: no answer.
    """
    if osv_url is None and not _known(_asked(packages[:PROBED], osv_url, seconds)):
        raise NotCompared("the source does not know them (a mirror without this service?)")
    answer = _asked(packages, osv_url, seconds)
    known = _known(answer)
    found = [
        Found(each["name"], each["version"], (one["id"], *one.get("aliases", ())), tuple(one["fix_versions"]))
        for each in known
        for one in each["vulns"]
    ]
    return found, len(packages) - len(known)


def _known(answer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in answer if "skip_reason" not in each]


def _asked(packages: list[str], osv_url: str | None, seconds: float) -> list[dict[str, Any]]:
    source = ["--vulnerability-service", "osv", "--osv-url", osv_url] if osv_url else []
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(packages) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--desc", "off", "--timeout", "10", *source]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise NotCompared(f"no answer within {seconds:g} s") from None
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
    if "No module named pip_audit" in last:
        raise Fault("pip-audit is not installed; run: make setup")
    raise NotCompared(last[:300])


def judged(found: list[Found], ignored: list[Ignored], packages: int, unknown: int) -> int:
    """Says what was found; 1 when something has to be done."""
    today = dt.datetime.now(dt.UTC).date()
    faults = 0
    for each in found:
        exception = next((one for one in ignored if one.package == each.package and one.id in each.ids), None)
        if exception is not None and exception.until >= today:
            print(f"ignored until {exception.until}: {each}")
        elif not each.fixes:
            print(f"known, and cannot be mended by an update: {each}")
        else:
            faults += 1
            expired = f"; its exception ended on {exception.until}" if exception is not None else ""
            print(f"VULNERABLE {each}{expired}; run: uv lock --upgrade-package {each.package}")
    aside = f"; the source does not know {unknown} of them" if unknown else ""
    print(f"{packages} locked packages compared{aside}: {faults} to be mended, {len(found)} known")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

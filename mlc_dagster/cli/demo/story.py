"""The demonstration's plot: real files over real SFTP through the Dagster assets into the embedded Fusion, and back.

What belongs here: the order of events and what is checked after each; the way back is ``outbound_story``. Files are in
``files``, the books in ``accounts``, the looks in ``screen``. Every step goes through what a user would run; nothing is
staged.
"""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_dagster.cli.context import Workplace, operator
from mlc_dagster.cli.dagster_home import dagster_instance
from mlc_dagster.cli.demo.accounts import (
    FileAccount,
    Side,
    books_side,
    faults_of,
    file_accounts,
    ledger_side,
    states_by_number,
)
from mlc_dagster.cli.demo.files import DemoFiles, demo_files
from mlc_dagster.cli.demo.growing import GrowingFile
from mlc_dagster.cli.demo.outbound_story import BEHIND, OutboundStory
from mlc_dagster.cli.demo.screen import Screen
from mlc_dagster.cli.output import totals_text
from mlc_dagster.cli.run import outcome_document, summary_lines
from mlc_dagster.cli.sandbox_process import SandboxProcess
from mlc_dagster.ledger import audit
from mlc_dagster.ledger.approval import Decision
from mlc_dagster.sandbox.exports import StampliExport
from mlc_dagster.sandbox.samples import MISSING_SUPPLIER, MISSING_SUPPLIER_NAME, SampleFile
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.intake.feed import decide_first_contact

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from mlc_dagster.automation.outcome import InboundOutcome


@dataclass
class Account:
    """What happened, for JSON and for the verdict."""

    polls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    files: list[FileAccount] = field(default_factory=list[FileAccount])
    sides: dict[str, Side] = field(default_factory=dict[str, Side])
    faults: list[str] = field(default_factory=list[str])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def expect(self, what: str, *, holds: bool) -> None:
        """Note a fault unless ``holds``."""
        if not holds:
            self.faults.append(what)


class Story:
    """One telling."""

    def __init__(self, sandbox: SandboxProcess, screen: Screen, instance: "DagsterInstance") -> None:
        self._sandbox = sandbox
        self._screen = screen
        self._instance = instance
        self._workplace = Workplace(load_settings(sandbox.config), sandbox.config)
        self._export = StampliExport(sandbox.outbound)
        self._files: DemoFiles = demo_files(dt.datetime.now(dt.UTC))
        self._titles: dict[str, str] = {}
        self.account = Account()

    def tell(self) -> Account:
        """All of it: into Fusion, and then out of it."""
        self._sandbox.ask("/clock", {"seconds": -BEHIND.total_seconds()})
        self._first_contact()
        growing = self._send()
        try:
            first = self._poll("mlc run inbound")
        finally:
            growing.finish()
        self._second_poll()
        self._supplier()
        self._again(first.windows[0].window if first.windows else "")
        self._compare()
        outbound = OutboundStory(self._sandbox, self._screen, self._instance, self._workplace)
        self.account.facts["outbound"] = outbound.tell()
        self.account.faults += outbound.faults
        self._audit()
        return self.account

    def _first_contact(self) -> None:
        self._screen.heading("First contact: the folder already holds two old files")
        for old in self._files.old:
            self._put(old, age=dt.timedelta(days=40))
        stopped = self._poll("mlc run inbound")
        self.account.expect("the first contact did not stop", holds=stopped.first_contact is not None)
        decision = Decision(by="demo", reason="posted by hand before go-live")
        self._screen.command(f'mlc files baseline --by {decision.by} --reason "{decision.reason}"')
        with self._workplace.inbound(actor=operator()) as inbound:
            marked, _ = decide_first_contact(
                inbound.ledger, inbound.open_session, inbound.stampli, inbound.profile, frozenset(), decision
            )
        self._screen.quote(f"{marked} files marked as handled before go-live: never posted, and on record as such.")
        self.account.facts["baseline"] = marked

    def _send(self) -> GrowingFile:
        sent = self._files.first
        self._screen.heading(f"Stampli sends {len(sent) + 1} files; the last one is still being written")
        for sample in sent:
            self._put(sample)
        growing = GrowingFile(self._export, self._files.growing.content)
        self._titles[growing.path.name] = self._files.growing.title
        return growing

    def _second_poll(self) -> None:
        self._screen.heading("The growing file is complete; the next poll takes it")
        second = self._poll("mlc run inbound")
        self.account.expect("the second poll did not post the file that was complete", holds=second.posted == 1)
        with self._workplace.ledger() as ledger, ledger.reading() as reading:
            self.account.files = file_accounts(reading, self._titles)
        self._screen.heading("What became of every file")
        self._screen.files(self.account.files)

    def _supplier(self) -> None:
        cured = self._files.cured
        self._screen.heading(f"The buyer creates supplier {MISSING_SUPPLIER} in Fusion; nobody touches the invoice")
        before = self._states()
        self._sandbox.ask("/suppliers", {"number": MISSING_SUPPLIER, "name": MISSING_SUPPLIER_NAME})
        third = self._poll("mlc run inbound")
        after = self._states()
        changed = sorted(number for number, state in after.items() if before.get(number) != state)
        alone = " It is the one, and nothing else." if changed == [cured.number] else ""
        self._screen.say(f"   Changed since: {', '.join(changed) or 'nothing'}.{alone}")
        self.account.facts["cured"] = {"number": cured.number, "posted": third.posted, "changed": changed}
        self.account.expect(f"not only {cured.number} changed: {changed}", holds=changed == [cured.number])
        self.account.expect(f"{third.posted} invoices were posted instead of one", holds=third.posted == 1)

    def _again(self, window: str) -> None:
        self._screen.heading("The first window is materialised again: every file re-read, every invoice looked up")
        before = self._sandbox.books()["posts"]
        again = self._poll(f"mlc run inbound --window {window}", window=window)
        posts = self._sandbox.books()["posts"] - before
        self._screen.say(f"   Fusion received {posts} POSTs for invoices.")
        self.account.facts["rematerialised"] = {"window": window, "posts": posts}
        self.account.expect(f"re-materialising {window} sent {posts} POSTs", holds=posts == 0 and again.posted == 0)

    def _compare(self) -> None:
        self._screen.heading("Three sets of books, to the smallest unit of every currency")
        books = self._sandbox.books()
        count, totals = self._files.expected()
        with self._workplace.ledger() as ledger, ledger.reading() as reading:
            self.account.sides = {
                "the files say": Side(count, totals),
                "our ledger": ledger_side(reading),
                "Fusion's own books": books_side(books),
            }
            self.account.faults += faults_of(self.account.sides, books, reading)
        states = self._states()
        left = sorted(number for number, state in states.items() if state == "PARKED")
        expected = sorted(number for number in self._files.parked_at_end() if number in states)
        self.account.expect(f"parked are {left} instead of {expected}", holds=left == expected)
        self.account.facts |= {"parked": left, "duplicates_in_fusion": books["duplicates"]}
        self._screen.compare(self.account.sides)

    def _audit(self) -> None:
        """Both halves are told: the trail is sealed and walked, and what Fusion saw of us is counted."""
        with self._workplace.ledger() as ledger:
            audit.seal(ledger)
            trail = audit.verify(ledger)
        books = self._sandbox.books()
        self.account.expect(f"the audit trail does not hold: {trail.fault}", holds=trail.fault is None)
        self.account.facts |= {
            "audit_events_sealed": trail.sealed,
            "requests_to_fusion": books["requests"],
            "posts": books["posts"],
        }

    def _put(self, sample: SampleFile, *, age: dt.timedelta = dt.timedelta(0)) -> Path:
        path = self._export.send(sample.content, company_id=sample.company_id, age=age)
        self._titles[path.name] = sample.title
        return path

    def _states(self) -> dict[str, str]:
        with self._workplace.ledger() as ledger, ledger.reading() as reading:
            return states_by_number(reading)

    def _poll(self, command: str, *, window: str | None = None) -> "InboundOutcome":
        from mlc_dagster.automation.one_shot import run_inbound

        self._screen.command(command)
        began = time.monotonic()
        with self._screen.working("polling …"):
            outcome = run_inbound(self._workplace.settings, instance=self._instance, window=window)
        seconds = time.monotonic() - began
        self.account.polls.append(outcome_document(outcome) | {"seconds": round(seconds, 1)})
        for line in summary_lines(outcome):
            self._screen.quote(line)
        for waiting in outcome.waiting:
            note = waiting.note or "two looks at it do not agree yet"
            self._screen.quote(f"…{waiting.path[-10:]} waits: {note}")
        for failure in outcome.failures:
            self._screen.quote(f"{failure.step}: {failure.text}")
            self.account.faults.append(failure.text)
        self._screen.quote(f"exit code {outcome.exit_code}, {seconds:.1f} s")
        return outcome


def tell(sandbox: SandboxProcess, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """The whole demonstration against a running sandbox; what happened, as one document.

    Its ``agreed`` is true only when the files, our ledger and Fusion's own books say the same, and every step did
    what it was to do.
    """
    began = clock()
    with dagster_instance(sandbox.config.parent / "data") as instance:
        account = Story(sandbox, screen, instance).tell()
    return {
        "agreed": not account.faults,
        "faults": account.faults,
        "seconds": round(clock() - began, 1),
        "sides": {name: side.document() for name, side in account.sides.items()},
        "files": [each.document() for each in account.files],
        "polls": account.polls,
        **account.facts,
        "totals_text": totals_text(account.sides["our ledger"].totals),
    }

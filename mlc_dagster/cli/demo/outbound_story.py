"""The other half of the plot: what changes in Fusion reaches a partner's SFTP folder as files, each version once.

What belongs here: the order of events and what is checked after each. The documents are in ``documents``, the sides in
``outbound_accounts``. The embedded Fusion's clock goes on faster than ours, so that windows are over while one watches.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mlc_dagster.cli.context import Workplace
from mlc_dagster.cli.demo.books import FeedBooks
from mlc_dagster.cli.demo.documents import ORDER, SECOND_ORDER, journals, order, second_order
from mlc_dagster.cli.demo.outbound_accounts import FEEDS, feed_books, folder_faults, inbox
from mlc_dagster.cli.demo.partner_files import segments_of
from mlc_dagster.cli.demo.screen import Screen
from mlc_dagster.cli.export_sheet import place_of
from mlc_dagster.cli.outbound_sheet import export_document, summary_lines
from mlc_dagster.cli.sandbox_process import SandboxProcess
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.database import Row

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from mlc_dagster.automation.export_outcome import OutboundOutcome

BEHIND = dt.timedelta(hours=1)
"""How far Fusion's clock is behind ours when the demonstration begins; it has caught up when it ends."""
_STEP = BEHIND / 3
_CSV, _FIXED, _INVOICES, _ORDERS = FEEDS
_SHOWN = {
    "810": ("ST", "BIG", "CUR", "TDS", "SAC"),
    "850": ("ST", "BEG", "PO1", "CTT", "AMT"),
    "860": ("ST", "BCH", "POC", "CTT", "AMT"),
}
"""Segments that say most, by transaction set."""


class OutboundStory:
    """One telling; it goes on where the inbound half ended."""

    def __init__(
        self, sandbox: SandboxProcess, screen: Screen, instance: "DagsterInstance", workplace: Workplace
    ) -> None:
        self._sandbox = sandbox
        self._screen = screen
        self._instance = instance
        self._workplace = workplace
        self._polls: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}
        self.faults: list[str] = []

    def tell(self) -> dict[str, Any]:
        """All of it; what happened, for JSON."""
        self._first_poll()
        self._contents()
        self._changed_order()
        self._server_down()
        books = self._compare()
        return {
            "polls": self._polls,
            "books": {each.feed: each.document() for each in books},
            "alerts": [alert["title"] for alert in self._alerts()],
            **self._facts,
        }

    def _first_poll(self) -> None:
        self._screen.heading("The other way: accountants post journals in Fusion, a buyer orders; the partner is told")
        now = dt.datetime.fromisoformat(self._sandbox.ask("/clock")["now"])
        self._screen.say(
            f"   In Fusion it is {now:%Y-%m-%d %H:%M} UTC. Its clock began an hour behind ours and goes on by leaps, "
            "so that the windows in which it is polled are over while you watch."
        )
        for batch in journals(now.date()):
            self._sandbox.ask("/journals", batch)
        self._facts["order_id"] = self._sandbox.ask("/orders", order())["order_id"]
        outcome = self._poll()
        self._expect("not every feed delivered a file", holds=_feeds(outcome.sent) == set(FEEDS))
        filtered = {result.feed: result.numbers["filtered"] for result in outcome.feeds}
        self._expect(f"filtered were {filtered}, not the batch that is not posted", holds=filtered.get(_CSV) == 1)
        self._screen.say(
            "   Filtered: a batch that is not posted. Held: what an 810 cannot carry without rounding or cutting."
        )
        reasons = sorted(row["reason"] for row in outcome.held)
        # Dinars have three decimals, where an 810's totals have two; and it takes 25 lines without a quantity, not 40.
        self._expect(f"held are {reasons}, not dinars and forty lines", holds=reasons == ["AMOUNT_SCALE", "OVERFLOW"])
        self._expect(f"the first poll ended with {outcome.exit_code}, not 1", holds=outcome.exit_code == 1)
        self._facts["held"] = [{name: row[name] for name in ("feed", "reason", "text")} for row in outcome.held]

    def _contents(self) -> None:
        self._screen.heading("What the partner finds in its folder, byte for byte")
        for path in sorted(inbox(self._sandbox).iterdir()):
            if path.name.startswith((_CSV, _FIXED)):
                self._screen.excerpt(path.name, _tabular_lines(path.name, path.read_bytes()))
        for path in sorted(inbox(self._sandbox).glob("*.x12")):
            self._screen.excerpt(path.name, _x12_lines(path.read_bytes()))

    def _changed_order(self) -> None:
        self._screen.heading(f"The buyer changes {ORDER} to 260 boxes; the second poll delivers only the change")
        before = self._names()
        self._sandbox.ask(f"/orders/{self._facts['order_id']}", {"line": 1, "quantity": "260"}, method="PATCH")
        # Everything is read once more, not only what the window overlaps: whatever is new would go out.
        outcome = self._poll(look_back=True)
        new = sorted(self._names() - before)
        self._expect(f"not one file came with the change, but {new}", holds=len(new) == 1)
        self._expect(f"the second poll ended with {outcome.exit_code}, not 0", holds=outcome.exit_code == 0)
        for name in new:
            self._screen.excerpt(name, _x12_lines((inbox(self._sandbox) / name).read_bytes()))
        self._screen.say("   All other documents were read again too, recognised, and not sent again.")
        self._facts["second_poll"] = new

    def _server_down(self) -> None:
        self._screen.heading(
            f"Another order, {SECOND_ORDER}; the partner's server goes down in the middle of the upload"
        )
        before, told = self._names(), len(self._alerts())
        self._sandbox.ask("/orders", second_order())
        # The first upload breaks off half-way; nothing is taken after it until the server is back.
        for fault in ({"kind": "drop_upload", "after": 200}, {"kind": "down", "count": 1000, "skip": 1}):
            self._sandbox.ask("/sftp/faults", fault | {"username": self._sandbox.addresses["partner_username"]})
        outcome = self._poll(feed=_ORDERS)
        for row in outcome.pending:
            self._screen.say(f"   Its bytes: {place_of(self._workplace.settings, row)}")
            self._screen.say(f"   SHA-256:   {row['sha256']}")
        self._expect(f"{len(outcome.pending)} files wait instead of one", holds=len(outcome.pending) == 1)
        self._expect(f"the server was down and the exit code {outcome.exit_code}, not 3", holds=outcome.exit_code == 3)
        self._expect("nobody was told that a file waits", holds=len(self._alerts()) > told)
        arrived = sorted(self._names() - before)
        self._expect(f"the server was down, and {arrived} arrived", holds=not arrived)
        self._server_back(outcome.pending[0] if outcome.pending else None, before)

    def _server_back(self, waiting: Row | None, before: set[str]) -> None:
        self._screen.heading("The server is back: the next poll delivers the same bytes, once")
        self._sandbox.ask("/sftp/faults", method="DELETE")
        outcome = self._poll(clock=False, feed=_ORDERS)
        new = sorted(self._names() - before)
        self._expect(f"the exit code is {outcome.exit_code}, not 0", holds=outcome.exit_code == 0)
        name = waiting["name"] if waiting else ""
        self._expect(f"{new} arrived instead of {name} alone", holds=new == [name])
        if waiting is not None and new == [name]:
            sha256 = hashlib.sha256((inbox(self._sandbox) / name).read_bytes()).hexdigest()
            same = sha256 == waiting["sha256"]
            self._expect(f"{name} has SHA-256 {sha256}, it waited with {waiting['sha256']}", holds=same)
            self._screen.say(f"   {name} is there once{', with the SHA-256 that it waited with' if same else ''}.")
            self._facts["waited"] = {"name": name, "sha256": waiting["sha256"], "attempts": waiting["attempts"]}

    def _compare(self) -> list[FeedBooks]:
        self._screen.heading("Three sets of books for the partner's side, to the smallest unit of every currency")
        with self._workplace.ledger() as ledger, ledger.reading() as reading:
            books = [feed_books(self._sandbox, reading, feed) for feed in self._workplace.settings.exports]
            self.faults += folder_faults(self._sandbox, reading)
            for feed in FEEDS:
                self.faults += exported.sequence_gaps(reading, feed)
        for each in books:
            self.faults += each.faults()
            self._screen.feed(each)
        return books

    def _names(self) -> set[str]:
        return {path.name for path in inbox(self._sandbox).iterdir()}

    def _alerts(self) -> list[dict[str, Any]]:
        """What reached the address under ``alerts:`` in the sandbox's mlc.yaml."""
        return self._sandbox.ask("/alerts")["alerts"]

    def _expect(self, what: str, *, holds: bool) -> None:
        if not holds:
            self.faults.append(what)

    def _poll(self, *, clock: bool = True, look_back: bool = False, feed: str | None = None) -> "OutboundOutcome":
        from mlc_dagster.automation.one_shot_outbound import run_outbound

        if clock:
            now = dt.datetime.fromisoformat(self._sandbox.ask("/clock", {"seconds": _STEP.total_seconds()})["now"])
            self._screen.say(f"   {_STEP.total_seconds() / 60:.0f} minutes pass in Fusion: {now:%Y-%m-%d %H:%M} UTC.")
        options = f"{' --look-back' if look_back else ''}{f' --feed {feed}' if feed else ''}"
        self._screen.command(f"mlc run outbound{options}")
        told, began = len(self._alerts()), time.monotonic()
        with self._screen.working("reading Fusion, writing, delivering …"):
            outcome = run_outbound(
                self._workplace.settings,
                instance=self._instance,
                feeds=None if feed is None else [feed],
                look_back=look_back,
            )
        seconds = time.monotonic() - began
        self._polls.append(export_document(outcome) | {"seconds": round(seconds, 1)})
        self._screen.deliveries(outcome.sent)
        for line in summary_lines(outcome):
            # What was held before is said once here; the command says it every time.
            if outcome.newly_held or not line.startswith("HELD"):
                self._screen.quote(line)
        for failure in outcome.failures:
            self._screen.quote(f"mlc: {failure.step}: {' '.join(failure.text.split())}")
        failed = [name for result in outcome.feeds for name, holds in result.checks.items() if not holds]
        self._expect(f"checks do not hold: {failed}", holds=not failed or bool(outcome.pending))
        self._screen.quote(f"exit code {outcome.exit_code}, {seconds:.1f} s")
        for alert in self._alerts()[told:]:
            self._screen.say(f"   Alert: {alert['title']}", style="yellow")
        return outcome


def _feeds(sent: Iterable[dict[str, Any]]) -> set[str]:
    return {row["feed"] for row in sent}


def _tabular_lines(name: str, content: bytes) -> list[str]:
    """The first records as text; of the long fixed ones the columns that say most, by position."""
    if name.endswith(".json"):
        return [" ".join(content.decode("utf-8").split())]
    if name.startswith(_CSV):
        return content.decode("utf-8").splitlines()[:4]
    records = content.decode("cp1252").splitlines()
    return [f"{record[:1]} … {record[46:100]} … {record[214:275]} …" for record in records[1:4]] + [records[-1][:110]]


def _x12_lines(content: bytes) -> list[str]:
    """The envelope and the first transaction set, its most telling segments."""
    separator = content[3:4].decode("ascii")
    segments = segments_of(content)
    end = next(place for place, segment in enumerate(segments) if segment[0] == "SE")
    kind = next(segment[1] for segment in segments if segment[0] == "ST")
    kept = [segment for segment in segments[: end + 1] if segment[0] in _SHOWN[kind]]
    sets = sum(segment[0] == "ST" for segment in segments)
    shown = [separator.join(segments[0]), "  ".join(separator.join(segment) for segment in kept)]
    return shown + ([f"and {sets - 1} more sets"] if sets > 1 else [])

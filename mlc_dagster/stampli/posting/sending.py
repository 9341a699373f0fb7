"""One intent, one request, one recorded outcome.

What belongs here: sending the frozen bytes of a committed intent and writing down what came of it. What does not:
deciding which invoice is sent (``window_posting``) or sent again (``uncertainty``). Whatever happens between the
intent and the record, the intent is in the ledger, and its lease says how long its sender may still act on it.
"""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import (
    AccessRefused,
    BusinessRefusal,
    FusionError,
    NotAuthorised,
    NotSent,
    OutcomeUnknown,
    Refused,
    RemoteDown,
)
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import create
from mlc_dagster.fusion.pacing import LONGEST_PAUSE
from mlc_dagster.ledger import recovery, submissions
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.submissions import Intent
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.settings import FusionSettings
from mlc_dagster.stampli.identity import number_key
from mlc_dagster.stampli.validation.body import body_keys

_SENDS_PER_INTENT = 3


def monotonic() -> float:
    """Seconds that go on while the process is stopped or the machine sleeps, which time.monotonic does not promise."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LeaseLost(Exception):
    """The sender woke too late: its lease would end before the request's deadline. Nothing was sent."""


class Withheld(Exception):
    """The run ended, or came to a halt, or its business unit did, while it waited for its slot. Nothing was sent."""


class PostingStopped(Expected):
    """Fusion refuses everything, or does not answer: the run ends, nothing of it is lost."""

    kind = FailureKind.REMOTE

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


@dataclass
class PostingSummary:
    """What one posting run did, in invoices."""

    created: int = 0
    adopted: int = 0
    """Created by an earlier attempt whose outcome was unknown."""
    already_in_fusion: int = 0
    refused: int = 0
    """429 and 503 answers."""
    unknown: int = 0
    """Requests that ended without a known outcome."""
    resent: int = 0
    dropped: int = 0
    """Intents given up unsent because their lease had run out, or the run ended."""
    parked: Counter[str] = field(default_factory=Counter[str])
    confirmed: int = 0
    differing: int = 0
    """Read back from Fusion and not equal to what was sent."""
    left_waiting: int = 0
    """Refused, unknown or dropped: the next run goes on with them."""

    @property
    def ended(self) -> int:
        """Invoices that came to an end in this run, whichever it was."""
        return self.created + self.adopted + self.already_in_fusion + sum(self.parked.values())


def lease_length(settings: FusionSettings) -> dt.timedelta:
    """How long an intent belongs to its sender: longer than the request it is for, and what it may wait before that.

    It waits for one request before it to end, or for a pause that Fusion asked for.
    """
    return dt.timedelta(seconds=settings.request_timeout + max(settings.request_timeout, LONGEST_PAUSE) + 1)


class Sender:
    """Sends intents and records outcomes; ``stopped`` is set when sending on makes no sense."""

    def __init__(
        self,
        client: FusionClient,
        writer: LedgerWriter,
        settings: FusionSettings,
        summary: PostingSummary,
        *,
        clock: Callable[[], float] = monotonic,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        """``freed`` is called when a created invoice's answer is here, so that its slot can be given to the next."""
        self._client = client
        self._writer = writer
        self._settings = settings
        self._summary = summary
        self._clock = clock
        self._freed = freed
        self.stopped: PostingStopped | None = None
        self.ending = False
        """The run ends for another reason; see ``withhold``."""
        self.refused_in_a_row = 0
        self.recording = 0
        """Requests that are answered, with an invoice created, whose outcome is on its way to the ledger."""

    def room(self, in_flight: int, claiming: int = 0) -> int:
        """How many intents may be committed now: as many as find a slot at once, and a few that wait for the next.

        ``claiming`` are on their way into the ledger and will take a slot each.

        Without those few a slot stays empty for as long as a commit takes, a twelfth of the time. An intent that waits
        uses up its lease, and is one more to look up after a crash; so they are a quarter of what may be under way.
        When Fusion asks for a pause, what is on its way into the ledger waits with them.

        A created invoice's slot is free as soon as it is answered: its outcome is written before any intent that is
        committed after it, since changes are written in their order. Every other outcome is waited for, because it may
        be the one after which nothing more is begun.
        """
        limiter = self._client.limiter
        ahead = limiter.pace.limit // 4
        here = self._settings.max_in_flight + ahead - in_flight + self.recording
        return min(limiter.room(ahead=ahead), here) - claiming

    def deadline(self) -> float:
        """End of a lease that is about to be committed, by our clock; ask for it before the commit."""
        return self._clock() + lease_length(self._settings).total_seconds()

    async def send(
        self, intent: Intent, lease_end: float, *, closed: Callable[[], bool] = lambda: False
    ) -> BusinessRefusal | InvoiceRecord | None:
        """Send one intent.

        Args:
            intent: committed to the ledger.
            lease_end: what ``deadline`` said before the commit.
            closed: whether nothing more of the invoice's business unit is to be sent; asked when its turn comes.

        Returns:
            The created record; a BusinessRefusal, which the caller must look into (the intent is still open); None
            for everything that is recorded and done with for now.
        """

        def granted() -> None:
            # What waited for its slot: the reason to begin may be gone.
            if self.stopped is not None or self.ending or closed():
                msg = "the run, or its business unit's part of it, ended before the request could begin"
                raise Withheld(msg)

        def before_first_byte() -> None:
            granted()
            if self._clock() + self._settings.request_timeout > lease_end:
                msg = "the lease ran out before the request could begin"
                raise LeaseLost(msg)

        for attempt in range(1, _SENDS_PER_INTENT + 1):
            try:
                record = await create(self._client, intent.body, granted=granted, before_first_byte=before_first_byte)
            except (LeaseLost, Withheld) as reason:
                self._summary.dropped += 1
                await self.give_up(intent, str(reason), None)
            except NotSent as error:
                if attempt < _SENDS_PER_INTENT and self._clock() + self._settings.request_timeout <= lease_end:
                    continue
                self._stop(RemoteDown(error.reason, where=error.where))
                await self.give_up(intent, error.reason, None)
            except Refused as error:
                self.refused_in_a_row += 1
                await self._refused(intent, error)
            except (NotAuthorised, AccessRefused, RemoteDown) as error:
                # Before the commit: what waits for this request's slot must know.
                self._stop(error)
                await self.give_up(intent, str(error), getattr(error, "status", None))
            except BusinessRefusal as error:
                self.refused_in_a_row = 0
                return error
            except OutcomeUnknown as error:
                await self.unknown(intent.submission_id, error.reason, error.status)
            else:
                return await self._created(intent, record)
            return None
        return None

    async def _created(self, intent: Intent, record: InvoiceRecord) -> InvoiceRecord | None:
        self.refused_in_a_row = 0
        sent = body_keys(intent.body).invoice_number
        if number_key(record.number) != number_key(sent):
            why = f"the answer shows invoice {record.number!r}, not {sent!r}"
            await self.unknown(intent.submission_id, why, 201)
            return None
        self.recording += 1
        self._freed()
        try:
            await self._writer.submit(
                partial(
                    submissions.mark_created,
                    submission_id=intent.submission_id,
                    fusion_invoice_id=record.invoice_id,
                    http_status=201,
                    evidence="answer to the request",
                )
            )
        finally:
            self.recording -= 1
        self._summary.created += 1
        return record

    async def _refused(self, intent: Intent, error: Refused) -> None:
        self._summary.refused += 1
        wait = max(min(error.retry_after or 0.0, self._settings.retry_after_cap), self._settings.refused_wait)
        await self._writer.submit(
            partial(
                submissions.mark_refused,
                submission_id=intent.submission_id,
                wait=dt.timedelta(seconds=wait),
                http_status=error.status,
                why=str(error),
            )
        )

    async def unknown(self, submission_id: int, why: str, status: int | None) -> None:
        """The outcome of a request is not known: look-ups begin after ``ambiguous_wait``."""
        await self._writer.submit(
            partial(
                submissions.mark_unknown,
                submission_id=submission_id,
                wait=dt.timedelta(seconds=self._settings.ambiguous_wait),
                http_status=status,
                why=why,
            )
        )
        # After the commit: whoever adds this to a count read from the ledger may count twice, but never too few.
        self._summary.unknown += 1

    async def give_up(self, intent: Intent, why: str, status: int | None) -> None:
        """Nothing of this intent was stored: VALIDATED again, as if it had not been begun.

        Where an attempt before it may have reached Fusion it waits, frozen: what takes its place must not overtake it.
        """

        def change(transaction: Transaction) -> None:
            if recovery.only_released_before(transaction, intent.submission_id):
                submissions.release(transaction, intent.submission_id, why=why, http_status=status)
                return
            wait = dt.timedelta(seconds=self._settings.refused_wait)
            submissions.mark_refused(transaction, intent.submission_id, wait=wait, http_status=status, why=why)

        await self._writer.submit(change)

    def withhold(self) -> None:
        """The run ends: what waits for a slot is given up unsent; what has left is let to its end."""
        self.ending = True

    def _stop(self, cause: FusionError) -> None:
        if self.stopped is None:
            self.stopped = PostingStopped(cause)

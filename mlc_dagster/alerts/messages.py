"""The words of the alerts: one line that says what, then what happened, what it means and what to do.

What belongs here: texts, each from the values it names, short enough for a telephone. What does not: secrets, amounts
of single documents, and anything that would have to be looked up first.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_MOST_NAMED = 8
_LONGEST_LINE = 600


class Message(NamedTuple):
    """What ``Alerts.send`` takes."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class HeldDocument:
    """A document that could not be written."""

    record_id: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What a partner refused: a group, or one transaction set with the record in it."""

    file_name: str
    what: str
    """Such as ``PO group 17`` or ``PO group 17 set 0003``."""
    record_id: str | None
    code: str
    text: str


class DeliveredFile(Protocol):
    """What became of a file in one run."""

    @property
    def file_id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def outcome(self) -> str:
        """SENT, INFERRED, UNKNOWN, STOPPED or WAITING."""
        ...

    @property
    def attempts(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def alert(self) -> bool:
        """A person should read the text."""
        ...


class BuiltFiles(Protocol):
    @property
    def held(self) -> int:
        """Held for the first time, or for another reason than before."""
        ...

    @property
    def held_documents(self) -> Sequence[tuple[str, str, str]]:
        """All that are held: record id, reason code, and what does not fit."""
        ...


class AnswersRead(Protocol):
    """What partners answered, as far as it is new."""

    @property
    def refused(self) -> Sequence[Refused]: ...
    @property
    def newly_overdue(self) -> Sequence[tuple[str, dt.datetime]]: ...
    @property
    def within(self) -> dt.timedelta: ...
    @property
    def broken(self) -> Sequence[tuple[str, str]]: ...


class FeedReported(Protocol):
    """One run of one feed."""

    @property
    def feed(self) -> str: ...
    @property
    def delivered(self) -> Sequence[DeliveredFile]: ...
    @property
    def built(self) -> BuiltFiles: ...
    @property
    def acknowledgements(self) -> AnswersRead | None: ...


def feed_messages(report: FeedReported) -> list[Message]:
    """Everything about a feed's run that a person should hear of; nothing when all went well."""
    said = [file_message(report.feed, file) for file in report.delivered if file.alert]
    if report.built.held:  # Those that were told before are no reason to say it again.
        said.append(documents_held(report.feed, [HeldDocument(*held) for held in report.built.held_documents]))
    answers = report.acknowledgements
    if answers is not None and answers.refused:
        said.append(acknowledgement_rejected(report.feed, answers.refused))
    if answers is not None and answers.newly_overdue:
        said.append(acknowledgement_overdue(report.feed, answers.newly_overdue, within=answers.within))
    if answers is not None and answers.broken:
        said.append(acknowledgement_unreadable(report.feed, answers.broken))
    return said


def file_message(feed: str, file: DeliveredFile) -> Message:
    """About one file that a person should hear of."""
    if file.outcome == "STOPPED":
        return file_pending(feed, file.file_id, file.name, text=file.text, attempts=file.attempts)
    if file.outcome == "INFERRED":
        return delivery_inferred(feed, file.file_id, file.name, text=file.text)
    if file.outcome == "UNKNOWN":
        return delivery_unknown(feed, file.file_id, file.name, text=file.text)
    return delivery_noted(feed, file.file_id, file.name, text=file.text)


def file_pending(feed: str, file_id: int, name: str, *, text: str, attempts: int) -> Message:
    """The server is down or refuses us. ``text``: its answer, then after `` | `` the place and hash of the bytes."""
    answer, _, place = text.partition(" | ")
    return _message(
        f"{feed}: {name} could not be delivered and waits",
        happened=f"{_times(attempts)} tried to deliver {name}. Last answer: {answer}",
        means="the partner does not have this file. Nothing of it counts as sent, nothing is lost; later files of the "
        "feed wait behind it.",
        to_do="nothing when the server comes back: the next run delivers it first. Should the partner need it earlier, "
        "hand over these bytes:",
        below=[
            f"  {place or f'mlc exports show {file_id} prints their place and SHA-256'}",
            f"To try at once: mlc exports resend {file_id} --by NAME --reason TEXT",
        ],
    )


def delivery_inferred(feed: str, file_id: int, name: str, *, text: str) -> Message:
    """The rename's answer was lost, and the file is under neither name: the partner seems to have taken it."""
    return _message(
        f"{feed}: {name} counts as delivered, but was not seen",
        happened=text,
        means=f"{name} was whole on the server under its temporary name; now it is there under neither name. The "
        "partner has most likely picked it up. It is never sent a second time by itself.",
        to_do=f"ask the partner whether {name} arrived. If it did not: "
        f"mlc exports resend {file_id} --again --by NAME --approved-by NAME --reason TEXT",
    )


def delivery_unknown(feed: str, file_id: int, name: str, *, text: str) -> Message:
    """Written under its own name, and the connection broke: whole, in part or not at all, nobody can tell."""
    return _message(
        f"{feed}: nobody can tell whether {name} arrived; the feed stops",
        happened=text,
        means=f"the upload of {name} broke off under its final name. The partner may have it whole, in part or not at "
        "all. Later files of the feed wait, so that nothing overtakes it.",
        to_do="ask the partner what they received, then two people say so:",
        below=[
            f"  mlc exports confirm {file_id} arrived --by NAME --approved-by NAME --reason TEXT",
            f"  mlc exports confirm {file_id} not-arrived --by NAME --approved-by NAME --reason TEXT",
        ],
    )


def delivery_noted(feed: str, file_id: int, name: str, *, text: str) -> Message:
    """Delivered, and something about it should be read."""
    return _message(
        f"{feed}: {name} was delivered; please read a note about it",
        happened=text,
        means=f"{name} is with the partner and counts as sent; what the note names may not be.",
        to_do=f"see with the partner whether they miss anything. In detail: mlc exports show {file_id}",
    )


def documents_held(feed: str, held: Sequence[HeldDocument]) -> Message:
    """Documents that the layout cannot carry; the others were sent."""
    return _message(
        f"{feed}: {_count(len(held), 'document')} held, not sent",
        happened=f"{_count(len(held), 'document')} cannot be written as the layout demands:",
        named=[f"{document.record_id}: {document.reason}: {document.text}" for document in held],
        means="the partner does not have them. All other documents went.",
        to_do="correct the document in Fusion, or the layout; the next run tries again by itself. All of them: "
        f"mlc exports held --feed {feed}",
    )


def documents_unreadable(source: str, found: Sequence[tuple[int, str]]) -> Message:
    """Documents that Fusion shows inconsistently; ``found`` has their ids, with what is wrong."""
    return _message(
        f"{source}: {_count(len(found), 'document')} cannot be read from Fusion",
        happened="Fusion shows these documents inconsistently, or with a value that is none:",
        named=[f"{fusion_id}: {text}" for fusion_id, text in found],
        means="no partner gets them as they are now. All other documents were read, and go.",
        to_do="look at the document in Fusion. Every run reads it again; as soon as it can be read, it goes by itself. "
        "All of them: mlc exports list",
    )


def acknowledgement_rejected(feed: str, refused: Sequence[Refused]) -> Message:
    """The partner's 997 or TA1 says no."""
    return _message(
        f"{feed}: the partner rejected {_count(len(refused), 'group or set', 'groups or sets')}",
        happened="the partner's acknowledgement refuses what was delivered:",
        named=[
            f"{each.file_name}, {each.what}{f', record {each.record_id}' if each.record_id else ''}: "
            f"{each.code} {each.text}"
            for each in refused
        ],
        means="the bytes arrived; the partner's system did not take these documents.",
        to_do="see with the partner what is wrong. A document that is corrected in Fusion goes out again as a new "
        "version by itself. If the fault was theirs, they can have the same bytes again: "
        "mlc exports resend ID --again --by NAME --approved-by NAME --reason TEXT",
    )


def acknowledgement_overdue(feed: str, overdue: Sequence[tuple[str, dt.datetime]], *, within: dt.timedelta) -> Message:
    """No acknowledgement in the agreed time; ``overdue`` has file names with the time of delivery, UTC."""
    return _message(
        f"{feed}: {_count(len(overdue), 'file')} not acknowledged in time",
        happened=f"the partner has not acknowledged within {_span(within)}:",
        named=[f"{name}, delivered {_when(sent_at)} UTC" for name, sent_at in overdue],
        means="the files were delivered; whether the partner's system has read them is not known.",
        to_do="ask the partner. An acknowledgement that comes late is read by the next run. All files: "
        f"mlc exports list --feed {feed}",
    )


def acknowledgement_unreadable(feed: str, broken: Sequence[tuple[str, str]]) -> Message:
    """Files in the acknowledgement folder that are none; ``broken`` has paths with the reason."""
    return _message(
        f"{feed}: {_count(len(broken), 'acknowledgement')} cannot be read",
        happened="these files of the acknowledgement folder are not X12 acknowledgements, or are damaged:",
        named=[f"{path}: {reason}" for path, reason in broken],
        means="what they say of our files is not known; all others were read.",
        to_do="have the partner send them again. Each is reported once; a file that changes is read again.",
    )


def files_overdue(*, feed: str, waiting: Sequence[str]) -> Message:
    """Files that wait for longer than a sender takes to write; ``waiting``: a sentence each."""
    return _message(
        f"{_count(len(waiting), 'file')} of {feed} waits too long"
        if len(waiting) == 1
        else f"{_count(len(waiting), 'file')} of {feed} wait too long",
        happened="these files are in the folder and are not whole, or not complete without another file:",
        named=waiting,
        means="nothing of them is read until then; all other files are processed.",
        to_do="ask the sender for what is missing, or take the file away. In detail: mlc files list",
    )


def files_not_put_away(*, feed: str, stuck: Sequence[str]) -> Message:
    """Processed files that could not be archived or deleted for long; ``stuck``: a sentence each, oldest first."""
    return _message(
        f"{_count(len(stuck), 'processed file')} of {feed} cannot be put away",
        happened="stampli.after_read says that processed files leave the folder, and these could not:",
        named=stuck,
        means="their invoices are processed, and nothing is lost. A file may lie under a hidden name (.….mlc).",
        to_do="create the archive folder, or give the account the right to rename and delete; or set after_read to "
        "leave. Every poll tries again. In detail: mlc files list",
    )


def run_failed(*, job: str, run_id: str, tags: Mapping[str, str], failures: Sequence[str]) -> Message:
    """A run ended in failure; ``run_id`` is empty for one that no daemon started, ``tags`` are the run's."""
    window = next((tags[key] for key in _WINDOW_TAGS if tags.get(key)), "")
    run = f"run {run_id}" if run_id else "the run"
    return _message(
        f"run of {job} failed" + (f", window {window}" if window else ""),
        happened=f"{run} failed:" if failures else f"{run} failed, and told no reason.",
        named=failures,
        means="what the run had finished is kept in the ledger; nothing is posted or delivered twice by running again.",
        to_do="cure the cause; the next run takes up what is left. In detail: mlc exceptions, mlc exports list"
        + (f", and the run in the web interface: /runs/{run_id}" if run_id else ""),
    )


_WINDOW_TAGS = ("dagster/partition", "dagster/asset_partition_range_start")


def _message(
    title: str, *, happened: str, means: str, to_do: str, named: Sequence[str] = (), below: Sequence[str] = ()
) -> Message:
    more = len(named) - _MOST_NAMED
    lines = [
        f"What happened: {_cut(happened)}",
        *(f"  {_cut(line)}" for line in named[:_MOST_NAMED]),
        *([f"  and {more} more"] if more > 0 else []),
        f"What it means: {_cut(means)}",
        f"What to do: {_cut(to_do)}",
        *below,
    ]
    return Message(_cut(title), "\n".join(lines))


def _cut(text: str) -> str:
    """Foreign texts may bring newlines, which a mail's subject must not carry, and no end."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def _count(number: int, noun: str, many: str | None = None) -> str:
    return f"{number} {noun if number == 1 else many or noun + 's'}"


def _times(attempts: int) -> str:
    return "once" if attempts == 1 else f"{attempts} times"


def _when(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _span(span: dt.timedelta) -> str:
    seconds = int(span.total_seconds())
    for size, noun in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return _count(seconds // size, noun)
    return _count(seconds, "second")

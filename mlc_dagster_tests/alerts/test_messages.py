"""The alerts' words: short enough to be read on a telephone, and never without what to do."""

import datetime as dt
from dataclasses import dataclass, field

import pytest

from mlc_dagster.alerts import messages
from mlc_dagster.alerts.messages import HeldDocument, Message, Refused

AT = dt.datetime(2026, 11, 21, 8, 15, tzinfo=dt.UTC)
NAME = "PO_20261121_0007.x12"
PLACE = "the file waits at /srv/mlc/outbox/orders/PO_20261121_0007.x12 (SHA-256 " + "ab" * 32 + ")"

EVERY = [
    messages.file_pending("orders", 7, NAME, text=f"partner:22: no answer | {PLACE}", attempts=4),
    messages.delivery_inferred("orders", 7, NAME, text="the answer to RENAME was lost"),
    messages.delivery_unknown("orders", 7, NAME, text="the connection broke after 512 bytes"),
    messages.delivery_noted("orders", 7, NAME, text="trigger: taken at once"),
    messages.documents_held("orders", [HeldDocument(f"30{n}", "KEY_TOO_LONG", "BIG02 takes 22") for n in range(30)]),
    messages.acknowledgement_rejected("orders", [Refused(NAME, "PO group 17 set 0003", "301", "R", "")]),
    messages.acknowledgement_overdue("orders", [(NAME, AT)], within=dt.timedelta(hours=24)),
    messages.acknowledgement_unreadable("orders", [("/ack/1.edi", "does not begin with ISA")]),
    messages.files_overdue(feed="stampli", waiting=["/outbound/a.csv waits for its marker a.done"]),
    messages.files_not_put_away(feed="stampli", stuck=[f"since yesterday: /outbound/{n}.csv: no" for n in range(30)]),
    messages.run_failed(job="fusion_to_sftp", run_id="1f2e", tags={}, failures=["fusion_journals: 503"] * 30),
]


@pytest.mark.parametrize("message", EVERY, ids=lambda message: message.title)
def test_every_alert_says_what_happened_what_it_means_and_what_to_do(message: Message) -> None:
    """Who is paged at night has no time to look things up."""
    lines = message.body.splitlines()
    assert "\n" not in message.title
    assert len(lines) <= 20
    for part in ("What happened: ", "What it means: ", "What to do: "):
        assert [line for line in lines if line.startswith(part)], part


def test_a_pending_file_is_named_with_its_place_hash_and_command() -> None:
    """With path and hash a person can hand the bytes over, and prove which they were; however long the answer was."""
    body = messages.file_pending("orders", 7, NAME, text=f"{'refused ' * 200}| {PLACE}", attempts=1).body
    assert f"  {PLACE}" in body.splitlines()
    assert "mlc exports resend 7 --by NAME --reason TEXT" in body


def test_an_unknown_delivery_names_both_answers() -> None:
    """Only the partner knows; the two commands say how to tell us, and that it takes two people."""
    body = messages.delivery_unknown("orders", 7, NAME, text="broke").body
    assert "mlc exports confirm 7 arrived --by NAME --approved-by NAME" in body
    assert "mlc exports confirm 7 not-arrived --by NAME --approved-by NAME" in body


def test_a_long_list_is_cut_and_counted() -> None:
    """A thousand held documents are one alert, not a mail of a thousand lines."""
    held = [HeldDocument(str(n), "UNBALANCED", "x") for n in range(1000)]
    message = messages.documents_held("journals", held)
    assert message.title == "journals: 1000 documents held, not sent"
    assert "  and 992 more" in message.body.splitlines()


def test_foreign_text_cannot_break_the_subject() -> None:
    """A server's answer with newlines would otherwise add headers to a mail."""
    message = messages.run_failed(job="job\nBcc: x@y", run_id="1", tags={}, failures=["a\r\n" + "b" * 5000])
    assert "\n" not in message.title
    assert max(len(line) for line in message.body.splitlines()) < 700


def test_a_span_is_said_in_its_largest_unit() -> None:
    """``within 86400.0`` helps nobody."""
    body = messages.acknowledgement_overdue("orders", [(NAME, AT)], within=dt.timedelta(days=1)).body
    assert "has not acknowledged within 1 day:" in body
    assert f"{NAME}, delivered 2026-11-21 08:15:00 UTC" in body


def test_a_run_is_named_with_its_window() -> None:
    """Which of the day's ninety-six runs it was is what one looks for first."""
    tags = {"dagster/partition": "2026-11-21-08:15"}
    message = messages.run_failed(job="fusion_to_sftp", run_id="1f2e", tags=tags, failures=["orders: refused"])
    assert message.title == "run of fusion_to_sftp failed, window 2026-11-21-08:15"
    assert "  orders: refused" in message.body.splitlines()


@dataclass
class File:
    outcome: str
    alert: bool = True
    file_id: int = 7
    name: str = NAME
    attempts: int = 2
    text: str = f"refused | {PLACE}"


@dataclass
class Built:
    held: int = 0
    held_documents: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Answers:
    refused: list[Refused] = field(default_factory=list)
    newly_overdue: list[tuple[str, dt.datetime]] = field(default_factory=list)
    within: dt.timedelta = dt.timedelta(hours=24)
    broken: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Report:
    delivered: list[File] = field(default_factory=list)
    built: Built = field(default_factory=Built)
    acknowledgements: Answers | None = None
    feed: str = "orders"


def test_a_run_in_which_all_went_well_says_nothing() -> None:
    """Alerts that say nothing are the reason why alerts are not read."""
    assert messages.feed_messages(Report([File("SENT", alert=False)], acknowledgements=Answers())) == []


def test_everything_that_needs_a_person_is_one_alert_each() -> None:
    """A held document must not hide behind a server that is down."""
    answers = Answers([Refused(NAME, "PO group 17", None, "R", "")], [(NAME, AT)], broken=[("/ack/1", "not X12")])
    files = [File("STOPPED"), File("WAITING", alert=False)]
    report = Report(files, Built(1, [("301", "UNBALANCED", "1.00 USD")]), answers)
    assert [message.title for message in messages.feed_messages(report)] == [
        f"orders: {NAME} could not be delivered and waits",
        "orders: 1 document held, not sent",
        "orders: the partner rejected 1 group or set",
        "orders: 1 file not acknowledged in time",
        "orders: 1 acknowledgement cannot be read",
    ]


def test_documents_that_stay_held_are_told_once() -> None:
    """The same mail every quarter of an hour is not read when it says something new."""
    still_held = Built(0, [("301", "UNBALANCED", "1.00 USD")])
    assert messages.feed_messages(Report(built=still_held)) == []


@pytest.mark.parametrize(
    ("outcome", "title"),
    [("INFERRED", "counts as delivered"), ("UNKNOWN", "nobody can tell"), ("SENT", "please read a note")],
)
def test_each_way_to_end_has_its_own_words(outcome: str, title: str) -> None:
    """What to do about a file that was perhaps delivered is the opposite of what to do about one that was not."""
    [message] = messages.feed_messages(Report([File(outcome)]))
    assert title in message.title

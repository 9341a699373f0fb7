"""Partners' acknowledgements of any bytes: verdicts that a ledger can keep, or NotX12."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.exports.x12 import acknowledgement
from mlc_dagster.exports.x12.acknowledgement import Answer997, NotX12, read_997
from mlc_dagster_tests.fuzzing.effort import fuzzed

ISA = b"ISA*00*          *00*          *ZZ*THEM           *ZZ*US             *261121*1200*U*00401*000000001*0*P*>~"
WHOLE = (
    ISA + b"GS*FA*THEM*US*20261121*1200*1*X*004010~ST*997*0001~AK1*PO*17~AK2*850*0001~AK3*BEG*2**8~AK4*3*324*7*X~"
    b"AK5*R*5~AK9*R*1*1*0~SE*8*0001~GE*1*1~IEA*1*000000001~"
)
_SEGMENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["AK1", "AK2", "AK3", "AK4", "AK5", "IK5", "AK9", "TA1", "ST", "SE", "ISA", "IEA", "GS", "GE", ""]
        ),
        st.lists(
            st.sampled_from(
                ["", "A", "R", "997", "0001", "17", "PO", "9" * 5000, "٣", "\x00", "\x1b[2J", "000000001", "E" * 500]
            )
            | st.text(st.characters(codec="latin-1"), max_size=4),
            max_size=14,
        ),
    ).map(lambda parts: "*".join([parts[0], *parts[1]]).encode("utf-8") + b"~"),
    max_size=15,
)


def prove(answers: list[Answer997]) -> None:
    """Everything in the verdicts fits into the ledger and onto a screen."""
    for answer in answers:
        assert answer.code in ("A", "E", "P", "R", "M", "W", "X")
        assert 0 <= answer.group_control < 10**9
        assert answer.group_code is None or answer.group_code.isalnum()
        assert answer.set_control is None or (answer.set_control.isascii() and len(answer.set_control) <= 20)
        assert len(answer.errors) <= 100
        assert all(len(error) <= 1000 and "\0" not in error and "\x1b" not in error for error in answer.errors)


def read(data: bytes) -> list[Answer997]:
    """The verdicts; none where the file is refused, with a text that can be shown."""
    try:
        return read_997(data)
    except NotX12 as error:
        assert len(str(error)) < 400  # noqa: PT017 - some are whole
        assert "\0" not in str(error)  # noqa: PT017
        return []


@fuzzed(300)
@given(segments=_SEGMENTS)
def test_segments_in_any_order_are_verdicts_or_a_refusal(segments: list[bytes]) -> None:
    """An answer that cannot be trusted must not settle a file as taken."""
    prove(read(ISA + b"".join(segments) + b"IEA*1*000000001~"))
    prove(read(ISA + b"ST*997*0001~AK1*PO*17~" + b"".join(segments) + b"SE*1*0001~IEA*1*000000001~"))


@fuzzed(300)
@given(edits=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 6), st.binary(max_size=4)), min_size=1, max_size=3))
def test_damage_never_makes_another_verdict_of_more_sets(edits: list[tuple[int, int, bytes]]) -> None:
    """A byte that is lost may make the answer unreadable; it must not make one for a second file."""
    data = WHOLE
    for at, cut, put in edits:
        data = data[:at] + put + data[at + cut :]
    answers = read(data)
    prove(answers)
    assert len(answers) <= 4


@fuzzed(200)
@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_interchange_are_refused_in_words(data: bytes) -> None:
    """Partners put read-me files into every folder."""
    prove(read(data))
    prove(read(ISA + data))


def test_a_whole_answer_still_says_what_it_says() -> None:
    """The limits must not touch what partners really send."""
    refused, group = read_997(WHOLE)
    assert (refused.set_control, refused.code, refused.errors) == (
        "0001",
        "R",
        ("BEG at 2: 8", "element 3: 7 (X)", "5"),
    )
    assert (group.group_code, group.group_control, group.code) == ("PO", 17, "R")


def test_more_verdicts_than_any_day_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen megabytes of the shortest verdicts would be a million rows of the ledger."""
    monkeypatch.setattr(acknowledgement, "MOST_ANSWERS", 3)
    data = ISA + b"ST*997*0001~AK1*PO*17~" + b"AK2*850*1~AK5*A~" * 4 + b"AK9*A*1*1*1~SE*8*0001~IEA*1*000000001~"
    with pytest.raises(NotX12, match="more than 3 verdicts"):
        read_997(data)


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 10, "-1", "1e3", "²"])
def test_a_number_that_no_group_has_is_refused(number: str) -> None:
    """Beyond 4300 digits Python refuses the number itself, with another error than the one that is awaited."""
    data = ISA + f"ST*997*0001~AK1*PO*{number}~".encode() + b"SE*8*0001~IEA*1*000000001~"
    with pytest.raises(NotX12, match="is no number"):
        read_997(data)


def test_a_segment_of_megabytes_is_refused() -> None:
    """Split into its elements it would take fifty times its size in memory."""
    with pytest.raises(NotX12, match="a segment has"):
        read_997(ISA + b"AK3" + b"*" * 2_000_000 + b"~")

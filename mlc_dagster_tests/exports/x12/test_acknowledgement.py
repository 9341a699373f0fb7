"""Answers of partners: read whatever their translators write, refused with a place where they are broken."""

import pytest

from mlc_dagster.exports.x12.acknowledgement import NotX12, read_997

ISA = "ISA*00*          *00*          *01*123456789      *ZZ*ACME           *261121*1300*U*00401*000000900*0*P*>~"


def answer(*segments: str, st: str = "997") -> bytes:
    middle = "".join(f"{segment}~" for segment in segments)
    body = f"GS*FA*123456789*ACME*20261121*1300*00077*X*004010~ST*{st}*0001~{middle}SE*9*0001~GE*01*00077~"
    return f"{ISA}{body}IEA*1*000000900~".encode()


def test_groups_and_sets_are_told_apart() -> None:
    """A group may be accepted in part: which of its documents were refused is what matters."""
    read = read_997(
        answer(
            "AK1*PO*7",
            "AK2*850*0001",
            "AK5*A",
            "AK2*850*0002",
            "AK3*PO1*12**8",
            "AK4*4*212*6*12,5",
            "AK5*R*5",
            "AK9*P*2*2*1",
        )
    )
    assert [(each.kind, each.set_control, each.code) for each in read] == [
        ("set", "0001", "A"),
        ("set", "0002", "R"),
        ("group", None, "P"),
    ]
    assert read[1].errors == ("PO1 at 12: 8", "element 4: 6 (12,5)", "5")
    assert [(each.group_code, each.group_control) for each in read] == [("PO", 7)] * 3
    assert (read[0].sender, read[0].receiver, read[0].interchange_control) == ("123456789", "ACME", 900)


def test_numbers_with_leading_zeros_are_the_same_numbers() -> None:
    """Many translators pad GS06; compared as text they would never match."""
    assert read_997(answer("AK1*IN*000000041", "AK9*A*1*1*1"))[0].group_control == 41


def test_999_says_the_same_in_other_words() -> None:
    """Healthcare's acknowledgement, which some partners send for everything."""
    read = read_997(answer("AK1*IN*5", "AK2*810*0001", "IK3*BIG*2**8", "IK5*R*5", "AK9*R*1*1*0", st="999"))
    assert [(each.code, each.errors) for each in read] == [("R", ("BIG at 2: 8", "5")), ("R", ())]


@pytest.mark.parametrize(("code", "note", "errors"), [("A", "000", ()), ("R", "018", ("018",))])
def test_ta1_answers_a_whole_interchange(code: str, note: str, errors: tuple[str, ...]) -> None:
    """The number is ISA13 of ours: nothing below it was looked at."""
    (read,) = read_997(f"{ISA}TA1*000000041*261121*1205*{code}*{note}~IEA*0*000000900~".encode())
    assert (read.kind, read.group_code, read.group_control, read.code, read.errors) == (
        "interchange",
        None,
        41,
        code,
        errors,
    )


def test_delimiters_come_from_each_interchange() -> None:
    """One file, two interchanges, two translators; and line breaks for people."""
    first = answer("AK1*IN*1", "AK9*A*1*1*1")
    second = answer("AK1*IN*2", "AK9*R*1*1*0").replace(b"*", b"|").replace(b">", b":").replace(b"~", b"'\r\n")
    read = read_997(b"\xef\xbb\xbf" + first + b"\n\n" + second)
    assert [(each.group_control, each.code) for each in read] == [(1, "A"), (2, "R")]


def test_other_sets_in_the_file_are_passed_over() -> None:
    """Partners drop orders and answers into one folder."""
    assert read_997(answer("BEG*00*SA*1**20261101", "AK1*ignored", st="850")) == []


WHOLE = answer("AK1*IN*1", "AK2*810*0001", "AK5*A", "AK9*A*1*1*1")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "byte 0"),
        (b"Dear partner, all is well.", "byte 0"),
        (WHOLE[:50], "byte 0"),
        (WHOLE[:-1], "byte"),
        (WHOLE.replace(b"IEA*1*000000900~", b""), r"segment 9 \(GE\)"),
        (WHOLE.replace(b"ISA*00*          *", b"ISA*00*       *"), "byte 0"),
        (WHOLE.replace(b"AK1*IN*1~", b""), r"\(AK2\)"),
        (WHOLE.replace(b"AK2*810*0001~", b""), r"\(AK5\)"),
        (WHOLE.replace(b"AK9*A*1*1*1~", b""), r"\(SE\)"),
        (WHOLE.replace(b"AK5*A", b"AK5*Q"), r"\(AK5\)"),
        (WHOLE.replace(b"AK1*IN*1", b"AK1*IN*one"), r"\(AK1\)"),
        (WHOLE.replace(b"IEA*1*000000900", b"IEA*1*000000901"), r"\(IEA\)"),
        (WHOLE + b"rubbish", "byte"),
    ],
)
def test_a_broken_answer_names_its_place(data: bytes, place: str) -> None:
    """Half an answer taken for a whole one would pass a refusal over."""
    with pytest.raises(NotX12, match=place):
        read_997(data)

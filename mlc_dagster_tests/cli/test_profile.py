"""``mlc profile``: a person sees what a file is and what becomes of it, before it is ever polled."""

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.stampli.parsing.profile import load_profile, shipped_profiles
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.servers.configuration import SEGMENTS
from mlc_dagster_tests.servers.rehearsal import COMPANIES
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows
from mlc_dagster_tests.stampli.builders_shapes import split_parts, typed_file, typed_records, write_split, xml_file

FINGERPRINT = "SHA256:" + "A" * 43
ROWS = [*invoice_rows("60.00", "40.00"), *invoice_rows("7.50", invoice_id="2", invoice_number="INV-2", currency="EUR")]


def test_list_names_every_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody begins with an empty file."""
    monkeypatch.chdir(tmp_path)
    found = json_of(run_mlc("profile", "list", "--json"))["profiles"]
    assert [each["name"] for each in found] == shipped_profiles()
    assert {each["rows"] for each in found} == {"repeated_header", "split", "typed", "xml"}
    assert "stampli_typed_pipe" in run_mlc("profile", "list").stdout


@pytest.mark.parametrize("name", shipped_profiles())
def test_show_prints_what_can_be_loaded_again(tmp_path: Path, name: str) -> None:
    """It is there to be copied and changed."""
    path = tmp_path / "mine.yaml"
    path.write_text(run_mlc("profile", "show", name).stdout)
    assert load_profile(path).digest == load_profile(name).digest


def write(folder: Path, shape: str) -> Path:
    """A whole file of a shape, under a name that its profile takes."""
    if shape == "stampli_split_eu":
        return write_split(folder, split_parts(ROWS))
    content, ending = {
        "stampli_lines_v1": (invoice_csv(ROWS), ".csv"),
        "stampli_typed_pipe": (typed_file(typed_records(ROWS)), ".txt"),
        "stampli_xml": (xml_file(ROWS), ".xml"),
    }[shape]
    path = folder / file_name().replace(".csv", ending)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("shape", shipped_profiles())
def test_a_whole_file_is_recognised_and_added_up(tmp_path: Path, shape: str) -> None:
    """Which profile, how many rows, how much money in which currency: what one compares with the sender's own."""
    result = run_mlc("profile", "check", write(tmp_path, shape), "--json")
    document = json_of(result)
    assert result.exit_code == 0
    assert document["profile"]["name"] == shape
    found = document["result"]
    assert (found["rows"], found["rows_in_invoices"], found["rows_set_aside"], found["invoices"]) == (3, 3, 0, 2)
    assert found["totals"] == {"USD": "100.00", "EUR": "7.50"}
    assert found["deviations"] == []
    assert (found["first_date"], found["last_date"]) == ("2026-10-28", "2026-10-28")
    assert [(each["number"], each["amount"], each["invoice_date"]) for each in found["first_invoices"]] == [
        ("INV-00417", "100.00", "2026-10-28"),
        ("INV-2", "7.50", "2026-10-28"),
    ]
    assert "No deviations" in run_mlc("profile", "check", write(tmp_path, shape)).stdout


def deviations(*arguments: str | Path) -> list[tuple[str, str]]:
    """(place, reason) of each deviation; the command ends with 1."""
    result = run_mlc("profile", "check", *arguments, "--json")
    assert result.exit_code == 1
    return [(each["place"], each["reason"]) for each in json_of(result)["result"]["deviations"]]


def test_deviations_have_line_and_column(tmp_path: Path) -> None:
    """The sender looks there."""
    path = write(tmp_path, "stampli_lines_v1")
    lines = path.read_bytes().replace(b"40.00", b"40.005").splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, b"C100,short\n"])[:-1])
    assert deviations(path) == [
        ("end of the file", "FILE_PARTIAL"),
        ("row 3, column line_amount", "FIELD_INVALID"),
        ("row 5", "ROW_MALFORMED"),
    ]
    assert "row 3, column line_amount" in run_mlc("profile", "check", path).stdout


def test_what_no_company_could_take_is_told_at_its_place(tmp_path: Path) -> None:
    """Each value may be written well and the invoice be wrong: the sender hears of it before the first poll."""
    rows = [
        *invoice_rows("60.00", "40.00", invoice_amount="100.01"),
        *invoice_rows("1.00", invoice_id="2", invoice_number="inv-00417 "),
        *invoice_rows("1.00", invoice_id="3", invoice_number="N3", currency="XXQ"),
        *invoice_rows(
            "1.00", "2.00", invoice_id="4", invoice_number="N4",
            lines=[{"line_number": "2"}, {"line_number": "1", "gl_account": ""}],
        ),
        *invoice_rows("-1.00", invoice_id="5", invoice_number="N5", status="DRAFT"),
    ]  # fmt: skip
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    assert deviations(path) == [
        ("row 2, column invoice_amount", "AMOUNT_MISMATCH"),
        ("row 4, column invoice_number", "DUP_EXACT"),
        ("row 5, column currency", "CURRENCY_INVALID"),
        ("row 7, column gl_account", "FIELD_MISSING"),
        ("row 8, column status", "NOT_APPROVED"),
        ("row 8, column invoice_amount", "MEMO_SIGN"),
    ]
    found = json_of(run_mlc("profile", "check", path, "--json"))["result"]
    assert (found["invoices_readable"], found["invoices_deviating"]) == (5, 5)
    assert found["totals"] == {"USD": "103.01"}
    assert found["deviations"][3] | {"text": ""} == {
        "place": "row 7, column gl_account", "reason": "FIELD_MISSING", "text": "", "row": 7, "column": "gl_account",
    }  # fmt: skip


def test_single_values_that_are_wrong_are_told_one_by_one(tmp_path: Path) -> None:
    """Amount, date, empty cell, rows that disagree: four things to correct in one look."""
    rows = invoice_rows(
        "1,00", "2.00", invoice_amount="3.00", invoice_date="28.10.2026", vendor_name="",
        lines=[{}, {"due_date": "2026-11-28"}],
    )  # fmt: skip
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    assert sorted(deviations(path)) == [
        ("row 2, column invoice_date", "FIELD_INVALID"),
        ("row 2, column line_amount", "FIELD_INVALID"),
        ("row 2, column vendor_name", "FIELD_MISSING"),
        ("row 3, column due_date", "HEADER_CONFLICT"),
    ]


def test_columns_are_named_as_the_file_names_them(tmp_path: Path) -> None:
    """A person looks for the column that is there."""
    profile = tmp_path / "mine.yaml"
    shipped = run_mlc("profile", "show", "stampli_lines_v1").stdout
    profile.write_text(shipped.replace("{field: amount, type", "{field: amount, aliases: [betrag], type"))
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(invoice_rows("1.00", invoice_amount="2.00")).replace(b"invoice_amount", b"Betrag"))
    assert deviations(path, "--profile", profile) == [("row 2, column betrag", "AMOUNT_MISMATCH")]


def test_what_parks_nothing_is_a_note(tmp_path: Path) -> None:
    """A script that waits for a clean file must not fail for a price that was rounded elsewhere."""
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(invoice_rows("1.00", lines=[{"quantity": "3", "unit_price": "9"}])))
    result = run_mlc("profile", "check", path)
    assert result.exit_code == 0
    assert "note: invoice of row 2: Quantity times unit price" in result.stdout


def test_one_file_of_a_delivery_points_to_its_manifest(tmp_path: Path) -> None:
    """By itself it says nothing about whose lines are there."""
    write_split(tmp_path, split_parts(ROWS))
    result = run_mlc("profile", "check", tmp_path / "x_lines.csv")
    assert result.exit_code == 1
    assert "is one file of a delivery; name its manifest" in result.stdout


def test_deviations_of_the_other_shapes_have_their_place(tmp_path: Path) -> None:
    """An element has a path, a row of a delivery its file."""
    document = write(tmp_path, "stampli_xml")
    document.write_bytes(document.read_bytes().replace(b"7.50</Amount>\n      <", b"7,50</Amount>\n      <"))
    assert deviations(document) == [("/InvoiceExport/Invoices/Invoice[2]/Amount", "FIELD_INVALID")]
    parts = split_parts(ROWS)
    parts["x_lines.csv"] = parts["x_lines.csv"].replace(b";61200;", b";x\ty;", 1)
    assert deviations(write_split(tmp_path, parts)) == [("x_lines.csv row 2, column gl_account", "FIELD_INVALID")]
    parts = split_parts(ROWS)
    parts["x_headers.csv"] = parts["x_headers.csv"].replace(b"EUR;7,50", b"EUR;8,50")
    assert deviations(write_split(tmp_path, parts)) == [
        ("x_headers.csv row 3, column invoice_amount (its line: x_lines.csv row 4)", "AMOUNT_MISMATCH")
    ]
    typed = write(tmp_path, "stampli_typed_pipe")
    records = typed_records([*ROWS[:2], {**ROWS[2], "invoice_date": "28.10.2026", "gl_account": ""}])
    typed.write_bytes(typed_file(records))
    assert deviations(typed) == [("row 5, column invoice_date", "FIELD_INVALID")]
    typed.write_bytes(typed_file(typed_records([*ROWS[:2], {**ROWS[2], "gl_account": "", "currency": "XXQ"}])))
    assert deviations(typed) == [
        ("row 5, column currency", "CURRENCY_INVALID"),
        ("row 6, column gl_account", "FIELD_MISSING"),
    ]


def test_a_refused_file_says_why(tmp_path: Path) -> None:
    """A trailer that is not true is the whole file's matter."""
    path = write(tmp_path, "stampli_typed_pipe")
    path.write_bytes(path.read_bytes().replace(b"|60.00|", b"|61.00|"))
    assert deviations(path) == [("the whole file", "FILE_SCHEMA")]


def test_another_name_is_told(tmp_path: Path) -> None:
    """In the folder it would be left lying."""
    path = write(tmp_path, "stampli_lines_v1").rename(tmp_path / "export.csv")
    assert deviations(path) == [("export.csv", "FILE_NAME")]


def test_a_file_of_no_shape_names_what_each_profile_misses(tmp_path: Path) -> None:
    """The nearest profile is where one begins to write an own one."""
    path = tmp_path / "other.csv"
    path.write_bytes("Rechnung;Betrag\r\n1;10,00 \u20ac\r\n".encode("cp1252"))
    result = run_mlc("profile", "check", path, "--json")
    document = json_of(result)
    assert result.exit_code == 1
    assert document["profile"] is None
    assert document["seen"]["delimiter"] == ";"
    assert document["seen"]["columns"] == ["Rechnung", "Betrag"]
    assert document["seen"]["line_ends"] == {"CRLF": 2}
    assert document["seen"]["not_utf8"] == "0x80 at line 2, byte 9"
    assert all(fit["refusal"] for fit in document["profiles"])
    assert "fits no profile" in run_mlc("profile", "check", path).stdout


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", {"content": "empty", "encoding": "ASCII"}),
        (b"\xef\xbb\xbfa,b\n", {"byte_order_mark": "UTF-8", "encoding": "UTF-8", "columns": ["a", "b"]}),
        ("a\tb\r".encode("utf-16"), {"byte_order_mark": "UTF-16 LE", "delimiter": "\t"}),
        (b"a|b\r1|2\r", {"line_ends": {"CR": 2}, "delimiter": "|"}),
        (b"\0\0\0\1" * 10, {"content": "binary", "nul_bytes": 30}),
        (b"<a/>", {"content": "xml", "final_line_end": False}),
        (b"a,b\n\xc3", {"not_utf8": "the last character is cut off"}),
        (gzip.compress(b"a;b\n", mtime=0), {"packed": "gzip", "delimiter": ";"}),
        (gzip.compress(b"a;b\n" * 1000, mtime=0)[:-9], {"packed": "gzip"}),
    ],
)
def test_what_a_file_is_is_told_whatever_it_is(tmp_path: Path, content: bytes, facts: dict[str, object]) -> None:
    """The first question about a strange file is what it is."""
    path = tmp_path / "strange"
    path.write_bytes(content)
    seen = json_of(run_mlc("profile", "check", path, "--json"))["seen"]
    assert {name: seen[name] for name in facts} == facts


def test_what_cannot_be_used_ends_with_2(tmp_path: Path) -> None:
    """A script tells a wrong command from a wrong file."""
    path = write(tmp_path, "stampli_lines_v1")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\n")
    assert run_mlc("profile", "check", path, "--profile", broken).exit_code == 2
    assert run_mlc("profile", "check", path, "--profile", "no_such").exit_code == 2
    assert run_mlc("profile", "check", tmp_path / "none.csv").exit_code == 2
    assert run_mlc("profile", "show", "../profile").exit_code == 2
    assert run_mlc("profile", "check", path, "--profile", "stampli_lines_v1").exit_code == 0


def test_what_a_file_says_is_never_acted_upon_by_the_terminal(tmp_path: Path) -> None:
    """Column names come from outside."""
    path = tmp_path / "x\x1b[2J.csv"
    path.write_bytes(b"a\x1b[2J,b\x9b31m\xe2\x80\xae\n")
    output = run_mlc("profile", "check", path).stdout
    assert "\x1b" not in output
    assert "\u202e" not in output


def test_the_limit_counts_the_rest(tmp_path: Path) -> None:
    """A file of the wrong delimiter style has as many deviations as cells."""
    path = write(tmp_path, "stampli_lines_v1")
    path.write_bytes(path.read_bytes().replace(b"61200", b"6\t0"))
    found = json_of(run_mlc("profile", "check", path, "--limit", "1", "--json"))["result"]
    assert (len(found["deviations"]), found["not_told"]) == (1, 2)
    assert found["reasons"] == {"FIELD_INVALID": 3}
    assert "3 deviations: 3 FIELD_INVALID" in run_mlc("profile", "check", path, "--limit", "1").stdout


def configured(folder: Path, company: dict[str, Any], **stampli: Any) -> Path:
    """An mlc.yaml with the company C100; its secrets are nowhere, and are not needed."""
    document: dict[str, Any] = {
        "fusion": {
            "base_url": "https://fusion.example", "token_url": "https://id.example/token", "client_id": "x",
            "client_secret": "env:NOWHERE", "scope": "s",
            "charts": {
                "US1": {
                    "ledgers": ["US Primary Ledger"], "segments": SEGMENTS, "natural_account": "account",
                    "cost_center": "department",
                }
            },
        },
        "stampli": {
            "sftp": {"host": "h", "username": "u", "password": "env:NOWHERE", "host_key": FINGERPRINT},
            "companies": {"C100": COMPANIES["C100"] | company}, **stampli,
        },
        "poll": {"start": dt.date(2026, 1, 1)},
    }  # fmt: skip
    path = folder / "mlc.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_file_is_judged_by_its_own_company_where_there_is_an_mlc_yaml(tmp_path: Path) -> None:
    """A difference that the company tolerates is none; an invoice of a company that is not set up is one."""
    rows = [
        *invoice_rows("10.00", invoice_amount="10.05", invoice_id="1", invoice_number="N1"),
        *invoice_rows("10.00", company_id="C999", invoice_id="2", invoice_number="N2"),
    ]
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    assert deviations(path) == [("row 2, column invoice_amount", "AMOUNT_MISMATCH")]
    tolerant = {"tolerance": "0.05", "rounding_account": "101-0000-69999-000-000-000"}
    config = configured(tmp_path, tolerant)
    assert deviations(path, "--config", config) == [("row 3, column company_id", "BU_UNMAPPED")]
    shown = run_mlc("profile", "check", path, "--config", config).stdout
    assert "1 of them their company cannot take as they are" in shown
    before_the_command = json_of(run_mlc("--config", config, "profile", "check", path, "--json"))
    assert [each["reason"] for each in before_the_command["result"]["deviations"]] == ["BU_UNMAPPED"]


def test_the_profile_of_mlc_yaml_is_taken(tmp_path: Path) -> None:
    """Not the one that fits best: whether the feed's own fits is the question. A path is relative to mlc.yaml."""
    path = write(tmp_path, "stampli_lines_v1")
    (tmp_path / "mine.yaml").write_text(run_mlc("profile", "show", "stampli_typed_pipe").stdout)
    config = configured(tmp_path, {}, profile="./mine.yaml")
    found = run_mlc("profile", "check", path, "--config", config, "--json")
    assert found.exit_code == 1
    assert json_of(found)["profile"]["name"] == "stampli_typed_pipe"
    named = run_mlc("profile", "check", path, "--config", config, "--profile", "stampli_lines_v1", "--json")
    assert (named.exit_code, json_of(named)["profile"]["name"]) == (0, "stampli_lines_v1")


def test_the_mlc_yaml_of_the_folder_is_found_and_one_that_is_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other command finds it."""
    path = write(tmp_path, "stampli_lines_v1")
    monkeypatch.chdir(tmp_path)
    assert len(json_of(run_mlc("profile", "check", path, "--json"))["profiles"]) == len(shipped_profiles())
    configured(tmp_path, {}, profile="stampli_lines_v1")
    assert len(json_of(run_mlc("profile", "check", path, "--json"))["profiles"]) == 1
    assert "What depends on crosswalks or on Fusion" in run_mlc("profile", "check", path).stdout
    missing = run_mlc("profile", "check", path, "--config", tmp_path / "other.yaml")
    assert missing.exit_code == 2
    assert "no such file" in missing.stderr


def test_a_memo_with_its_invoices_number_deviates_unless_the_company_has_a_suffix(tmp_path: Path) -> None:
    """With one it gets a number of its own."""
    rows = [
        *invoice_rows("10.00", invoice_id="1", invoice_number="N1"),
        *invoice_rows("-4.00", invoice_id="2", invoice_number="N1", invoice_type="CREDIT_MEMO"),
    ]
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    config = configured(tmp_path, {})
    assert [reason for _, reason in deviations(path, "--config", config)] == ["MEMO_NUMBER_REUSED"]
    config = configured(tmp_path, {"memo_suffix": "-CM"})
    assert run_mlc("profile", "check", path, "--config", config).exit_code == 0

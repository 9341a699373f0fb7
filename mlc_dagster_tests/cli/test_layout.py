"""``mlc layout``: a layout is tried on records, built-in or read, before a partner sees anything of it."""

import base64
import datetime as dt
from pathlib import Path

import pytest

from mlc_dagster.exports.layouts.loading import shipped_layouts
from mlc_dagster.exports.layouts.samples import SAMPLE_CHART, sample_reads
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.cli.test_exports import Site
from mlc_dagster_tests.exports.workshop import Workshop, invoice
from mlc_dagster_tests.servers.sshd import RealSshd

LAYOUT = """\
format: csv
name: mine
version: "1"
source: invoices
row: header
file_name: "{feed}_{sequence:06d}{extension}"
columns:
  - {name: NUMBER, field: invoice.number}
  - {name: AMOUNT, field: invoice.amount}
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without mlc.yaml."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def layout(elsewhere: Path) -> Path:
    path = elsewhere / "mine.yaml"
    path.write_text(LAYOUT)
    return path


def test_list_names_every_layout_with_what_it_is_for(elsewhere: Path) -> None:
    """Nobody begins with an empty file: each is there to be copied."""
    found = json_of(run_mlc("layout", "list", "--json"))["layouts"]
    assert [each["name"] for each in found] == shipped_layouts()
    assert all(each["about"] and Path(each["path"]).exists() for each in found)
    assert "journals_csv" in run_mlc("layout", "list").stdout


@pytest.mark.parametrize("name", shipped_layouts())
def test_every_shipped_layout_writes_the_samples(elsewhere: Path, name: str) -> None:
    """What comes with the product works as it is, without mlc.yaml and without Fusion."""
    result = run_mlc("layout", "preview", name, "--sample", "--json")
    document = json_of(result)
    assert result.exit_code == 0
    assert document["problems"] == []
    assert len(document["records"]) == 2
    assert base64.b64decode(document["content_base64"])


def test_preview_shows_file_columns_and_checks(elsewhere: Path, layout: Path) -> None:
    """The file as the partner will see it, and for each column where it comes from."""
    text = run_mlc("layout", "preview", "mine.yaml", "--sample").stdout
    assert "NUMBER,AMOUNT\n2026-11-0815,1082.50\nCM-0815,-125.00\n" in text
    assert "  invoice.amount -> AMOUNT" in text
    assert "Nothing was sent" in text


def test_x12_is_shown_a_segment_per_line(elsewhere: Path) -> None:
    """An interchange is one line of a thousand characters otherwise."""
    lines = run_mlc("layout", "preview", "x12_orders_850", "--sample").stdout.splitlines()
    assert lines[0].startswith("ISA*00*")
    assert len(lines[0]) == 106
    assert lines[1].startswith("GS*PO*SENDER*RECEIVER*")


def test_check_names_line_key_and_remedy(elsewhere: Path, layout: Path) -> None:
    """The editor's line, not a stack of validation errors."""
    layout.write_text(LAYOUT.replace("columns:", "column:"))
    result = run_mlc("layout", "check", "mine.yaml")
    assert result.exit_code == 2
    assert "line 7: column: unknown key; did you mean 'columns'?" in result.stderr
    assert json_of(run_mlc("layout", "check", "mine.yaml", "--json"))["problems"]


def test_check_of_a_good_layout_names_its_identity(elsewhere: Path, layout: Path) -> None:
    """Version and hash are what the manifest will say."""
    document = json_of(run_mlc("layout", "check", "mine.yaml", "--json"))
    assert (document["name"], document["version"], document["problems"]) == ("mine", "1", [])
    assert document["sha256"] in run_mlc("layout", "check", "mine.yaml").stdout


def test_a_record_that_would_be_held_is_told(elsewhere: Path, layout: Path) -> None:
    """That is what a preview is for; exit code 1 tells a script."""
    layout.write_text(LAYOUT.replace("invoice.number}", "invoice.pay_group, required: true}"))
    result = run_mlc("layout", "preview", "mine.yaml", "--sample")
    assert result.exit_code == 1
    assert "mlc: record 300100022345671: HELD FIELD_MISSING (invoice.pay_group" in result.stderr


def test_without_mlc_yaml_only_samples_can_be_shown(elsewhere: Path, layout: Path) -> None:
    """Records are in the ledger that mlc.yaml names."""
    result = run_mlc("layout", "preview", "mine.yaml")
    assert result.exit_code == 2
    assert "no mlc.yaml" in result.stderr


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> RealSshd:
    """Only its names are used: a preview connects to nothing."""
    return RealSshd(tmp_path_factory.mktemp("sshd"))


@pytest.fixture
def site(tmp_path: Path, sshd: RealSshd, elsewhere: Path) -> Site:
    """An installation that has read two extracts: the second has invoice 1 anew."""
    sshd.port = sshd.port or 22
    made = Site(tmp_path, sshd)
    made.document["exports"][0] |= {"layout": "mine.yaml", "business_units": ["US1"]}
    made.write()
    (tmp_path / "mine.yaml").write_text(LAYOUT)
    shop = Workshop.open(made.ledger, tmp_path / "data")
    shop.read(invoice(1, "1.00"), invoice(2, "2.00"))
    shop.read(invoice(1, "1.50"), invoice(3, "3.00", unit="UK1"), read_at=dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
    return made


def previewed(site: Site, *arguments: str) -> list[str]:
    document = json_of(
        run_mlc("--config", site.root / "mlc.yaml", "layout", "preview", "mine.yaml", "--json", *arguments)
    )
    return document["text"].split("\r\n")[1:-1]


def test_the_latest_extract_is_shown(site: Site) -> None:
    """What was just read is what people want to see."""
    assert previewed(site) == ["INV-1,1.50", "INV-3,3.00"]
    assert previewed(site, "--limit", "1") == ["INV-1,1.50"]
    assert previewed(site, "--extract", "1") == ["INV-1,1.00", "INV-2,2.00"]


def test_a_feed_shows_what_it_sends(site: Site) -> None:
    """Another business unit's invoices are no example of this partner's file."""
    assert previewed(site, "--feed", "partner") == ["INV-1,1.50"]


def test_a_record_is_shown_as_it_was_last_read(site: Site) -> None:
    """Wherever it was read; an older reading would show a file that nobody will get."""
    assert previewed(site, "--record", "2", "--record", "1") == ["INV-2,2.00", "INV-1,1.50"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--record", "99"), "--record 99: was not read of invoices yet"),
        (("--record", "1", "--sample"), "give one of the two"),
        (("--extract", "7"), "invoices have no extract 7"),
        (("--extract", "newest"), "write latest, or the number of an extract"),
        (("--feed", "partners"), "feed partners: is not in mlc.yaml; there are: partner"),
    ],
)
def test_what_cannot_be_shown_is_told(site: Site, arguments: tuple[str, ...], told: str) -> None:
    """One line: what, where, what to do."""
    result = run_mlc("--config", site.root / "mlc.yaml", "layout", "preview", "mine.yaml", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_source_that_was_never_read_says_so(site: Site) -> None:
    """With the two ways on: read it, or use the samples."""
    result = run_mlc("--config", site.root / "mlc.yaml", "layout", "preview", "suppliers_csv")
    assert result.exit_code == 2
    assert "nothing was read of suppliers yet; `mlc run outbound` reads, and --sample" in result.stderr


def test_samples_use_the_charts_of_mlc_yaml() -> None:
    """A layout that splits accounts into segments is tried on accounts of the right shape."""
    chart = SAMPLE_CHART.model_copy(update={"ledgers": ["UK Ledger"], "delimiter": ".", "segments": ["a", "account"]})
    chart = chart.model_copy(update={"cost_center": None})
    [first, _] = sample_reads("journals", {"UK": chart})
    assert first.record_id.split("/")[1] == "UK Ledger"
    assert getattr(first.content, "lines").column("account_combination")[0] == "101.60540"  # noqa: B009 - one of four kinds

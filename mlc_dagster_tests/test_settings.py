"""mlc.yaml: what is wrong is found before anything runs, named by its key, with what to write instead."""

import copy
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from mlc_dagster.settings import Settings, SettingsError, is_loopback
from mlc_dagster.settings_file import find_settings_file, load_settings, parse_settings

MINIMAL = """
fusion:
  base_url: https://pod.example.com/
  token_url: https://identity.example.com/oauth2/v1/token
  client_id: mlc
  client_secret: env:FUSION_SECRET
  scope: urn:opc:resource:consumer::all
  charts:
    US1: {ledgers: [US Primary Ledger], segments: [entity, department, account], natural_account: account}
stampli:
  sftp: {host: sftp.example.com, username: mlc, password: "env:STAMPLI", host_key: "SHA256:abc"}
  companies:
    C100:
      business_unit: US1 Business Unit
      legal_entity: US1 Legal Entity
      ledger: US Primary Ledger
      chart: US1
      time_zone: America/Denver
      invoice_source: Stampli
      tax_mode: tax_line
      accounting_date: invoice_date
      account_template: "101-{cost_center}-{account}"
poll: {start: 2026-01-01}
"""

ABSENT = object()


def settings(changes: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> Settings:
    """The minimal configuration with ``changes``: dotted key to new value, or to ABSENT."""
    document: dict[str, Any] = copy.deepcopy(yaml.safe_load(MINIMAL))
    for dotted, value in (changes or {}).items():
        *parents, last = dotted.split(".")
        place = document
        for name in parents:
            place = place.setdefault(name, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return parse_settings(yaml.safe_dump(document), source="mlc.yaml", root=Path("/etc/mlc"), environ=environ or {})


def problems(changes: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with the minimal configuration after ``changes``."""
    with pytest.raises(SettingsError) as caught:
        settings(changes, environ)
    return caught.value.problems


def test_minimal_configuration_is_enough() -> None:
    """Everything that does not decide over money or access has a default."""
    read = settings()
    assert read.fusion.page_size == 499
    assert read.stampli is not None
    assert read.stampli.settle_seconds == 30
    assert read.stampli.companies["C100"].tolerance == Decimal(0)
    assert read.retry.check_every == 900


def test_inbound_flow_may_be_absent() -> None:
    """A customer may use the other flow alone."""
    assert settings({"stampli": ABSENT}).stampli is None


def test_settings_cannot_be_changed_after_reading() -> None:
    """Two parts of a run that saw different settings could book one invoice by two rules."""
    read = settings()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        read.poll.cron = "0 * * * *"


# Keys


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("stamply", "stampli"),
        ("fusion.base_ulr", "base_url"),
        ("fusion.charts.US1.natural_acount", "natural_account"),
        ("stampli.sftp.pasword", "password"),
        ("stampli.companies.C100.busines_unit", "business_unit"),
        ("stampli.crosswalks.vendor", "vendors"),
        ("poll.corn", "cron"),
        ("ledger.ulr", "url"),
    ],
)
def test_unknown_key_names_the_nearest_valid_one(key: str, valid: str) -> None:
    """A misspelt key that is silently ignored leaves the default in force, and nobody knows."""
    assert problems({key: "x"}) == [f"{key}: unknown key; did you mean {valid!r}?"]


def test_unknown_key_like_nothing_lists_the_valid_ones() -> None:
    """With no near name, the list is what the person would look up next."""
    [problem] = problems({"poll.zzz": 1})
    assert problem == "poll.zzz: unknown key; valid here: cron, start"


@pytest.mark.parametrize("key", ["root", "sandbox"])
def test_fields_that_the_program_fills_cannot_be_set_in_the_file(key: str) -> None:
    """`sandbox: true` in a production file would switch the sensors off."""
    assert problems({key: True}) == [f"{key}: unknown key; it cannot be set in the file"]


def test_key_written_twice_is_an_error() -> None:
    """YAML drops the first silently: of two companies with one id, one would be booked by the other's rules."""
    with pytest.raises(SettingsError, match=r"line 3, column 1: is not YAML: the key 'poll' is there twice"):
        parse_settings("poll: {}\nfusion: {}\npoll: {}\n", source="mlc.yaml", root=Path())


def test_anchors_and_merge_keys_work() -> None:
    """Ten companies that differ in one line are written with a YAML anchor."""
    text = MINIMAL.replace("    C100:", "    C100: &base").replace(
        "poll:", "    C200: {<<: *base, business_unit: US2 Business Unit}\npoll:"
    )
    read = parse_settings(text, source="mlc.yaml", root=Path(), environ={})
    assert read.stampli is not None
    assert read.stampli.companies["C200"].business_unit == "US2 Business Unit"
    assert read.stampli.companies["C200"].chart == "US1"


@pytest.mark.parametrize(
    "key",
    [
        "fusion",
        "poll",
        "fusion.base_url",
        "fusion.client_secret",
        "stampli.sftp.host_key",
        "stampli.companies.C100.tax_mode",
        "stampli.companies.C100.accounting_date",
        "stampli.companies.C100.account_template",
    ],
)
def test_what_decides_over_money_or_access_has_no_default(key: str) -> None:
    """A guessed tax mode or accounting date books real invoices wrongly."""
    assert problems({key: ABSENT}) == [f"{key}: is required and absent"]


def test_all_problems_are_told_at_once() -> None:
    """Fixing a file one error at a time costs one deployment each."""
    assert len(problems({"fusion.scope": ABSENT, "poll.cron": "hourly", "zzz": 1})) == 3


# Values


def test_environment_variables_are_filled_in_everywhere() -> None:
    """One image serves several stages; hosts and names come from the environment."""
    read = settings(
        {"fusion.base_url": "https://${POD}.example.com", "stampli.sftp.host_key": ["SHA256:${PIN}"]},
        {"POD": "test-pod", "PIN": "abc"},
    )
    assert read.fusion.base_url == "https://test-pod.example.com"
    assert read.stampli is not None
    assert read.stampli.sftp.host_keys == ["SHA256:abc"]


def test_unset_environment_variable_is_named_with_its_key() -> None:
    """An empty host name would fail much later, somewhere else."""
    assert problems({"stampli.sftp.host_key": ["${PIN}"]}) == [
        "stampli.sftp.host_key[0]: environment variable PIN is not set; set it or write the value"
    ]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1d", 86400.0), ("250ms", 0.25)],
)
def test_durations_take_a_unit(written: object, seconds: float) -> None:
    """`15m` is read as it is meant; a bare number is seconds."""
    assert settings({"retry.check_every": written}).retry.check_every == seconds


@pytest.mark.parametrize("written", ["soon", "-1", -1, True, "15 minutes"])
def test_what_is_not_a_duration_is_refused(written: object) -> None:
    """A wait that cannot be read must not become zero."""
    [problem] = problems({"retry.check_every": written})
    assert problem.startswith("retry.check_every: ")


def test_trailing_slash_of_an_address_is_dropped() -> None:
    """Paths are appended; two slashes are another path to Fusion."""
    assert settings().fusion.base_url == "https://pod.example.com"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plain_http_is_accepted_on_loopback(host: str) -> None:
    """The sandbox runs there without certificates."""
    assert settings({"fusion.base_url": f"http://{host}:8080"}).fusion.base_url == f"http://{host}:8080"


@pytest.mark.parametrize("host", ["pod.example.com", "10.0.0.5", "localhost.example.com", "0.0.0.0", "[2001:db8::1]"])
def test_plain_http_is_refused_elsewhere(host: str) -> None:
    """The client secret and every invoice would cross the network in clear text."""
    [problem] = problems({"fusion.token_url": f"http://{host}/token"})
    assert "must be an https:// address" in problem
    assert not is_loopback(host)


@pytest.mark.parametrize("address", ["https://", "pod.example.com", "https://[::1", "https://pod.example.com:99999"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    """A host that is missing would be found out only by the first request of the night."""
    [problem] = problems({"fusion.base_url": address})
    assert problem.startswith("fusion.base_url: ")


def test_pins_may_be_one_or_several() -> None:
    """While a server's key is rotated, both the old and the new one are right."""
    read = settings({"stampli.sftp.host_key": ["SHA256:old", "SHA256:new"]})
    assert read.stampli is not None
    assert read.stampli.sftp.host_keys == ["SHA256:old", "SHA256:new"]


@pytest.mark.parametrize("pins", ["", [], [""]])
def test_an_empty_pin_is_refused(pins: object) -> None:
    """No pin means no server can be trusted; the error says how to get one."""
    [problem] = problems({"stampli.sftp.host_key": pins})
    assert "ssh-keyscan" in problem


def test_password_and_key_exclude_each_other() -> None:
    """With both, nobody can tell which one the server accepted."""
    assert problems({"stampli.sftp.private_key": "env:KEY"}) == ["stampli.sftp: give either password or private_key"]
    assert problems({"stampli.sftp.password": ABSENT}) == ["stampli.sftp: give either password or private_key"]


def test_passphrase_needs_a_key() -> None:
    """It would be ignored, and a person would believe that the key is protected."""
    [problem] = problems({"stampli.sftp.passphrase": "env:PASSPHRASE"})
    assert problem == "stampli.sftp: passphrase belongs to private_key, which is absent"


# Secrets


@pytest.mark.parametrize(
    "key",
    [
        "fusion.client_secret",
        "stampli.sftp.password",
        "stampli.sftp.private_key",
        "stampli.sftp.passphrase",
        "ledger.url_secret",
    ],
)
@pytest.mark.parametrize("typed", ["hunter2", "plain:hunter2", ["hunter2"], {"hunter2": 1}, 6722222222])
def test_secret_typed_in_place_of_a_reference_is_not_echoed(key: str, typed: object) -> None:
    """The error goes to logs and to the Dagster UI; the mistake must not become a leak."""
    with pytest.raises(SettingsError) as caught:
        settings({key: typed})
    assert key in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "6722222222" not in str(caught.value)


@pytest.mark.parametrize("reference", ["env:NAME", "file:/run/secrets/x", "store:fusion/secret", "vault:kv/fusion"])
def test_every_kind_of_reference_is_accepted(reference: str) -> None:
    """Whether it can be resolved is found out by what resolves it."""
    assert settings({"fusion.client_secret": reference}).fusion.client_secret == reference


def test_password_inside_an_address_is_refused_and_not_echoed() -> None:
    """Addresses are logged with every request."""
    [problem] = problems({"fusion.base_url": "https://mlc:hunter2@pod.example.com"})
    assert problem.startswith("fusion.base_url: must not carry a user or password")
    assert "hunter2" not in problem


def test_password_of_a_wrong_ledger_address_is_not_echoed() -> None:
    """The most common mistake there is postgresql:// without the driver, and it carries a password."""
    [problem] = problems({"ledger.url": "postgresql://mlc:hunter2@db/mlc"})
    assert problem == "ledger.url: 'db/mlc' must begin with sqlite:/// or postgresql+psycopg://"


def test_line_of_broken_yaml_is_not_quoted() -> None:
    """YAML's own message shows the line, which may be the one with a password."""
    with pytest.raises(SettingsError) as caught:
        parse_settings("fusion:\n  client_secret: hunter2: 3\n", source="mlc.yaml", root=Path())
    assert "line 2" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_ledger_takes_one_address() -> None:
    """With two, the invoices of one process could be in another ledger than those of the next."""
    assert problems({"ledger": {"url": "sqlite:///x", "url_secret": "env:X"}}) == [
        "ledger: give either url or url_secret"
    ]


# Poll windows


@pytest.mark.parametrize(
    "written", [dt.date(2026, 1, 1), "2026-01-01", "2026-01-01T00:00", "2026-01-01T02:00:00+02:00"]
)
def test_start_becomes_an_instant_in_utc(written: object) -> None:
    """YAML reads a date, and Dagster refuses one; windows are counted in UTC everywhere."""
    assert settings({"poll.start": written}).poll.start == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert settings({"poll.start": written}).poll.start.tzinfo is dt.UTC


@pytest.mark.parametrize("written", ["first of May", 5, None])
def test_start_that_is_no_date_shows_one(written: object) -> None:
    """5 would otherwise be five seconds into 1970, and every window since then a missed one."""
    [problem] = problems({"poll.start": written})
    assert problem.endswith("is not a date; write one such as 2026-01-01")


@pytest.mark.parametrize("start", ["2026-01-01T00:07", "2026-01-01T00:05", "2026-01-01T00:00:01"])
def test_start_falls_on_a_window_boundary(start: str) -> None:
    """Dagster would shift the first partition and the ledger would not: files between them belong to no window."""
    [problem] = problems({"poll.start": start})
    assert "must fall on a window boundary of '*/15 * * * *'" in problem


def test_other_schedules_than_even_ones_are_refused() -> None:
    """Windows are computed by minutes within the hour; 7 does not divide it."""
    [problem] = problems({"poll.cron": "*/7 * * * *"})
    assert "'*/7 * * * *' must be one of '*/5 * * * *'" in problem


@pytest.mark.parametrize(
    ("cron", "start"),
    [
        ("*/5 * * * *", (9, 40)),
        ("*/10 * * * *", (9, 40)),
        ("*/15 * * * *", (9, 30)),
        ("*/30 * * * *", (9, 30)),
        ("0 * * * *", (9, 0)),
    ],
)
def test_window_of_an_instant(cron: str, start: tuple[int, int]) -> None:
    """A file belongs to exactly one window: the one open when it was accepted, in UTC whatever the zone."""
    instant = dt.datetime(2026, 3, 1, 10, 44, 59, 999999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert settings({"poll.cron": cron}).poll.window_start(instant) == dt.datetime(2026, 3, 1, *start, tzinfo=dt.UTC)


# Companies and charts


def test_company_names_a_chart_that_exists() -> None:
    """Otherwise its first invoice would find out."""
    assert problems({"stampli.companies.C100.chart": "UK1"}) == [
        "stampli.companies.C100.chart: 'UK1' is not under fusion.charts"
    ]


def test_company_names_a_ledger_of_its_chart() -> None:
    """A ledger of another chart has other segments: every combination would be unknown."""
    [problem] = problems({"stampli.companies.C100.ledger": "UK Ledger"})
    assert "'UK Ledger' is not among the ledgers of chart 'US1': ['US Primary Ledger']" in problem


@pytest.mark.parametrize("key", ["natural_account", "cost_center", "balancing"])
def test_chart_names_its_own_segments(key: str) -> None:
    """A misspelt segment would be sent to Fusion as a filter on an unknown attribute."""
    [problem] = problems({f"fusion.charts.US1.{key}": "acount"})
    assert f"{key}: 'acount' is not one of the segments" in problem


def test_balancing_segment_is_the_first_unless_named() -> None:
    """By Oracle's convention the company comes first; a chart may differ."""
    assert settings().fusion.charts["US1"].balancing_segment == "entity"
    changed = settings({"fusion.charts.US1.balancing": "department"})
    assert changed.fusion.charts["US1"].balancing_segment == "department"


@pytest.mark.parametrize("delimiter", ["", "--"])
def test_delimiter_is_one_character(delimiter: str) -> None:
    """Combinations are split at it."""
    [problem] = problems({"fusion.charts.US1.delimiter": delimiter})
    assert "must be one character" in problem


@pytest.mark.parametrize("zone", ["Mars", "", "../etc/passwd", "denver"])
def test_time_zone_is_one_of_the_database(zone: str) -> None:
    """The accounting date of "today" is a day of the company, not of the server."""
    [problem] = problems({"stampli.companies.C100.time_zone": zone})
    assert "is not a time zone of the IANA database, such as America/Denver" in problem


def test_tolerance_is_exact() -> None:
    """0.01 as a binary float is not a cent."""
    read = settings({"stampli.companies.C100.tolerance": 0.01, "stampli.companies.C100.rounding_account": "7999"})
    assert read.stampli is not None
    assert read.stampli.companies["C100"].tolerance == Decimal("0.01")


def test_tolerance_needs_an_account_for_the_difference() -> None:
    """A difference that is booked nowhere makes the invoice fail in Fusion."""
    [problem] = problems({"stampli.companies.C100.tolerance": 0.01})
    assert "needs rounding_account" in problem


def test_negative_tolerance_is_refused() -> None:
    """It would park every invoice."""
    [problem] = problems({"stampli.companies.C100.tolerance": -1})
    assert "-1 must not be negative" in problem


def test_posting_user_is_the_client_unless_named() -> None:
    """With client credentials Fusion records the client as creator; that is how our invoices are recognised."""
    assert settings().fusion.posting_user == "mlc"
    assert settings({"fusion.username": "INTEGRATION"}).fusion.posting_user == "INTEGRATION"


# Files


@pytest.mark.parametrize("text", ["", "5", "[1, 2]", "a: ["])
def test_what_is_not_a_mapping_is_refused(text: str) -> None:
    """An empty file is what a failed template leaves behind."""
    with pytest.raises(SettingsError, match=r"mlc\.yaml: "):
        parse_settings(text, source="mlc.yaml", root=Path())


def test_yaml_cannot_run_code() -> None:
    """Configuration is data; Python's YAML can construct objects unless told otherwise."""
    with pytest.raises(SettingsError, match="could not determine a constructor"):
        parse_settings("fusion: !!python/object/apply:os.getcwd []", source="mlc.yaml", root=Path())


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    """Daemon, UI and command are started in different folders and must find one ledger."""
    path = tmp_path / "mlc.yaml"
    path.write_text(MINIMAL)
    read = load_settings(path, environ={})
    assert read.data_path == tmp_path / ".mlc"
    assert read.path(Path("/absolute")) == Path("/absolute")


def test_missing_file_is_named(tmp_path: Path) -> None:
    """MLC_CONFIG that points nowhere must not fall back to anything."""
    with pytest.raises(SettingsError, match=r"absent\.yaml: no such file"):
        load_settings(tmp_path / "absent.yaml")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A folder or a file in another encoding is told as what it is."""
    path = tmp_path / "mlc.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_file_is_found_by_variable_then_by_folder(tmp_path: Path) -> None:
    """MLC_CONFIG wins even when its file is missing: that is an error to show, not to hide."""
    assert find_settings_file({}, tmp_path) is None
    (tmp_path / "mlc.yaml").touch()
    assert find_settings_file({}, tmp_path) == tmp_path / "mlc.yaml"
    assert find_settings_file({"MLC_CONFIG": "/nowhere.yaml"}, tmp_path) == Path("/nowhere.yaml")

"""mlc.yaml as a whole: what must be there, what may be absent, and that it stays as it was read."""

from decimal import Decimal
from pathlib import Path

import pydantic
import pytest

from mlc_dagster.ledger.opening import open_settings_ledger
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.settings.configuration import ABSENT, problems, settings


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


@pytest.mark.parametrize("approvers", [["Anna Lee"], ["Anna Lee", " "]])
def test_a_list_of_approvers_on_which_nobody_could_agree_is_refused(approvers: list[str]) -> None:
    """It takes two; found out when an invoice must be released it would cost a deployment."""
    [problem] = problems({"approvers": approvers})
    assert "approvers: name at least two people" in problem


def test_the_ledger_knows_the_listed_approvers(tmp_path: Path) -> None:
    """Where it is opened, so that no command and no run can forget to ask."""
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    listed = settings({"approvers": ["Anna Lee", "Bob Stone"], "ledger.url": address})
    ledger = open_settings_ledger(listed, SecretResolver({}, tmp_path))
    ledger.close()
    assert ledger.approvers == ("Anna Lee", "Bob Stone")

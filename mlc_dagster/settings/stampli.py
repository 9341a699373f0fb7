"""``stampli:`` and ``retry:`` - Stampli's folder, and how each of its companies is booked."""

from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from mlc_dagster.settings.sftp import SftpSettings
from mlc_dagster.settings.values import Model, Seconds, TimeZone

TaxMode = Literal["fusion_calculates", "tax_line", "item_line"]
AccountingDateRule = Literal["invoice_date", "posting_date", "posting_date_or_invoice_date", "today"]
AfterCreate = Literal["leave", "calculate_tax", "validate"]


class CompanySettings(Model):
    """How one Stampli company is booked. What decides over money has no silent default."""

    business_unit: str
    legal_entity: str
    ledger: str
    chart: str
    time_zone: TimeZone
    invoice_source: str
    tax_mode: TaxMode
    conversion_rate_type: str | None = None
    accounting_date: AccountingDateRule
    tolerance: Decimal = Decimal(0)
    """Largest difference between header and lines, in units of the invoice's currency."""
    rounding_account: str | None = None
    after_create: AfterCreate = "leave"
    account_template: str
    balancing_values: list[str] = []
    """Balancing segment values that belong to this company; the template's literal when empty."""
    intercompany: bool = False
    unknown_combination: Literal["park", "try"] = "park"
    prepayments: bool = False
    payment_terms: str | None = None
    memo_suffix: str | None = None
    """Appended to the number of a memo that reuses its invoice's number; absent: such a memo is held."""
    require_cost_center: bool = True

    @model_validator(mode="after")
    def _rounding_needs_account(self) -> Self:
        if self.tolerance < 0:
            msg = f"tolerance: {self.tolerance} must not be negative"
            raise ValueError(msg)
        if self.tolerance > 0 and not self.rounding_account:
            msg = "tolerance above 0 needs rounding_account, the account that takes the difference"
            raise ValueError(msg)
        return self


class CrosswalkSettings(Model):
    vendors: Path | None = None
    accounts: Path | None = None
    cost_centers: Path | None = None


class StampliSettings(Model):
    sftp: SftpSettings
    profile: str = "stampli_lines_v1"
    """Name of a profile that ships with the product, or path of a YAML file."""
    settle_seconds: Seconds = 30.0
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    zero_byte_grace: Seconds = 600.0
    tell_waiting_after: Seconds = 3600.0
    """After so many seconds a file that still waits, for its marker, its manifest or its own end, is told to people."""
    after_read: Literal["leave", "archive", "delete"] = "leave"
    archive_directory: str = "archive"
    attachments: Literal["none", "document_file"] = "none"
    """Whether the file named by ``document_file``, beside the invoice file, is attached to the invoice in Fusion."""
    max_attachment_bytes: int = Field(default=25 * 1024 * 1024, ge=1)
    companies: dict[str, CompanySettings] = Field(min_length=1)
    crosswalks: CrosswalkSettings = CrosswalkSettings()


class RetrySettings(Model):
    check_every: Seconds = 900.0
    """How often statuses are observed and the causes of parked invoices probed, in seconds."""

"""What is wrong with an invoice whatever its company's settings are: for people who have a file and no mlc.yaml.

Belongs here: asking ``checks`` under every way of taxing and telling the kindest answer. Does not: rules of its own.
"""

from typing import get_args

from mlc_dagster.settings import CompanySettings
from mlc_dagster.settings.stampli import TaxMode
from mlc_dagster.stampli.checks import check_invoice
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem

_COMPANIES = tuple(
    CompanySettings(
        business_unit="", legal_entity="", ledger="", chart="", time_zone="UTC", invoice_source="", tax_mode=mode,
        accounting_date="invoice_date", account_template="", prepayments=True,
    )
    for mode in get_args(TaxMode)
)  # fmt: skip
"""Nothing but the way of taxing and prepayments decides in ``checks``; without a tolerance, differences are told."""


def problems_of(invoice: Invoice) -> list[Problem]:
    """What parks the invoice under every way of taxing; under the one that finds least, where they disagree."""
    least: list[Problem] | None = None
    for company in _COMPANIES:
        found = check_invoice(invoice, company)
        if not found:
            return []
        if least is None or len(found) < len(least):
            least = found
    return least or []

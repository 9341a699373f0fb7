"""What is wrong with an invoice for people who look at a file: whatever its company's settings are, or with them.

Belongs here: asking ``checks``, without mlc.yaml under every way of taxing, telling the kindest answer. Does not: rules
of its own.
"""

from collections.abc import Mapping
from typing import get_args

from mlc_dagster.settings import CompanySettings
from mlc_dagster.settings.stampli import TaxMode
from mlc_dagster.stampli.checks import VOID, check_invoice
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem, problem

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


def problems_under(invoice: Invoice, companies: Mapping[str, CompanySettings]) -> list[Problem]:
    """What parks the invoice under the settings of its own company, by Stampli's id; or that it has none."""
    company = companies.get(invoice.company_id)
    if company is not None:
        return check_invoice(invoice, company)
    if invoice.status == VOID:
        return []
    remedy = f"Add {invoice.company_id} under stampli.companies in mlc.yaml."
    return [problem("BU_UNMAPPED", field="company_id", value=invoice.company_id, remedy=remedy)]

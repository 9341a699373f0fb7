"""On which day an invoice is accounted, and whether that day can be posted to.

Belongs here: the company's accounting date rule and the verdict on a period's status. Does not: reading periods.
"""

import datetime as dt

from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.reference_shapes import Period, References

_OPEN = "O"
_WORDS = {
    "C": "closed",
    "F": "future enterable, not open",
    "N": "never opened",
    "P": "permanently closed",
    "W": "being closed",
}


def accounting_date(invoice: Invoice, company: CompanySettings, today: dt.date) -> dt.date | Problem:
    """The date by the company's rule.

    Args:
        invoice: gives invoice and posting date.
        company: gives the rule.
        today: local date of the legal entity.
    """
    match company.accounting_date:
        case "invoice_date":
            return invoice.invoice_date
        case "posting_date":
            if invoice.posting_date is None:
                remedy = "The company's accounting date is the posting date; fill it in in Stampli."
                return problem("FIELD_MISSING", field="posting_date", remedy=remedy)
            return invoice.posting_date
        case "posting_date_or_invoice_date":
            return invoice.posting_date or invoice.invoice_date
        case "today":
            return today


def period_problems(on: dt.date, *, ledger: str, references: References, today: dt.date) -> list[Problem]:
    """Why the day is not open in payables or in general ledger; both are told."""
    found: list[Problem] = []
    for application, period in (
        ("Payables", references.ap_period(ledger, on)),
        ("General Ledger", references.gl_period(ledger, on)),
    ):
        if period is None:
            value = f"{on}: no period of {ledger} in {application} holds this date"
            remedy = f"Define and open the period of {on} in {application}, or change the date in Stampli."
            found.append(problem("PERIOD_CLOSED", field="accounting_date", value=value, remedy=remedy))
        elif period.status.upper() != _OPEN:
            found.append(_not_open(on, period, application, ledger, today))
    return found


def _not_open(on: dt.date, period: Period, application: str, ledger: str, today: dt.date) -> Problem:
    status = period.status.upper()
    value = f"{on}: period {period.name} of {ledger} is {_WORDS.get(status, f'in status {status}')} in {application}"
    if status == "F" or (status == "N" and period.start > today):
        remedy = (
            f"It is posted by itself when {period.name} is opened in {application}; future periods are not posted to."
        )
        return problem("PERIOD_FUTURE", field="accounting_date", value=value, remedy=remedy)
    if status == "P":
        remedy = (
            f"{period.name} cannot be opened again: change the posting date in Stampli and export the invoice again."
        )
    else:
        remedy = f"Open {period.name} in {application}, or change the posting date in Stampli."
    return problem("PERIOD_CLOSED", field="accounting_date", value=value, remedy=remedy)

"""Which supplier, and which of its pay sites, an invoice goes to.

Belongs here: the order in which file, crosswalk and Fusion decide, and what is told when they do not. Does not:
reading suppliers.
"""

import datetime as dt
import unicodedata

import msgspec

from mlc_dagster.stampli.crosswalks import Crosswalks, Target
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.reference_shapes import References, Site, Supplier


class Choice(msgspec.Struct, frozen=True):
    """Supplier and site of an invoice."""

    supplier: Supplier
    site: Site


def vendor_target(invoice: Invoice, crosswalks: Crosswalks) -> Target | None:
    """Where the vendor leads; None when the crosswalk knows the vendor and no row holds on the invoice date."""
    code, on = invoice.vendor_id, invoice.invoice_date
    target = crosswalks.vendors.lookup(code, on)
    if target is not None:
        return target
    return None if crosswalks.vendors.lapsed(code, on) else Target(code)


def inactive(status: str | None, inactive_date: dt.date | None, today: dt.date) -> str | None:
    """Why something of a supplier is inactive today, or None."""
    if inactive_date is not None and inactive_date <= today:
        return f"inactive since {inactive_date}"
    if status is not None and status.upper() not in ("ACTIVE", "A", "Y"):
        return f"status {status}"
    return None


def choose(
    invoice: Invoice, *, business_unit: str, references: References, crosswalks: Crosswalks, today: dt.date
) -> tuple[Choice | None, list[Problem], list[Problem]]:
    """(supplier and site, what parks, what is only told)."""
    target = vendor_target(invoice, crosswalks)
    if target is None:
        remedy = (
            f"The crosswalk has rows for vendor {invoice.vendor_id} and none holds on {invoice.invoice_date}; "
            "add one or correct the dates."
        )
        return None, [problem("VENDOR_UNKNOWN", field="vendor_id", value=invoice.vendor_id, remedy=remedy)], []
    shown = invoice.vendor_id if target.fusion == invoice.vendor_id else f"{invoice.vendor_id} → {target.fusion}"
    supplier = references.supplier(target.fusion)
    if supplier is None:
        remedy = (
            f"Create supplier {target.fusion} ({invoice.vendor_name}) in Fusion or add the vendor to the crosswalk."
        )
        return None, [problem("VENDOR_UNKNOWN", field="vendor_id", value=shown, remedy=remedy)], []
    problems: list[Problem] = []
    if why := inactive(supplier.status, supplier.inactive_date, today):
        remedy = f"Supplier {supplier.number} ({supplier.name}) has {why}: reactivate it or map the vendor elsewhere."
        problems.append(problem("VENDOR_INACTIVE", field="vendor_id", value=shown, remedy=remedy))
    warnings: list[Problem] = []
    if not same_name(invoice.vendor_name, supplier.name):
        value = f"{invoice.vendor_name}, in Fusion {supplier.name}"
        warnings.append(problem("VENDOR_NAME_DIFFERS", field="vendor_name", value=value))
    named = invoice.vendor_site or target.site
    site = _named_site(supplier, named, business_unit, today) if named else _only_site(supplier, business_unit, today)
    if isinstance(site, Problem):
        return None, [*problems, site], warnings
    return (None if problems else Choice(supplier, site)), problems, warnings


def same_name(one: str, other: str) -> bool:
    """Whether two names differ in case, blanks and punctuation only."""
    return one == other or _letters(one) == _letters(other)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def unusable(site: Site, business_unit: str, today: dt.date) -> str | None:
    """Why the site cannot take invoices of the business unit, or None."""
    if why := inactive(site.status, site.inactive_date, today):
        return why
    if site.pay is False:
        return "not a pay site"
    assignments = [assignment for assignment in site.assignments if assignment.client_bu == business_unit]
    if not assignments:
        return f"not assigned to {business_unit}"
    if all(inactive(assignment.status, assignment.inactive_date, today) for assignment in assignments):
        return f"its assignment to {business_unit} is inactive"
    return None


def _named_site(supplier: Supplier, name: str, business_unit: str, today: dt.date) -> Site | Problem:
    same = [site for site in supplier.sites if site.name == name]
    same = same or [site for site in supplier.sites if site.name.casefold() == name.casefold()]
    usable = [site for site in same if unusable(site, business_unit, today) is None]
    if usable:
        # One name may stand under several procurement units; the assignment to the business unit decides.
        return usable[0]
    if same:
        why = f"site {name} of supplier {supplier.number} is unusable: {unusable(same[0], business_unit, today)}"
    else:
        why = f"supplier {supplier.number} has no site {name}, only {_names(list(supplier.sites))}"
    remedy = f"{why[0].upper()}{why[1:]}; correct the site in Stampli, the crosswalk or Fusion."
    return problem("SITE_UNKNOWN", field="vendor_site", value=name, remedy=remedy)


def _only_site(supplier: Supplier, business_unit: str, today: dt.date) -> Site | Problem:
    usable = [site for site in supplier.sites if unusable(site, business_unit, today) is None]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        told = [f"{site.name}: {unusable(site, business_unit, today)}" for site in list(supplier.sites)[:5]]
        why = "; ".join(told) or "it has no sites"
        remedy = (
            f"Supplier {supplier.number} has no pay site for {business_unit} ({why}); create or assign one in Fusion."
        )
        return problem("SITE_UNKNOWN", field="vendor_site", remedy=remedy)
    primary = [site for site in usable if site.primary_pay]
    if len(primary) == 1:
        return primary[0]
    remedy = f"Name the site in Stampli or the crosswalk or mark one as primary pay site of supplier {supplier.number}."
    return problem("SITE_AMBIGUOUS", field="vendor_site", value=_names(usable), remedy=remedy)


def _names(sites: list[Site]) -> str:
    names = sorted({site.name for site in sites})
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "") if names else "none"

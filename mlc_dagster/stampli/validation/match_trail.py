"""The trail of what reference data an invoice was matched with.

One event per invoice and match, naming the snapshot it was found in and its age, although nothing was asked for it.
What was matched, and whether it may be used, is in ``mapping``.
"""

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.types import CanonicalText, canonical_json
from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.validation.mapping import Mapping
from mlc_dagster.stampli.validation.references import ReferenceReader

_COMBINATIONS = ("DistributionCombination", "MultiperiodAccountingAccrualAccount")
_PERIODS = ((200, "AP"), (101, "GL"))


class MatchTrail:
    """Events of one transaction; what many invoices have in common is written out once."""

    def __init__(self, transaction: Transaction, reader: ReferenceReader) -> None:
        self._transaction = transaction
        self._reader = reader
        self._written: dict[tuple[object, ...], CanonicalText] = {}

    def write(self, invoice_pk: int, mapping: Mapping, company: CompanySettings) -> None:
        """The events of one invoice."""
        subject = f"invoice:{invoice_pk}"
        self._event(
            "supplier.matched", subject, "supplier", mapping.supplier_number,
            number=mapping.supplier_number, supplier_id=mapping.supplier_id, site=mapping.site_name,
        )  # fmt: skip
        chart = self._reader.chart(company.chart)
        position = chart.segments.index(chart.natural_account)
        combinations = {str(line[name]) for line in mapping.lines for name in _COMBINATIONS if line.get(name)}
        for combination in sorted(combinations):
            account = combination.split(chart.delimiter)[position]
            self._event(
                "account.matched", subject, "combination", f"{company.chart}|{account}", combination=combination
            )
        if chart.cost_center_value_set is not None and chart.cost_center is not None:
            place = chart.segments.index(chart.cost_center)
            for value in sorted({combination.split(chart.delimiter)[place] for combination in combinations}):
                key = f"{company.chart}|{value}"
                if ("cost_center", key) in self._reader.data.read_at:
                    self._event(
                        "cost_center.matched", subject, "cost_center", key,
                        value=value, value_set=chart.cost_center_value_set,
                    )  # fmt: skip
        day = mapping.accounting_date.isoformat()
        for application, name in _PERIODS:
            self._event(
                "period.matched", subject, "period", f"{company.ledger}|{application}",
                application=name, accounting_date=day,
            )  # fmt: skip

    def _event(self, kind: str, subject: str, snapshot: str, key: str, **detail: str | int) -> None:
        said = (kind, key, *detail.values())
        text = self._written.get(said)
        if text is None:
            age = self._reader.data.age_of(snapshot, key, self._transaction.now)
            text = self._written[said] = CanonicalText(canonical_json({**detail, "snapshot": age}))
        self._transaction.audit_text(kind, subject, text)

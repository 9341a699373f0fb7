"""The payables desk: changes that people make to a stored invoice or to a part of it alone.

What Fusion's own actions and a PATCH do is in ``invoice_actions``.
"""

from mlc_dagster.sandbox.fusion.catalogue import INVOICES
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.state import State

CLERK = "AP.CLERK"


class InvoiceDesk(State):
    """What payables clerks do."""

    def change_invoice_description(
        self, invoice_id: int, description: str, *, line: int | None = None, touch_parent: bool = True
    ) -> None:
        """Describes the invoice, or one line of it, anew.

        ``touch_parent`` says whether a line's change moves the invoice's LastUpdateDate. Raises LookupError.
        """
        with self.lock:
            invoice = self.row_of("invoices", invoice_id)
            if line is None:
                self._touched(invoice, {"Description": description})
            else:
                part = _part(invoice, "invoiceLines", "LineNumber", line)
                self._change_part(invoice, part, {"Description": description}, touch_parent=touch_parent)

    def change_installment(
        self, invoice_id: int, number: int = 1, *, due_date: str, touch_parent: bool = False
    ) -> None:
        """Moves an installment's due date (ISO); the invoice itself does not notice unless told. Raises LookupError."""
        with self.lock:
            invoice = self.row_of("invoices", invoice_id)
            part = _part(invoice, "invoiceInstallments", "InstallmentNumber", number)
            self._change_part(invoice, part, {"DueDate": due_date}, touch_parent=touch_parent)

    def _change_part(self, invoice: Row, part: Row, values: dict[str, str], *, touch_parent: bool) -> None:
        part.values |= values | {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
        part.version += 1
        if touch_parent:
            self._touched(invoice, {})
        else:
            self.keep("invoice", invoice, INVOICES)

    def _touched(self, invoice: Row, values: dict[str, str]) -> None:
        stamp = {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()}
        self.tables["invoices"].change(invoice, values | stamp)
        self.keep("invoice", invoice, INVOICES)


def _part(invoice: Row, child: str, attribute: str, number: int) -> Row:
    for row in invoice.children.get(child, []):
        if row.values[attribute] == number:
            return row
    msg = f"invoice {invoice.key} has no {child} {number}"
    raise LookupError(msg)

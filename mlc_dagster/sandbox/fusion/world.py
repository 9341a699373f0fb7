"""The state of the embedded Fusion: its tables, its clock, its numbers; loaded from a seed, kept by the books.

What invoices must fulfil is in ``invoice_rules``; how requests reach the tables is in ``reading`` and ``app``.
All access happens under ``lock``: the server thread answers requests while a test may change suppliers.
"""

import datetime as dt
from dataclasses import replace
from typing import Any

from mlc_dagster.sandbox.books import BookedInvoice, BookedLine, Books
from mlc_dagster.sandbox.fusion import catalogue
from mlc_dagster.sandbox.fusion.invoice_changes import CLERK, InvoiceDesk
from mlc_dagster.sandbox.fusion.journal_load import LoadingDesk
from mlc_dagster.sandbox.fusion.orders import OrderDesk
from mlc_dagster.sandbox.fusion.resources import Row, Table, build_row
from mlc_dagster.sandbox.fusion.state import FIRST_NUMBER, Clock, Policies, document, restored, utc_now
from mlc_dagster.sandbox.seed import BUSINESS_UNITS, DELIMITER, SEGMENTS, Seed
from mlc_dagster.sandbox.seed_documents import journal_batches, purchase_orders

__all__ = ["Policies", "World", "utc_now"]


class World(LoadingDesk, OrderDesk, InvoiceDesk):
    """One Fusion: the desks' work, the reference data, and what an invoice's commit is."""

    def __init__(
        self,
        seed: Seed,
        books: Books,
        *,
        policies: Policies | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(seed, books, policies, clock)
        self.load()

    def load(self) -> None:
        """Fills the tables from the seed, then from what an earlier server kept in the books' file."""
        with self.lock:
            self.tables = {name: Table(resource) for name, resource in catalogue.TABLES.items()}
            self.jobs: dict[str, dict[str, Any]] = {}
            self.numbers: dict[tuple[str, ...], int] = {}
            self.combinations: dict[tuple[int, str], Row] = {}
            self._last_number = FIRST_NUMBER
            self._page_hooks.clear()
            self._ahead = dt.timedelta(0)
            seed = self.seed
            for name, records in (
                ("suppliers", seed.supplier_rows()),
                ("accountCombinationsLOV", seed.combination_rows()),
                ("ledgersLOV", seed.ledger_rows()),
                ("finBusinessUnitsLOV", seed.business_unit_rows()),
                ("valueSets", seed.value_set_rows()),
            ):
                table = self.tables[name]
                for record in records:
                    table.add(build_row(table.resource, record))
            periods = self.tables["accountingPeriodStatusLOV"]
            for number, record in enumerate(seed.period_rows(), start=1):
                periods.add(build_row(catalogue.PERIODS, {"PeriodKey": number} | record))
            for row in self.tables["accountCombinationsLOV"]:
                self.index_combination(row)
            went_live = self._went_live()
            for number, seeded in journal_batches(went_live):
                self.tables["journalBatches"].add(self.build_journal_batch(number, **seeded))
            for number, ordered in purchase_orders(went_live):
                self.tables["purchaseOrders"].add(self.build_purchase_order(number, **ordered))
            self._restore()

    def _went_live(self) -> Seed:
        """The seed of the day on which these books were begun: no document changes because a server starts again."""
        known = self.books.documents("go_live")
        if not known:
            self.books.record_document("go_live", "seed", {"today": self.seed.today.isoformat()})
            return self.seed
        return replace(self.seed, today=dt.date.fromisoformat(known[0]["today"]))

    # Reference data.

    def index_combination(self, row: Row) -> None:
        code = DELIMITER.join(row.values[name] for name in SEGMENTS)
        self.combinations[row.values["_CHART_OF_ACCOUNTS_ID"], code] = row

    def supplier(self, *, number: str | None = None, name: str | None = None) -> Row | None:
        attribute, value = ("SupplierNumber", number) if number is not None else ("Supplier", name)
        found = self.tables["suppliers"].lookup(attribute, [value])
        return found[0] if found else None

    def period_status(self, ledger_id: int, application: int, day: str) -> str | None:
        """Closing status of the period that holds an ISO date."""
        for row in self.tables["accountingPeriodStatusLOV"].lookup("LedgerId", [ledger_id]):
            values = row.values
            if values["ApplicationId"] == application and values["StartDate"] <= day <= values["EndDate"]:
                return values["ClosingStatus"]
        return None

    def set_period(self, name: str, status: str, *, application: int | None = None, ledger: str | None = None) -> int:
        """Opens or closes periods by name (``Nov-26``) and status letter; gives the number of rows changed."""
        if status not in {"O", "C", "F", "N", "P", "W"}:
            msg = f"period status {status!r} is not one of O, C, F, N, P, W"
            raise ValueError(msg)
        ledgers = {unit.ledger_id for unit in self.units.values() if ledger in {None, unit.ledger}}
        changed = 0
        with self.lock:
            table = self.tables["accountingPeriodStatusLOV"]
            for row in table.lookup("PeriodNameId", [name]):
                values = row.values
                if values["LedgerId"] in ledgers and application in {None, values["ApplicationId"]}:
                    table.change(row, {"ClosingStatus": status})
                    self.books.record_document("period", f"{row.key:06d}", {"key": row.key, "status": status})
                    changed += 1
        if not changed:
            msg = f"no period {name!r} of that ledger and application"
            raise ValueError(msg)
        return changed

    def create_supplier(
        self,
        number: str,
        name: str,
        *,
        site: str = "HQ",
        business_unit: str = BUSINESS_UNITS[0].name,
    ) -> int:
        """A buyer creates a supplier with one pay site assigned to the business unit; gives the SupplierId."""
        with self.lock:
            if self.supplier(number=number) or self.supplier(name=name):
                msg = f"supplier {number} or {name!r} is there already"
                raise ValueError(msg)
            unit = self.units[business_unit]
            now = self.now()
            assignment = {
                "AssignmentId": self.next_number(),
                "ClientBU": unit.name,
                "ClientBUId": unit.business_unit_id,
                "BillToBU": unit.name,
                "BillToBUId": unit.business_unit_id,
            }
            place = {
                "SupplierSiteId": self.next_number(),
                "SupplierSite": site,
                "ProcurementBU": unit.name,
                "ProcurementBUId": unit.business_unit_id,
                "SupplierAddressName": site,
                "SitePurposePurchasingFlag": True,
                "SitePurposePayFlag": True,
                "SitePurposePrimaryPayFlag": True,
                "CreationDate": now,
                "LastUpdateDate": now,
                "assignments": [assignment],
            }
            row = build_row(
                catalogue.SUPPLIERS,
                {
                    "SupplierId": self.next_number(),
                    "Supplier": name,
                    "SupplierNumber": number,
                    "SupplierPartyId": self.next_number(),
                    "CreationDate": now,
                    "LastUpdateDate": now,
                    "sites": [place],
                },
            )
            self.tables["suppliers"].add(row)
            self._keep_supplier(row)
            return int(row.key)

    def change_supplier(self, number: str, *, name: str | None = None, active: bool | None = None) -> None:
        """Renames, deactivates or reactivates a supplier."""
        with self.lock:
            row = self.supplier(number=number)
            if row is None:
                msg = f"no supplier {number}"
                raise ValueError(msg)
            changes: dict[str, Any] = {"LastUpdateDate": self.now()}
            if name is not None:
                changes["Supplier"] = name
            if active is not None:
                changes["Status"] = "ACTIVE" if active else "INACTIVE"
                changes["InactiveDate"] = None if active else self.clock().date().isoformat()
            self.tables["suppliers"].change(row, changes)
            self._keep_supplier(row)

    # Invoices.

    def duplicate_key(self, supplier_number: str, number: str, business_unit: str, site: str) -> tuple[str, ...]:
        parts = {
            "supplier": supplier_number,
            "number": number.strip().casefold(),
            "business_unit": business_unit,
            "site": site,
        }
        return tuple(parts[name] for name in self.policies.duplicate_scope)

    def key_of(self, row: Row) -> tuple[str, ...]:
        values = row.values
        return self.duplicate_key(
            values["SupplierNumber"], values["InvoiceNumber"], values["BusinessUnit"], values["SupplierSite"]
        )

    def store_invoice(self, row: Row) -> None:
        """The commit: from here on the invoice is in Fusion, whatever becomes of the answer."""
        self.tables["invoices"].add(row)
        self.numbers[self.key_of(row)] = int(row.key)
        self.keep_invoice(row)

    def keep_invoice(self, row: Row) -> None:
        """Writes an invoice's present state to the books."""
        invoice_id = int(row.key)
        values = row.values
        booked = self.books.invoice(invoice_id)
        self.books.record_invoice(
            BookedInvoice(
                invoice_id=invoice_id,
                number=values["InvoiceNumber"],
                business_unit=values["BusinessUnit"],
                supplier=values["Supplier"],
                supplier_number=values["SupplierNumber"],
                supplier_site=values["SupplierSite"],
                currency=values["InvoiceCurrency"],
                # Cancelling sets amounts to zero; the books say what was stored.
                amount=booked.amount if booked else values.get("StoredAmount", values["InvoiceAmount"]),
                invoice_date=values["InvoiceDate"],
                accounting_date=values["AccountingDate"],
                invoice_type=values["InvoiceType"],
                invoice_source=values.get("InvoiceSource"),
                invoice_group=values.get("InvoiceGroup"),
                description=values.get("Description"),
                created_by=values["CreatedBy"],
                created_at=values["CreationDate"],
                lines=booked.lines if booked else _booked_lines(row),
                validation_status=values.get("ValidationStatus"),
                accounting_status=values.get("AccountingStatus"),
                canceled=bool(values.get("CanceledFlag")),
                attachments=len(row.children.get("attachments", [])),
            )
        )
        self.keep("invoice", row, catalogue.INVOICES)

    def delete_invoice(self, invoice_id: int) -> bool:
        """Takes an invoice out of Fusion, as a clerk may while it is not validated; the books still know it."""
        with self.lock:
            row = self.tables["invoices"].rows.get(invoice_id)
            booked = self.books.invoice(invoice_id)
            if row is None or booked is None:
                return False
            self.tables["invoices"].remove(row)
            self.numbers.pop(self.key_of(row), None)
            self.books.record_invoice(replace(booked, deleted=True))
            kept = document(row, catalogue.INVOICES) | {"deleted": True}
            self.books.record_document("invoice", f"{invoice_id:020d}", kept)
            return True

    def renumber_invoice(self, invoice_id: int, number: str) -> None:
        """Gives a stored invoice another number, as a clerk may while it is not paid. Raises LookupError."""
        with self.lock:
            self._move_invoice(self.row_of("invoices", invoice_id), {"InvoiceNumber": number})

    def merge_suppliers(self, number: str, into: str) -> None:
        """A buyer merges one supplier into another: his invoices become the other's, and he becomes inactive.

        Raises LookupError.
        """
        with self.lock:
            merged, kept = self.supplier(number=number), self.supplier(number=into)
            if merged is None or kept is None:
                msg = f"no supplier {number} or {into}"
                raise LookupError(msg)
            for row in list(self.tables["invoices"].rows.values()):
                if row.values["SupplierNumber"] == number:
                    self._move_invoice(row, {"Supplier": kept.values["Supplier"], "SupplierNumber": into})
            self.change_supplier(number, active=False)

    def _move_invoice(self, row: Row, values: dict[str, str]) -> None:
        self.numbers.pop(self.key_of(row), None)
        self.tables["invoices"].change(row, values | {"LastUpdatedBy": CLERK, "LastUpdateDate": self.now()})
        self.numbers[self.key_of(row)] = int(row.key)
        self.keep_invoice(row)

    def keep_hold(self, row: Row) -> None:
        self.keep("hold", row, catalogue.HOLDS)

    def _keep_supplier(self, row: Row) -> None:
        self.keep("supplier", row, catalogue.SUPPLIERS)

    def _restore(self) -> None:
        periods = self.tables["accountingPeriodStatusLOV"]
        for kept in self.books.documents("period"):
            row = periods.rows.get(kept["key"])
            if row is not None:
                periods.change(row, {"ClosingStatus": kept["status"]})
        for kept in self.books.documents("clock"):
            self._ahead = dt.timedelta(seconds=float(kept["seconds"]))
        self.reload_journals()
        for name, kind in (("suppliers", "supplier"), ("journalBatches", "journal"), ("purchaseOrders", "order")):
            table = self.tables[name]
            for kept in self.books.documents(kind):
                row = restored(kept, table.resource)
                if row.key in table.rows:
                    table.remove(table.rows[row.key])
                table.add(row)
                self._seen(row)
        for kept in self.books.documents("invoice"):
            deleted = kept.pop("deleted", False)
            row = restored(kept, catalogue.INVOICES)
            self._seen(row)
            self.store_invoice(row)
            if deleted:
                self.delete_invoice(int(row.key))
        for kept in self.books.documents("hold"):
            row = restored(kept, catalogue.HOLDS)
            self._seen(row)
            self.tables["invoiceHolds"].add(row)


def _booked_lines(row: Row) -> tuple[BookedLine, ...]:
    return tuple(
        BookedLine(
            number=line.values["LineNumber"],
            amount=line.values.get("StoredAmount", line.values["LineAmount"]),
            line_type=line.get("LineType"),
            account=line.get("DistributionCombination"),
            description=line.get("Description"),
        )
        for line in row.children.get("invoiceLines", [])
        if line.get("LineSource") != "Tax"
    )

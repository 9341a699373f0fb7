"""Journals in large numbers: the same rows again from a few numbers, so that 200,000 lines are there in a second."""

import datetime as dt
from decimal import Decimal

from mlc_dagster.sandbox.fusion.journals import JournalDesk, JournalEntry, chart_of, running_totals
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.state import Moment, timestamp
from mlc_dagster.sandbox.seed import DELIMITER, US_LEDGER

_LOADED_ACCOUNTS = ("60540", "60590", "61200", "61300", "62100")
_LOADED_DEPARTMENTS = ("0000", "4410", "4420", "4430")


class LoadingDesk(JournalDesk):
    """The general ledger's desk, with a conveyor belt."""

    def load_journals(
        self,
        count: int,
        lines_each: int,
        *,
        last_update_date: Moment | None = None,
        spread: dt.timedelta = dt.timedelta(0),
        prefix: str = "Load",
    ) -> range:
        """Posted USD batches of one balanced journal each, quickly; gives their ids.

        Args:
            count: batches.
            lines_each: lines per journal, at least 2.
            last_update_date: of the last batch; now when None.
            spread: time between the first batch's dates and the last's, the others evenly between.
            prefix: BatchName is this and a number.

        Raises:
            ValueError: fewer than two lines each.
        """
        if lines_each < 2:
            msg = f"lines_each: {lines_each}; a journal has at least 2 lines"
            raise ValueError(msg)
        with self.lock:
            load = {
                "first": self._last_number + 1,
                "count": count,
                "lines_each": lines_each,
                "end": timestamp(last_update_date if last_update_date is not None else self.clock()),
                "seconds": spread.total_seconds(),
                "prefix": prefix,
            }
            # What was loaded is told by these few numbers; a restarted server makes the same rows of them again.
            self.books.record_document("journal_load", f"{load['first']:020d}", load)
            return self._load(**load)

    def reload_journals(self) -> None:
        """Makes again what an earlier server on the same books had loaded."""
        for load in self.books.documents("journal_load"):
            self._load(**load)

    def _load(self, *, first: int, count: int, lines_each: int, end: str, seconds: float, prefix: str) -> range:
        unit = self.unit_of(US_LEDGER)
        table = self.tables["journalBatches"]
        combinations = [
            DELIMITER.join((unit.entity, department, account, "000", "000", "000"))
            for account in _LOADED_ACCOUNTS
            for department in _LOADED_DEPARTMENTS
        ]
        payable = DELIMITER.join((unit.entity, "0000", "22100", "000", "000", "000"))
        last = dt.datetime.fromisoformat(end)
        one, step = Decimal(1), lines_each + 2
        for index in range(count):
            before = seconds * (count - 1 - index) / max(count - 1, 1)
            number = first + index * step
            moment = last - dt.timedelta(seconds=before)
            batch = self.build_journal_batch(
                number,
                name=f"{prefix} {number}",
                moment=moment,
                source="Payables",
                category="Purchase Invoices",
                journals=[JournalEntry(lines=())],
            )
            header = batch.children["journalHeaders"][0]
            shared = {
                "ChartOfAccountsName": chart_of(unit),
                "CurrencyCode": unit.currency,
                "CurrencyConversionRate": one,
                "UserCurrencyConversionType": "User",
                **{name: header.values[name] for name in ("CreatedBy", "CreationDate", "LastUpdatedBy")},
                "LastUpdateDate": header.values["LastUpdateDate"],
            }
            lines: list[Row] = []
            total = Decimal(0)
            for place in range(1, lines_each + 1):
                if place == lines_each:
                    values = {"AccountCombination": payable, "EnteredCr": total, "AccountedCr": total}
                else:
                    amount = Decimal((number * 7 + place * 1_013) % 999_983 + 1).scaleb(-2)
                    total += amount
                    combination = combinations[(number + place) % len(combinations)]
                    values = {"AccountCombination": combination, "EnteredDr": amount, "AccountedDr": amount}
                values |= shared
                values["JeLineNumber"] = place
                values["Description"] = f"Line {place} of {number}"
                lines.append(Row(number + 1 + place, values))
            header.children["journalLines"] = lines
            header.values |= dict.fromkeys(running_totals([]), total)
            self.sum_up(batch)
            table.add(batch)
        ids = range(first, first + count * step, step)
        self._last_number = max(self._last_number, ids.stop)
        return ids

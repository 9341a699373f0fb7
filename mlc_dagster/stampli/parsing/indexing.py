"""The first pass over a file: which invoices there are, and where a second look at their rows is needed.

Belongs here: keys of all rows, counted. Does not: what is built of the rows in the second pass (``parse``).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from operator import sub

import msgspec

from mlc_dagster.stampli.parsing.naming import Key, KeyReader
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile_rows import RowRules
from mlc_dagster.stampli.parsing.row_runs import Column, Runs
from mlc_dagster.stampli.parsing.rows import Block

_FAULTS_TOLD = 20
"""Broken rows that one invoice tells of; all of them are quarantined."""


class Index(msgspec.Struct):
    """What the first pass learns."""

    sources: dict[str, set[str]]
    """Source ids by company: the only thing that grows with the file, by some hundred bytes per invoice."""
    pieces: dict[Key, int]
    """For invoices in more than one piece: how many."""
    faults: dict[Key, list[tuple[int, str]]]
    """Broken rows by the invoice that they may name."""
    kept: deque[Block] | None = None
    """All blocks of a short file."""

    def new(self, keys: Sequence[Key]) -> bool:
        """Whether each of these runs' keys names all that there is of an invoice: no other run or broken row has it."""
        alone = self.pieces.keys().isdisjoint(keys) and self.faults.keys().isdisjoint(keys)
        return alone and len(set(keys)) == len(keys)


class FirstPass:
    """Learns from one block after the other."""

    def __init__(self, file_name: str, keys: KeyReader, rules: RowRules) -> None:
        self._file_name = file_name
        self._keys = keys
        self._rules = rules
        self.index = Index({}, {}, {})
        self._last: Key = ()
        self._run = self._broken = 0
        """Rows in a row of the last key; rows that name no invoice or cannot be read."""
        self._again: dict[Key, int] = {}

    def learn(self, block: Block) -> None:
        """Note the keys of a block.

        Raises:
            FileRejected: more rows than the profile allows are broken, or belong to one invoice.
        """
        told_of = self.index.faults
        for line, fault in block.faults:
            for key in self._keys.candidates(fault):
                told = told_of.setdefault(key, [])
                if len(told) < _FAULTS_TOLD:
                    told.append((line, fault.text))
        rows = block.rows
        if isinstance(rows, Runs) and self._keys.within(rows.offset):
            columns = self._keys.columns(rows.heads)
            if not self._take_new(columns, block, rows):
                for key, size in zip(zip(*columns, strict=True), _sizes(rows), strict=True):
                    self._take(key, size)
        else:
            for key in map(self._keys.key_of, rows):
                self._take(key, 1)
        self._refuse_endless(self._last, self._run)
        self._broken += len(block.faults)
        most = self._rules.max_broken
        if self._broken > most:
            text = (
                f"{self._file_name}: more than {most} rows (max_broken) cannot be read; "
                "correct the export, or raise the limit in the profile"
            )
            raise FileRejected("FILE_SCHEMA", text)

    def _take_new(self, columns: Sequence[Column], block: Block, runs: Runs) -> bool:
        """Note the keys of all runs at once when each is new and usable, or goes on as the first; else nothing."""
        if not len(runs) or len(set(columns[0])) > 1:
            return False
        if not self._keys.usable_in_all(columns, printable=block.printable):
            return False
        sizes = _sizes(runs)
        goes_on = tuple(column[0] for column in columns) == self._last
        ids = self._keys.source_ids(columns)[1 if goes_on else 0 :]
        new = set(ids)
        known = self.index.sources.setdefault(columns[0][0], set())
        if not ids or len(new) < len(ids) or not known.isdisjoint(new) or max(sizes) > self._rules.max_per_invoice:
            return False
        if goes_on:
            self._run += sizes[0]
        self._end_run()
        known |= new
        self._last, self._run = tuple(column[-1] for column in columns), sizes[-1]
        return True

    def _take(self, key: Key, rows: int) -> None:
        if key == self._last:
            self._run += rows
            return
        if not self._keys.usable(key):
            self._broken += rows
            return
        self._end_run()
        self._last, self._run = key, rows
        company = self.index.sources.setdefault(key[0], set())
        source_id = self._keys.source_id(key)
        if source_id in company:
            self.index.pieces[key] = self.index.pieces.get(key, 1) + 1
        else:
            company.add(source_id)

    def _end_run(self) -> None:
        self._refuse_endless(self._last, self._run)
        if self._last in self.index.pieces:
            self._again[self._last] = self._again.get(self._last, 0) + self._run
            self._refuse_endless(self._last, self._again[self._last])

    def _refuse_endless(self, key: Key, rows: int) -> None:
        most = self._rules.max_per_invoice
        if rows > most:
            text = (
                f"{self._file_name}: invoice {self._keys.source_id(key)!r} has more than {most} rows "
                "(max_per_invoice); no invoice has, so the key columns are wrong, or raise the limit in the profile"
            )
            raise FileRejected("FILE_SCHEMA", text)


def _sizes(runs: Runs) -> list[int]:
    return list(map(sub, runs.ends(), runs.starts))


def learn_all(blocks: Iterable[Block], first: FirstPass, *, keep: int) -> Index:
    """What a whole file says; its blocks are kept when they hold at most ``keep`` bytes."""
    size = 0
    kept: deque[Block] | None = deque()
    for block in blocks:
        size += keep + 1 if block.size is None else block.size
        if size > keep:
            kept = None
        elif kept is not None:
            kept.append(block)
        first.learn(block)
    first.index.kept = kept
    return first.index

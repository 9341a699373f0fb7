"""What the paths below journalBatches answer, as bytes.

It knows only what the benchmark asks, and refuses everything else: a question it would answer wrongly cannot pass
unnoticed. Pages of lines are made once and kept.
"""

import hashlib
import json
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from bench import journal_books as books_of
from bench.journal_books import Books, Line, changed_at, currency, variant_lines, variant_of
from bench.journal_conditions import NotServed, matches

ROOT = "/fscmRestApi/resources/11.13.18.05/"
NESTED_LIMIT = 25
"""Children that come with an expanded parent."""

MAX_LIMIT = 500


class Query(NamedTuple):
    """The parameters of a collection GET that change its answer."""

    q: str
    expand: frozenset[str]
    fields: tuple[str, ...]
    only_data: bool
    links: frozenset[str]
    limit: int
    offset: int
    total_results: bool
    order: str


KNOWN_PARAMETERS = frozenset(
    {"q", "expand", "fields", "onlyData", "links", "limit", "offset", "totalResults", "orderBy", "finder"}
)


def parse_query(text: str) -> Query:
    """Raises NotServed for a parameter that is not known here."""
    given = dict(parse_qsl(text, keep_blank_values=True))
    if unknown := given.keys() - KNOWN_PARAMETERS:
        raise NotServed(f"parameters {sorted(unknown)}")
    if "finder" in given:
        raise NotServed("a finder")
    return Query(
        q=given.get("q", ""),
        expand=frozenset(name for name in given.get("expand", "").split(",") if name),
        fields=tuple(name for name in given.get("fields", "").split(",") if name),
        only_data=given.get("onlyData", "").lower() == "true",
        links=frozenset(name for name in given.get("links", "").split(",") if name),
        limit=min(MAX_LIMIT, int(given.get("limit", NESTED_LIMIT))),
        offset=int(given.get("offset", 0)),
        total_results=given.get("totalResults", "").lower() == "true",
        order=given.get("orderBy", "").removesuffix(":asc"),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def _amount(cents: int) -> str:
    """As Fusion spells it: 1180.50 is 1180.5, 100.00 is 100."""
    whole, rest = divmod(cents, 100)
    return f"{whole}.{rest:02}".rstrip("0") if rest else str(whole)


def _line_row(line: Line, variant: int) -> str:
    stamp = "2026-11-02T08:00:00.000+00:00"
    entered, accounted = _amount(line.entered), _amount(line.accounted)
    sides = (entered, "null", accounted, "null") if line.debit else ("null", entered, "null", accounted)
    foreign = currency(variant) != "USD"
    texts = {
        "AccountCombination": line.combination,
        "ChartOfAccountsName": books_of.CHART,
        "CurrencyCode": currency(variant),
        "CurrencyConversionDate": "2026-11-02",
        "UserCurrencyConversionType": "Corporate" if foreign else "User",
        "Description": line.description,
        "Reference1": f"AP-{line.number:06}",
        "Reference2": "Payables",
        "Reference3": "Purchase Invoices",
        "Reference4": f"30000000{line.number:07}",
        "Reference5": None,
        "ReconciliationReference": None,
        "JgzzReconReference": None,
        "JgzzReconDate": None,
        "CreatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "CreationDate": stamp,
        "LastUpdatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "LastUpdateDate": stamp,
    }
    numbers = {
        "JeLineNumber": str(line.number),
        "EnteredDr": sides[0],
        "EnteredCr": sides[1],
        "AccountedDr": sides[2],
        "AccountedCr": sides[3],
        "StatAmount": "null",
        "CurrencyConversionRate": "1.0842" if foreign else "1",
    }
    spelled = {name: json.dumps(text, ensure_ascii=False) for name, text in texts.items()}
    return _object({"JeLineNumber": numbers.pop("JeLineNumber"), **spelled, **numbers})


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


@cache
def _lines(variant: int) -> tuple[bytes, ...]:
    return tuple(_line_row(line, variant).encode() for line in variant_lines(variant))


@cache
def _chosen_lines(variant: int, fields: tuple[str, ...]) -> tuple[bytes, ...]:
    if not fields:
        return _lines(variant)
    rows: list[bytes] = []
    for row in _lines(variant):
        # Numbers are kept as text: a float between would spell some of them differently.
        members: dict[str, object] = json.loads(row, parse_float=_Spelled, parse_int=_Spelled)
        if unknown := set(fields) - members.keys():
            raise NotServed(f"fields {sorted(unknown)} of journalLines")
        spelled = {
            name: str(members[name])
            if isinstance(members[name], _Spelled)
            else json.dumps(members[name], ensure_ascii=False)
            for name in fields
        }
        rows.append(_object(spelled).encode())
    return tuple(rows)


class _Spelled(str):
    """A number as it was spelled."""

    __slots__ = ()


def _key(text: str) -> str:
    """A path key as opaque as Fusion's own."""
    return hashlib.sha256(text.encode()).hexdigest().upper()


@cache
def _batches_by_header_key(journals: int) -> dict[str, int]:
    return {_key(f"header {batch_id}"): batch_id for batch_id in Books(journals).batch_ids}


def _stamp(batch_id: int) -> str:
    return changed_at(batch_id).strftime("%Y-%m-%dT%H:%M:%S.000+00:00")


@cache
def _debit(variant: int, amount: str) -> float:
    """Sum of the debits, which is that of the credits; its shortest spelling is exact at this size."""
    return sum(getattr(line, amount) for line in variant_lines(variant) if line.debit) / 100


def _batch(batch_id: int) -> dict[str, object]:
    debit = _debit(variant_of(batch_id), "accounted")
    return {
        "JeBatchId": batch_id,
        "BatchName": f"Payables A {batch_id} {batch_id - books_of.FIRST_BATCH_ID:06}",
        "BatchDescription": "Journal Import 4711",
        "AccountedPeriodType": "Month",
        "DefaultPeriodName": "Nov-26",
        "Status": "P",
        "StatusMeaning": "Posted",
        "ControlTotal": None,
        "ErrorMessage": None,
        "PostedDate": "2026-11-02",
        "PostingRunId": 4711,
        "RequestId": 815,
        "RunningTotalAccountedDr": debit,
        "RunningTotalAccountedCr": debit,
        "ActualFlagMeaning": "Actual",
        "ApprovalStatusMeaning": "Not required",
        "CompletionStatusMeaning": "Complete",
        "ChartOfAccountsName": books_of.CHART,
        "UserPeriodSetName": "AccountingMMYY",
        "UserJeSourceName": "Payables",
        "CreatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "CreationDate": _stamp(batch_id),
        "LastUpdatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "LastUpdateDate": _stamp(batch_id),
    }


def _header(batch_id: int) -> dict[str, object]:
    return {
        "JournalName": f"Purchase Invoices {batch_id - books_of.FIRST_BATCH_ID:06}",
        "JournalDescription": "Journal Import Created",
        "LedgerName": books_of.LEDGER,
        "LedgerCurrencyCode": "USD",
        "LegalEntityName": "US1 Legal Entity",
        "CurrencyCode": currency(variant_of(batch_id)),
        "PeriodName": "Nov-26",
        "DefaultEffectiveDate": "2026-11-02",
        "ReferenceDate": None,
        "UserJeCategoryName": "Purchase Invoices",
        "CurrencyConversionDate": "2026-11-02",
        "CurrencyConversionRate": 1,
        "UserCurrencyConversionType": "User",
        "ControlTotal": None,
        "RunningTotalDr": _debit(variant_of(batch_id), "entered"),
        "RunningTotalCr": _debit(variant_of(batch_id), "entered"),
        "RunningTotalAccountedDr": _debit(variant_of(batch_id), "accounted"),
        "RunningTotalAccountedCr": _debit(variant_of(batch_id), "accounted"),
        "ExternalReference": None,
        "ReversedJeHeaderName": None,
        "JeFromSlaFlagMeaning": "Yes",
        "CreatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "CreationDate": _stamp(batch_id),
        "LastUpdatedBy": "FUSION_APPS_FIN_ESS_APPID",
        "LastUpdateDate": _stamp(batch_id),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Collections


class Site:
    """What the server's paths answer; ``base`` is its own address, for links."""

    def __init__(self, books: Books, base: str) -> None:
        self._books = books
        self._base = base
        self.answer = lru_cache(maxsize=64)(self._answer)
        """The body for a GET of a path with query; raises NotServed."""

    def warm(self) -> None:
        """Make the rows before anybody measures."""
        for variant in range(min(books_of.VARIANTS, self._books.journals)):
            _lines(variant)
        _batches_by_header_key(self._books.journals)

    def _answer(self, target: str) -> bytes:
        parts = urlsplit(target)
        return self._collection(unquote(parts.path), parse_query(parts.query))

    def _collection(self, path: str, query: Query) -> bytes:
        if not path.startswith(ROOT):
            raise NotServed(path)
        match path.removeprefix(ROOT).split("/"):
            case ["journalBatches"]:
                return self._batches(query)
            case ["journalBatches", batch_id, "child", "journalHeaders"]:
                rows = [self._header_row(int(batch_id), query, "journalLines" in query.expand)]
                return _page(rows[query.offset :], query, len(rows))
            case ["journalBatches", _, "child", "journalHeaders", key, "child", "journalLines"]:
                return self._line_page(self._batch_of(key), query)
            case ["benchJournalLines"]:
                return self._flat_page(query)
            case _:
                raise NotServed(path)

    def _batch_of(self, key: str) -> int:
        try:
            return _batches_by_header_key(self._books.journals)[key]
        except KeyError:
            raise NotServed(f"journal header {key}") from None

    def _batches(self, query: Query) -> bytes:
        chosen = [batch_id for batch_id in self._books.batch_ids if matches(batch_id, query.q)]
        if query.order not in ("", "JeBatchId", "JeBatchId:desc"):
            raise NotServed(f"orderBy {query.order}")
        if query.order.endswith(":desc"):
            chosen.reverse()
        rows = [self._batch_row(batch_id, query) for batch_id in chosen[query.offset : query.offset + query.limit]]
        return _page(rows, query, len(chosen))

    def _batch_row(self, batch_id: int, query: Query) -> bytes:
        row = _spelled(_batch(batch_id), query.fields)
        if query.expand - {"journalHeaders", "journalHeaders.journalLines", "all"}:
            raise NotServed(f"expand {sorted(query.expand)}")
        if query.expand:
            header = self._header_row(batch_id, query, lines=query.expand != {"journalHeaders"})
            row["journalHeaders"] = _nested([header], 1, query)
        return self._finished(row, f"journalBatches/{batch_id}", "journalHeaders", query)

    def _header_row(self, batch_id: int, query: Query, lines: bool) -> bytes:  # noqa: FBT001
        row = _spelled(_header(batch_id), query.fields)
        if lines:
            all_lines = _lines(variant_of(batch_id))
            row["journalLines"] = _nested(list(all_lines[:NESTED_LIMIT]), len(all_lines), query)
        key = _key(f"header {batch_id}")
        return self._finished(row, f"journalBatches/{batch_id}/child/journalHeaders/{key}", "journalLines", query)

    def _finished(self, row: dict[str, str], path: str, child: str, query: Query) -> bytes:
        if not query.only_data:
            href = f"{self._base}{ROOT}{path}"
            links = [
                {"rel": rel, "href": target, "name": path.rsplit("/", 2)[-2], "kind": kind}
                for rel, target, kind in (
                    ("self", href, "item"),
                    ("canonical", href, "item"),
                    ("child", f"{href}/child/{child}", "collection"),
                )
                if not query.links or rel in query.links
            ]
            row["links"] = json.dumps(links)
        return _object(row).encode()

    def _flat_page(self, query: Query) -> bytes:
        """All lines as one collection. Fusion has none such; frameworks get it, since it is what they page best."""
        journal, offset = divmod(query.offset, books_of.LINES_PER_JOURNAL)
        if offset + query.limit > books_of.LINES_PER_JOURNAL:
            raise NotServed(f"a page across journals: offset {query.offset}, limit {query.limit}")
        if journal >= self._books.journals:
            return _page([], query, self._books.lines)
        lines = _lines(variant_of(self._books.batch_ids[journal]))
        return _page(list(lines[offset : offset + query.limit]), query, self._books.lines)

    def _line_page(self, batch_id: int, query: Query) -> bytes:
        if query.q:
            raise NotServed(f"q on journalLines: {query.q}")
        if not query.only_data:
            raise NotServed("links of lines")
        return _page_of_lines(variant_of(batch_id), query)


@cache
def _page_of_lines(variant: int, query: Query) -> bytes:
    lines = _chosen_lines(variant, query.fields)
    return _page(list(lines[query.offset : query.offset + query.limit]), query, len(lines))


def _spelled(row: dict[str, object], fields: tuple[str, ...]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in row.items() if not fields or name in fields}


def _nested(rows: list[bytes], total: int, query: Query) -> str:
    """Children of an expanded row; they carry links unless the query says onlyData."""
    inner = query._replace(limit=NESTED_LIMIT, offset=0, total_results=True)
    return _page(rows, inner, total).decode()


def _page(rows: list[bytes], query: Query, total: int) -> bytes:
    more = "true" if query.offset + len(rows) < total else "false"
    total_results = f'"totalResults":{total},' if query.total_results else ""
    counts = f'{total_results}"count":{len(rows)},"hasMore":{more},"limit":{query.limit},"offset":{query.offset}'
    frame = f'],{counts},"links":[]}}'
    return b'{"items":[' + b",".join(rows) + frame.encode()

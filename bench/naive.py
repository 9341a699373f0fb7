"""The peer: what one would write by hand, with requests, json and csv, one page after the other.

Money is exact here too (``parse_float=Decimal``), and the file has the columns of the product's default journal layout.
Run as ``python -m bench.naive URL FILE [--page N]``; the result is one line of JSON on standard output.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from bench.measuring import Stopwatch, tell

ROOT = "/fscmRestApi/resources/11.13.18.05/"


class Rest:
    """Pages of Fusion's collections, in order."""

    def __init__(self, url: str, page: int) -> None:
        self._url = url
        self._page = page
        self._session = requests.Session()
        self._session.trust_env = False

    def sign_in(self) -> None:
        """Fetches the token that all requests carry."""
        granted = self._session.post(
            f"{self._url}/oauth2/v1/token", data={"grant_type": "client_credentials"}, timeout=60
        )
        self._session.headers["Authorization"] = f"Bearer {granted.json()['access_token']}"

    def rows(self, path: str, **params: str) -> Iterator[dict[str, Any]]:
        """All rows of a collection, until the server says that there are no more."""
        offset = 0
        while True:
            answer = self._session.get(
                f"{self._url}{ROOT}{path}",
                params={**params, "limit": str(self._page), "offset": str(offset)},
                timeout=60,
            )
            answer.raise_for_status()
            page = json.loads(answer.content, parse_float=Decimal)
            yield from page["items"]
            if not page["hasMore"]:
                return
            offset += page["count"]


def csv_rows(rest: Rest) -> Iterator[dict[str, object]]:
    """One row per journal line of the window."""
    window = "LastUpdateDate >= '2026-11-02T00:00:00Z' and LastUpdateDate < '2026-11-03T00:00:00Z'"
    for batch in rest.rows("journalBatches", q=window, orderBy="JeBatchId", onlyData="true"):
        headers = f"journalBatches/{batch['JeBatchId']}/child/journalHeaders"
        for header in rest.rows(headers, links="self"):
            key = header["links"][0]["href"].rsplit("/", 1)[-1]
            for line in rest.rows(f"{headers}/{key}/child/journalLines", onlyData="true", orderBy="JeLineNumber"):
                segments = line["AccountCombination"].split("-")
                yield {
                    "LEDGER": header["LedgerName"],
                    "PERIOD": header["PeriodName"],
                    "BATCH": batch["BatchName"],
                    "JOURNAL": header["JournalName"],
                    "SOURCE": batch["UserJeSourceName"],
                    "CATEGORY": header["UserJeCategoryName"],
                    "CURRENCY": header["CurrencyCode"],
                    "LEDGER_CURRENCY": header["LedgerCurrencyCode"],
                    "EFFECTIVE_DATE": header["DefaultEffectiveDate"],
                    "JOURNAL_DESCRIPTION": header["JournalDescription"],
                    "LINE_NUMBER": line["JeLineNumber"],
                    "ACCOUNT_COMBINATION": line["AccountCombination"],
                    "GL_ACCOUNT": segments[2],
                    "COST_CENTER": segments[1],
                    "ENTERED_DR": line["EnteredDr"],
                    "ENTERED_CR": line["EnteredCr"],
                    "ACCOUNTED_DR": line["AccountedDr"],
                    "ACCOUNTED_CR": line["AccountedCr"],
                    "LINE_DESCRIPTION": line["Description"],
                    "REFERENCE": line["Reference1"],
                    "RECORD_ID": f"{batch['JeBatchId']}/{header['LedgerName']}/{header['JournalName']}",
                    "RECORD_VERSION": 1,
                }


def write_csv(rest: Rest, target: Path) -> int:
    """Writes the file, headed by the keys of its rows; returns how many there are."""
    rows = csv_rows(rest)
    first = next(rows)
    count = 1
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(first))
        writer.writeheader()
        writer.writerow(first)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def main() -> None:
    """Command line of the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("target", type=Path)
    parser.add_argument("--page", type=int, default=500)
    chosen = parser.parse_args()
    watch = Stopwatch()
    rest = Rest(chosen.url, chosen.page)
    rest.sign_in()
    lines = write_csv(rest, chosen.target)
    tell(lines=lines, file=str(chosen.target), **watch.stop())


if __name__ == "__main__":
    main()

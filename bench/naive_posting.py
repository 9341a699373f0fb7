"""The peer: what one would write by hand to post invoices, with csv and requests, one after the other.

Suppliers are looked up once and kept; each invoice is looked for by its number and then posted. Nothing is kept for a
crash. ``python -m bench.naive_posting CONFIG FILE …``; the result is one line of JSON on standard output.
"""

import argparse
import csv
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import requests
import yaml

from bench.measuring import Stopwatch, tell

ROOT = "/fscmRestApi/resources/11.13.18.05/"


class Rest:
    """Fusion with a token and a table of suppliers."""

    def __init__(self, config: Path) -> None:
        fusion = yaml.safe_load(config.read_text("utf-8"))["fusion"]
        self._url: str = fusion["base_url"]
        self._session = requests.Session()
        self._session.trust_env = False
        secret = (config.parent / fusion["client_secret"].removeprefix("file:")).read_text("utf-8").strip()
        granted = self._session.post(
            fusion["token_url"],
            data={"grant_type": "client_credentials", "scope": fusion["scope"]},
            auth=(fusion["client_id"], secret),
            timeout=60,
        )
        self._session.headers["Authorization"] = f"Bearer {granted.json()['access_token']}"
        self._session.headers["REST-Framework-Version"] = "4"
        self._suppliers: dict[str, str] = {}

    def _items(self, path: str, q: str) -> list[dict[str, Any]]:
        answer = self._session.get(f"{self._url}{ROOT}{path}", params={"q": q, "onlyData": "true"}, timeout=60)
        answer.raise_for_status()
        return answer.json()["items"]

    def post(self, rows: list[dict[str, str]]) -> None:
        """One invoice, unless it is there."""
        first = rows[0]
        vendor, number = first["vendor_id"], first["invoice_number"]
        if vendor not in self._suppliers:
            self._suppliers[vendor] = self._items("suppliers", f"SupplierNumber='{vendor}'")[0]["Supplier"]
        if self._items("invoices", f"InvoiceNumber='{number}'"):
            return
        body = {
            "InvoiceNumber": number,
            "InvoiceCurrency": first["currency"],
            "InvoiceAmount": first["invoice_amount"],
            "InvoiceDate": first["invoice_date"],
            "BusinessUnit": "US1 Business Unit",
            "Supplier": self._suppliers[vendor],
            "SupplierNumber": vendor,
            "SupplierSite": first["vendor_site"],
            "InvoiceType": "Standard",
            "InvoiceSource": "Stampli",
            "AccountingDate": first["posting_date"],
            "invoiceLines": [
                {
                    "LineNumber": row["line_number"],
                    "LineType": "Item",
                    "LineAmount": row["line_amount"],
                    "DistributionCombination": f"101-{row['dim_cost_center']}-{row['gl_account']}-000-000-000",
                }
                for row in rows
            ],
        }
        answer = self._session.post(f"{self._url}{ROOT}invoices", json=body, timeout=60)
        answer.raise_for_status()


def main() -> None:
    """Command line of the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    chosen = parser.parse_args()
    watch = Stopwatch()
    rest = Rest(chosen.config)
    count = 0
    begun = time.perf_counter()
    for path in chosen.files:
        with path.open(encoding="utf-8", newline="") as stream:
            for _, rows in groupby(csv.DictReader(stream), key=lambda row: row["invoice_id"]):
                rest.post(list(rows))
                count += 1
    tell(invoices=count, rate=count / (time.perf_counter() - begun), **watch.stop())


if __name__ == "__main__":
    main()

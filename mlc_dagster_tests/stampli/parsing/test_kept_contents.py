"""Bytes and digests of invoices that ledgers already hold: a release must read the same files to the same bytes.

The contents beside the files were written by the first reader. They are never written anew: a difference is a fault.
"""

import hashlib
from pathlib import Path

import pytest

from mlc_dagster.stampli.model import content_json
from mlc_dagster.stampli.parsing.parse import InvoiceStream
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice
from mlc_dagster_tests.stampli.builders import PROFILE

KEPT = Path(__file__).parent / "kept"


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("name", ["plain", "odd"])
def test_files_of_yesterday_have_the_contents_of_yesterday(name: str, careful: bool) -> None:
    """Another digest would make each invoice that arrives again a revision of itself."""
    found = list(InvoiceStream(KEPT / f"{name}.csv", PROFILE, careful=careful))
    read = [f"{each.company_id} {each.source_id} {each.digest} ".encode() + each.content
            for each in found if isinstance(each, ParsedInvoice)]  # fmt: skip
    assert read == (KEPT / f"{name}.contents").read_bytes().splitlines()
    for each in found:
        assert isinstance(each, ParsedInvoice)
        assert each.digest == hashlib.sha256(each.content).hexdigest()
        assert each.invoice is None or content_json(each.invoice) == each.content

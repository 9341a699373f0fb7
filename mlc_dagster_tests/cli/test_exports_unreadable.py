"""``mlc exports list``: beside the files, the documents that cannot be read from Fusion."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.unreadable import note_unreadable
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.servers.ledgers import new_file

SFTP = {"host": "localhost", "username": "u", "password": "env:P", "host_key": "SHA256:x", "directory": "/in"}
FEEDS = [("ap", "invoices"), ("po", "purchase_orders")]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two feeds, no file, and one invoice that cannot be read."""
    document: dict[str, Any] = {
        "fusion": {
            "base_url": "https://pod.example.com",
            "token_url": "https://identity.example.com/oauth2/v1/token",
            "client_id": "id",
            "client_secret": "env:UNUSED",
            "scope": "all",
            "charts": {},
        },
        "exports": [
            {"name": name, "source": source, "layout": f"{source}_csv", "sftp": SFTP} for name, source in FEEDS
        ],
        "poll": {"start": "2026-01-01"},
        "data_dir": "data",
    }
    path = tmp_path / "mlc.yaml"
    path.write_text(yaml.safe_dump(document))
    ledger = open_ledger(new_file(tmp_path / "data" / "ledger.sqlite"))
    with ledger.transaction() as transaction:
        note_unreadable(transaction, "invoices", {4711: "its lines do not add up"})
    ledger.close()
    return path


def test_documents_that_cannot_be_read_are_listed(config: Path) -> None:
    """They are in no file and in no list of held ones: here is where somebody looks for them."""
    text = " ".join(run_mlc("--config", config, "exports", "list").stdout.split())
    assert "Cannot be read from Fusion" in text
    assert "4711" in text
    assert "its lines do not add up" in text


def test_programs_get_them_too(config: Path) -> None:
    """Whoever watches by JSON must not miss what people see."""
    [row] = json_of(run_mlc("--config", config, "exports", "list", "--json"))["unreadable"]
    assert (row["source"], row["fusion_id"], row["attempts"]) == ("invoices", 4711, 1)


def test_one_feed_shows_its_sources_documents(config: Path) -> None:
    """All feeds of the source wait for it, the others do not."""
    found = [
        json_of(run_mlc("--config", config, "exports", "list", "--feed", name, "--json"))["unreadable"]
        for name, _ in FEEDS
    ]
    assert [len(rows) for rows in found] == [1, 0]

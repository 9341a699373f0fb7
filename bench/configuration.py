"""mlc.yaml of the benchmark: one feed of journals, one chart, page size and requests in flight as measured."""

from pathlib import Path
from typing import Any

from bench import journal_books as books_of
from mlc_dagster.settings import Settings

FEED = "bench_journals"
SECRET = "MLC_BENCH_SECRET"  # noqa: S105 - the name of a variable
PAGE_SIZE = 500
LAYOUT = "journals_csv"
"""The default layout of journals: one CSV row per line."""


def settings_for(url: str, root: Path, *, layout: str, in_flight: int) -> Settings:
    """mlc.yaml of the benchmark."""
    feed: dict[str, Any] = {
        "name": FEED,
        "source": "journals",
        "layout": layout,
        "ledgers": [books_of.LEDGER],
        "start": books_of.WINDOW_START,
        "sftp": {
            "host": "127.0.0.1",
            "username": "nobody",
            "password": f"env:{SECRET}",
            "host_key": f"SHA256:{'A' * 43}",
        },
    }
    chart = {
        "ledgers": [books_of.LEDGER],
        "segments": list(books_of.SEGMENTS),
        "natural_account": "account",
        "cost_center": "department",
    }
    return Settings.model_validate(
        {
            "fusion": {
                "base_url": url,
                "token_url": f"{url}/oauth2/v1/token",
                "client_id": "bench",
                "client_secret": f"env:{SECRET}",
                "scope": "bench",
                "charts": {"US1": chart},
                "page_size": PAGE_SIZE,
                "max_in_flight": in_flight,
            },
            "exports": [feed],
            "poll": {"cron": "0 * * * *", "start": books_of.WINDOW_START},
            "outbound": {"sweep": 0},
            "data_dir": "data",
            "root": root,
        }
    )

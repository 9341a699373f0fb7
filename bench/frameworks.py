"""Frameworks that read REST APIs, over the same lines: dlt, the Singer SDK and the Airbyte CDK.

Optional peers: no dependency of the product, and left out where their package is absent. They page one flat collection,
one page after the other, and leave the lines on disk in their own format, unchecked and with money as floats.
Run as ``python -m bench.frameworks NAME URL FOLDER``; needs nothing of the product, so any interpreter will do.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measuring import Stopwatch, tell

ROOT = "/fscmRestApi/resources/11.13.18.05"
COLLECTION = "benchJournalLines"
PAGE = 500
MODULES = {"dlt": "dlt", "singer-sdk": "singer_sdk", "airbyte-cdk": "airbyte_cdk"}
"""Package name to module name."""

NUMBERS = (
    "JeLineNumber",
    "EnteredDr",
    "EnteredCr",
    "AccountedDr",
    "AccountedCr",
    "StatAmount",
    "CurrencyConversionRate",
)
TEXTS = (
    "AccountCombination",
    "ChartOfAccountsName",
    "CurrencyCode",
    "CurrencyConversionDate",
    "UserCurrencyConversionType",
    "Description",
    "Reference1",
    "Reference2",
    "Reference3",
    "Reference4",
    "Reference5",
    "ReconciliationReference",
    "JgzzReconReference",
    "JgzzReconDate",
    "CreatedBy",
    "CreationDate",
    "LastUpdatedBy",
    "LastUpdateDate",
)


def installed(name: str, python: str) -> bool:
    """True when the interpreter ``python`` has the framework ``name``."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({MODULES[name]!r}) is None)"
    return subprocess.run([python, "-c", look], check=False).returncode == 0


@contextmanager
def standard_output_to(path: Path) -> Iterator[None]:
    """Messages that a framework prints, one record a line, go to a file."""
    sys.stdout.flush()
    kept = os.dup(1)
    with path.open("wb") as target:
        os.dup2(target.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def run_dlt(url: str, folder: Path) -> None:
    """rest_api source to Parquet files."""
    import dlt  # noqa: PLC0415
    from dlt.destinations import filesystem  # noqa: PLC0415
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    paginator = {
        "type": "offset",
        "limit": PAGE,
        "offset_param": "offset",
        "limit_param": "limit",
        "total_path": "totalResults",
    }
    source = rest_api_source(
        {
            "client": {"base_url": f"{url}{ROOT}/", "paginator": paginator},
            "resources": [
                {
                    "name": "journal_lines",
                    "endpoint": {
                        "path": COLLECTION,
                        "data_selector": "items",
                        "params": {"onlyData": "true", "totalResults": "true"},
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "bench", destination=filesystem(bucket_url=str(folder / "out")), dataset_name="bench", pipelines_dir=str(folder)
    )
    pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()


def run_singer(url: str, folder: Path) -> None:
    """A tap of one stream; its messages go to a file."""
    from singer_sdk import RESTStream, Tap  # noqa: PLC0415
    from singer_sdk import typing as th  # noqa: PLC0415
    from singer_sdk.pagination import BaseOffsetPaginator  # noqa: PLC0415

    class Pages(BaseOffsetPaginator):
        def has_more(self, response: Any) -> bool:
            return bool(response.json()["hasMore"])

    class JournalLines(RESTStream):
        name = "journal_lines"
        path = f"/{COLLECTION}"
        url_base = f"{url}{ROOT}"
        records_jsonpath = "$.items[*]"
        schema = th.PropertiesList(
            *(th.Property(name, th.NumberType) for name in NUMBERS),
            *(th.Property(name, th.StringType) for name in TEXTS),
        ).to_dict()

        def get_new_paginator(self) -> BaseOffsetPaginator:
            return Pages(0, PAGE)

        def get_url_params(self, context: Any, next_page_token: int | None) -> dict[str, Any]:
            del context
            return {"onlyData": "true", "limit": PAGE, "offset": next_page_token or 0}

    class BenchTap(Tap):
        name = "tap-bench"
        config_jsonschema = th.PropertiesList().to_dict()

        def discover_streams(self) -> Iterable[RESTStream]:
            return [JournalLines(self)]

    with standard_output_to(folder / "messages.jsonl"):
        BenchTap(config={}).sync_all()


def run_airbyte(url: str, folder: Path) -> None:
    """A low-code source of one stream; its messages go to a file."""
    from airbyte_cdk.entrypoint import launch  # noqa: PLC0415
    from airbyte_cdk.models import ConfiguredAirbyteCatalogSerializer  # noqa: PLC0415
    from airbyte_cdk.sources.declarative.concurrent_declarative_source import (  # noqa: PLC0415
        ConcurrentDeclarativeSource,
    )

    schema = {
        "type": "object",
        "properties": {
            **{name: {"type": ["null", "number"]} for name in NUMBERS},
            **{name: {"type": ["null", "string"]} for name in TEXTS},
        },
    }
    pages = {
        "type": "DefaultPaginator",
        "page_size_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "limit"},
        "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "offset"},
        "pagination_strategy": {"type": "OffsetIncrement", "page_size": PAGE},
    }
    manifest: Mapping[str, Any] = {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["journal_lines"]},
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "journal_lines",
                "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
                "retriever": {
                    "type": "SimpleRetriever",
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": f"{url}{ROOT}/",
                        "path": COLLECTION,
                        "http_method": "GET",
                        "request_parameters": {"onlyData": "true"},
                    },
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["items"]},
                    },
                    "paginator": pages,
                },
            }
        ],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }
    stream = {"name": "journal_lines", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    chosen = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}
    config, catalog = folder / "config.json", folder / "catalog.json"
    config.write_text("{}", encoding="utf-8")
    catalog.write_text(json.dumps({"streams": [chosen]}), encoding="utf-8")
    source = ConcurrentDeclarativeSource(
        catalog=ConfiguredAirbyteCatalogSerializer.load({"streams": [chosen]}),
        config={},
        state=[],
        source_config=dict(manifest),
    )
    with standard_output_to(folder / "messages.jsonl"):
        launch(source, ["read", "--config", str(config), "--catalog", str(catalog)])


RUNNERS = {"dlt": run_dlt, "singer-sdk": run_singer, "airbyte-cdk": run_airbyte}


def main() -> None:
    """Command line of the frameworks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RUNNERS))
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True)
    __import__(MODULES[chosen.name])
    watch = Stopwatch()
    RUNNERS[chosen.name](chosen.url, chosen.folder)
    told = watch.stop()
    size = sum(path.stat().st_size for path in chosen.folder.rglob("*") if path.is_file())
    tell(bytes=size, **told)


if __name__ == "__main__":
    main()

"""The smallest mlc.yaml of the inbound flow, for tests that change one key of it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlc_dagster.settings import Settings, SettingsError
from mlc_dagster.settings_file import parse_settings

MINIMAL = """
fusion:
  base_url: https://pod.example.com/
  token_url: https://identity.example.com/oauth2/v1/token
  client_id: mlc
  client_secret: env:FUSION_SECRET
  scope: urn:opc:resource:consumer::all
  charts:
    US1: {ledgers: [US Primary Ledger], segments: [entity, department, account], natural_account: account}
stampli:
  sftp: {host: sftp.example.com, username: mlc, password: "env:STAMPLI", host_key: "SHA256:abc"}
  companies:
    C100:
      business_unit: US1 Business Unit
      legal_entity: US1 Legal Entity
      ledger: US Primary Ledger
      chart: US1
      time_zone: America/Denver
      invoice_source: Stampli
      tax_mode: tax_line
      accounting_date: invoice_date
      account_template: "101-{cost_center}-{account}"
poll: {start: 2026-01-01}
"""

ABSENT = object()


def settings(changes: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> Settings:
    """The minimal configuration with ``changes``: dotted key to new value, or to ABSENT."""
    document: dict[str, Any] = copy.deepcopy(yaml.safe_load(MINIMAL))
    for dotted, value in (changes or {}).items():
        *parents, last = dotted.split(".")
        place = document
        for name in parents:
            place = place.setdefault(name, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return parse_settings(yaml.safe_dump(document), source="mlc.yaml", root=Path("/etc/mlc"), environ=environ or {})


def problems(changes: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with the minimal configuration after ``changes``."""
    with pytest.raises(SettingsError) as caught:
        settings(changes, environ)
    return caught.value.problems

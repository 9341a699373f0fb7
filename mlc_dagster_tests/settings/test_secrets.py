"""``secrets:`` and the list of all references: none may be missing from what `mlc secrets check` resolves."""

from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.cli.config import starter
from mlc_dagster.settings import Settings, SettingsError, secret_references
from mlc_dagster.settings_file import parse_settings


def parsed(folder: Path, more: str = "", **changes: str) -> Settings:
    text = starter()
    for before, after in changes.items():
        text = text.replace(before, after)
    return parse_settings(f"{text}\n{more}", source="mlc.yaml", root=folder, environ={})


VAULT = "secrets: {{vault: {{address: 'https://vault.example.com', token: '{}'}}}}\n"


def test_every_kind_of_reference_is_found(tmp_path: Path) -> None:
    """By type and not by a list that somebody forgets to extend."""
    more = VAULT.format("file:/run/token") + (
        "ledger: {url_secret: env:LEDGER}\n"
        "alerts: {to: ['mailto://u:p@h', env:SLACK, 'file:/run/mail']}\n"
        "exports: [{name: j, source: invoices, layout: invoices_csv, sftp: {host: h, username: u, "
        "private_key: store:k, passphrase: 'vault:kv/p#x', host_key: 'SHA256:x'}}]\n"
    )
    assert secret_references(parsed(tmp_path, more)) == {
        "fusion.client_secret": "env:FUSION_CLIENT_SECRET",
        "stampli.sftp.password": "env:STAMPLI_PASSWORD",
        "exports.j.sftp.private_key": "store:k",
        "exports.j.sftp.passphrase": "vault:kv/p#x",
        "ledger.url_secret": "env:LEDGER",
        "alerts.to[1]": "env:SLACK",
        "alerts.to[2]": "file:/run/mail",
        "secrets.vault.token": "file:/run/token",
    }


def test_vaults_token_is_not_inside_the_vault(tmp_path: Path) -> None:
    """It would be asked for with itself, for ever."""
    with pytest.raises(SettingsError, match=r"secrets\.vault\.token: .*cannot be inside it"):
        parsed(tmp_path, VAULT.format("vault:kv/token#x"))


def test_vault_is_spoken_to_over_tls(tmp_path: Path) -> None:
    """The token opens everything."""
    with pytest.raises(SettingsError, match="must be an https:// address"):
        parsed(tmp_path, VAULT.format("env:T").replace("https:", "http:"))


@pytest.mark.parametrize("value", ["'mailto://u:hunter2@h'", "{a: 'mailto://u:hunter2@h'}", "[{b: hunter2}]"])
def test_address_of_an_alert_is_in_no_error(tmp_path: Path, value: str) -> None:
    """Addresses of apprise hold passwords and tokens; errors are read by many."""
    with pytest.raises(SettingsError, match=r"alerts\.to") as caught:
        parsed(tmp_path, f"alerts: {{to: {value}}}")
    assert "hunter2" not in str(caught.value)


def test_address_of_an_alert_is_in_no_repr(tmp_path: Path) -> None:
    """Tracebacks with local variables print the settings whole."""
    settings: Any = parsed(tmp_path, "alerts: {to: ['mailto://u:hunter2@h']}")
    assert "hunter2" not in f"{settings!r} {settings} {settings.alerts!r}"
    assert settings.alerts.to == ["mailto://u:hunter2@h"]

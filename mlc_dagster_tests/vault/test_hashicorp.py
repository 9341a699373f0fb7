"""``vault:`` references are read from a real HTTP server that speaks Vault's key-value engine, version 2."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.settings import SecretsSettings, VaultSettings
from mlc_dagster.vault import ProviderDown, SecretError, SecretResolver
from mlc_dagster_tests.vault.vault_server import FakeVault, running_vault


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    """A server with one secret."""
    pytest.importorskip("hvac", reason="the extra mlc-dagster[vault] is not installed")
    with running_vault() as server:
        server.secrets["secret/fusion/prod"] = {"client_secret": "hunter2", "port": 22}
        yield server


def resolver_of(vault: FakeVault, root: Path, **changes: str) -> SecretResolver:
    settings = VaultSettings.model_validate({"address": vault.address, "token": "env:VAULT_TOKEN_HERE", **changes})
    environ = {"VAULT_TOKEN_HERE": vault.token}
    return SecretResolver(environ, root, settings=SecretsSettings(vault=settings))


def test_field_of_a_secret_is_read(vault: FakeVault, tmp_path: Path) -> None:
    """Mount, path and key as `vault kv get` has them."""
    assert resolver_of(vault, tmp_path).resolve("vault:secret/fusion/prod#client_secret") == "hunter2"
    assert vault.asked == [("/v1/secret/data/fusion/prod", vault.token)]


def test_mount_of_the_settings_is_not_part_of_the_path(vault: FakeVault, tmp_path: Path) -> None:
    """An engine may be mounted below a path of its own, which no reference could tell apart."""
    vault.secrets["teams/finance/fusion"] = {"key": "hunter3"}
    assert resolver_of(vault, tmp_path, mount="teams/finance").resolve("vault:fusion#key") == "hunter3"


def test_namespace_is_sent(vault: FakeVault, tmp_path: Path) -> None:
    """Vault Enterprise answers 403 in the wrong namespace."""
    vault.namespace = "finance"
    resolver = resolver_of(vault, tmp_path, namespace="finance")
    assert resolver.resolve("vault:secret/fusion/prod#client_secret") == "hunter2"


def test_changed_value_is_picked_up(vault: FakeVault, tmp_path: Path) -> None:
    """A secret that is rotated in Vault is used from the next connection on."""
    resolver = resolver_of(vault, tmp_path)
    resolver.resolve("vault:secret/fusion/prod#client_secret")
    vault.secrets["secret/fusion/prod"]["client_secret"] = "hunter3"
    assert resolver.resolve("vault:secret/fusion/prod#client_secret") == "hunter3"


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("vault:secret/fusion/test#client_secret", "is not in Vault"),
        ("vault:secret/fusion/prod#password", r"has no key 'password' \(it has: client_secret, port\)"),
        ("vault:secret/fusion/prod#port", "its value is not text"),
        ("vault:secret/fusion/prod", "is not vault:MOUNT/PATH#KEY"),
        ("vault:secret#client_secret", "is not vault:MOUNT/PATH#KEY"),
    ],
)
def test_wrong_reference_says_what_is_wrong(vault: FakeVault, tmp_path: Path, reference: str, fault: str) -> None:
    """Each is another mistake with another remedy."""
    with pytest.raises(SecretError, match=fault) as caught:
        resolver_of(vault, tmp_path).resolve(reference)
    assert caught.value.reference == reference
    assert "hunter2" not in str(caught.value)


def test_refused_token_is_not_shown(vault: FakeVault, tmp_path: Path) -> None:
    """The client's own error text and its chain may hold the request's headers."""
    resolver = resolver_of(vault, tmp_path)
    vault.token = "another"
    with pytest.raises(SecretError, match="Vault refuses it; give the token a policy") as caught:
        resolver.resolve("vault:secret/fusion/prod#client_secret")
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_sealed_vault_is_a_remote_side_that_is_down(vault: FakeVault, tmp_path: Path) -> None:
    """Nothing in mlc.yaml is wrong, and the next poll may find it open."""
    vault.sealed = True
    with pytest.raises(ProviderDown, match=r"VaultDown.*sealed"):
        resolver_of(vault, tmp_path).resolve("vault:secret/fusion/prod#client_secret")


def test_silent_vault_is_a_remote_side_that_is_down(vault: FakeVault, tmp_path: Path) -> None:
    """The address is named, the token is not."""
    settings = VaultSettings(address="http://127.0.0.1:1", token="env:T")
    resolver = SecretResolver({"T": "canary"}, tmp_path, settings=SecretsSettings(vault=settings))
    with pytest.raises(ProviderDown, match=r"Vault at http://127\.0\.0\.1:1 does not answer"):
        resolver.resolve("vault:secret/fusion/prod#client_secret")


def test_token_does_not_follow_a_redirect(vault: FakeVault, tmp_path: Path) -> None:
    """The header that opens everything would be sent to whoever the answer names."""
    with running_vault() as elsewhere:
        vault.redirect = elsewhere.address
        with pytest.raises(SecretError):
            resolver_of(vault, tmp_path).resolve("vault:secret/fusion/prod#client_secret")
        assert elsewhere.asked == []


def test_vault_without_settings_names_the_setting(tmp_path: Path) -> None:
    """The reference is right, the other half is missing."""
    with pytest.raises(SecretError, match=r"add secrets\.vault: address and token"):
        SecretResolver({}, tmp_path).resolve("vault:secret/fusion#key")


def test_missing_client_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most installations have no Vault and do not get its client."""
    monkeypatch.setitem(sys.modules, "hvac", None)  # As Python marks a module that cannot be imported.
    settings = SecretsSettings(vault=VaultSettings(address="https://vault.example.com", token="env:T"))
    with pytest.raises(SecretError, match=r"pip install 'mlc-dagster\[vault\]'"):
        SecretResolver({"T": "canary"}, tmp_path, settings=settings).resolve("vault:secret/fusion#key")

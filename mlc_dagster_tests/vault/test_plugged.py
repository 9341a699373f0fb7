"""Packages add schemes by an entry point; a real distribution folder is what Python finds them by."""

from pathlib import Path

import pytest

from mlc_dagster.settings import VaultSettings
from mlc_dagster.vault import SecretError, SecretResolver

PROVIDER = """
class Cloud:
    def get(self, target):
        if target == "broken":
            raise RuntimeError("token hunter2 refused")
        return "secret of " + target

def unusable():
    raise RuntimeError("hunter2")
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pip leaves it: a module, and the metadata that names its entry points."""
    folder = tmp_path / "site"
    metadata = folder / "mlc_test_cloud-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "mlc_test_cloud.py").write_text(PROVIDER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mlc-test-cloud\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[mlc_dagster.secret_providers]\ncloud-sm = mlc_test_cloud:Cloud\nunusable-sm = mlc_test_cloud:unusable\n"
        "gone-sm = mlc_test_gone:Cloud\nenv = mlc_test_cloud:Cloud\n"
    )
    monkeypatch.syspath_prepend(folder)
    return folder


def test_scheme_of_an_installed_package_is_resolved(distribution: Path, tmp_path: Path) -> None:
    """Cloud stores stay out of the product, and their references look like all others."""
    resolver = SecretResolver({}, tmp_path)
    assert resolver.resolve("cloud-sm:arn:1/fusion") == "secret of arn:1/fusion"
    assert "secret of arn:1/fusion" in resolver.values


def test_mlc_yaml_accepts_the_scheme_while_the_package_is_there(distribution: Path) -> None:
    """A reference that cannot be resolved anywhere is refused when the file is read."""
    assert VaultSettings(address="https://v.example.com", token="cloud-sm:x").token == "cloud-sm:x"
    with pytest.raises(ValueError, match="is not a secret reference"):
        VaultSettings(address="https://v.example.com", token="other-sm:x")


def test_package_cannot_take_over_a_scheme_of_the_product(distribution: Path, tmp_path: Path) -> None:
    """Installing something must not change where existing references lead."""
    assert SecretResolver({"NAME": "hunter2"}, tmp_path).resolve("env:NAME") == "hunter2"


@pytest.mark.parametrize("reference", ["cloud-sm:broken", "unusable-sm:x", "gone-sm:x"])
def test_foreign_error_is_told_by_its_type_only(distribution: Path, tmp_path: Path, reference: str) -> None:
    """Nobody knows what a foreign package writes into its errors."""
    with pytest.raises(SecretError, match=r"RuntimeError|ModuleNotFoundError") as caught:
        SecretResolver({}, tmp_path).resolve(reference)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__

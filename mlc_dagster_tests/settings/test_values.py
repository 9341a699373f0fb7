"""Kinds of values that several parts share: durations, addresses, references to secrets."""

import pytest

from mlc_dagster.settings import SettingsError, is_loopback
from mlc_dagster_tests.settings.configuration import problems, settings


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1d", 86400.0), ("250ms", 0.25)],
)
def test_durations_take_a_unit(written: object, seconds: float) -> None:
    """`15m` is read as it is meant; a bare number is seconds."""
    assert settings({"retry.check_every": written}).retry.check_every == seconds


@pytest.mark.parametrize("written", ["soon", "-1", -1, True, "15 minutes"])
def test_what_is_not_a_duration_is_refused(written: object) -> None:
    """A wait that cannot be read must not become zero."""
    [problem] = problems({"retry.check_every": written})
    assert problem.startswith("retry.check_every: ")


def test_trailing_slash_of_an_address_is_dropped() -> None:
    """Paths are appended; two slashes are another path to Fusion."""
    assert settings().fusion.base_url == "https://pod.example.com"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plain_http_is_accepted_on_loopback(host: str) -> None:
    """The sandbox runs there without certificates."""
    assert settings({"fusion.base_url": f"http://{host}:8080"}).fusion.base_url == f"http://{host}:8080"


@pytest.mark.parametrize("host", ["pod.example.com", "10.0.0.5", "localhost.example.com", "0.0.0.0", "[2001:db8::1]"])
def test_plain_http_is_refused_elsewhere(host: str) -> None:
    """The client secret and every invoice would cross the network in clear text."""
    [problem] = problems({"fusion.token_url": f"http://{host}/token"})
    assert "must be an https:// address" in problem
    assert not is_loopback(host)


@pytest.mark.parametrize("address", ["https://", "pod.example.com", "https://[::1", "https://pod.example.com:99999"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    """A host that is missing would be found out only by the first request of the night."""
    [problem] = problems({"fusion.base_url": address})
    assert problem.startswith("fusion.base_url: ")


@pytest.mark.parametrize(
    "key",
    [
        "fusion.client_secret",
        "stampli.sftp.password",
        "stampli.sftp.private_key",
        "stampli.sftp.passphrase",
        "ledger.url_secret",
    ],
)
@pytest.mark.parametrize("typed", ["hunter2", "plain:hunter2", ["hunter2"], {"hunter2": 1}, 6722222222])
def test_secret_typed_in_place_of_a_reference_is_not_echoed(key: str, typed: object) -> None:
    """The error goes to logs and to the Dagster UI; the mistake must not become a leak."""
    with pytest.raises(SettingsError) as caught:
        settings({key: typed})
    assert key in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "6722222222" not in str(caught.value)


@pytest.mark.parametrize("reference", ["env:NAME", "file:/run/secrets/x", "store:fusion/secret", "vault:kv/fusion"])
def test_every_kind_of_reference_is_accepted(reference: str) -> None:
    """Whether it can be resolved is found out by what resolves it."""
    assert settings({"fusion.client_secret": reference}).fusion.client_secret == reference


def test_password_inside_an_address_is_refused_and_not_echoed() -> None:
    """Addresses are logged with every request."""
    [problem] = problems({"fusion.base_url": "https://mlc:hunter2@pod.example.com"})
    assert problem.startswith("fusion.base_url: must not carry a user or password")
    assert "hunter2" not in problem

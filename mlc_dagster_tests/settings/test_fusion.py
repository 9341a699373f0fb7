"""``fusion:``, the pod and its charts of accounts."""

from typing import Any

import pytest

from mlc_dagster_tests.settings.configuration import ABSENT, problems, settings


@pytest.mark.parametrize("key", ["natural_account", "cost_center", "balancing"])
def test_chart_names_its_own_segments(key: str) -> None:
    """A misspelt segment would be sent to Fusion as a filter on an unknown attribute."""
    [problem] = problems({f"fusion.charts.US1.{key}": "acount"})
    assert f"{key}: 'acount' is not one of the segments" in problem


def test_balancing_segment_is_the_first_unless_named() -> None:
    """By Oracle's convention the company comes first; a chart may differ."""
    assert settings().fusion.charts["US1"].balancing_segment == "entity"
    changed = settings({"fusion.charts.US1.balancing": "department"})
    assert changed.fusion.charts["US1"].balancing_segment == "department"


@pytest.mark.parametrize("delimiter", ["", "--"])
def test_delimiter_is_one_character(delimiter: str) -> None:
    """Combinations are split at it."""
    [problem] = problems({"fusion.charts.US1.delimiter": delimiter})
    assert "must be one character" in problem


def test_posting_user_is_the_client_unless_named() -> None:
    """With client credentials Fusion records the client as creator; that is how our invoices are recognised."""
    assert settings().fusion.posting_user == "mlc"
    assert settings({"fusion.username": "INTEGRATION"}).fusion.posting_user == "INTEGRATION"


OAUTH = ("token_url", "client_id", "client_secret", "scope")
ASSERTION = {
    "fusion.auth": "jwt_assertion",
    "fusion.username": "stampli.integration",
    "fusion.assertion_key": "env:KEY",
    "fusion.certificate_alias": "mlc-2026",
}
BASIC: dict[str, Any] = {
    "fusion.auth": "basic",
    "fusion.username": "stampli.integration",
    "fusion.password": "env:PASSWORD",
    **{f"fusion.{name}": ABSENT for name in OAUTH},
}


def test_each_way_to_sign_in_is_enough_with_its_own_keys() -> None:
    """The posting user is whom the documents will name as their creator."""
    assert settings().fusion.auth == "client_credentials"
    assert settings(ASSERTION).fusion.posting_user == "stampli.integration"
    assert settings({**ASSERTION, "fusion.client_secret": ABSENT}).fusion.client_secret is None
    assert settings(BASIC).fusion.posting_user == "stampli.integration"


@pytest.mark.parametrize(
    ("way", "key"),
    [
        *((ASSERTION, key) for key in ("username", "assertion_key", "certificate_alias", "client_id", "token_url")),
        *((BASIC, key) for key in ("username", "password")),
    ],
)
def test_what_a_way_to_sign_in_needs_is_asked_for_by_key(way: dict[str, Any], key: str) -> None:
    """Found at the first request, it would be a failed run."""
    [problem] = problems({**way, f"fusion.{key}": None})
    assert problem.startswith(f"fusion.{key}: is required and absent")
    assert way["fusion.auth"] in problem


@pytest.mark.parametrize(
    ("way", "key", "value"),
    [
        ({}, "password", "env:PASSWORD"),
        ({}, "assertion_key", "env:KEY"),
        (ASSERTION, "password", "env:PASSWORD"),
        (BASIC, "client_secret", "env:SECRET"),
        (BASIC, "certificate_alias", "mlc"),
    ],
)
def test_what_a_way_to_sign_in_does_not_use_is_refused(way: dict[str, Any], key: str, value: str) -> None:
    """A password beside client credentials looks as if it were used."""
    [problem] = problems({**way, f"fusion.{key}": value})
    assert problem.startswith(f"fusion.{key}: is not used with auth:")


def test_an_unknown_way_to_sign_in_is_one_problem() -> None:
    """Not one for each key that depends on it."""
    [problem] = problems({"fusion.auth": "saml"})
    assert problem.startswith("fusion.auth:")


@pytest.mark.parametrize("key", ["password", "assertion_key", "client_key"])
def test_a_secret_in_place_of_its_reference_is_not_shown(key: str) -> None:
    """Whatever is wrong with it, its shape included."""
    way = {"password": BASIC, "assertion_key": ASSERTION, "client_key": {"fusion.client_certificate": "our.pem"}}[key]
    for value in ("canary", ["canary"], {"canary": "canary"}):
        [problem] = problems({**way, f"fusion.{key}": value})
        assert problem.startswith(f"fusion.{key}")
        assert "canary" not in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fusion.client_certificate": "our.pem"}, "both or neither"),
        ({"fusion.client_key": "env:KEY"}, "both or neither"),
        ({"fusion.client_key_passphrase": "env:PASS"}, "client_key, which is absent"),
    ],
)
def test_a_client_certificate_has_its_key(changes: dict[str, str], words: str) -> None:
    """Half of the pair would send no certificate, and the server's refusal would tell nobody why."""
    [problem] = problems(changes)
    assert words in problem


def test_the_limit_of_an_answer_has_a_least_value() -> None:
    """Below a page's size nothing could be read."""
    assert settings().fusion.max_response_bytes == 64 * 1024 * 1024
    [problem] = problems({"fusion.max_response_bytes": 1000})
    assert problem.startswith("fusion.max_response_bytes")

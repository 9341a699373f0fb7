"""The token endpoint and what a token is good for."""

import base64

import httpx
import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.fusion_caller import Caller, exact, invoice


def ask(fusion: FusionSandbox, *, secret: str | None = None, **form: str) -> httpx.Response:
    fields = {"grant_type": "client_credentials", "scope": fusion.scope} | form
    return httpx.post(fusion.token_url, auth=(fusion.client_id, secret or fusion.client_secret), data=fields)


def test_a_client_gets_a_bearer_token_that_opens_the_resources(fusion: FusionSandbox) -> None:
    """The whole of client credentials: secret in, token out, token accepted."""
    answer = ask(fusion)
    assert answer.status_code == 200
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 3600)
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert httpx.get(f"{fusion.resources_url}/ledgersLOV", headers=headers).status_code == 200


def test_credentials_may_come_as_form_fields(fusion: FusionSandbox) -> None:
    """Both ways of RFC 6749 are in use."""
    form = {"grant_type": "client_credentials", "scope": fusion.scope}
    form |= {"client_id": fusion.client_id, "client_secret": fusion.client_secret}
    assert httpx.post(fusion.token_url, data=form).status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"scope": "urn:other"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_wrong_request_is_refused_as_rfc_6749_says(
    fusion: FusionSandbox, form: dict[str, str], status: int, error: str
) -> None:
    """The client tells a wrong scope from a wrong secret by these words."""
    answer = ask(fusion, **form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_wrong_secret_is_an_invalid_client(fusion: FusionSandbox) -> None:
    """401 and the one error that more attempts cannot cure."""
    answer = ask(fusion, secret="guess")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_body_that_is_not_a_form_is_an_invalid_request(fusion: FusionSandbox) -> None:
    """JSON is the usual mistake."""
    answer = httpx.post(fusion.token_url, json={"grant_type": "client_credentials"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("authorization", [None, "Bearer unknown", "Basic " + base64.b64encode(b"a:b").decode()])
def test_without_a_known_token_the_answer_is_401_and_empty(fusion: FusionSandbox, authorization: str | None) -> None:
    """Fusion's 401 need not carry JSON."""
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.get(f"{fusion.resources_url}/invoices", headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_ends_with_its_lifetime() -> None:
    """Lifetime is a setting so that refreshing can be tested in seconds."""
    with FusionSandbox(Seed(), token_lifetime=0.0) as fusion, Caller(fusion) as caller:
        assert caller.get("invoices").status_code == 401


def test_tokens_can_be_expired_at_once(fusion: FusionSandbox, caller: Caller) -> None:
    """A token that dies early must lead to one refresh, and the next one works."""
    assert caller.get("invoices").status_code == 200
    fusion.expire_tokens()
    assert caller.get("invoices").status_code == 401
    caller.sign_in()
    assert caller.get("invoices").status_code == 200


def test_documents_are_created_by_the_client_id(fusion: FusionSandbox, caller: Caller) -> None:
    """The Fusion user of a client-credentials token is named like the client."""
    assert exact(caller.post(invoice()))["CreatedBy"] == fusion.client_id

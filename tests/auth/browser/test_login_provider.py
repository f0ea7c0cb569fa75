"""A login at a provider: what it is asked, what proves an identity, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr

from registry.auth.browser.attempt import Attempt
from registry.auth.browser.login_provider import LoginProvider, ProviderAnswer
from registry.auth.oidc.documents import Documents
from registry.auth.oidc.endpoints import ProviderEndpoints
from registry.auth.oidc.provider import Provider, Used
from registry.auth.oidc.provider_keys import ProviderKeys
from registry.config.token_sections import LoginSettings, OidcSettings
from registry.oci.errors import Denied, RequestInvalid, Unauthorized, Unavailable
from tests.auth.oidc.server import CLIENT, SECRET, ProviderServer, provider_server

BACK = "https://registry.example.org/auth/callback"
ATTEMPT = Attempt("s" * 43, "sso", "/")


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as made:
        yield made


def login_at(server: ProviderServer, secret: str | None = SECRET, **changes: Any) -> LoginProvider:
    login = LoginSettings(
        client_id=CLIENT, client_secret=None if secret is None else SecretStr(secret), scopes=("openid", "groups")
    )
    fields = {"user": "preferred_username", "groups": "groups", **changes}
    settings = OidcSettings(name="sso", issuer=server.issuer, audiences=("ci",), login=login, **fields)
    documents = Documents()
    keys = ProviderKeys(server.issuer, documents.fetch)
    provider = Provider(settings, keys, Used(frozenset(), frozenset({"sso/dev"})))
    return LoginProvider(settings, login, provider, ProviderEndpoints(server.issuer, documents.fetch), documents)


def come_back(server: ProviderServer, login: LoginProvider, attempt: Attempt = ATTEMPT) -> ProviderAnswer:
    """What a browser brings that has followed the address."""
    asked = dict(parse_qsl(urlsplit(login.address(attempt, BACK)).query))
    answer = dict(parse_qsl(urlsplit(server.authorize(asked)).query))
    return ProviderAnswer(answer.get("code", ""), answer["state"], answer.get("iss", ""), answer.get("error", ""))


def test_a_login_asks_for_a_code_with_everything_that_binds_it_to_the_browser(server: ProviderServer) -> None:
    address = urlsplit(login_at(server).address(ATTEMPT, BACK))
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{server.issuer}/authorize"
    assert dict(parse_qsl(address.query)) == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": BACK,
        "scope": "openid groups",
        "state": ATTEMPT.state,
        "nonce": ATTEMPT.nonce,
        "code_challenge": ATTEMPT.challenge,
        "code_challenge_method": "S256",
    }
    assert ATTEMPT.secret not in address.query
    assert ATTEMPT.verifier not in address.query


@pytest.mark.parametrize("in_body", [False, True])
def test_a_code_proves_an_identity(server: ProviderServer, in_body: bool) -> None:
    server.secret_in_body = in_body
    login = login_at(server)
    identity = login.identify(come_back(server, login), ATTEMPT, BACK)
    assert (identity.who, set(identity.groups)) == ("oidc:sso/alice", {"sso/dev"})
    assert identity.credential == login.version


def test_a_code_is_of_use_once_and_for_the_browser_and_address_that_asked_for_it(server: ProviderServer) -> None:
    login = login_at(server)
    answer = come_back(server, login)
    login.identify(answer, ATTEMPT, BACK)
    cases = [
        (answer, ATTEMPT, BACK),
        (come_back(server, login), ATTEMPT._replace(secret="x" * 43), BACK),
        (come_back(server, login), ATTEMPT, BACK + "x"),
        (answer._replace(code="unknown"), ATTEMPT, BACK),
    ]
    for again, attempt, back in cases:
        with pytest.raises(RequestInvalid):
            login.identify(again, attempt, back)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "ci"},
        {"aud": [CLIENT, "other"]},
        {"aud": [CLIENT, "other"], "azp": "other"},
        {"azp": "other"},
        {"iss": "https://issuer.example.org"},
        {"exp": 1},
        {"preferred_username": None},
    ],
)
def test_an_id_token_that_is_not_of_this_login_proves_nothing(server: ProviderServer, claims: dict[str, Any]) -> None:
    server.user |= claims
    login = login_at(server)
    with pytest.raises(Unauthorized):
        login.identify(come_back(server, login), ATTEMPT, BACK)


@pytest.mark.parametrize("claims", [{"aud": [CLIENT]}, {"azp": CLIENT}, {"aud": [CLIENT, "other"], "azp": CLIENT}])
def test_an_id_token_may_name_the_client_in_every_form(server: ProviderServer, claims: dict[str, Any]) -> None:
    server.user |= claims
    login = login_at(server)
    assert login.identify(come_back(server, login), ATTEMPT, BACK).who == "oidc:sso/alice"


def test_the_answer_of_another_provider_is_refused_before_its_code_goes_anywhere(server: ProviderServer) -> None:
    login = login_at(server)
    answer = come_back(server, login)
    asked = len(server.asked)
    with pytest.raises(RequestInvalid, match="another"):
        login.identify(answer._replace(issuer="https://evil.example.org"), ATTEMPT, BACK)
    assert len(server.asked) == asked
    assert login.identify(answer._replace(issuer=server.issuer), ATTEMPT, BACK).who == "oidc:sso/alice"


@pytest.mark.parametrize(("error", "said"), [("access_denied", "access_denied"), ("<script>", "no reason")])
def test_a_user_that_the_provider_refuses_is_told_so_in_words_of_the_standard(
    server: ProviderServer, error: str, said: str
) -> None:
    server.refuses = error
    login = login_at(server)
    with pytest.raises(Denied, match=said):
        login.identify(come_back(server, login), ATTEMPT, BACK)


def test_a_provider_that_is_down_or_knows_no_such_client_is_unavailable(server: ProviderServer) -> None:
    login = login_at(server)
    answer = come_back(server, login)
    server.is_up = False
    with pytest.raises(Unavailable):
        login.identify(answer, ATTEMPT, BACK)
    with pytest.raises(Unavailable):
        login_at(server).address(ATTEMPT, BACK)
    server.is_up = True
    for secret in ("wrong", None):
        wrong = login_at(server, secret)
        with pytest.raises(Unavailable):
            wrong.identify(come_back(server, wrong), ATTEMPT, BACK)


def test_settings_that_make_other_identities_have_another_version(server: ProviderServer) -> None:
    changes: list[dict[str, Any]] = [{}, {"user": "sub"}, {"groups": None}, {"as_users": True}, {"as_groups": True}]
    assert len({login_at(server, **change).version for change in changes}) == len(changes)
    assert login_at(server, "another").version == login_at(server).version

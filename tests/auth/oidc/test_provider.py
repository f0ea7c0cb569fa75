"""Tokens of providers: those of CI and clusters prove an identity, and a stranger's proves what it is and no more.

Check 14.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from registry.auth.identity import Kind
from registry.auth.jwt import Jwt
from registry.auth.oidc.documents import Documents
from registry.auth.oidc.kept import LOOK_AGAIN
from registry.auth.oidc.provider import Provider, Used
from registry.auth.oidc.provider_keys import ProviderKeys
from registry.config.token_sections import OidcSettings
from registry.oci.errors import Unauthorized, Unavailable
from tests.auth.oidc.server import AUDIENCE, ProviderServer, provider_server
from tests.auth.signing import ec, forged, rsa, signed

USED = Used(
    frozenset({"repository_id", "ref", "project_path", "ref_protected", "kubernetes.io/namespace", "roles"}),
    frozenset({"sso/dev", "sso/ops", "dev"}),
)


class Clock:
    """The time of the machine, and what a test adds to it."""

    added = 0.0

    def __call__(self) -> float:
        return time.time() + self.added


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def provider(server: ProviderServer, clock: Clock, **settings: Any) -> Provider:
    given: dict[str, Any] = {"name": "sso", "audiences": [AUDIENCE], **settings}
    keys = ProviderKeys(server.issuer, Documents().fetch, clock)
    return Provider(OidcSettings(issuer=server.issuer, **given), keys, USED)


def test_a_job_of_github_is_its_repository(server: ProviderServer, clock: Clock) -> None:
    found, until = provider(server, clock, name="github", user="repository").identify(Jwt.parse(server.github()))
    assert (found.kind, found.name, found.who) == (Kind.OIDC, "github/octo/app", "oidc:github/octo/app")
    assert found.claims == {"repository_id": "123456", "ref": "refs/heads/main"} | {"ref_protected": "true"}
    assert 0 < until - time.time() <= 300


def test_a_job_of_gitlab_is_its_project_also_with_keys_of_elliptic_curves(server: ProviderServer, clock: Clock) -> None:
    server.keys = [ec(), rsa()]
    found = provider(server, clock, name="gitlab", user="project_path").identify(Jwt.parse(server.gitlab())).identity
    assert found.who == "oidc:gitlab/team/app"
    assert found.claims == {"project_path": "team/app", "ref_protected": "true", "ref": "main"}


def test_a_pod_of_kubernetes_is_its_service_account(server: ProviderServer, clock: Clock) -> None:
    found = provider(server, clock, name="cluster").identify(Jwt.parse(server.kubernetes())).identity
    assert found.who == "oidc:cluster/system:serviceaccount:team-a:deployer"
    assert found.claims == {"kubernetes.io/namespace": "team-a"}


@pytest.mark.parametrize(
    ("claimed", "settings", "expected"),
    [
        (["dev", "guests"], {}, {"sso/dev"}),
        (["dev", "sso/ops", "ops"], {}, {"sso/dev", "sso/ops"}),
        ("dev", {}, {"sso/dev"}),
        (["dev"], {"as_groups": True}, {"dev"}),
        ([], {}, set()),
        (None, {}, set()),
        ({"dev": True}, {}, set()),
    ],
)
def test_groups_are_those_of_the_token_that_rules_name(
    server: ProviderServer, clock: Clock, claimed: Any, settings: dict[str, Any], expected: set[str]
) -> None:
    token = Jwt.parse(server.token(groups=claimed))
    assert provider(server, clock, groups="groups", **settings).identify(token).identity.groups == expected
    assert provider(server, clock, **settings).identify(token).identity.groups == set()


def test_a_provider_may_name_users_as_our_own(server: ProviderServer, clock: Clock) -> None:
    trusted = provider(server, clock, user="preferred_username", as_users=True)
    assert trusted.identify(Jwt.parse(server.token(preferred_username="alice"))).identity.who == "alice"
    for name in ("anonymous", "authenticated", "group:ops", "key:0f3a", "oidc:sso"):
        with pytest.raises(Unauthorized):
            trusted.identify(Jwt.parse(server.token(preferred_username=name)))


@pytest.mark.parametrize("user", [None, "", "a\nb", "x" * 256, ["alice"], {"name": "alice"}])
def test_a_token_that_names_no_user_is_refused(server: ProviderServer, clock: Clock, user: Any) -> None:
    with pytest.raises(Unauthorized):
        provider(server, clock, user="login").identify(Jwt.parse(server.token(login=user)))


def test_a_token_of_another_audience_issuer_or_time_is_refused(server: ProviderServer, clock: Clock) -> None:
    now = int(time.time())
    for claims in (
        {"aud": "elsewhere"},
        {"aud": None},
        {"iss": "https://issuer.example.org"},
        {"exp": now - 61},
        {"exp": None},
        {"nbf": now + 300},
    ):
        with pytest.raises(Unauthorized):
            provider(server, clock).identify(Jwt.parse(server.token(**claims)))


def test_a_token_that_another_key_signed_is_refused(server: ProviderServer, clock: Clock) -> None:
    trusted = provider(server, clock)
    claims = dict(Jwt.parse(server.token()).claims)
    for text in (
        signed(rsa(1), "RS256", claims, kid="rsa-0"),
        signed(rsa(1), "RS256", claims, kid="rsa-0", jwk=rsa(1).as_dict(private=False)),
        forged({"alg": "HS256", "kid": "rsa-0"}, claims, rsa().as_pem(private=False)),
        forged({"alg": "none", "kid": "rsa-0"}, claims),
    ):
        with pytest.raises(Unauthorized):
            trusted.identify(Jwt.parse(text))


def test_a_key_that_the_provider_has_changed_is_found(server: ProviderServer, clock: Clock) -> None:
    trusted = provider(server, clock)
    trusted.identify(Jwt.parse(server.token()))
    server.keys = [rsa(1)]
    clock.added = LOOK_AGAIN
    assert trusted.identify(Jwt.parse(server.token())).identity.name == "sso/subject"


def test_a_thousand_tokens_with_unknown_keys_ask_the_provider_once(server: ProviderServer, clock: Clock) -> None:
    trusted = provider(server, clock)
    trusted.identify(Jwt.parse(server.token()))
    clock.added = LOOK_AGAIN
    asked = len(server.asked)
    claims = dict(Jwt.parse(server.token()).claims)
    for number in range(1000):
        with pytest.raises(Unauthorized):
            trusted.identify(Jwt.parse(forged({"alg": "RS256", "kid": f"unknown-{number}"}, claims)))
    assert len(server.asked) - asked <= 2, "the discovery document and the keys"


def test_kept_keys_are_used_while_the_provider_is_down_and_without_any_callers_come_again(
    server: ProviderServer, clock: Clock
) -> None:
    before, after = provider(server, clock), provider(server, clock)
    token = Jwt.parse(server.token())
    before.identify(token)
    server.is_up = False
    clock.added = 7200
    assert before.identify(token).identity.name == "sso/subject"
    with pytest.raises(Unavailable):
        after.identify(token)

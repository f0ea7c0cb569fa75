"""A mirror logs in as seldom as it can, and shows its credentials to its own upstream alone.

These are checks 19, 20 and 23 of mirrors.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from registry.observability.metrics.instruments import Instruments
from registry.observability.metrics.upstream_metrics import UpstreamMetrics
from registry.upstream.authenticator import Permit
from registry.upstream.credentials.credential import Credential
from registry.upstream.errors import AddressRefused, AnswerInvalid, TokenUnavailable, UpstreamDenied
from registry.upstream.token_service import LARGEST
from registry.upstream.tokens import TokenCache
from tests.upstream.hostile import Handler, HostileServer, redirect, upstream_of, whole

SCOPE = "repository:team/app:pull"
SECRET = "correct-horse"
BASIC = "Basic " + b64encode(f"user:{SECRET}".encode()).decode()
PATH = "/v2/team/app/manifests/1"


class Registry:
    """Wants a token that its token service has given, and gives ever new ones."""

    def __init__(self, server: HostileServer, realm: str = "") -> None:
        self.server = server
        self.realm = realm or f"{server.url()}/token"
        self.users = {"", BASIC}
        """What the token service lets in; an empty text is a caller without credentials."""
        self.good: set[str] = set()
        self.document: dict[str, Any] = {"expires_in": 300}
        self.challenge = f'Bearer realm="{self.realm}",service="registry.example.org",scope="{SCOPE}"'
        server.replies[PATH] = self.content
        server.replies["/token"] = self.token

    def content(self, handler: Handler) -> None:
        if handler.headers.get("Authorization", "").removeprefix("Bearer ") in self.good:
            handler.answer(200, b"content")
        else:
            handler.answer(401, b"no", WWW_Authenticate=self.challenge)

    def token(self, handler: Handler) -> None:
        authorization = handler.headers.get("Authorization", "")
        if authorization not in self.users:
            return handler.answer(401)
        with self.server.lock:
            token = f"token-{len(self.good)}-{'private' if authorization else 'anonymous'}"
            self.good.add(token)
        return handler.answer(200, json.dumps({"token": token, **self.document}).encode())

    def asked(self) -> Counter[str]:
        return Counter(urlsplit(path).path for path in self.server.paths())


@pytest.fixture
def registry(server: HostileServer) -> Registry:
    return Registry(server)


@pytest.fixture
def private(tmp_path: Path) -> dict[str, Any]:
    """The key of the settings with credentials."""
    (tmp_path / "password").write_text(SECRET + "\n")
    return {"credentials": {"kind": "basic", "username": "user", "password_file": tmp_path / "password"}}


def test_a_token_is_asked_for_once_and_shown_from_then_on(registry: Registry, private: dict[str, Any]) -> None:
    with upstream_of(registry.server.url(), **private) as upstream:
        for _ in range(3):
            assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    assert registry.asked() == {PATH: 4, "/token": 1}
    asked = next(seen for seen in registry.server.seen if seen.path.startswith("/token"))
    assert parse_qs(urlsplit(asked.path).query) == {"service": ["registry.example.org"], "scope": [SCOPE]}
    assert asked.headers["authorization"] == BASIC
    assert all(BASIC not in seen.headers.values() for seen in registry.server.seen if seen is not asked)


def test_a_public_upstream_is_asked_without_credentials(registry: Registry) -> None:
    registry.document = {"token": None, "access_token": "other"}
    registry.good.add("other")
    with upstream_of(registry.server.url()) as upstream:
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    asked = next(seen for seen in registry.server.seen if seen.path.startswith("/token"))
    assert "authorization" not in asked.headers


def test_the_scope_of_the_request_counts_where_a_challenge_has_none(registry: Registry) -> None:
    registry.challenge = f"Bearer realm={registry.realm}?a=b"
    with upstream_of(registry.server.url()) as upstream:
        upstream.request("GET", PATH, scope=f"{SCOPE} registry:catalog:*").close()
    asked = next(path for path in registry.server.paths() if path.startswith("/token"))
    assert parse_qs(urlsplit(asked).query) == {"a": ["b"], "scope": [SCOPE, "registry:catalog:*"]}


def test_many_threads_are_one_login(registry: Registry, private: dict[str, Any]) -> None:
    barrier = threading.Barrier(16)
    make = Instruments()

    def ask(_: int) -> bytes:
        barrier.wait()
        return upstream.request("GET", PATH, scope=SCOPE).document(10, 30)

    with (
        upstream_of(registry.server.url(), metrics=UpstreamMetrics(make), **private) as upstream,
        ThreadPoolExecutor(16) as pool,
    ):
        assert set(pool.map(ask, range(16))) == {b"content"}
    assert registry.asked()["/token"] == 1
    assert 'registry_upstream_logins_total{mirror="hub",result="given"} 1.0' in make.render().decode()


def test_a_token_that_is_not_good_any_more_is_replaced_once(registry: Registry, private: dict[str, Any]) -> None:
    with upstream_of(registry.server.url(), **private) as upstream:
        upstream.request("GET", PATH, scope=SCOPE).close()
        registry.good.clear()
        registry.good.add("another so that names differ")
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    assert registry.asked() == {PATH: 4, "/token": 2}


def test_a_new_token_that_is_refused_is_the_end(registry: Registry, private: dict[str, Any]) -> None:
    registry.server.replies[PATH] = whole(401, b"no", WWW_Authenticate=registry.challenge)
    with upstream_of(registry.server.url(), **private) as upstream:
        with pytest.raises(UpstreamDenied, match="refuses a new token"):
            upstream.request("GET", PATH, scope=SCOPE)
        assert registry.asked() == {PATH: 2, "/token": 1}
        with pytest.raises(UpstreamDenied):
            upstream.request("GET", PATH, scope=SCOPE)
    assert registry.asked() == {PATH: 4, "/token": 2}


def test_an_upstream_that_challenges_for_ever_is_given_up(registry: Registry) -> None:
    numbers = iter(range(100))

    def challenge(handler: Handler) -> None:
        handler.answer(401, WWW_Authenticate=f'Bearer realm="{registry.realm}?{next(numbers)}"')

    registry.server.replies[PATH] = challenge
    with upstream_of(registry.server.url()) as upstream, pytest.raises(UpstreamDenied):
        upstream.request("GET", PATH, scope=SCOPE)
    assert registry.asked()[PATH] == 3


def test_two_mirrors_of_one_upstream_have_their_own_rights(registry: Registry, private: dict[str, Any]) -> None:
    registry.users.remove("")
    tokens = TokenCache()
    with (
        upstream_of(registry.server.url(), name="private", tokens=tokens, **private) as first,
        upstream_of(registry.server.url(), name="public", tokens=tokens) as second,
        upstream_of(registry.server.url(), name="private", tokens=tokens) as third,
    ):
        assert first.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
        for upstream in (second, third):  # another mirror, and the same one without its credentials
            with pytest.raises(UpstreamDenied):
                upstream.request("GET", PATH, scope=SCOPE)


def test_a_changed_password_takes_effect_without_a_restart(registry: Registry, private: dict[str, Any]) -> None:
    file: Path = private["credentials"]["password_file"]
    file.write_text("old")
    with upstream_of(registry.server.url(), **private) as upstream:
        with pytest.raises(TokenUnavailable, match="refuses the credentials"):
            upstream.request("GET", PATH, scope=SCOPE)
        file.write_text(SECRET)
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"


def test_a_realm_that_limits_or_fails_is_not_asked_again_by_each_caller(registry: Registry) -> None:
    registry.server.replies["/token"] = whole(429, Retry_After="120")
    with upstream_of(registry.server.url()) as upstream:
        for _ in range(3):
            with pytest.raises(TokenUnavailable, match="429") as raised:
                upstream.request("GET", PATH, scope=SCOPE)
            assert raised.value.seconds == 120
    assert registry.asked()["/token"] == 1


@pytest.mark.parametrize(
    "reply",
    [
        whole(200, b"{}"),
        whole(200, b"no JSON"),
        whole(200, b"[]"),
        whole(200, b'{"token": 5}'),
        whole(200, b'{"token": ""}'),
        whole(200, b'{"token": "a\\r\\nHost: x"}'),
        whole(200, b'{"token": "\xc3\xa9"}'),
        whole(200, b'{"token": "' + b"x" * LARGEST + b'"}'),
        whole(200, b'{"token": "x"}', Content_Encoding="gzip"),
        whole(302, b""),
        whole(404, b""),
        whole(500, b""),
        lambda handler: handler.cut(),
    ],
)
def test_a_token_service_without_a_token_says_nothing_about_the_content(registry: Registry, reply: Any) -> None:
    registry.server.replies["/token"] = reply
    with upstream_of(registry.server.url()) as upstream, pytest.raises(TokenUnavailable):
        upstream.request("GET", PATH, scope=SCOPE)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_service_that_refuses_the_scope_denies_it(registry: Registry, status: int) -> None:
    registry.server.replies["/token"] = whole(status)
    with upstream_of(registry.server.url()) as upstream, pytest.raises(UpstreamDenied):
        upstream.request("GET", PATH, scope=SCOPE)


@pytest.mark.parametrize("seconds", [5, 0.5, "x", -1, None, True])
def test_a_token_lives_as_long_as_it_says(registry: Registry, seconds: Any) -> None:
    registry.document = {"expires_in": seconds}
    with upstream_of(registry.server.url()) as upstream:
        upstream.request("GET", PATH, scope=SCOPE).close()
        held = next(iter(upstream._login._tokens._tokens.values())).get()
    expected = seconds if isinstance(seconds, int | float) and seconds > 0 and seconds is not True else 60
    assert held.ends - held.begun == pytest.approx(expected)


def test_a_realm_elsewhere_sees_no_credentials(
    server: HostileServer, other: HostileServer, private: dict[str, Any]
) -> None:
    registry = Registry(server, f"{other.url('auth.example.org')}/token")
    other.replies["/token"] = registry.token
    with (
        upstream_of(server.url(), allowed_hosts=["127.0.0.0/8"], **private) as upstream,
        pytest.raises(TokenUnavailable, match="token_hosts") as raised,
    ):
        upstream.request("GET", PATH, scope=SCOPE)
    assert SECRET not in str(raised.value)
    assert not other.seen
    with upstream_of(server.url(), token_hosts=["auth.example.org"], **private) as upstream:
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    assert [seen.headers.get("authorization") for seen in other.seen] == [BASIC]


def test_a_realm_in_the_private_network_is_refused(server: HostileServer, other: HostileServer) -> None:
    Registry(server, f"{other.url('auth.example.org')}/token")
    with upstream_of(server.url()) as upstream, pytest.raises(AddressRefused):
        upstream.request("GET", PATH, scope=SCOPE)
    assert not other.connections


def test_a_token_service_that_redirects_elsewhere_does_not_pass_the_credentials_on(
    server: HostileServer, other: HostileServer, private: dict[str, Any]
) -> None:
    registry = Registry(server)
    server.replies["/token"] = redirect(f"{other.url('cdn.example.org')}/token")
    other.replies["/token"] = registry.token
    with upstream_of(server.url(), allowed_hosts=["127.0.0.0/8"], **private) as upstream:
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    assert "authorization" not in other.seen[0].headers


def test_a_redirect_of_the_content_does_not_pass_the_token_on(
    server: HostileServer, other: HostileServer, private: dict[str, Any]
) -> None:
    registry = Registry(server)
    other.replies["/x"] = whole(200, b"far")

    def content(handler: Handler) -> None:
        if "Authorization" not in handler.headers:
            return registry.content(handler)
        return redirect(f"{other.url('cdn.example.org')}/x")(handler)

    server.replies[PATH] = content
    with upstream_of(server.url(), allowed_hosts=["127.0.0.0/8"], **private) as upstream:
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"far"
        other.replies["/x"] = whole(401, WWW_Authenticate=registry.challenge)
        with pytest.raises(UpstreamDenied):
            upstream.request("GET", PATH, scope=SCOPE)
    assert all("authorization" not in seen.headers for seen in other.seen)
    assert registry.asked()["/token"] == 1


def test_a_password_is_shown_where_an_upstream_wants_one(server: HostileServer, private: dict[str, Any]) -> None:
    def content(handler: Handler) -> None:
        if handler.headers.get("Authorization") == BASIC:
            handler.answer(200, b"content")
        else:
            handler.answer(401, WWW_Authenticate='Basic realm="x"')

    server.replies[PATH] = content
    with upstream_of(server.url(), **private) as upstream:
        for _ in range(2):
            assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
        server.replies[PATH] = whole(401, WWW_Authenticate='Basic realm="x"')
        with pytest.raises(TokenUnavailable, match="refuses the credentials"):
            upstream.request("GET", PATH, scope=SCOPE)
    assert len(server.seen) == 4


def test_a_token_is_preferred_to_a_password(registry: Registry, private: dict[str, Any]) -> None:
    registry.challenge = f'Basic realm="x", {registry.challenge}'
    with upstream_of(registry.server.url(), **private) as upstream:
        assert upstream.request("GET", PATH, scope=SCOPE).document(10, 5) == b"content"
    assert all(seen.headers.get("authorization") != BASIC for seen in registry.server.seen if seen.path == PATH)


@pytest.mark.parametrize("realm", ["", "/token", "ftp://auth.example.org/", "https://user:x@auth.example.org/"])
def test_a_realm_that_is_no_address_is_told(registry: Registry, realm: str) -> None:
    registry.challenge = f'Bearer realm="{realm}"'
    with upstream_of(registry.server.url()) as upstream, pytest.raises(AnswerInvalid, match="token service"):
        upstream.request("GET", PATH, scope=SCOPE)


def test_no_text_of_what_is_shown_has_a_secret() -> None:
    credential = Credential("user", SECRET)
    assert SECRET not in f"{credential!r} {credential} {Permit(BASIC, credential)!r}"
    assert BASIC not in repr(Permit(BASIC, credential))

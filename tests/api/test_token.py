"""The token endpoint, as each client asks it."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from registry.api.http.small_body import FORM
from registry.api.token import EXCHANGE, MAX_BODY
from registry.auth.credentials import Basic
from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.issuers import Issuers
from registry.auth.jwt import Jwt
from registry.auth.key_source import KeyFile
from registry.auth.oidc.provider import Provider, Used
from registry.auth.tokens.bearer import Bearer
from registry.auth.tokens.service import TokenService
from registry.auth.tokens.signing_keys import DatabaseKeys
from registry.auth.tokens.token import ACCESS, Tokens
from registry.config.token_sections import OidcSettings
from registry.oci.errors import Unauthorized
from tests.api.asgi import Exchange
from tests.api.service import Reply, Service, serving
from tests.auth.signing import jwks, rsa, signed
from tests.auth.tokens.test_bearer import ALICE, People
from tests.auth.tokens.test_scopes import CASES

RIGHTS = {"anonymous": {"pull"}, "alice": {"pull", "push"}, "oidc:ci/team/app": {"push"}}
"""What each has in repositories below ``app``."""
FAR = 4_000_000_000


class Place:
    """A service with a token endpoint of which alice has the password "secret"."""

    def __init__(self, service: Service, directory: Path, *, with_refresh: bool) -> None:
        self.service = service
        self.people = People()
        self.addresses: list[str | None] = []
        self.tokens = Tokens(DatabaseKeys(service.registry.backends.database), "registry.test", 3600)
        bearer = Bearer(self.tokens, self.people, ["ci"])
        (directory / "keys").write_bytes(jwks(rsa()))
        settings = OidcSettings(name="ci", issuer="https://ci", audiences=("registry",), user="project")
        provider = Provider(settings, KeyFile(directory / "keys"), Used(frozenset(), frozenset()))
        issuers = Issuers(bearer, None, [provider])
        service.context.token_service = TokenService(issuers, self.authenticate, self.allows, with_refresh=with_refresh)

    def allows(self, identity: Identity, action: str, repository: str) -> bool:
        return repository.startswith("app") and action in RIGHTS.get(identity.who, ())

    async def authenticate(self, credentials: Basic, address: str | None) -> Identity:
        self.addresses.append(address)
        if credentials != Basic("alice", "secret"):
            raise Unauthorized("the user or the password is wrong")
        return ALICE

    def get(self, *parameters: tuple[str, str], basic: str | None = None, **headers: str) -> Reply:
        if basic is not None:
            headers["Authorization"] = f"Basic {b64encode(basic.encode()).decode()}"
        return self.service.call("GET", f"/auth/token?{urlencode(parameters)}", headers=headers)

    def post(self, *fields: tuple[str, str], content_type: str = FORM) -> Reply:
        return self.service.call("POST", "/auth/token", urlencode(fields).encode(), {"Content-Type": content_type})

    def access(self, reply: Reply) -> list[str]:
        """The scopes of the token in a reply."""
        assert reply.status == 200, reply
        return [str(scope) for scope in self.tokens.read(reply.json["token"], ACCESS).access]

    def identity(self, reply: Reply) -> Identity:
        assert reply.status == 200, reply
        return self.tokens.read(reply.json["token"], ACCESS).identity


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("token")
    with serving(directory) as service:
        yield Place(service, directory, with_refresh=False)


@pytest.fixture(scope="module")
def refreshing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("refreshing")
    with serving(directory) as service:
        yield Place(service, directory, with_refresh=True)


@pytest.mark.parametrize("minutes", [-10, 0, 10])
def test_a_client_whose_clock_is_wrong_uses_a_token_for_as_long_as_it_is_good(place: Place, minutes: int) -> None:
    """As docker and skopeo do it: from `issued_at` on where a reply has it, else from their own clock (check 11)."""
    reply = place.get(("scope", "repository:app:pull"), basic="alice:secret")
    clock = time.time() + minutes * 60
    begins = datetime.fromisoformat(reply.json["issued_at"]).timestamp() if "issued_at" in reply.json else clock
    assert begins + reply.json["expires_in"] == clock + 3600
    headers = {"Authorization": f"Bearer {reply.json['token']}"}
    assert place.service.call("GET", "/v2/", headers=headers).status == 200


PASSWORD = (("grant_type", "password"), ("username", "alice"), ("password", "secret"))


def test_a_reply_has_the_token_twice_its_life_and_what_it_allows_and_nothing_else(place: Place) -> None:
    reply = place.get(("scope", "repository:app:pull,push,delete"), ("service", "x"), basic="alice:secret")
    assert reply.json.keys() == {"token", "access_token", "expires_in", "scope"}
    assert reply.json["token"] == reply.json["access_token"]
    assert reply.json["expires_in"] == 3600
    assert reply.json["scope"] == "repository:app:pull,push"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"
    assert not reply.headers.keys() & {"set-cookie", "access-control-allow-origin"}


def test_less_than_was_asked_is_no_error_and_nothing_is_none_either(place: Place) -> None:
    assert place.access(place.get(("scope", "repository:app:push,pull"))) == ["repository:app:pull"]
    assert place.access(place.get(("scope", "repository:other:pull"), basic="alice:secret")) == []
    assert place.access(place.get(basic="alice:secret")) == []


SCOPES = [
    [],
    ["repository:app:pull"],
    ["repository:app:pull,push", "repository:app/b:pull"],
    ["repository:app:*"],
    ["repository(plugin):app:pull"],
    ["repository:host:5000/app:pull", "repository:app:pull"],
    ["repository:app:delete"],
    ["registry:catalog:*", "repository:app:pull,push,delete"],
    ["repository:app:pull", "repository:app:push"],
    ["", "nothing", "repository:app"],
    [f"repository:app{number}:pull" for number in range(200)],
    *([each.replace(":a", ":app")] for each in CASES),
]


@pytest.mark.parametrize("scopes", SCOPES, ids=range(len(SCOPES)))
def test_each_way_of_asking_gets_the_same(place: Place, scopes: list[str]) -> None:
    """Check 5."""
    repeated, spaced = [("scope", scope) for scope in scopes], [("scope", " ".join(scopes))]
    expected = place.access(place.get(*repeated, basic="alice:secret"))
    assert place.access(place.get(*spaced, basic="alice:secret")) == expected
    assert place.access(place.post(*PASSWORD, *repeated)) == expected
    assert place.access(place.post(*PASSWORD, *spaced)) == expected


def test_a_caller_without_credentials_gets_a_token_too(place: Place) -> None:
    for reply in (
        place.get(("scope", "repository:app:pull")),
        place.get(("scope", "repository:app:pull"), basic=":"),
        place.post(("grant_type", "password"), ("username", ""), ("password", ""), ("scope", "repository:app:pull")),
    ):
        assert place.identity(reply) == ANONYMOUS
        assert place.access(reply) == ["repository:app:pull"]


def test_a_wrong_password_is_401_with_a_challenge_for_the_password(place: Place) -> None:
    for reply in (
        place.get(basic="alice:wrong"),
        place.post(("grant_type", "password"), ("username", "alice"), ("password", "wrong")),
        place.post(("grant_type", "password"), ("username", "alice")),
    ):
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
        assert reply.headers["www-authenticate"].startswith("Basic ")
        assert reply.headers["cache-control"] == "no-store"
    assert place.addresses[-1] == "127.0.0.1", "the throttle counts by address"


def test_a_token_buys_no_other(place: Place, refreshing: Place) -> None:
    token = place.get(basic="alice:secret").json["token"]
    for reply in (
        place.get(Authorization=f"Bearer {token}"),
        place.get(basic=f"alice:{token}"),
        place.post(("grant_type", "refresh_token"), ("refresh_token", token)),
        place.post(("grant_type", EXCHANGE), ("subject_token", token)),
    ):
        assert reply.status == 401
    token = refreshing.get(basic="alice:secret").json["token"]
    assert refreshing.post(("grant_type", "refresh_token"), ("refresh_token", token)).status == 401


def test_there_is_no_refresh_token_unless_it_is_configured(place: Place, refreshing: Place) -> None:
    by_get, by_post = (("offline_token", "true"), ("access_type", "offline"))
    assert "refresh_token" not in place.get(by_get, basic="alice:secret").json
    assert "refresh_token" not in place.post(*PASSWORD, by_post).json
    found = refreshing.get(by_get, basic="alice:secret").json["refresh_token"]
    assert place.post(("grant_type", "refresh_token"), ("refresh_token", found)).status == 401
    assert "refresh_token" not in refreshing.get(by_get).json, "an anonymous caller has nothing to keep"


def test_a_refresh_token_is_good_again_and_again_until_the_password_changes(refreshing: Place) -> None:
    found = refreshing.post(*PASSWORD, ("access_type", "offline")).json["refresh_token"]
    asking = (("grant_type", "refresh_token"), ("refresh_token", found), ("scope", "repository:app:pull"))
    for _ in range(3):
        reply = refreshing.post(*asking)
        assert refreshing.access(reply) == ["repository:app:pull"]
        assert "refresh_token" not in reply.json
    refreshing.people.found[Kind.USER, "alice"] = Identity(Kind.USER, "alice", credential="changed")
    assert refreshing.post(*asking).status == 401
    refreshing.people.found[Kind.USER, "alice"] = ALICE


def test_a_token_of_an_identity_provider_is_exchanged(place: Place) -> None:
    claims = {"iss": "https://ci", "aud": "registry", "project": "team/app", "exp": FAR}
    fields = (("grant_type", EXCHANGE), ("scope", "repository:app:pull,push"))
    reply = place.post(*fields, ("subject_token", signed(rsa(), "RS256", claims)))
    assert place.identity(reply).who == "oidc:ci/team/app"
    assert place.access(reply) == ["repository:app:push"]
    assert reply.json["token_type"] == "Bearer"
    for text in ("", "secret", signed(rsa(), "RS256", claims | {"aud": "other"})):
        assert place.post(*fields, ("subject_token", text)).status == 401


@pytest.mark.parametrize("grant_type", ["", "authorization_code", "client_credentials", "PASSWORD"])
def test_a_grant_that_there_is_not_is_400_so_that_clients_ask_by_get(place: Place, grant_type: str) -> None:
    reply = place.post(("grant_type", grant_type))
    assert (reply.status, reply.code, reply.json["error"]) == (400, "UNSUPPORTED", "unsupported_grant_type")
    assert place.post().status == 400


def test_a_form_that_cannot_be_read_is_400(place: Place) -> None:
    call, form = place.service.call, {"Content-Type": FORM}
    for reply in (
        place.post(*PASSWORD, content_type="application/json"),
        place.post(*PASSWORD, ("password", "other")),
        call("POST", "/auth/token", b"grant_type=password&username=%ff", form),
        call("POST", "/auth/token", b"\xff", form),
        call("POST", "/auth/token", b"a&" * 2000, form),
        call("POST", "/auth/token", b"a" * (MAX_BODY + 1), form),
        call("POST", "/auth/token", [b"a" * MAX_BODY, b"a"], form),
    ):
        assert (reply.status, reply.json["error"]) == (400, "invalid_request")


class Stalled(Exchange):
    """A request whose body never ends: a byte comes again and again."""

    async def _receive(self) -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"a", "more_body": True}


def test_a_form_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    with serving(tmp_path, {"http": {"idle_timeout": 0.2}}) as service:
        Place(service, tmp_path, with_refresh=False)
        exchange = Stalled("POST", "/auth/token", [b"a"], [("Content-Type", FORM)], "127.0.0.1")
        service.run(exchange.run(service.observation))
        assert exchange.status == 408


def test_two_authorization_headers_are_400(place: Place) -> None:
    lines = [("Authorization", "Basic Og=="), ("Authorization", "Basic YWxpY2U6c2VjcmV0")]
    assert place.service.call("GET", "/auth/token", headers=lines).status == 400


def test_a_token_never_says_when_it_was_issued_outside_of_itself(place: Place) -> None:
    reply: dict[str, Any] = place.get(basic="alice:secret").json
    assert "issued_at" not in reply
    assert Jwt.parse(reply["token"]).claims["iat"]


def test_without_authentication_there_is_no_such_endpoint(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        assert service.call("GET", "/auth/token").status == 404
        assert service.call("POST", "/auth/token", b"grant_type=password", {"Content-Type": FORM}).status == 404

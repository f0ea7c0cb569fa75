"""Wrong tokens at every door: each is refused, and for none does a request leave the registry (check 13)."""

from __future__ import annotations

import socket
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from joserfc.jwk import OctKey

from registry.api.guard import SERVICE
from registry.api.http.small_body import FORM
from registry.api.token import EXCHANGE
from registry.auth.jwt import Jwt
from registry.auth.tokens.signing_keys import FileKeys
from tests.api.service import Reply, Service, serving
from tests.api.test_guard import PASSWORDS, RULES, basic, write_users
from tests.auth.oidc.server import AUDIENCE, ProviderServer, provider_server
from tests.auth.signing import ec, forged, rsa, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUBLIC = "/v2/public/app/tags/list"
SECRET = b"k" * 32
OURS = OctKey.import_key(SECRET)


class Place:
    """A registry that signs with a secret and believes a provider, whose keys it has; two good tokens."""

    def __init__(self, service: Service, provider: ProviderServer, key_id: str) -> None:
        self.service = service
        self.provider = provider
        reply = service.call("GET", "/auth/token", headers={"Authorization": basic("alice", PASSWORDS["alice"])})
        self.own = Jwt.parse(reply.json["token"])
        self.kid = key_id
        assert self.bearer("/v2/", reply.json["token"]).status == 200
        assert self.bearer("/v2/", provider.gitlab()).status == 200
        assert self.bearer("/v2/", self.ours()).status == 200

    def ours(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token as the registry makes it, with other claims."""
        given = {**self.own.claims, **claims}
        given = {name: value for name, value in given.items() if value is not None}
        return signed(OURS, "HS256", given, **{"kid": self.kid, **(header or {})})

    def theirs(self, **claims: Any) -> dict[str, Any]:
        """The claims of a good token of the provider, with others."""
        return {**Jwt.parse(self.provider.gitlab()).claims, **claims}

    def bearer(self, path: str, token: str) -> Reply:
        return self.service.call("GET", path, headers={"Authorization": f"Bearer {token}"})

    def doors(self, token: str) -> Iterator[Reply]:
        """What is said to a token wherever one can be shown."""
        for path in ("/v2/", PUBLIC, "/v2/_catalog", "/v2/team/app/tags/list"):
            yield self.bearer(path, token)
        login = {"Authorization": f"Basic {b64encode(f'any:{token}'.encode()).decode()}"}
        for path in ("/v2/", PUBLIC, "/auth/token"):
            yield self.service.call("GET", path, headers=login)
        for fields in (
            {"grant_type": "password", "username": "any", "password": token},
            {"grant_type": "refresh_token", "refresh_token": token},
            {"grant_type": EXCHANGE, "subject_token": token},
        ):
            yield self.service.call("POST", "/auth/token", urlencode(fields).encode(), {"Content-Type": FORM})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("wrong")
    (directory / "key").write_bytes(SECRET)
    write_users(directory / "htpasswd", PASSWORDS)
    with provider_server() as provider:
        auth: dict[str, Any] = {
            "htpasswd": {"file": directory / "htpasswd"},
            "token": {"key_file": directory / "key", "refresh": True},
            "oidc": [{"name": "ci", "issuer": provider.issuer, "audiences": [AUDIENCE], "user": "project_path"}],
        }
        with serving(directory, {"auth": auth, "access": {"rules": RULES}}) as service:
            yield Place(service, provider, FileKeys(directory / "key").signing().key_id)


def _oct(secret: bytes) -> OctKey:
    return OctKey.import_key(secret)


NOW = time.time()
OWN: dict[str, Callable[[Place], str]] = {
    "no algorithm": lambda place: forged({"alg": "none", "kid": place.kid}, dict(place.own.claims)),
    "an empty secret": lambda place: forged({"alg": "HS256", "kid": place.kid}, dict(place.own.claims), b""),
    "another secret": lambda place: signed(_oct(b"x" * 32), "HS256", dict(place.own.claims), kid=place.kid),
    "the secret in its header": lambda place: signed(
        _oct(b"x" * 32), "HS256", dict(place.own.claims), kid=place.kid, jwk={"kty": "oct", "k": "eHh4"}
    ),
    "a key that is a path": lambda place: place.ours({"kid": "../../../dev/null"}),
    "another algorithm of the same key": lambda place: signed(OURS, "HS512", dict(place.own.claims), kid=place.kid),
    "another audience": lambda place: place.ours(aud="elsewhere"),
    "another issuer": lambda place: place.ours(iss="elsewhere"),
    "another type": lambda place: place.ours(typ="id_token"),
    "no type": lambda place: place.ours(typ=None),
    "an end that is past": lambda place: place.ours(exp=NOW - 120),
    "no end": lambda place: place.ours(exp=None),
    "a beginning that is to come": lambda place: place.ours(nbf=NOW + 600),
    "a user that there is not": lambda place: place.ours(sub="mallory"),
    "another password": lambda place: place.ours(cred="0" * 16),
    "20 kB": lambda place: place.ours(pad="a" * 20_000),
}
THEIRS: dict[str, Callable[[Place], str]] = {
    "no algorithm": lambda place: forged({"alg": "none", "kid": "rsa-0"}, place.theirs()),
    "a public key as the secret": lambda place: forged(
        {"alg": "HS256", "kid": "rsa-0"}, place.theirs(), rsa().as_pem(private=False)
    ),
    "another key of the same name": lambda place: signed(rsa(3), "RS256", place.theirs(), kid="rsa-0"),
    "a key in its header": lambda place: signed(
        rsa(3), "RS256", place.theirs(), kid="rsa-0", jwk=rsa(3).as_dict(private=False)
    ),
    "an address of keys": lambda place: signed(
        rsa(3), "RS256", place.theirs(), kid="rsa-0", jku="http://192.0.2.1/keys"
    ),
    "the algorithm of another key": lambda place: signed(ec(), "ES256", place.theirs(), kid="rsa-0"),
    "another audience": lambda place: signed(rsa(), "RS256", place.theirs(aud="elsewhere")),
    "another issuer": lambda place: signed(rsa(), "RS256", place.theirs(iss="https://issuer.example.org")),
    "our issuer": lambda place: signed(rsa(), "RS256", place.theirs(iss=SERVICE, aud=SERVICE, typ="registry-access")),
    "an end that is past": lambda place: signed(rsa(), "RS256", place.theirs(exp=NOW - 120)),
    "a beginning that is to come": lambda place: signed(rsa(), "RS256", place.theirs(nbf=NOW + 600)),
    "no user": lambda place: signed(rsa(), "RS256", place.theirs(project_path=None)),
    "20 kB": lambda place: signed(rsa(), "RS256", place.theirs(pad="a" * 20_000)),
}


@pytest.mark.parametrize(
    "wrong", [*OWN.values(), *THEIRS.values()], ids=[*OWN, *(f"theirs: {name}" for name in THEIRS)]
)
def test_a_wrong_token_is_refused_at_every_door(
    place: Place, wrong: Callable[[Place], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token, asked = wrong(place), len(place.provider.asked)

    def connect(*_: object) -> None:
        raise AssertionError("a request leaves the registry")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_connection", connect)
        patch.setattr(socket.socket, "connect", connect)
        for number, reply in enumerate(place.doors(token)):
            assert reply.status == 401, (number, reply)
    assert len(place.provider.asked) == asked
    assert place.service.call("GET", PUBLIC).status == 404, "anonymous callers may look"

"""What a token of ours says and what it never is (check 13)."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from joserfc.jwk import OctKey

from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.jwt import LEEWAY, Jwt, JwtInvalid
from registry.auth.tokens.scopes import Scope
from registry.auth.tokens.signing_keys import FileKeys
from registry.auth.tokens.token import ACCESS, REFRESH, REFRESH_SECONDS, TokenBound, Tokens
from tests.auth.signing import ec, ed25519, forged, signed

NOW = 1_800_000_000.0
SECRET = b"s" * 32
ACCESS_TO_APP = (Scope("repository", "app", ("pull", "push")),)
IDENTITIES = [
    Identity(Kind.USER, "alice", credential="0011223344556677"),
    Identity(Kind.KEY, "0f3a", credential="0f3a"),
    Identity(
        Kind.OIDC,
        "ci/team/app",
        frozenset({"ci/dev", "ops"}),
        MappingProxyType({"ref": "refs/heads/main", "roles": ("a", "b")}),
    ),
    Identity(Kind.OIDC, "sso/alice", is_user=True),
    Identity(Kind.CERTIFICATE, "spiffe://org/ci"),
    ANONYMOUS,
]


class Clock:
    """A clock that a test sets."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[SECRET, ec().as_pem(private=True), ed25519().as_pem(private=True)], ids=["secret", "ec", "ed"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> FileKeys:
    path = tmp_path / "key"
    path.write_bytes(request.param)
    return FileKeys(path)


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.actor)
def test_a_token_says_who_it_is_for_and_what_it_allows(keys: FileKeys, clock: Clock, identity: Identity) -> None:
    made = Tokens(keys, "registry.example.org", 3600, clock)
    found = made.read(made.access(identity, ACCESS_TO_APP), ACCESS)
    assert (found.identity, found.access, found.expires) == (identity, ACCESS_TO_APP, NOW + 3600)
    assert found.identity.claims == identity.claims


def test_its_claims_are_those_of_the_specification_without_a_moment_of_issue_in_the_reply(
    keys: FileKeys, clock: Clock
) -> None:
    made = Tokens(keys, "registry.example.org", 60, clock)
    claims = dict(Jwt.parse(made.access(IDENTITIES[0], ACCESS_TO_APP)).claims)
    assert claims.pop("jti")
    assert claims == {
        "iss": "registry.example.org",
        "aud": "registry.example.org",
        "typ": "registry-access",
        "sub": "alice",
        "kind": "user",
        "cred": "0011223344556677",
        "exp": NOW + 60,
        "nbf": NOW,
        "iat": NOW,
        "access": [{"type": "repository", "name": "app", "actions": ["pull", "push"]}],
    }


def test_a_token_ends_and_is_of_one_type_and_one_service(keys: FileKeys, clock: Clock) -> None:
    made = Tokens(keys, "registry.example.org", 3600, clock)
    access, refresh = made.access(ANONYMOUS, ()), made.refresh(IDENTITIES[0])
    for text, kind in ((access, REFRESH), (refresh, ACCESS)):
        with pytest.raises(JwtInvalid, match="another type"):
            made.read(text, kind)
    with pytest.raises(JwtInvalid, match="issuer"):
        Tokens(keys, "other.example.org", 3600, clock).read(access, ACCESS)
    clock.now += 3600 + LEEWAY
    with pytest.raises(JwtInvalid, match="expired"):
        made.read(access, ACCESS)
    assert made.read(refresh, REFRESH).identity == IDENTITIES[0]
    clock.now = NOW + REFRESH_SECONDS + LEEWAY
    with pytest.raises(JwtInvalid, match="expired"):
        made.read(refresh, REFRESH)


@pytest.mark.parametrize(
    "claims",
    [
        {"typ": None},
        {"typ": "id_token"},
        {"typ": ["registry-access"]},
        {"kind": "root"},
        {"kind": None},
        {"sub": None},
        {"sub": ["alice"]},
        {"access": "repository:app:pull"},
        {"access": [{"type": "repository"}]},
        {"access": 7},
        {"groups": 7},
        {"groups": [["a"]]},
        {"claims": ["a"]},
    ],
    ids=str,
)
def test_a_token_of_another_form_is_refused_also_if_its_signature_is_good(
    tmp_path: Path, clock: Clock, claims: dict[str, Any]
) -> None:
    (tmp_path / "key").write_bytes(SECRET)
    keys = FileKeys(tmp_path / "key")
    good = {"iss": "r", "aud": "r", "typ": "registry-access", "kind": "user", "sub": "alice", "exp": NOW + 60}
    changed = {name: value for name, value in (good | claims).items() if value is not None}
    key = OctKey.import_key(SECRET)
    made = Tokens(keys, "r", 3600, clock)
    kid = keys.signing().key_id
    assert made.read(signed(key, "HS256", good, kid=kid), ACCESS).identity.name == "alice"
    with pytest.raises(JwtInvalid):
        made.read(signed(key, "HS256", changed, kid=kid), ACCESS)


def test_a_token_that_is_signed_with_a_public_key_as_a_secret_is_refused(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "key").write_bytes(ec().as_pem(private=True))
    made = Tokens(FileKeys(tmp_path / "key"), "r", 3600, clock)
    good = {"iss": "r", "aud": "r", "typ": "registry-access", "kind": "user", "sub": "alice", "exp": NOW + 60}
    for algorithm in ("HS256", "none", "ES256"):
        header = {"alg": algorithm, "kid": ec().thumbprint()}
        for secret in (ec().as_pem(private=False), ec().as_der(private=False), b"", None):
            with pytest.raises(JwtInvalid):
                made.read(forged(header, good, secret), ACCESS)


class Beneath:
    """A bound that has one action in one repository."""

    def allows(self, action: str, repository: str | None) -> bool:
        return (action, repository) == ("pull", "app")


@pytest.mark.parametrize(
    ("access", "action", "repository", "expected"),
    [
        ("repository:app:pull", "pull", "app", True),
        ("repository:app:pull", "push", "app", False),
        ("repository:app:pull", "delete", "app", False),
        ("repository:app:pull", "pull", "app2", False),
        ("repository:app:pull", "pull", "app/x", False),
        ("repository:app:push", "pull", "app", True),
        ("repository:app:delete", "pull", "app", False),
        ("repository:app:delete", "push", "app", False),
        ("repository:app:*", "delete", "app", False),
        ("registry:app:pull", "pull", "app", False),
        ("registry:catalog:*", "catalog", None, True),
        ("registry:catalog:pull", "catalog", None, False),
        ("registry:catalog:*", "admin", None, False),
        ("repository:catalog:*", "catalog", None, False),
        ("repository:app:admin", "admin", None, False),
    ],
)
def test_a_token_allows_what_it_says_and_nothing_near_it(
    access: str, action: str, repository: str | None, expected: bool
) -> None:
    kind, name, actions = access.split(":")
    scope = Scope(kind, name, tuple(actions.split(",")))
    assert TokenBound([scope]).allows(action, repository) is expected
    assert not TokenBound([]).allows(action, repository)


def test_a_token_allows_no_more_than_what_bounded_its_identity_before() -> None:
    bound = TokenBound([Scope("repository", name, ("pull", "push")) for name in ("app", "other")], Beneath())
    assert bound.allows("pull", "app")
    assert not bound.allows("push", "app")
    assert not bound.allows("pull", "other")

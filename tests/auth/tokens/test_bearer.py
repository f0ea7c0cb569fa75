"""A token ends with what it was made from: its user, its key, its password, its provider."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.jwt import Jwt
from registry.auth.tokens.bearer import Bearer
from registry.auth.tokens.scopes import Scope
from registry.auth.tokens.signing_keys import FileKeys
from registry.auth.tokens.token import Tokens
from registry.oci.errors import Unauthorized, Unavailable

ALICE = Identity(Kind.USER, "alice", credential="0011223344556677")
KEY = Identity(Kind.KEY, "0f3a", credential="0f3a")
PULL = (Scope("repository", "app", ("pull",)),)


class People:
    """A directory in memory."""

    def __init__(self) -> None:
        self.found = {(who.kind, who.name): who for who in (ALICE, KEY)}
        self.is_up = True

    def find(self, kind: Kind, name: str) -> Identity | None:
        if not self.is_up:
            raise Unavailable
        return self.found.get((kind, name))


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    (tmp_path / "key").write_bytes(b"s" * 32)
    return Tokens(FileKeys(tmp_path / "key"), "registry", 3600)


@pytest.fixture
def bearer(tokens: Tokens, people: People) -> Bearer:
    return Bearer(tokens, people, ["ci"])


@pytest.mark.parametrize("identity", [ALICE, KEY, ANONYMOUS, Identity(Kind.OIDC, "ci/team/app")])
def test_a_token_proves_the_identity_it_was_made_for_and_bounds_it(
    tokens: Tokens, bearer: Bearer, identity: Identity
) -> None:
    found = bearer.identify(tokens.access(identity, PULL)).identity
    assert (found.kind, found.name, found.credential) == (identity.kind, identity.name, identity.credential)
    assert found.scope is not None
    assert found.scope.allows("pull", "app")
    assert not found.scope.allows("push", "app")


def test_a_token_has_the_groups_that_its_user_has_now(tokens: Tokens, bearer: Bearer, people: People) -> None:
    text = tokens.access(Identity(Kind.USER, "alice", frozenset({"admins"}), credential=ALICE.credential), PULL)
    assert bearer.identify(text).identity.groups == frozenset()


def test_a_token_that_a_key_bought_ends_with_the_key(tokens: Tokens, bearer: Bearer, people: People) -> None:
    ending = replace(KEY, until=float(int(time()) + 50))
    people.found[KEY.kind, KEY.name] = ending
    for text in (tokens.access(ending, PULL), tokens.access(KEY, PULL)):
        assert bearer.identify(text).until == ending.until, "also where the key has come to end sooner"
    assert Jwt.parse(tokens.access(ending, PULL)).expires == Jwt.parse(tokens.refresh(ending)).expires == ending.until
    assert 45 <= tokens.life(ending) <= 50
    assert tokens.life(KEY) == 3600


@pytest.mark.parametrize("identity", [ALICE, KEY])
@pytest.mark.parametrize("changed", [True, False])
def test_a_user_or_key_that_is_gone_or_changed_ends_its_tokens(
    tokens: Tokens, bearer: Bearer, people: People, identity: Identity, changed: bool
) -> None:
    access, refresh = tokens.access(identity, PULL), tokens.refresh(identity)
    assert bearer.refresh(refresh) == identity
    del people.found[identity.kind, identity.name]
    if changed:
        people.found[identity.kind, identity.name] = Identity(identity.kind, identity.name, credential="other")
    with pytest.raises(Unauthorized):
        bearer.identify(access)
    with pytest.raises(Unauthorized):
        bearer.refresh(refresh)


def test_a_provider_that_is_configured_no_more_ends_its_tokens(tokens: Tokens, people: People) -> None:
    text = tokens.access(Identity(Kind.OIDC, "ci/team/app"), PULL)
    with pytest.raises(Unauthorized):
        Bearer(tokens, people, []).identify(text)


def test_a_directory_that_is_away_refuses_nothing(tokens: Tokens, bearer: Bearer, people: People) -> None:
    people.is_up = False
    with pytest.raises(Unavailable):
        bearer.identify(tokens.access(ALICE, PULL))


def test_a_token_of_one_type_is_not_one_of_the_other(tokens: Tokens, bearer: Bearer) -> None:
    with pytest.raises(Unauthorized):
        bearer.refresh(tokens.access(ALICE, PULL))
    with pytest.raises(Unauthorized):
        bearer.identify(tokens.refresh(ALICE))
    for text in ("", "secret", "stw_x", "a.b.c"):
        with pytest.raises(Unauthorized):
            bearer.identify(text)


def test_the_token_of_a_certificate_has_the_groups_of_now_and_ends_with_the_setting(
    tokens: Tokens, bearer: Bearer, people: People
) -> None:
    text = tokens.access(Identity(Kind.CERTIFICATE, "ci", frozenset({"old"}), credential="00ff"), PULL)
    with pytest.raises(Unauthorized):
        bearer.identify(text)
    people.found[Kind.CERTIFICATE, "ci"] = Identity(Kind.CERTIFICATE, "ci", frozenset({"new"}))
    identity = bearer.identify(text).identity
    assert (identity.who, identity.groups, identity.credential) == ("cert:ci", frozenset({"new"}), "00ff")

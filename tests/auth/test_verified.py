"""Verified credentials: what is remembered, for how long, and what ends it before."""

from __future__ import annotations

import json
import tracemalloc
from math import inf

import pytest

from registry.auth import verified as module
from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.tokens.scopes import Scope
from registry.auth.tokens.token import TokenBound
from registry.auth.verified import Verification, VerifiedCredentials

ALICE, BOB = Identity(Kind.USER, "alice"), Identity(Kind.USER, "bob")


class World:
    """What identities hold, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.generation = "one"
        self.gone: set[Identity] = set()
        self.verified = VerifiedCredentials(self, 600.0, lambda: self.now)

    def is_current(self, identity: Identity, generation: str) -> bool:
        return identity not in self.gone and generation == self.generation

    def add(self, header: bytes, identity: Identity, until: float = inf) -> None:
        self.verified.add(self.verified.key(header), identity, until, self.generation)

    def add_token(self, header: bytes, identity: Identity, characters: int = 500) -> None:
        self.verified.add_token(self.verified.key(header), identity, inf, self.generation, characters)

    def get(self, header: bytes) -> Identity | None:
        found = self.verified.find(self.verified.key(header))
        return None if found is None else found.identity


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_credentials_prove_the_same_and_others_nothing(world: World) -> None:
    world.add(b"Basic one", ALICE)
    assert world.get(b"Basic one") == ALICE
    assert world.get(b"Basic two") is None
    assert world.get(b"") is None


def test_parts_do_not_run_into_each_other(world: World) -> None:
    key = world.verified.key
    assert key(b"a", b"bc") != key(b"ab", b"c")


def test_it_is_verified_anew_after_a_while_however_often_it_was_used(world: World) -> None:
    world.add(b"x", ALICE)
    for _ in range(6):
        world.now += 99.9
        assert world.get(b"x") == ALICE
    world.now += 0.6
    assert world.get(b"x") is None
    assert len(world.verified) == 0


def test_a_credential_that_ends_before_is_not_remembered_longer(world: World) -> None:
    world.add(b"x", ALICE, world.now + 5)
    world.now += 5
    assert world.get(b"x") is None


def test_what_changed_is_forgotten_and_the_rest_is_not(world: World) -> None:
    world.add(b"x", ALICE)
    world.add(b"y", BOB)
    world.gone.add(ALICE)
    assert world.get(b"x") is None
    assert world.get(b"y") == BOB


def test_what_was_verified_before_a_revocation_is_forgotten(world: World) -> None:
    world.add(b"x", ALICE)
    world.generation = "two"
    assert world.get(b"x") is None


def test_the_credentials_are_not_kept(world: World) -> None:
    world.add(b"Basic secret", ALICE)
    assert b"secret" not in repr([vars(each) for each in (world.verified._secrets, world.verified._tokens)]).encode()
    assert VerifiedCredentials(world, 600.0).key(b"x") != world.verified.key(b"x")


def test_what_was_used_longest_ago_goes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    world.add(b"x", ALICE)
    world.add(b"y", BOB)
    assert world.get(b"x") == ALICE
    world.add(b"z", BOB)
    assert len(world.verified) == 2
    assert world.get(b"y") is None
    assert world.get(b"x") == ALICE


def test_tokens_take_no_room_from_passwords(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    world.add(b"Basic alice", ALICE)
    for number in range(20):
        world.add_token(b"Bearer %d" % number, ANONYMOUS)
    assert world.get(b"Basic alice") == ALICE
    assert [number for number in range(20) if world.get(b"Bearer %d" % number)] == [17, 18, 19]


def test_tokens_are_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    for number in range(20):
        world.add_token(b"Bearer %d" % number, ANONYMOUS, 5000)
    assert [number for number in range(20) if world.get(b"Bearer %d" % number)] == [16, 17, 18, 19]
    world.now += 601
    assert world.get(b"Bearer 19") is None
    for number in range(16, 19):
        assert world.get(b"Bearer %d" % number) is None
    assert len(world.verified) == 0


def test_one_identity_takes_room_from_itself_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_ONE", 2)
    world.add(b"Basic alice", ALICE)
    for number in range(20):
        world.add(b"Basic %d" % number, BOB)
    assert world.get(b"Basic alice") == ALICE
    assert [number for number in range(20) if world.get(b"Basic %d" % number)] == [18, 19]
    world.gone.add(BOB)
    assert world.get(b"Basic 18") is world.get(b"Basic 19") is None
    assert list(world.verified._of_one) == [ALICE.actor]
    assert len(world.verified) == 1


def test_what_a_token_says_takes_no_more_than_what_is_counted() -> None:
    access = [Scope("repository", f"public/{number:03}", ("pull",)) for number in range(100)]
    characters = len(json.dumps([{"type": each.kind, "name": each.name, "actions": each.actions} for each in access]))
    tracemalloc.start()
    bounds = [
        TokenBound([Scope("repository", f"{which}/{each.name}", each.actions) for each in access])
        for which in range(100)
    ]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(bounds) == 100
    assert used / 100 < module._OVERHEAD + module._BYTES_PER_CHARACTER * characters


def test_tokens_are_forgotten_and_passwords_are_not(world: World) -> None:
    world.add(b"Basic alice", ALICE)
    world.add_token(b"Bearer bob", BOB)
    epoch = world.verified.epoch
    world.verified.forget_tokens()
    assert (world.get(b"Bearer bob"), world.get(b"Basic alice")) == (None, ALICE)
    assert world.verified.epoch != epoch, "a verification that began before is not remembered"


def test_what_was_found_holds_no_longer_than_what_is_remembered(world: World) -> None:
    def find(header: bytes) -> Verification:
        found = world.verified.find(world.verified.key(header))
        assert found is not None
        return found

    world.add(b"Basic alice", ALICE)
    world.add_token(b"Bearer bob", BOB)
    world.add(b"Basic short", BOB, world.now + 5)
    alice, bob, short = find(b"Basic alice"), find(b"Bearer bob"), find(b"Basic short")
    holds = world.verified.holds
    assert (holds(alice), holds(bob), holds(short)) == (True, True, True)
    world.now += 5
    assert (holds(alice), holds(bob), holds(short)) == (True, True, False)
    world.verified.forget_tokens()
    assert (holds(alice), holds(bob)) == (True, False)
    world.gone.add(ALICE)
    assert not holds(alice)
    world.gone.clear()
    world.generation = "two"
    assert not holds(alice)


def test_what_has_lost_its_room_still_holds_where_it_was_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    world.add(b"x", ALICE)
    found = world.verified.find(world.verified.key(b"x"))
    world.add(b"y", BOB)
    assert found is not None
    assert world.get(b"x") is None
    assert world.verified.holds(found)

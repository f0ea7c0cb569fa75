"""Verified credentials: what is remembered, for how long, and what ends it before."""

from __future__ import annotations

from math import inf

import pytest

from registry.auth import verified as module
from registry.auth.identity import Identity, Kind
from registry.auth.verified import VerifiedCredentials

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

    def get(self, header: bytes) -> Identity | None:
        return self.verified.get(self.verified.key(header))


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
    assert b"secret" not in repr(list(world.verified._entries.items())).encode()
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

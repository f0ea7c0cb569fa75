"""From the cut of a rollback on no change commits, in any process, with any database; reads go on (M7)."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from registry.clocks import Clocks
from registry.database.engine import Database
from registry.database.transaction import Transaction
from registry.images.backends import Backends
from registry.images.migration_journal.documents import MigrationState, Phase, ReadOnly
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.oci.index import Index
from tests.support import adopted_bucket
from tests.support.registry_world import (
    ACTOR,
    NAME,
    Pushed,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
    tags,
    write_index,
)

REASON = "it was given back to the registry that it came from"
LOOSE = b"a blob that no manifest names"
PATIENCE = 20.0
"""Seconds in which every pusher has met the cut."""
SHUT = ReadOnly("2026-11-25T04:00:00Z", REASON)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("new_database")()
    made = World(tmp_path, "memory", url)
    yield made
    made.close()


def cut(registry: Registry) -> MigrationState:
    """As a rollback does it: the bucket first, then the database."""
    state = adopted_bucket.write_state(
        registry.backends.driver, revision=5, state=Phase.ROLLING_BACK, prefixes=(), read_only=SHUT
    )
    registry.write_gate.note(state)
    return state


def reopen(registry: Registry) -> None:
    registry.write_gate.note(
        adopted_bucket.write_state(
            registry.backends.driver, id="0002", state=Phase.ADOPTED, prefixes=(), read_only=None
        )
    )


def content(registry: Registry) -> dict[str, bytes]:
    """All of storage but blobs: of what is refused when it is to commit, bytes may be there, as of a killed push."""
    found = adopted_bucket.content(registry.backends.driver)
    return {key: data for key, data in found.items() if not key.startswith("storage/blobs/")}


def changes(registry: Registry, made: Pushed, other: Pushed) -> dict[str, Callable[[], object]]:
    """What a client may ask for that changes anything."""
    layer = Digest.parse(made.layer.digest)
    return {
        "POST of an upload": lambda: registry.uploads.start(NAME),
        "POST to a new repository": lambda: registry.uploads.start("team/new"),
        "mount": lambda: registry.blobs.mount("team/other", layer, NAME),
        "mount into a new repository": lambda: registry.blobs.mount("team/new", layer, NAME),
        "PUT of a manifest": lambda: push_manifest(registry, other.manifest, "v2"),
        "PUT of a tag": lambda: push_manifest(registry, made.manifest, "v3"),
        "DELETE of a tag": lambda: registry.manifests.untag(NAME, "v1", actor=ACTOR),
        "DELETE of a manifest": lambda: registry.manifests.delete(NAME, made.digest, actor=ACTOR),
        "DELETE of a blob": lambda: registry.blobs.delete(NAME, Digest.of(LOOSE)),
    }


def test_every_change_gets_the_reason_and_every_read_goes_on(world: World) -> None:
    registry = world.registry()
    made, other = push_image(registry, "one", "v1"), make_image("two")
    for data in (other.config.data, other.layer.data, LOOSE):
        push_blob(registry, data)
    push_blob(registry, b"other", "team/other")
    uploads = [registry.uploads.start(NAME) for _ in range(3)]
    registry.fold_waiting()
    another = world.registry()
    assert pull(another, "v1") == made.digest
    cut(registry)
    before, before_uploads = content(registry), list(uploads)
    for each in (registry, another, world.registry()):
        for what, change in changes(each, made, other).items():
            with pytest.raises(Unavailable) as raised:
                change()
            assert (str(raised.value), "Retry-After" in (raised.value.headers or {})) == (REASON, True), what
        with each.uploads.open(NAME, uploads.pop(), None) as addition:
            addition.write(b"late")
            with pytest.raises(Unavailable, match=REASON):
                each.uploads.finish(addition, Digest.of(b"late"))
        assert pull(each, "v1") == made.digest
        assert tags(each) == ["v1"]
        each.fold_waiting()
    assert content(registry) == before
    assert registry.uploads.count() == len(before_uploads)
    reopen(registry)
    for what, change in changes(another, made, other).items():
        assert [what, change()]


def test_a_migrations_own_changes_go_through_while_others_do_not(world: World) -> None:
    registry = world.registry(delete=False)
    made = push_image(registry, "one", "v1", "v2")
    cut(registry)
    elsewhere = Digest.of(b"elsewhere")
    assert not registry.manifests.untag(NAME, "v1", actor="migration 0001", only=elsewhere, forced=True)
    assert registry.manifests.untag(NAME, "v1", actor="migration 0001", only=made.digest, forced=True)
    assert not registry.manifests.delete(NAME, made.digest, actor="migration 0001", only=["v1"], forced=True)
    assert tags(registry) == ["v2"]
    assert registry.manifests.delete(NAME, made.digest, actor="migration 0001", only=["v1", "v2"], forced=True)
    assert tags(registry) == []


def test_what_another_tool_has_dropped_is_not_put_back_meanwhile(world: World) -> None:
    registry = world.registry()
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    cut(registry)
    empty = Index.empty()
    empty.folded = 1
    write_index(registry, empty)
    another = world.registry()
    another.reconciliation.reconcile(NAME)
    world.clock.now += 10
    another.fold_waiting()
    assert Index.parse(registry.backends.driver.read(f"{NAME}/index.json", max_bytes=1000)[0]).tags() == {}


def test_a_rebuilt_database_is_shut_too(world: World, tmp_path: Path) -> None:
    registry = world.registry()
    made = push_image(registry, "one", "v1")
    registry.fold_waiting()
    cut(registry)
    again = world.registry(url=f"sqlite:///{tmp_path / 'again.db'}")
    rebuild_registry(again)
    assert pull(again, "v1") == made.digest
    with pytest.raises(Unavailable, match=REASON):
        push_blob(again, b"new")


def test_a_database_that_is_not_yet_looked_into_takes_no_change(world: World) -> None:
    registry = world.registry()
    made = push_image(registry, "one", "v1")
    with registry.backends.database.schema() as connection:
        connection.exec_driver_sql("DELETE FROM store")
    with pytest.raises(Unavailable, match="looked at for migrations"):
        push_manifest(registry, made.manifest, "v2")
    assert tags(registry) == ["v1"]
    push_manifest(registry, made.manifest, "v2")
    assert tags(registry) == ["v1", "v2"]


def test_what_commits_at_the_cut_is_before_it_or_refused(world: World) -> None:
    """Pushers, and a cut among them: what it finds is all that was ever acknowledged, and nothing comes after it."""
    registries = [world.registry() for _ in range(4)]
    push_image(registries[0], "first", "first")
    acknowledged: list[str] = []
    refused: list[str] = []
    begun, over = threading.Barrier(5), threading.Event()

    def push(number: int) -> None:
        begun.wait()
        for attempt in itertools.count():
            if over.is_set():
                return
            tag = f"{number}-{attempt}"
            try:
                push_image(registries[number], tag, tag)
            except Unavailable as error:
                refused.append(str(error))
                return
            acknowledged.append(tag)

    with ThreadPoolExecutor(5) as pool:
        pushing = [pool.submit(push, number) for number in range(4)]
        begun.wait()
        while len(acknowledged) < 8:
            threading.Event().wait(0.001)
        cut(registries[0])
        at_the_cut = set(tags(registries[0]))
        wait(pushing, PATIENCE)
        over.set()
        for each in pushing:
            each.result()
    assert refused == [REASON] * 4
    assert set(acknowledged) <= at_the_cut
    assert set(tags(registries[0])) == at_the_cut


class Strict(Database):
    """Refuses a write transaction within another: it would wait for itself once another wants to be alone."""

    def __init__(self, url: str, clocks: Clocks) -> None:
        super().__init__(url, clocks=clocks)
        self._open = threading.local()

    def transaction(self, *, durable: bool = True) -> contextlib.AbstractContextManager[Transaction]:
        return self._alone(super().transaction(durable=durable))

    def exclusive(self) -> contextlib.AbstractContextManager[Transaction]:
        return self._alone(super().exclusive())

    @contextlib.contextmanager
    def _alone(self, inner: contextlib.AbstractContextManager[Transaction]) -> Iterator[Transaction]:
        assert not getattr(self._open, "now", False)
        self._open.now = True
        try:
            with inner as connection:
                yield connection
        finally:
            self._open.now = False


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_no_write_transaction_is_within_another(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    made, other, third = make_image("one"), make_image("two"), make_image("three")
    if kind == "memory":
        adopted_bucket.adopt_image(world.driver(), third)

    def strict(**policy: Any) -> Registry:
        base = world.registry(**policy).backends
        return Registry(Backends(base.driver, Strict(world.url, world.clocks()), base.policy, clock=world.clock))

    registry = strict()
    push_image(registry, "one", "v1")
    for data in (other.config.data, other.layer.data, LOOSE):
        push_blob(registry, data)
    registry.fold_waiting()
    for change in changes(registry, made, other).values():
        change()
    registry.fold_waiting()
    rebuild_registry(registry)
    world.clock.now += 100_000
    registry.uploads.expire()
    registry.blob_deletion.finish_abandoned()
    again = strict()
    for digest in map(Digest.parse, (other.layer.digest, other.config.digest)):
        assert pull_blob(again, digest)
    registry.backends.driver.delete([registry.backends.layout.blob(NAME, Digest.parse(other.layer.digest))])
    with contextlib.suppress(Exception):
        pull_blob(again, Digest.parse(other.layer.digest))
    cut(registry)
    for each in (registry, again):
        each.backends.database.close()
    world.close()

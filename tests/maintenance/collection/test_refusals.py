"""Whole collections that are refused: not one delete reaches storage (checks 12 and 14).

An empty database, one that is a push older, with servers and without, a second registry on the same storage, a storage
of a later release; and what a collection does straight after a rebuild.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.config.settings import Settings
from registry.database.collection import state
from registry.images.backends import Policy
from registry.images.registry import Registry
from registry.maintenance.collection.collection import Collection
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.survey import survey
from registry.maintenance.collection.survey.gc_state import CollectionRefused, GcState, meet
from registry.maintenance.collection.survey.state_document import KINDS
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.oci.digest import Digest
from registry.storage.middleware.faults import FaultyDriver
from tests.maintenance.collection.survey.test_gc_state import store
from tests.support.met_world import PLACES, copy_database, met, open_world
from tests.support.registry_world import ACTOR, NAME, World, pull, push_blob, push_image

SETTINGS = Settings.model_validate({"gc": {"grace": 0, "lease": 0, "undelete_window": 0, "orphans_after": 0}})


@pytest.fixture(params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path)
    made.policy = Policy(lease=0, grace=0, undelete_window=0)
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    """With an image, and one that was deleted: a collection has something to do."""
    made = met(world)
    push_image(made, "kept", "kept")
    gone = push_image(made, "gone", "gone")
    push_blob(made, b"never named")
    made.manifests.delete(NAME, gone.digest, actor=ACTOR)
    made.fold_waiting()
    return made


@pytest.fixture
def another(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Callable[[], str]:
    """Makes another, empty database; its URL."""

    def make() -> str:
        if world.url.startswith("sqlite"):
            return f"sqlite:///{tmp_path / 'another.db'}"
        return str(request.getfixturevalue("new_database")())

    return make


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "PENDING_SECONDS", 0.01)
    monkeypatch.setattr(survey, "FOLD_SECONDS", 0.1)


def opened(world: World, url: str | None = None) -> tuple[Registry, FaultyDriver]:
    """A process whose requests to storage are counted; it has met the storage as a server does."""
    driver = FaultyDriver(world.driver())
    made = world.registry(driver=driver, url=url)
    meet(made)
    return made, driver


def require_refused(registry: Registry, driver: FaultyDriver, reason: str) -> None:
    """A run and a dry run end the same way, however often, and nothing is deleted."""
    for dry in (True, False, False):
        with pytest.raises(CollectionRefused, match=reason):
            Collection(registry, SETTINGS).run(Ledger(), dry=dry)
    assert not [name for name in driver.calls if "delete" in name or "discard" in name]
    assert driver.calls["link"] == 0


def require_collected(registry: Registry, world: World) -> None:
    """Collections run until nothing is left to do; what is in use stays."""
    for _ in range(4):
        ledger = Ledger()
        Collection(registry, SETTINGS).run(ledger)
        assert ledger.problems == []
        world.clock.now += 1
    for each in (registry, world.registry()):
        pull(each, "kept")


def test_a_registry_that_knows_its_storage_collects(world: World, registry: Registry) -> None:
    require_collected(registry, world)


@pytest.mark.parametrize("is_filled", [False, True], ids=["at once", "once a server has read it"])
def test_an_empty_database_collects_nothing_until_it_was_rebuilt(
    world: World, registry: Registry, another: Callable[[], str], is_filled: bool
) -> None:
    world.url = another()
    empty, driver = opened(world)
    if is_filled:
        Rescan(empty).run_once()
    require_refused(empty, driver, "registry rebuild")
    assert rebuild_registry(empty).problems == []
    require_collected(empty, world)


@pytest.mark.parametrize("has_collected", [False, True])
@pytest.mark.parametrize("are_served", [False, True], ids=["stopped", "served"])
def test_a_database_that_is_a_push_older_collects_nothing(
    request: pytest.FixtureRequest,
    world: World,
    registry: Registry,
    tmp_path: Path,
    has_collected: bool,
    are_served: bool,
) -> None:
    if has_collected:
        Collection(registry, SETTINGS).run(Ledger())
    copy = copy_database(request, world, tmp_path)
    newer = world.registry()
    push_image(newer, "kept", "later")
    newer.fold_waiting()
    older, driver = opened(world, copy)
    if are_served:  # a server has read other repositories since
        push_image(older, "elsewhere", "v1", name="team/elsewhere")
        driver.calls.clear()
    require_refused(older, driver, "registry rebuild")
    world.url = copy
    assert rebuild_registry(older).problems == []
    require_collected(older, world)
    pull(older, "later")


def test_a_second_registry_on_the_same_storage_collects_nothing(
    world: World, registry: Registry, another: Callable[[], str]
) -> None:
    Collection(registry, SETTINGS).run(Ledger())
    second, driver = opened(world, another())
    push_image(second, "second", "second", name="team/second")
    driver.calls.clear()
    require_refused(second, driver, "another database")


def test_a_database_that_an_earlier_release_left_and_that_lacks_a_repository_collects_nothing(
    world: World, registry: Registry, another: Callable[[], str]
) -> None:
    registry.backends.driver.delete([".gc/state.json"])
    driver = FaultyDriver(world.driver())
    earlier = world.registry(driver=driver, url=another())
    with earlier.backends.database.transaction() as connection:
        state.adopt(connection, "earlier", state.EARLIER)
    require_refused(earlier, driver, f"does not know repository {NAME}")


def test_a_storage_with_references_of_a_later_release_is_not_collected(world: World, registry: Registry) -> None:
    store(registry, kinds=[*KINDS, "remotes"])
    counted, driver = opened(world)
    require_refused(counted, driver, "remotes")


def test_a_run_that_is_overtaken_stops_before_its_next_delete(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.maintenance.collection.survey.gc_state.CHECK_SECONDS", -1.0)
    Collection(registry, SETTINGS).run(Ledger())  # what is out of use is noted
    world.clock.now += 10
    real = GcState.begin

    def begin_and_be_overtaken(self: GcState, *arguments: object) -> int:
        number = real(self, *arguments)  # type: ignore[arg-type] # as it was called
        real(GcState(registry))
        return number

    counted, driver = opened(world)
    monkeypatch.setattr(GcState, "begin", begin_and_be_overtaken)
    with pytest.raises(CollectionRefused, match="another run"):
        Collection(counted, SETTINGS).run(Ledger())
    assert not [name for name in driver.calls if "delete" in name]


def test_a_repository_that_cannot_be_read_keeps_what_all_could_share(world: World, registry: Registry) -> None:
    """Check 14: its own blobs, and those that it may share, stay; others are collected where nothing is shared."""
    shared = push_image(registry, "shared", "v1", name="team/bad")
    registry.fold_waiting()
    registry.backends.driver.write("team/bad/index.json", b"{ not readable")
    counted, driver = opened(world)
    for _ in range(4):
        ledger = Ledger()
        Collection(counted, SETTINGS).run(ledger)
        assert len(ledger.problems) == 1
        assert "team/bad" in ledger.problems[0]
        world.clock.now += 1
    pull(counted, "kept")
    layout = counted.backends.layout
    for blob in (shared.config, shared.layer):
        counted.backends.driver.stat(layout.blob("team/bad", Digest.parse(blob.digest)))
    if not layout.per_repository:
        assert driver.calls["delete_once"] == 0

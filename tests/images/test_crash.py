"""A crash at each step of a push, a deletion and a fold: whatever was acknowledged is there, and storage is valid (I8).

The step is an operation on storage that fails before or after it took effect. The process is gone with it: another one
goes on, sometimes without the database.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REPLICAS,
    REPLICAS_KIND,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    read_index,
    tags,
)

MOST = 60
"""Steps of the longest work here, at most; a run that reaches its end without a crash ends the loop."""


class Killed(BaseException):
    """The end of a process: nothing catches it."""


def kill() -> None:
    raise Killed


def crashes(world: World, work: Callable[[Registry], object], moment: When, step: int = 1) -> Iterator[bool]:
    """Do ``work`` in one process after the other, each crashing ``step`` steps later; yields whether it was done."""
    for number in itertools.count(1, step):
        assert number < MOST + step
        driver = FaultyDriver(world.driver(), [Fault(first=number, moment=moment, effect=kill)])
        registry = world.registry(driver=driver)
        done = False
        with contextlib.suppress(Killed):
            work(registry)
            done = True
        yield done
        if not driver.struck[0]:
            assert number > 2
            return


def recover(world: World, path: Path | None = None) -> Registry:
    """What another process does in time; with ``path`` it begins with an empty database."""
    if path is not None:
        world.url = f"sqlite:///{path}"
    registry = world.registry()
    rebuild_registry(registry)
    world.clock.now += ABANDONED_SECONDS + world.policy.claim
    registry.fold_waiting()
    registry.blob_deletion.finish_abandoned()
    return registry


@pytest.fixture(
    params=[
        *((kind, 5) for kind in KINDS),
        *(pytest.param((kind, 1), marks=pytest.mark.stores) for kind in KINDS),
        pytest.param((REPLICAS, 1), marks=REPLICAS_KIND.marks),
    ],
    ids=lambda sweep: f"{sweep[0]}-{sweep[1]}",
)
def sweep(request: pytest.FixtureRequest) -> tuple[str, int]:
    """The driver, and how many steps later the next process crashes: `make test` has some, CI each."""
    return tuple(request.param)


@pytest.fixture
def kind(sweep: tuple[str, int]) -> str:
    return sweep[0]


@pytest.fixture
def step(sweep: tuple[str, int]) -> int:
    return sweep[1]


@pytest.fixture(params=list(When), ids=[moment.value for moment in When])
def moment(request: pytest.FixtureRequest) -> When:
    assert isinstance(request.param, When)
    return request.param


@pytest.fixture(params=[False, True], ids=["database-kept", "database-lost"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path | None]:
    """Where the next process has its database."""
    numbers = itertools.count()
    return lambda: tmp_path / f"lost-{next(numbers)}.db" if request.param else None


def test_a_blob_that_was_acknowledged_is_there_and_any_other_can_be_pushed(
    world: World, moment: When, step: int
) -> None:
    data = b"the content of a blob"
    for done in crashes(world, lambda registry: push_blob(registry, data), moment, step):
        registry = recover(world)
        if not done:
            push_blob(registry, data)
        assert pull_blob(registry, Digest.of(data)) == data
        registry.blobs.delete(NAME, Digest.of(data))
        world.clock.now += registry.backends.policy.upload_expiry * 2
        registry.uploads.expire()
        assert registry.uploads.count() == 0
        assert list(registry.backends.driver.uploads()) == []


def test_an_image_that_was_acknowledged_is_whole_and_the_index_valid(
    world: World, moment: When, fresh: Callable[[], Path | None], step: int
) -> None:
    first = push_image(world.registry(), "1", "v1")
    numbers = itertools.count()

    def push(registry: Registry) -> None:
        number = next(numbers)
        push_image(registry, f"image {number}", f"t{number}", "moving")

    for number, done in enumerate(crashes(world, push, moment, step)):
        registry = recover(world, fresh())
        known = tags(registry)
        assert pull(registry, "v1") == first.digest
        for tag in known:
            pull(registry, tag)
        assert (f"t{number}" in known) or not done
        if done:
            assert pull(registry, "moving") == make_image(f"image {number}").digest
        assert set(read_index(registry).tags()) == set(known)


def test_a_deletion_that_was_acknowledged_stays_and_takes_only_its_own(
    world: World, moment: When, fresh: Callable[[], Path | None], step: int
) -> None:
    kept = push_image(world.registry(), "kept", "kept")
    gone = make_image("gone")
    push_image(world.registry(), "gone", "gone", "also")

    def delete(registry: Registry) -> None:
        if "gone" in tags(registry):
            registry.manifests.delete(NAME, gone.digest, actor=ACTOR)

    for done in crashes(world, delete, moment, step):
        registry = recover(world, fresh())
        assert pull(registry, "kept") == kept.digest
        assert tags(registry) in (["kept"], ["also", "gone", "kept"])
        if done:
            assert tags(registry) == ["kept"]
        assert set(read_index(registry).tags()) == set(tags(registry))


def test_a_fold_that_crashed_is_finished_by_another_process(
    world: World, moment: When, fresh: Callable[[], Path | None], step: int
) -> None:
    numbers = itertools.count()

    def change() -> set[str]:
        """Some changes of each kind; the tags that are there afterwards."""
        registry, number = world.registry(), next(numbers)
        push_image(registry, f"gone {number}", "gone", "untagged")
        push_image(registry, f"image {number}", f"t{number}", "moving")
        registry.manifests.untag(NAME, "untagged", actor=ACTOR)
        registry.manifests.delete(NAME, make_image(f"gone {number}").digest, actor=ACTOR)
        world.clock.now += ABANDONED_SECONDS + 1
        return set(tags(registry))

    expected = change()
    for _ in crashes(world, lambda registry: registry.fold_waiting(), moment, step):
        path = fresh()
        registry = recover(world, path)
        assert set(tags(registry)) == expected
        for tag in expected:
            pull(registry, tag)
        assert set(read_index(registry).tags()) == expected
        if registry.backends.layout.per_repository and path is None:  # else the collector's work
            left = {
                child.name
                for child in registry.backends.driver.children(registry.backends.layout.blobs(NAME, "sha256"))
            }
            wrong = {make_image(f"gone {number}").digest.encoded for number in range(len(expected))}
            assert not left & wrong
        expected = change()


@pytest.mark.parametrize("kind", [*KINDS, REPLICAS_KIND])
def test_a_record_that_cannot_be_written_fails_the_push_and_is_completed_later(world: World) -> None:
    registry = world.registry()
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    faults = [Fault(operation, "*/.journal/*", effect=StorageUnavailable) for operation in ("append", "write")]
    broken = world.registry(driver=FaultyDriver(world.driver(), faults))
    with pytest.raises(StorageUnavailable):
        push_image(broken, "2", "v2")
    third = push_image(broken, "3", "v3")
    assert broken.fold_waiting() == 0
    assert set(read_index(broken).tags()) == {"v1"}
    world.clock.now += ABANDONED_SECONDS + 1
    assert broken.fold_waiting() == 2
    assert set(read_index(broken).tags()) == {"v1", "v2", "v3"}
    assert pull(broken, "v3") == third.digest

"""A rebuild goes on where an earlier one was interrupted, and several processes may do one at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from registry.database import repositories
from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.maintenance import rebuild_round
from registry.maintenance.rebuild import RebuildReport, rebuild_registry
from registry.maintenance.rebuild_round import RebuildRound
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.registry_world import KINDS, World, pull, push_blob, push_image, push_manifest

LAYERS = 40
PROCESSES = 4
NAMES = ["a", "a/b", "a/c", "a-b", "b/c", "c", "d/e/f"]


@pytest.fixture(name="world", params=KINDS)
def _world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.maintenance.rebuild.AT_ONCE", 2)


def fill(world: World) -> None:
    """Repositories of one image each."""
    registry = world.registry()
    for name in NAMES:
        push_image(registry, name, "v1", name=name)
    registry.fold_waiting()


def names(registry: Registry) -> list[str]:
    return sorted(registry.repositories.page(last="", count=100))


def interrupt(world: World, url: str, key: str) -> None:
    """A rebuild that ends with an error when it comes to ``key``."""
    failing = world.registry(url=url, driver=FaultyDriver(world.driver(), [Fault("children", key)]))
    with pytest.raises(StorageUnavailable):
        rebuild_registry(failing)


def looks(world: World, url: str, *, anew: bool = False) -> tuple[RebuildReport, int]:
    """A whole rebuild, and how many repositories it has read from storage."""
    driver = FaultyDriver(world.driver(), [Fault("read", "*/index.json", times=None, effect=lambda: None)])
    report = rebuild_registry(world.registry(url=url, driver=driver), anew=anew)
    return report, driver.struck[0]


def test_a_rebuild_that_was_interrupted_goes_on_behind_what_is_done(world: World, tmp_path: Path) -> None:
    fill(world)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    interrupt(world, url, "b/c")
    other = world.registry(url=url)
    assert names(other) == sorted(["a", "a/b", "a/c", "a-b"])
    current = RebuildRound.find(other.backends)
    assert current is not None
    assert (current.reached, current.repositories) == ("a-b", 4)
    report, read = looks(world, url)
    assert (report.repositories, report.resumed_after, report.problems) == (7, "a-b", [])
    assert read == 3
    assert names(other) == sorted(NAMES)
    assert RebuildRound.find(other.backends) is None
    report, read = looks(world, url)
    assert (report.repositories, report.resumed_after, read) == (7, None, 7), "the next one reads all of them"


def test_a_rebuild_begins_anew_if_it_is_told_to_or_after_a_day(world: World, tmp_path: Path) -> None:
    fill(world)
    for anew, seconds in ((True, 0.0), (False, rebuild_round.VALID_SECONDS), (False, -3600.0)):
        url = f"sqlite:///{tmp_path / f'{anew}{seconds}.db'}"
        interrupt(world, url, "b/c")
        world.clock.now += seconds
        report, read = looks(world, url, anew=anew)
        assert (report.repositories, report.resumed_after, read) == (7, None, 7)


def test_a_rebuild_that_is_killed_at_any_step_is_finished_by_the_next(world: World, tmp_path: Path) -> None:
    """One repository of the database is gone from storage."""
    fill(world)
    gone = world.registry()
    push_image(gone, "gone", "v1", name="b/gone")
    gone.fold_waiting()

    def prepared(number: int) -> str:
        """A database that has the repository that is gone, and no other."""
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        with world.registry(url=url).backends.database.transaction() as connection:
            repositories.create(connection, "b/gone", etag="was there", now=world.clock.now)
        return url

    driver, layout = world.driver(), gone.backends.layout
    driver.delete([key for key, _ in list(driver.list("b/gone"))])
    assert not list(driver.list(layout.journal("b/gone")))
    if world.kind == "local":
        (world.root / "b/gone/index.json").unlink(missing_ok=True)

    def doomed(url: str, doom: Doom) -> Registry:
        database = DyingDatabase(url, doom, world.clocks())
        return Registry(Backends(DyingDriver(world.driver(), doom), database, world.policy, clock=world.clock))

    life = Doom()
    dying = doomed(prepared(0), life)
    whole = rebuild_registry(dying)
    dying.close()
    assert (whole.repositories, whole.removed, whole.problems) == (7, 1, [])
    for at in range(1, life.steps + 1, 3):
        url = prepared(at)
        dying = doomed(url, Doom(at))
        with pytest.raises(Killed):
            rebuild_registry(dying)
        dying.close()
        after = world.registry(url=url)
        report = rebuild_registry(after)
        assert (report.repositories, report.problems) == (7, []), at
        assert names(after) == sorted(NAMES), at
        for name in NAMES:
            pull(after, "v1", name)


def test_what_storage_does_not_have_is_forgotten_by_the_process_that_goes_on(world: World, tmp_path: Path) -> None:
    """Also what lies before the repository behind which it goes on; and nothing of which that is not known."""
    fill(world)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with world.registry(url=url).backends.database.transaction() as connection:
        for name in ("a/gone", "z/gone"):
            repositories.create(connection, name, etag="was there", now=world.clock.now)
        repositories.create(connection, "z/new", etag="", now=world.clock.now)
    interrupt(world, url, "b/c")
    report, _ = looks(world, url)
    assert report.removed == 2
    assert names(world.registry(url=url)) == sorted([*NAMES, "z/new"])


def test_an_error_while_absent_repositories_are_looked_for_forgets_none(world: World, tmp_path: Path) -> None:
    fill(world)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with world.registry(url=url).backends.database.transaction() as connection:
        repositories.create(connection, "z/gone", etag="was there", now=world.clock.now)
    failing = world.registry(url=url, driver=FaultyDriver(world.driver(), [Fault("stat", "z/gone/index.json")]))
    with pytest.raises(StorageUnavailable):
        rebuild_registry(failing)
    assert "z/gone" in names(failing)
    report, read = looks(world, url)
    assert (report.removed, report.resumed_after, read) == (1, "d/e/f", 0)


def test_problems_that_were_found_before_an_interruption_are_told_at_the_end(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world)
    for name in ("a", "a/c", "c"):
        world.driver().write(f"{name}/index.json", b"{")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    interrupt(world, url, "b/c")
    report, _ = looks(world, url)
    assert [problem.partition(":")[0] for problem in report.problems] == ["a", "a/c", "c"]
    assert report.repositories == 4
    monkeypatch.setattr(rebuild_round, "LISTED", 2)
    report, _ = looks(world, url)
    assert len(report.problems) == 3
    assert report.problems[-1] == "and 1 more: the log has them"


def test_repositories_with_a_large_index_are_read_one_after_the_other(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.maintenance.rebuild.SMALL_INDEX", 10)
    fill(world)
    report, _ = looks(world, f"sqlite:///{tmp_path / 'new.db'}")
    assert (report.repositories, report.problems) == (7, [])


def test_two_rebuilds_at_the_same_time_miss_nothing(world: World, tmp_path: Path) -> None:
    fill(world)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    reports = list[RebuildReport]()

    def other() -> None:
        reports.append(rebuild_registry(world.registry(url=url)))

    first = world.registry(url=url, driver=FaultyDriver(world.driver(), [Fault("children", "b/c", effect=other)]))
    report = rebuild_registry(first)
    assert (reports[0].resumed_after, reports[0].repositories) == ("a-b", 7)
    assert (report.resumed_after, report.problems) == (None, [])
    assert names(first) == sorted(NAMES)
    assert RebuildRound.find(first.backends) is None


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_repositories_with_the_same_blobs_are_read_at_once_and_no_thread_waits_for_ever(
    tmp_path: Path, cluster: Cluster
) -> None:
    """One names the blobs in the other's reverse order: rows are written in an order that is the same for all."""
    world = World(tmp_path, "memory", cluster.create_current())
    first = world.registry()
    layers = [Blob(f"layer {number}".encode()) for number in range(LAYERS)]
    names = {"a/forth": layers, "b/back": layers[::-1]}
    for name, ordered in names.items():
        config = Blob(name.encode())  # each its own: the first to take a common one would keep the rest out
        for blob in (config, *layers):
            push_blob(first, blob.data, name)
        for number in range(5):
            made = image(config, ordered, annotations={"number": str(number)})
            push_manifest(first, made, f"v{number}", name=name)
    first.fold_waiting()

    for _ in range(3):
        world.url = cluster.create_current()
        registries, ready = [world.registry() for _ in range(PROCESSES)], Barrier(PROCESSES)

        def fill(number: int) -> RebuildReport:
            ready.wait()  # noqa: B023 - called at once
            registry = registries[number]  # noqa: B023
            for name in list(names)[:: 1 if number % 2 else -1]:
                registry.repositories.touch(name)
            return rebuild_registry(registry)

        with ThreadPoolExecutor(PROCESSES) as pool:
            reports = list(pool.map(fill, range(PROCESSES)))
        assert [report.problems for report in reports] == [[]] * PROCESSES
        for name in names:
            pull(registries[0], "v4", name)
            with registries[0].backends.database.autocommit() as connection:
                row = repositories.find(connection, name).get()
            assert row is not None
            assert not row.is_unread
    world.close()

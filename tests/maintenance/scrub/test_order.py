"""The order of a scrub: never read first, then the oldest; a run that was ended goes on, at its rate."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from registry.config.scrub_sections import ScrubSettings
from registry.images.registry import Registry
from registry.maintenance.scrub.rate import Interrupted, Rate
from registry.storage.errors import PathRefused
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.maintenance.scrub.place import FAST, StopAfter, flip_file, key_of, scrub
from tests.support.registry_world import NAME, World, push_blob, push_image

OTHER = "other/app"


def opened_by(world: World, **options: Any) -> list[str]:
    """The digests that a scrub reads, in its order."""
    driver = Watched(world)
    scrub(world.registry(driver=driver), **options)
    return driver.opened


class Watched(FaultyDriver):
    """A driver that remembers which objects were opened."""

    def __init__(self, world: World) -> None:
        super().__init__(world.driver())
        self.opened: list[str] = []

    def open(self, key: str, *, offset: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """See StorageDriver."""
        self.opened.append(key.rpartition("/")[2])
        return super().open(key, offset=offset, length=length)


def test_what_was_never_read_comes_first_and_then_the_oldest(world: World, registry: Registry) -> None:
    digests = [push_blob(registry, text.encode()).encoded for text in ("a", "b", "c")]
    assert opened_by(world) == digests
    world.clock.now += 10
    new = push_blob(registry, b"d").encoded
    assert opened_by(world) == [new, *digests]
    world.clock.now += 10
    assert opened_by(world) == [*digests, new]


def test_a_push_of_what_is_there_does_not_put_off_its_turn(world: World, registry: Registry) -> None:
    digests = [push_blob(registry, text.encode()).encoded for text in ("a", "b")]
    assert opened_by(world) == digests
    world.clock.now += 10
    push_blob(registry, b"a")
    assert set(opened_by(world)) == set(digests)


@pytest.mark.parametrize("page", [1, 2, 100])
def test_what_a_clock_that_was_ahead_has_noted_is_read_once(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.locations.PAGE", page)
    digests = [push_blob(registry, text.encode()).encoded for text in ("a", "b", "c")]
    world.clock.now += 1e8
    assert opened_by(world) == digests
    world.clock.now -= 1e8
    new = push_blob(registry, b"d").encoded
    assert opened_by(world) == [new, *digests], "as what was never read, and after it"
    world.clock.now += 10
    assert opened_by(world) == [*digests, new]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_run_that_was_ended_goes_on(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.locations.PAGE", page)
    monkeypatch.setattr("registry.maintenance.scrub.locations.WINDOW", page)
    digests = [push_blob(registry, bytes([number])).encoded for number in range(10)]
    read: list[str] = []
    runs = 0
    while True:
        runs += 1
        driver = Watched(world)
        report = scrub(world.registry(driver=driver), ending=StopAfter(20))
        assert len(driver.opened) - report.objects in {0, 1}, "one at most is read in vain"
        read += driver.opened[: report.objects]
        world.clock.now += 1
        if report.finished:
            break
        assert runs < 20
    assert read == digests
    assert runs > 1


def test_a_round_that_has_ended_is_followed_by_a_new_one(world: World, registry: Registry) -> None:
    push_blob(registry, b"a")
    assert [scrub(registry).objects for _ in range(3)] == [1, 1, 1], "also within one moment"
    world.clock.now -= 3600
    assert [scrub(registry).objects for _ in range(2)] == [1, 1], "also when the clock was set back"


@pytest.mark.parametrize("world", ["local"], indirect=True)
@pytest.mark.parametrize("together", [1, 2, 1000])
def test_names_that_share_an_inode_are_read_once(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.locations.NAMES", together)
    push_image(registry, "a", "v1")
    for name in (OTHER, "third/app"):
        push_image(registry, "a", "v1", name=name)
    driver = Watched(world)
    report = scrub(world.registry(driver=driver))
    assert len(driver.opened) == 3
    assert (report.objects, report.names) == (3, 6)


@pytest.mark.parametrize("world", ["local"], indirect=True)
def test_names_with_bytes_of_their_own_are_each_read(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"shared")
    push_blob(registry, b"shared", name=OTHER)
    path = world.root / key_of(registry, digest, OTHER)
    own = path.with_name("copy")
    own.write_bytes(path.read_bytes())
    own.replace(path)
    report = scrub(registry)
    assert (report.objects, report.names) == (2, 0)
    flip_file(path)
    world.clock.now += 1
    report = scrub(registry)
    assert (report.objects, report.wrong) == (1, 1)
    assert report.findings[0].affected.repositories == [OTHER]
    assert registry.blobs.find(NAME, digest).size == 6, "the other one goes on serving"


def test_the_rate_of_bytes_is_kept(world: World, registry: Registry) -> None:
    for number in range(8):
        push_blob(registry, bytes([number]) * (64 << 10))
    began = time.monotonic()
    report = scrub(registry, ScrubSettings(rate=1 << 20, requests=1e9))
    assert report.bytes == 512 << 10
    assert time.monotonic() - began >= 0.3, "half a second but for what may be read at once"


def test_the_rate_of_requests_is_kept(world: World, registry: Registry) -> None:
    for number in range(20):
        push_blob(registry, bytes([number]))
    began = time.monotonic()
    scrub(registry, ScrubSettings(rate=1 << 40, requests=40))
    assert time.monotonic() - began >= 0.35


def test_a_wait_ends_with_the_process() -> None:
    ending = threading.Event()
    rate = Rate(1, 1e9, ending)
    threading.Timer(0.1, ending.set).start()
    rate.count(1000)
    with pytest.raises(Interrupted):
        rate.count(1000)


def test_a_low_rate_reads_little_at_a_time() -> None:
    assert Rate(1, 1).most == 64 << 10
    assert Rate(1 << 40, 1).most == 1 << 20


def test_two_at_once_do_no_harm(world: World) -> None:
    registries = [world.registry() for _ in range(2)]
    for number in range(30):
        push_blob(registries[0], bytes([number]))
    reports = []
    threads = [threading.Thread(target=lambda each=each: reports.append(scrub(each))) for each in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.finished for report in reports] == [True, True]
    assert all(report.is_clean for report in reports)
    assert 30 <= sum(report.objects for report in reports) <= 60


def test_pages_of_names_hold_one_repository_after_the_other(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.maintenance.scrub.known_damage.MEMBERS", 1)
    monkeypatch.setattr("registry.maintenance.scrub.known_damage.WINDOW", 1)
    for name in (NAME, OTHER):
        for text in (b"a", b"b"):
            world.driver().delete([key_of(registry, push_blob(registry, text, name), name)])
    distinct = 4 if registry.backends.layout.per_repository else 2
    assert scrub(registry).missing == distinct
    assert scrub(registry).missing == distinct


def test_progress_is_told(world: World, registry: Registry) -> None:
    for number in range(3):
        push_blob(registry, bytes([number]))
    told: list[tuple[int, int]] = []
    scrub(registry, FAST, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_one_directory_that_cannot_be_listed_is_a_problem(world: World, registry: Registry) -> None:
    push_blob(registry, b"a")
    driver = FaultyDriver(world.driver(), [Fault("list", "*blobs", effect=PathRefused)])
    report = scrub(world.registry(driver=driver))
    assert (report.objects, report.unreadable, report.finished) == (1, 1, True)

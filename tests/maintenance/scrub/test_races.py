"""A scrub that finds wrong bytes beside a push of the same bytes: what was acknowledged is served."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from registry.database import blob_locations
from registry.database.collection import scrub as rows
from registry.images.publication import blob_publication
from registry.images.registry import Registry
from registry.maintenance.scrub.quarantine import Quarantine
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.storage.errors import PathNotFound
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.maintenance.scrub.place import flip, key_of, scrub
from tests.support.registry_world import NAME, World, pull, pull_blob, push_blob, push_image

pytestmark = pytest.mark.usefixtures("_impatient")

DATA = b"contested"
DIGEST = Digest.of(DATA)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_publication, "ATTEMPTS", 3)
    monkeypatch.setattr(blob_publication, "POLL", 0.0)


def struck(world: World, operation: str, moment: When, effect: Callable[[], None]) -> Registry:
    """A process at one operation of which something else happens."""
    done: list[str] = []

    def once() -> None:
        if not done:
            done.append(operation)
            effect()

    driver = FaultyDriver(world.driver(), [Fault(operation, "*", times=None, moment=moment, effect=once)])
    return world.registry(driver=driver)


@pytest.mark.parametrize("moment", list(When))
@pytest.mark.parametrize("operation", ["open", "reader.read", "link", "delete_once"])
def test_a_push_at_any_step_of_a_scrub_is_served(
    world: World, registry: Registry, operation: str, moment: When
) -> None:
    push_blob(registry, DATA)
    flip(world, key_of(registry, DIGEST))
    world.clock.now += 1
    pushed: list[Digest] = []

    def heal() -> None:
        with suppress(Unavailable):  # a deleter holds it: 503, and the client pushes again
            pushed.append(push_blob(world.registry(), DATA))

    scrubbing = struck(world, operation, moment, heal)
    scrub(scrubbing)
    for each in (registry, scrubbing, world.registry()):
        if pushed and pushed_whole(world, registry):
            assert pull_blob(each, DIGEST) == DATA
    push_blob(registry, DATA)
    assert pull_blob(world.registry(), DIGEST) == DATA
    assert scrub(registry).is_clean


def pushed_whole(world: World, registry: Registry) -> bool:
    """Whether the push has brought bytes: one that takes what is noted as right for its own brings none."""
    try:
        data, _ = world.driver().read(key_of(registry, DIGEST), max_bytes=100)
    except PathNotFound:  # it is out of service
        return False
    return data == DATA


def test_a_push_that_relied_on_the_wrong_object_repeats_its_step(world: World, registry: Registry) -> None:
    """What a publisher has found right by its etag is quarantined before it commits: it writes its own bytes."""
    push_blob(registry, DATA)
    flip(world, key_of(registry, DIGEST))
    world.clock.now += 1
    found: list[int] = []
    pushing = struck(world, "stat", When.AFTER, lambda: found.append(scrub(world.registry()).wrong))
    push_blob(pushing, DATA)
    assert found == [1]
    for each in (registry, pushing, world.registry()):
        assert pull_blob(each, DIGEST) == DATA


def test_bytes_that_were_published_again_under_the_same_etag_are_not_quarantined(
    world: World, registry: Registry
) -> None:
    """An etag of S3 is a hash of the bytes: the right ones have the one that was noted before they rotted."""
    push_blob(registry, DATA)
    backends, key = registry.backends, key_of(registry, DIGEST)
    with backends.database.autocommit() as connection:
        (row,) = rows.never_scrubbed(connection, store=backends.driver.name, after=0, until=1000, count=100).get()
    world.clock.now += 1
    with backends.database.transaction() as connection:
        blob_locations.put(
            connection,
            row.blob_id,
            store=backends.driver.name,
            key=key,
            size=row.size,
            etag=row.etag,
            verified_at=world.clock.now,
        )
    assert not Quarantine(registry).take_out(row, "quarantined")
    assert pull_blob(world.registry(), DIGEST) == DATA


def test_a_row_that_was_published_again_is_not_quarantined(world: World, registry: Registry) -> None:
    image = push_image(registry, "a", "v1")
    backends = registry.backends
    with backends.database.autocommit() as connection:
        page = rows.never_scrubbed(connection, store=backends.driver.name, after=0, until=1000, count=100).get()
    world.clock.now += 1
    flip(world, key_of(registry, image.layer.digest))
    scrub(registry)
    push_image(registry, "a", "v1")
    for row in page:
        if row.digest == image.layer.digest:
            assert not Quarantine(registry).take_out(row, "quarantined")
    assert pull(world.registry(), "v1", NAME) == image.digest

"""What a manifest named and its repository did not have gives it no right, whatever reads storage again (I12)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from registry.database import repositories, stores, withheld
from registry.images.records import withholding
from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.registry import Registry
from registry.maintenance.arrivals import Arrivals
from registry.maintenance.completion import Completion
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown, NameUnknown
from registry.oci.index import NOTED, WITHHELD, Index
from registry.oci.record import Record
from registry.oci.withheld import Withheld
from registry.storage.errors import StorageError
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.records.test_reconciliation import copy_of
from tests.images.test_crash import crashes
from tests.images.test_references import complete, look_former
from tests.support.payloads import Blob, Manifest, image, index
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    REAL_KIND,
    Pushed,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    push_manifest,
)

OTHER = "team/private"
ACCEPTING: dict[str, Any] = {"accept_missing_blobs": True, "accept_missing_manifests": True}

Again = Callable[[Registry], Registry]
"""A process that has read storage again."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A real store is for the tests that name it."""
    return str(request.param)


@pytest.fixture
def registry(world: World) -> Registry:
    """One that accepts manifests of which something is missing, beside a repository that has everything."""
    made = world.registry(**ACCEPTING)
    push_image(made, "secret", "v1", name=OTHER)
    return made


@pytest.fixture(params=["rebuild", "lost-and-rebuild", "lost-and-first-touch"])
def again(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Again:
    numbers = itertools.count()

    def read(registry: Registry) -> Registry:
        if request.param == "rebuild":
            rebuild_registry(registry)
            return registry
        other = world.registry(url=f"sqlite:///{tmp_path / f'lost-{next(numbers)}.db'}", **ACCEPTING)
        if request.param == "lost-and-rebuild":
            rebuild_registry(other)
        return other

    return read


SECRET = make_image("secret")


def push_sparse(registry: Registry, *tags: str) -> Pushed:
    """The manifest of the other repository's image, and nothing else of it."""
    push_manifest(registry, SECRET.manifest, *tags)
    return SECRET


def digest(blob: Blob) -> Digest:
    return Digest.parse(blob.digest)


def is_held(registry: Registry, blob: Blob | Digest, name: str = NAME) -> bool:
    try:
        pull_blob(registry, blob if isinstance(blob, Digest) else digest(blob), name)
    except (BlobUnknown, NameUnknown):
        return False
    return True


def has_manifest(registry: Registry, manifest: Manifest) -> bool:
    try:
        registry.manifests.read(registry.manifests.find(NAME, Digest.parse(manifest.digest)))
    except (ManifestUnknown, NameUnknown):
        return False
    return True


@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND])
@pytest.mark.parametrize("folded", [True, False])
def test_a_layer_that_was_withheld_is_not_granted_by_reading_storage_again(
    registry: Registry, again: Again, folded: bool
) -> None:
    push_sparse(registry, "v1")
    if folded:
        registry.fold_waiting()
    read = again(registry)
    assert pull(read, "v1", OTHER) == SECRET.digest
    assert has_manifest(read, SECRET.manifest)
    assert not is_held(read, SECRET.layer)
    assert not is_held(read, SECRET.config)


@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND])
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("mounted", [True, False])
def test_what_is_pushed_or_mounted_later_stays(registry: Registry, again: Again, folded: bool, mounted: bool) -> None:
    push_sparse(registry, "v1")
    if folded:
        registry.fold_waiting()
    if mounted:
        assert registry.blobs.mount(NAME, digest(SECRET.layer), OTHER)
    else:
        push_blob(registry, SECRET.layer.data)
    if folded:
        registry.fold_waiting()
    read = again(registry)
    assert is_held(read, SECRET.layer)
    assert not is_held(read, SECRET.config)


def test_what_another_manifest_finds_there_stays_when_the_one_that_lacked_it_is_gone(
    registry: Registry, again: Again
) -> None:
    push_sparse(registry, "v1")
    other = image(SECRET.config, [SECRET.layer], annotations={"x": "y"})
    push_blob(registry, SECRET.layer.data)
    push_blob(registry, SECRET.config.data)
    push_manifest(registry, other, "v2")
    registry.manifests.delete(NAME, SECRET.digest, actor=ACTOR)
    registry.fold_waiting()
    read = again(registry)
    assert pull(read, "v2") == Digest.parse(other.digest)


def test_a_deleted_manifest_leaves_nothing_withheld(registry: Registry, again: Again) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    registry.manifests.delete(NAME, SECRET.digest, actor=ACTOR)
    push_image(registry, "other", "v2")
    registry.fold_waiting()
    assert not stored(registry).withheld
    push_blob(registry, SECRET.layer.data)
    push_blob(registry, SECRET.config.data)
    push_manifest(registry, SECRET.manifest, "v1")
    assert pull(again(registry), "v1") == SECRET.digest


def test_a_foreign_layer_is_withheld_where_every_other_must_be_there(
    world: World, registry: Registry, again: Again
) -> None:
    strict = world.registry()
    elsewhere = SECRET.layer.descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar")
    config = Blob(b"config")
    push_blob(strict, config.data)
    push_manifest(strict, image(config, [], elsewhere=[elsewhere]), "v1")
    assert not is_held(again(strict), SECRET.layer)
    push_blob(strict, SECRET.layer.data)
    assert is_held(again(strict), SECRET.layer)


@pytest.mark.parametrize("folded", [True, False])
def test_a_manifest_that_was_withheld_is_none_until_it_is_pushed(
    registry: Registry, again: Again, folded: bool
) -> None:
    parent = index([SECRET.manifest])
    push_manifest(registry, parent, "multi")
    if folded:
        registry.fold_waiting()
    read = again(registry)
    if not registry.backends.layout.per_repository:
        assert not has_manifest(read, SECRET.manifest)
        assert not is_held(read, SECRET.digest)
    assert not is_held(read, SECRET.layer)
    push_sparse(registry)
    read = again(registry)
    assert has_manifest(read, SECRET.manifest)
    assert not is_held(read, SECRET.layer)


@pytest.mark.parametrize("kind", ["memory"])
def test_the_bytes_of_a_manifest_that_came_as_a_blob_grant_nothing_that_they_name(
    registry: Registry, again: Again
) -> None:
    push_blob(registry, SECRET.manifest.data)
    push_manifest(registry, index([SECRET.manifest]), "multi")
    push_manifest(registry, image(Blob(b"config"), [Blob(SECRET.manifest.data)]), "as-a-layer")
    registry.fold_waiting()
    read = again(registry)
    assert is_held(read, SECRET.digest)
    assert not is_held(read, SECRET.layer)


def test_a_release_before_that_folds_does_not_grant_it(registry: Registry, again: Again) -> None:
    push_sparse(registry, "v1")
    push_blob(registry, SECRET.config.data)
    registry.fold_waiting()
    key = registry.backends.layout.index(NAME)
    document = orjson.loads(registry.backends.driver.read(key, max_bytes=1 << 20)[0])
    document["annotations"] = {"io.stowage.folded": document["annotations"]["io.stowage.folded"]}
    data = orjson.dumps(document)
    stat = registry.backends.driver.write(key, data)
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        repositories.set_etag(connection, row.id, stat.etag)
    read = again(registry)
    assert not is_held(read, SECRET.layer)
    assert is_held(read, SECRET.config)
    push_image(read, "more", "v2")
    read.fold_waiting()
    assert stored(read).withheld.blobs == {digest(SECRET.layer)}
    assert stored(read).noted == stored(read).folded


def test_a_repository_that_the_release_before_wrote_loses_nothing(registry: Registry, again: Again) -> None:
    """Its records do not say what was missing: then nothing was."""
    push_sparse(registry, "v1")
    registry.blobs.mount(NAME, digest(SECRET.layer), OTHER)
    registry.blobs.mount(NAME, digest(SECRET.config), OTHER)
    registry.fold_waiting()
    write_as_before(registry)
    assert pull(again(registry), "v1") == SECRET.digest


def write_as_before(registry: Registry) -> None:
    """Have storage say what a release says that knows of nothing withheld."""
    driver, layout = registry.backends.driver, registry.backends.layout
    for key in [key for key, _ in driver.list(layout.journal(NAME))]:
        lines = [Record.parse(line) for line in driver.read(key, max_bytes=1 << 20)[0].splitlines()]
        nothing = Withheld()
        old = [replace(record, withheld=nothing, released=nothing).to_line() for record in lines]
        driver.write(key, b"".join(old))
    document = orjson.loads(driver.read(layout.index(NAME), max_bytes=1 << 20)[0])
    document["annotations"].pop(NOTED)
    document["annotations"].pop(WITHHELD, None)
    stat = driver.write(layout.index(NAME), orjson.dumps(document))
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        repositories.set_etag(connection, row.id, stat.etag)


@pytest.mark.parametrize("kind", [*KINDS, REAL_KIND])
@pytest.mark.parametrize("folded", [True, False])
def test_what_a_manifest_of_the_release_before_lacks_is_written_down_while_rows_tell_it(
    registry: Registry, again: Again, folded: bool
) -> None:
    push_sparse(registry, "v1")
    push_manifest(registry, index([make_image("absent").manifest]), "multi")
    registry.fold_waiting()
    write_as_before(registry)
    look_former(registry)
    complete(registry)
    if folded:
        registry.fold_waiting()
    read = again(registry)
    assert has_manifest(read, SECRET.manifest)
    assert not is_held(read, SECRET.layer)
    assert not is_held(read, SECRET.config)
    push_blob(read, SECRET.layer.data)
    read.fold_waiting()
    later = again(read)
    assert is_held(later, SECRET.layer)
    assert not is_held(later, SECRET.config)


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("moment", list(When))
def test_a_process_that_cannot_write_it_down_leaves_it_to_another(
    world: World, registry: Registry, tmp_path: Path, moment: When
) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    write_as_before(registry)
    look_former(registry)
    operation = "append" if registry.backends.driver.capabilities.appends else "write"
    fault = Fault(operation, "*/.journal/*", times=1, moment=moment)
    with pytest.raises(StorageError):
        complete(world.registry(driver=FaultyDriver(world.driver(), [fault])))
    world.clock.now += ABANDONED_SECONDS + 1
    registry.fold_waiting()
    lost = world.registry(url=f"sqlite:///{tmp_path / 'lost.db'}")
    rebuild_registry(lost)
    assert has_manifest(lost, SECRET.manifest)
    assert not is_held(lost, SECRET.layer)


@pytest.mark.parametrize("kind", ["memory"])
def test_it_is_written_down_once_changes_may_commit_again(registry: Registry) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    write_as_before(registry)
    look_former(registry)
    driver = registry.backends.driver.name
    with registry.backends.database.transaction() as connection:
        row = stores.find(connection, driver).get()
        assert row is not None
        stores.put(connection, row._replace(mode=stores.READ_ONLY, reason="a migration"))
    complete(registry)
    assert not stored(registry).withheld
    assert Completion(registry).is_needed
    with registry.backends.database.transaction() as connection:
        stores.put(connection, row)
    complete(registry)
    registry.fold_waiting()
    assert stored(registry).withheld.blobs == {digest(SECRET.layer), digest(SECRET.config)}


def test_what_the_release_before_took_in_is_written_down(world: World, registry: Registry, again: Again) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    with registry.backends.database.transaction() as connection:  # it knows neither these rows nor what they are for
        row = repositories.find(connection, NAME).get()
        assert row is not None
        kept = withheld.collected(withheld.of_repository(connection, row.id).get())
        withheld.remove_all(connection, row.id)
    push_blob(registry, SECRET.layer.data)
    with registry.backends.database.transaction() as connection:
        withheld.add(connection, row.id, kept)
    Arrivals(registry).run()
    read = again(registry)
    assert is_held(read, SECRET.layer)
    assert not is_held(read, SECRET.config)


@pytest.mark.parametrize("moment", list(When))
def test_a_kill_between_a_layer_and_its_record_loses_nothing_that_was_acknowledged(
    world: World, registry: Registry, tmp_path: Path, moment: When
) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    numbers = itertools.count()
    for done in crashes(world, lambda killed: push_blob(killed, SECRET.layer.data), moment):
        lost = world.registry(url=f"sqlite:///{tmp_path / f'killed-{next(numbers)}.db'}")
        rebuild_registry(lost)
        assert is_held(lost, SECRET.layer) or not done
        assert not is_held(lost, SECRET.config)
        if done:
            return


def test_a_push_that_is_repeated_is_answered_when_the_first_one_is_written_down(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    operation = "append" if registry.backends.driver.capabilities.appends else "write"
    failing = world.registry(driver=FaultyDriver(world.driver(), [Fault(operation, "*/.journal/*", times=1)]))
    with pytest.raises(StorageError):
        push_blob(failing, SECRET.layer.data)
    push_blob(failing, SECRET.layer.data)
    lost = world.registry(url=f"sqlite:///{tmp_path / 'lost.db'}")
    assert is_held(lost, SECRET.layer)
    world.clock.now += ABANDONED_SECONDS + 1
    registry.fold_waiting()
    assert stored(registry).withheld.blobs == {digest(SECRET.config)}


def test_an_upload_that_is_closed_once_more_is_answered_when_the_first_one_is_written_down(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    """Its session is gone with the transaction that made the blob a member; the record failed."""
    push_sparse(registry, "v1")
    registry.fold_waiting()
    operation = "append" if registry.backends.driver.capabilities.appends else "write"
    failing = world.registry(driver=FaultyDriver(world.driver(), [Fault(operation, "*/.journal/*", times=2)]))
    with pytest.raises(StorageError):
        push_blob(failing, SECRET.layer.data)
    with pytest.raises(StorageError):
        failing.blobs.require_written_down(NAME, digest(SECRET.layer))
    failing.blobs.require_written_down(NAME, digest(SECRET.layer))
    if not registry.backends.layout.per_repository:
        assert stored_withheld(world, tmp_path) == {digest(SECRET.config)}
    with pytest.raises(BlobUnknown):
        failing.blobs.require_written_down(NAME, digest(SECRET.config))


def stored_withheld(world: World, tmp_path: Path) -> frozenset[Digest]:
    """What a process finds withheld that has storage alone."""
    lost = world.registry(url=f"sqlite:///{tmp_path / 'storage-alone.db'}")
    row = lost.repositories.require(NAME)
    with lost.backends.database.snapshot() as connection:
        return withheld.collected(withheld.of_repository(connection, row.id).get()).blobs


def test_an_older_copy_of_the_database_learns_what_came_since(world: World, registry: Registry, tmp_path: Path) -> None:
    push_sparse(registry, "v1")
    registry.fold_waiting()
    old = copy_of(world, tmp_path / "old.db")
    push_blob(registry, SECRET.layer.data)
    registry.fold_waiting()
    read = world.registry(url=old, **ACCEPTING)
    rebuild_registry(read)
    assert is_held(read, SECRET.layer)
    assert not is_held(read, SECRET.config)


def test_a_layer_and_a_manifest_that_lacks_it_come_at_once(world: World, registry: Registry, tmp_path: Path) -> None:
    """Whichever is first: what the repository has in the end, it has after the database is lost."""
    for number in range(12):
        made = make_image(f"racing {number}")
        push_blob(registry, made.layer.data, OTHER)
        one, two = world.registry(**ACCEPTING), world.registry(**ACCEPTING)
        threads = [
            threading.Thread(target=push_manifest, args=(one, made.manifest, "v1")),
            threading.Thread(target=push_blob, args=(two, made.layer.data)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lost = world.registry(url=f"sqlite:///{tmp_path / f'lost-{number}.db'}")
        assert is_held(lost, made.layer)
        assert not is_held(lost, made.config)


def test_no_manifest_makes_a_record_of_any_size(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withholding, "MOST", 3)
    monkeypatch.setattr(withholding, "MOST_IN_REPOSITORY", 5)
    for tag in ("v1", "v2"):  # what is withheld already counts once
        push_manifest(registry, image(Blob(b"config"), [Blob(b"1"), Blob(b"2")]), tag)
    with pytest.raises(ManifestBlobUnknown, match="at most 3"):
        push_manifest(registry, image(Blob(b"config"), [Blob(b"1"), Blob(b"2"), Blob(b"3")]))
    with pytest.raises(ManifestBlobUnknown, match="at most 5"):
        push_manifest(registry, image(Blob(b"4"), [Blob(b"5"), Blob(b"6")]))


def stored(registry: Registry) -> Index:
    return Index.parse(registry.backends.driver.read(registry.backends.layout.index(NAME), max_bytes=1 << 20)[0])


def test_a_manifest_whose_record_is_still_to_come_is_granted_nothing(world: World, registry: Registry) -> None:
    """Its rows are committed, and storage does not say yet what they withhold."""
    operation = "append" if registry.backends.driver.capabilities.appends else "write"
    push_image(registry, "something", "v0")
    registry.fold_waiting()
    failing = world.registry(
        driver=FaultyDriver(world.driver(), [Fault(operation, "*/.journal/*", times=1)]), **ACCEPTING
    )
    with pytest.raises(StorageError):
        push_sparse(failing, "v1")
    rebuild_registry(registry)
    assert not is_held(registry, SECRET.layer)
    world.clock.now += ABANDONED_SECONDS + 1
    registry.folding.fold(NAME)
    rebuild_registry(registry)
    assert has_manifest(registry, SECRET.manifest)
    assert not is_held(registry, SECRET.layer)

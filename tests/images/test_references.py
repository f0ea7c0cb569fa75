"""References that a release before this one has left out are noted again, and lose nothing until then (I7, I13)."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.config.settings import Settings
from registry.database import references as reference_rows
from registry.database.statement import Statement
from registry.database.transaction import Later
from registry.images import blobs, references
from registry.images.registry import Registry
from registry.maintenance.completion import Completion
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unavailable, Unsupported
from registry.server.jobs import create_schedule
from registry.storage.errors import StorageError
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.images.publication.test_manifest_publication import CONFIG, DIGEST, ELSEWHERE, WAYS, push
from tests.support.payloads import Blob, Manifest, image, index
from tests.support.registry_world import ACTOR, NAME, World, pull_blob, push_blob, push_image, push_manifest

OTHER = "team/private"
ELSEWHERE_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

no_reals = pytest.mark.parametrize("kind", ["local", "memory"])
shared = pytest.mark.parametrize("kind", ["memory"])


@pytest.fixture(params=WAYS)
def made(request: pytest.FixtureRequest) -> Manifest:
    return image(CONFIG, [], elsewhere=[WAYS[request.param]])


def look_former(registry: Registry, *more: str) -> None:
    """Give the database the rows of a release that knows no optional references, and nothing of what is withheld."""
    known = (
        "DELETE FROM reference WHERE kind = 'optional'",
        "UPDATE manifest SET complete = 0",
        "DELETE FROM withheld",
    )
    with registry.backends.database.transaction() as connection:
        for sql in (*known, *more):
            connection.execute(Statement(sql), {})


def lose_memberships(registry: Registry) -> None:
    """As a release before this one, which fills its database from a bucket, for what it does not take in."""
    if not registry.backends.layout.per_repository:
        with registry.backends.database.transaction() as connection:
            blobs_alone = "DELETE FROM membership WHERE blob_id NOT IN (SELECT blob_id FROM manifest)"
            connection.execute(Statement(blobs_alone), {})


def complete(registry: Registry) -> Completion:
    """Run the job to the end of a round."""
    completion = Completion(registry)
    while completion.step():
        pass
    return completion


def naming(registry: Registry, digest: Digest) -> list[str]:
    row = registry.repositories.require(NAME)
    with registry.backends.database.autocommit() as connection:
        return reference_rows.referenced_by(connection, row.id, digest).get()


def count_incomplete(registry: Registry) -> int:
    with registry.backends.database.autocommit() as connection:
        return len(reference_rows.incomplete(connection, after=reference_rows.START, count=1000).get())


def is_held(registry: Registry, blob: Blob) -> bool:
    try:
        return pull_blob(registry, Digest.parse(blob.digest)) == blob.data
    except BlobUnknown:
        return False


def test_the_job_notes_what_was_left_out_once(registry: Registry, made: Manifest) -> None:
    digest = push(registry, made, ELSEWHERE)
    look_former(registry)
    assert not naming(registry, DIGEST)
    completion = complete(registry)
    assert naming(registry, DIGEST) == [digest]
    assert not completion.is_needed
    assert count_incomplete(registry) == 0


@no_reals
def test_what_an_index_lists_in_place_of_layers_is_noted_too(registry: Registry) -> None:
    push_blob(registry, ELSEWHERE.data)
    empty = index([])
    document = json.loads(empty.data) | {"manifests": [ELSEWHERE.descriptor(ELSEWHERE_TYPE)]}
    digest = push_manifest(registry, replace(empty, data=json.dumps(document).encode()), "cache")
    look_former(registry)
    complete(registry)
    assert naming(registry, DIGEST) == [digest]


def test_what_is_there_before_the_job_is_not_deleted_under_its_manifest(registry: Registry, made: Manifest) -> None:
    digest = push(registry, made, ELSEWHERE)
    unnamed = push_blob(registry, b"nothing names this")
    look_former(registry)
    with pytest.raises(Unsupported, match=digest):
        registry.blobs.delete(NAME, DIGEST)
    assert pull_blob(registry, DIGEST) == ELSEWHERE.data
    registry.blobs.delete(NAME, unnamed)
    registry.manifests.delete(NAME, digest, actor=ACTOR)
    registry.blobs.delete(NAME, DIGEST)
    assert not is_held(registry, ELSEWHERE)


def test_what_a_release_before_has_not_taken_from_storage_comes_back_by_a_rebuild(
    registry: Registry, made: Manifest
) -> None:
    push(registry, made, ELSEWHERE)
    registry.fold_waiting()
    look_former(registry)
    lose_memberships(registry)
    assert rebuild_registry(registry).problems == []
    assert pull_blob(registry, DIGEST) == ELSEWHERE.data
    with pytest.raises(Unsupported):
        registry.blobs.delete(NAME, DIGEST)


@shared
def test_the_job_before_the_rebuild_takes_nothing_from_it(registry: Registry, made: Manifest) -> None:
    push(registry, made, ELSEWHERE)
    look_former(registry)
    lose_memberships(registry)
    complete(registry)
    assert not is_held(registry, ELSEWHERE), "no right comes from a job that reads names"
    rebuild_registry(registry)
    assert is_held(registry, ELSEWHERE)


@shared
def test_a_rebuild_gives_back_nothing_that_a_release_before_has_taken_in(registry: Registry, made: Manifest) -> None:
    """It took in what manifests need: where a repository lacks that, it was withheld or deleted."""
    push(registry, made, ELSEWHERE)
    look_former(registry)
    lose_memberships(registry)
    rebuild_registry(registry)
    assert not is_held(registry, CONFIG)


def test_what_a_record_withholds_is_not_given_by_a_rebuild(registry: Registry, made: Manifest) -> None:
    push_blob(registry, ELSEWHERE.data, OTHER)
    push(registry, made)
    look_former(registry)
    for _ in range(2):
        rebuild_registry(registry)
        assert not is_held(registry, ELSEWHERE)
    push_blob(registry, ELSEWHERE.data)
    rebuild_registry(registry)
    assert is_held(registry, ELSEWHERE)


@shared
def test_what_a_manifest_names_and_lacks_while_a_rebuild_looks_is_withheld(
    registry: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild has seen that nothing withholds it, and then comes a manifest that does."""
    push(registry, made, ELSEWHERE)
    push_blob(registry, ELSEWHERE.data, OTHER)
    look_former(registry)
    lose_memberships(registry)
    lacking = reference_rows.lacking

    def look_and_push(*arguments: Any, **more: Any) -> Later[list[Digest]]:
        found = lacking(*arguments, **more)
        monkeypatch.setattr(reference_rows, "lacking", lacking)
        push_blob(registry, CONFIG.data)
        push_manifest(registry, image(CONFIG, [], elsewhere=[WAYS["foreign"]], annotations={"x": "y"}), "v2")
        return found

    monkeypatch.setattr(reference_rows, "lacking", look_and_push)
    rebuild_registry(registry)
    assert not is_held(registry, ELSEWHERE)


@no_reals
def test_a_job_that_was_killed_goes_on_from_where_it_was(
    world: World, registry: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "PAGE", 1)
    digest = push(registry, made, ELSEWHERE)
    for number in range(4):
        push_image(registry, str(number), f"v{number}", name=f"{NAME}/{number % 2}")
    look_former(registry)
    for left in (4, 3):
        Completion(world.registry()).step()
        assert count_incomplete(registry) == left
    complete(world.registry())
    assert naming(registry, DIGEST) == [digest]
    assert count_incomplete(registry) == 0


@no_reals
def test_large_manifests_are_read_one_by_one(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        push_image(registry, str(number), f"v{number}")
    look_former(registry)
    monkeypatch.setattr(references, "PAGE_BYTES", 10)
    assert Completion(registry).step()
    assert count_incomplete(registry) == 2


@no_reals
def test_a_store_that_fails_is_asked_again(world: World, registry: Registry, made: Manifest) -> None:
    digest = push(registry, made, ELSEWHERE)
    look_former(registry, "DELETE FROM manifest_body")
    failing = world.registry(driver=FaultyDriver(world.driver(), [Fault("read", f"*{digest.encoded}", times=1)]))
    completion = Completion(failing)
    with pytest.raises(StorageError):
        completion.step()
    assert completion.step()
    assert naming(registry, DIGEST) == [digest]


@no_reals
def test_a_deletion_does_not_read_for_ever(registry: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    push(registry, made, ELSEWHERE)
    unnamed = push_blob(registry, b"nothing names this")
    look_former(registry)
    monkeypatch.setattr(blobs, "READ_SECONDS", -1)
    with pytest.raises(Unavailable) as raised:
        registry.blobs.delete(NAME, unnamed)
    assert raised.value.headers["Retry-After"] == "5"
    complete(registry)
    registry.blobs.delete(NAME, unnamed)


@pytest.mark.parametrize("kind", ["local"])
def test_what_cannot_be_read_may_name_everything(registry: Registry, made: Manifest) -> None:
    push(registry, made, ELSEWHERE)
    broken = push_image(registry, "broken", "broken")
    look_former(registry)
    key = registry.backends.layout.blob(NAME, broken.digest)
    registry.backends.driver.write(key, b"?" * len(broken.manifest.data))
    complete(registry)
    assert count_incomplete(registry) == 1
    unnamed = push_blob(registry, b"nothing names this")
    with pytest.raises(Unsupported, match=f"may be needed by {broken.digest}"):
        registry.blobs.delete(NAME, unnamed)
    assert [problem for problem in rebuild_registry(registry).problems if broken.digest in problem]
    registry.manifests.delete(NAME, broken.digest, actor=ACTOR)
    registry.blobs.delete(NAME, unnamed)
    assert not Completion(registry).is_needed


@no_reals
def test_a_served_registry_does_the_job_behind_the_open_port(
    registry: Registry, made: Manifest, tmp_path: Path
) -> None:
    push(registry, made, ELSEWHERE)
    look_former(registry)
    schedule = create_schedule(registry, Settings.model_validate({"storage": {"root_directory": str(tmp_path)}}))
    schedule.start()
    try:
        deadline = time.monotonic() + 60
        while count_incomplete(registry):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        schedule.stop(10)

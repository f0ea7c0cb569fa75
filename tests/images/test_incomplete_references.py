"""References that a release before this one has left out are noted again, and lose nothing until then (I7, I13)."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.config import Settings
from registry.database import manifests as manifest_rows
from registry.database import references as reference_rows
from registry.database.statement import Statement
from registry.images import blobs, references
from registry.images.registry import Registry
from registry.maintenance.completion import Completion
from registry.maintenance.rebuild import rebuild_core
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unavailable, Unsupported
from registry.server import application
from registry.storage.errors import StorageError
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.images.test_layers_elsewhere import CONFIG, DIGEST, ELSEWHERE, WAYS, push
from tests.images.world import ACTOR, NAME, World, pull_blob, push_blob, push_image, push_manifest
from tests.support.payloads import Blob, Manifest, image, index

OTHER = "team/private"
ELSEWHERE_TYPE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

no_reals = pytest.mark.parametrize("kind", ["local", "memory"])
shared = pytest.mark.parametrize("kind", ["memory"])


@pytest.fixture(params=WAYS)
def made(request: pytest.FixtureRequest) -> Manifest:
    return image(CONFIG, [], elsewhere=[WAYS[request.param]])


def look_former(core: Registry, *more: str) -> None:
    """Give the database the rows of a release that knows no optional references, and nothing of what is withheld."""
    known = (
        "DELETE FROM reference WHERE kind = 'optional'",
        "UPDATE manifest SET complete = 0",
        "DELETE FROM withheld",
    )
    with core.stores.database.write() as connection:
        for sql in (*known, *more):
            connection.execute(Statement(sql), {})


def lose_memberships(core: Registry) -> None:
    """As a release before this one, which fills its database from a bucket, for what it does not take in."""
    if not core.stores.layout.per_repository:
        with core.stores.database.write() as connection:
            blobs_alone = "DELETE FROM membership WHERE blob_id NOT IN (SELECT blob_id FROM manifest)"
            connection.execute(Statement(blobs_alone), {})


def complete(core: Registry) -> Completion:
    """Run the job to the end of a round."""
    completion = Completion(core)
    while completion.step():
        pass
    return completion


def naming(core: Registry, digest: Digest) -> list[str]:
    row = core.repositories.require(NAME)
    with core.stores.database.look() as connection:
        return manifest_rows.referenced_by(connection, row.id, digest)


def count_incomplete(core: Registry) -> int:
    with core.stores.database.look() as connection:
        return len(reference_rows.incomplete(connection, after=reference_rows.START, count=1000))


def is_held(core: Registry, blob: Blob) -> bool:
    try:
        return pull_blob(core, Digest.parse(blob.digest)) == blob.data
    except BlobUnknown:
        return False


def test_the_job_notes_what_was_left_out_once(core: Registry, made: Manifest) -> None:
    digest = push(core, made, ELSEWHERE)
    look_former(core)
    assert not naming(core, DIGEST)
    completion = complete(core)
    assert naming(core, DIGEST) == [digest]
    assert not completion.is_needed
    assert count_incomplete(core) == 0


@no_reals
def test_what_an_index_lists_in_place_of_layers_is_noted_too(core: Registry) -> None:
    push_blob(core, ELSEWHERE.data)
    empty = index([])
    document = json.loads(empty.data) | {"manifests": [ELSEWHERE.descriptor(ELSEWHERE_TYPE)]}
    digest = push_manifest(core, replace(empty, data=json.dumps(document).encode()), "cache")
    look_former(core)
    complete(core)
    assert naming(core, DIGEST) == [digest]


def test_what_is_there_before_the_job_is_not_deleted_under_its_manifest(core: Registry, made: Manifest) -> None:
    digest = push(core, made, ELSEWHERE)
    unnamed = push_blob(core, b"nothing names this")
    look_former(core)
    with pytest.raises(Unsupported, match=digest):
        core.blobs.delete(NAME, DIGEST)
    assert pull_blob(core, DIGEST) == ELSEWHERE.data
    core.blobs.delete(NAME, unnamed)
    core.manifests.delete(NAME, digest, actor=ACTOR)
    core.blobs.delete(NAME, DIGEST)
    assert not is_held(core, ELSEWHERE)


def test_what_a_release_before_has_not_taken_from_storage_comes_back_by_a_rebuild(
    core: Registry, made: Manifest
) -> None:
    push(core, made, ELSEWHERE)
    core.fold_waiting()
    look_former(core)
    lose_memberships(core)
    assert rebuild_core(core).problems == []
    assert pull_blob(core, DIGEST) == ELSEWHERE.data
    with pytest.raises(Unsupported):
        core.blobs.delete(NAME, DIGEST)


@shared
def test_the_job_before_the_rebuild_takes_nothing_from_it(core: Registry, made: Manifest) -> None:
    push(core, made, ELSEWHERE)
    look_former(core)
    lose_memberships(core)
    complete(core)
    assert not is_held(core, ELSEWHERE), "no right comes from a job that reads names"
    rebuild_core(core)
    assert is_held(core, ELSEWHERE)


@shared
def test_a_rebuild_gives_back_nothing_that_a_release_before_has_taken_in(core: Registry, made: Manifest) -> None:
    """It took in what manifests need: where a repository lacks that, it was withheld or deleted."""
    push(core, made, ELSEWHERE)
    look_former(core)
    lose_memberships(core)
    rebuild_core(core)
    assert not is_held(core, CONFIG)


def test_what_a_record_withholds_is_not_given_by_a_rebuild(core: Registry, made: Manifest) -> None:
    push_blob(core, ELSEWHERE.data, OTHER)
    push(core, made)
    look_former(core)
    for _ in range(2):
        rebuild_core(core)
        assert not is_held(core, ELSEWHERE)
    push_blob(core, ELSEWHERE.data)
    rebuild_core(core)
    assert is_held(core, ELSEWHERE)


@shared
def test_what_a_manifest_names_and_lacks_while_a_rebuild_looks_is_withheld(
    core: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild has seen that nothing withholds it, and then comes a manifest that does."""
    push(core, made, ELSEWHERE)
    push_blob(core, ELSEWHERE.data, OTHER)
    look_former(core)
    lose_memberships(core)
    lacking = reference_rows.lacking

    def look_and_push(*arguments: Any, **more: Any) -> list[Digest]:
        found = lacking(*arguments, **more)
        monkeypatch.setattr(reference_rows, "lacking", lacking)
        push_blob(core, CONFIG.data)
        push_manifest(core, image(CONFIG, [], elsewhere=[WAYS["foreign"]], annotations={"x": "y"}), "v2")
        return found

    monkeypatch.setattr(reference_rows, "lacking", look_and_push)
    rebuild_core(core)
    assert not is_held(core, ELSEWHERE)


@no_reals
def test_a_job_that_was_killed_goes_on_from_where_it_was(
    world: World, core: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "PAGE", 1)
    digest = push(core, made, ELSEWHERE)
    for number in range(4):
        push_image(core, str(number), f"v{number}", name=f"{NAME}/{number % 2}")
    look_former(core)
    for left in (4, 3):
        Completion(world.core()).step()
        assert count_incomplete(core) == left
    complete(world.core())
    assert naming(core, DIGEST) == [digest]
    assert count_incomplete(core) == 0


@no_reals
def test_large_manifests_are_read_one_by_one(core: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        push_image(core, str(number), f"v{number}")
    look_former(core)
    monkeypatch.setattr(references, "PAGE_BYTES", 10)
    assert Completion(core).step()
    assert count_incomplete(core) == 2


@no_reals
def test_a_store_that_fails_is_asked_again(world: World, core: Registry, made: Manifest) -> None:
    digest = push(core, made, ELSEWHERE)
    look_former(core, "DELETE FROM manifest_body")
    failing = world.core(driver=FaultyDriver(world.driver(), [Fault("read", f"*{digest.encoded}", times=1)]))
    completion = Completion(failing)
    with pytest.raises(StorageError):
        completion.step()
    assert completion.step()
    assert naming(core, DIGEST) == [digest]


@no_reals
def test_a_deletion_does_not_read_for_ever(core: Registry, made: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    push(core, made, ELSEWHERE)
    unnamed = push_blob(core, b"nothing names this")
    look_former(core)
    monkeypatch.setattr(blobs, "READ_SECONDS", -1)
    with pytest.raises(Unavailable) as raised:
        core.blobs.delete(NAME, unnamed)
    assert raised.value.headers["Retry-After"] == "5"
    complete(core)
    core.blobs.delete(NAME, unnamed)


@pytest.mark.parametrize("kind", ["local"])
def test_what_cannot_be_read_may_name_everything(core: Registry, made: Manifest) -> None:
    push(core, made, ELSEWHERE)
    broken = push_image(core, "broken", "broken")
    look_former(core)
    key = core.stores.layout.blob(NAME, broken.digest)
    core.stores.driver.write(key, b"?" * len(broken.manifest.data))
    complete(core)
    assert count_incomplete(core) == 1
    unnamed = push_blob(core, b"nothing names this")
    with pytest.raises(Unsupported, match=f"may be needed by {broken.digest}"):
        core.blobs.delete(NAME, unnamed)
    assert [problem for problem in rebuild_core(core).problems if broken.digest in problem]
    core.manifests.delete(NAME, broken.digest, actor=ACTOR)
    core.blobs.delete(NAME, unnamed)
    assert not Completion(core).is_needed


@no_reals
def test_a_served_registry_does_the_job_behind_the_open_port(core: Registry, made: Manifest, tmp_path: Path) -> None:
    push(core, made, ELSEWHERE)
    look_former(core)
    schedule = application._background(core, Settings.model_validate({"storage": {"root_directory": str(tmp_path)}}))
    schedule.start()
    try:
        deadline = time.monotonic() + 60
        while count_incomplete(core):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        schedule.stop(10)

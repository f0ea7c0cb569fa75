"""What is attached to a manifest goes with it: referrers, their lists, and what clients keep under its digest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from registry.config.access_sections import ImmutableSettings
from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.images.trash import manifest_deletion
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, Unsupported
from registry.oci.immutable_tags import ImmutableTags
from tests.support.failing_statement import failing
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.payloads import Manifest, index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    Pushed,
    World,
    is_there,
    make_image,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)


def attach(registry: Registry, subject: Manifest, text: str, *names: str) -> Pushed:
    made = make_image(text, subject=subject)
    for blob in (made.config, made.layer):
        push_blob(registry, blob.data)
    push_manifest(registry, made.manifest, *names)
    return made


def prefix(manifest: Manifest) -> str:
    return manifest.digest.replace(":", "-")


def delete(registry: Registry, manifest: Manifest) -> None:
    registry.manifests.delete(NAME, Digest.parse(manifest.digest), actor=ACTOR)


def test_a_chain_goes_with_its_image(registry: Registry) -> None:
    """Check 9, the half of deletion: image, SBOM, its signature, a tag of cosign, the lists under the fallback tag."""
    image = push_image(registry, "image", "v1").manifest
    sbom = attach(registry, image, "sbom").manifest
    signature = attach(registry, sbom, "signature").manifest
    cosign = push_image(registry, "cosign", f"{prefix(image)}.sig").manifest
    push_manifest(registry, former := index([sbom]), prefix(image))
    second = attach(registry, image, "another").manifest
    push_manifest(registry, listed := index([sbom, second]), prefix(image))
    other = push_image(registry, "other", "v2").manifest
    delete(registry, image)
    gone = [image, sbom, second, signature, cosign, former, listed]
    assert [is_there(registry, each) for each in gone] == [False] * len(gone)
    assert is_there(registry, other)
    assert tags(registry) == ["v2"]
    registry.fold_waiting()
    assert list(read_index(registry).manifests()) == [Digest.parse(other.digest)]


def test_what_has_a_root_of_its_own_stays(registry: Registry) -> None:
    image = push_image(registry, "image", "v1").manifest
    tagged = attach(registry, image, "tagged", "sbom-of-v1").manifest
    listed = attach(registry, image, "listed").manifest
    push_manifest(registry, bundle := index([listed]), "bundle")
    below = attach(registry, listed, "below").manifest
    delete(registry, image)
    assert [is_there(registry, each) for each in (tagged, listed, bundle, below)] == [True] * 4
    assert tags(registry) == ["bundle", "sbom-of-v1"]


def test_an_immutable_signature_stays(world: World) -> None:
    rule = ImmutableSettings(repositories=("**",), tags=("sha256-*",))
    world.policy = replace(world.policy, immutable=ImmutableTags([rule]))
    registry = world.registry()
    image = push_image(registry, "image", "v1").manifest
    cosign = push_image(registry, "cosign", f"{prefix(image)}.sig").manifest
    delete(registry, image)
    assert not is_there(registry, image)
    assert is_there(registry, cosign)


def test_manifests_that_are_attached_to_each_other_go_together(registry: Registry) -> None:
    """No client can push such a circle by digests; tags of cosign can make one."""
    first = push_image(registry, "first", "v1").manifest
    second = push_image(registry, "second", f"{prefix(first)}.sig").manifest
    push_manifest(registry, first, f"{prefix(second)}.sig")
    delete(registry, first)
    assert not is_there(registry, second)
    with pytest.raises(ManifestUnknown):
        delete(registry, second)


@pytest.fixture(name="few")
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_deletion, "AT_ONCE", 3)


def attach_many(registry: Registry, image: Pushed, count: int) -> list[Manifest]:
    """Referrers of an image, every other one with a signature of its own, and a list of them."""
    made = []
    for number in range(count):
        sbom = attach(registry, image.manifest, f"sbom {number}").manifest
        made.append(sbom)
        if number % 2:
            made.append(attach(registry, sbom, f"signature {number}").manifest)
    push_manifest(registry, listed := index(made[:4]), prefix(image.manifest))
    return [*made, listed]


def subject_of(manifest: Manifest) -> str | None:
    """The digest of the subject of a manifest."""
    subject: dict[str, str] = json.loads(manifest.data).get("subject", {})
    return subject.get("digest")


@pytest.mark.usefixtures("few")
def test_many_attachments_go_some_at_a_time_and_come_back_together(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "image", "v1")
    attached = attach_many(registry, image, 8)
    found: list[int] = []
    remove = manifest_deletion.ManifestDeletion._remove_all

    def count(self: Any, *arguments: Any) -> Any:
        allotted = remove(self, *arguments)
        found.append(len(allotted))
        return allotted

    monkeypatch.setattr(manifest_deletion.ManifestDeletion, "_remove_all", count)
    delete(registry, image.manifest)
    assert sum(found) == len(attached) + 1
    assert max(found) <= 4
    assert not any(is_there(registry, each) for each in (image.manifest, *attached))
    registry.fold_waiting()
    assert list(read_index(registry).manifests()) == []
    back = registry.restoration.last(NAME, actor=ACTOR)
    assert {restored.digest for restored in back} == {image.digest, *(Digest.parse(each.digest) for each in attached)}
    assert all(is_there(registry, each) for each in (image.manifest, *attached))


@pytest.mark.usefixtures("few")
def test_a_deletion_that_is_killed_between_leaves_an_image_that_the_next_deletes(
    world: World, registry: Registry
) -> None:
    """At each of its steps: the image goes last, and what has a signature goes after that."""
    at, is_killed = 0, True
    while is_killed:
        at += 1
        image = push_image(registry, f"image {at}", "v1")
        attached = attach_many(registry, image, 5)
        registry.fold_waiting()
        doom = Doom(at)
        database = DyingDatabase(world.url, doom, world.clocks())
        dying = Registry(Backends(DyingDriver(world.driver(), doom), database, world.policy, clock=world.clock))
        is_killed = False
        try:
            delete(dying, image.manifest)
        except Killed:
            is_killed = True
        finally:
            dying.close()
        world.clock.now += 60  # another process records what it has left
        again = world.registry()
        if is_there(again, image.manifest):
            delete(again, image.manifest)
        assert not any(is_there(again, each) for each in (image.manifest, *attached)), at
        again.fold_waiting()
        assert list(read_index(again).manifests()) == [], at
    assert at > 5


@pytest.mark.usefixtures("few")
def test_what_changes_while_attachments_are_deleted_is_seen(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gets a name of its own, one a signature, and the image one more."""
    image = push_image(registry, "image", "v1")
    attached = attach_many(registry, image, 8)
    sboms = [each for each in attached if subject_of(each) == image.manifest.digest]
    mine, signed = sboms[-1], sboms[-3]
    made: list[Manifest] = []
    plan = manifest_deletion.ManifestDeletion._plan

    def planned(self: Any, *arguments: Any, most: float, **more: Any) -> Any:
        found = plan(self, *arguments, most=most, **more)
        if most > 100 and not made:
            push_manifest(registry, mine, "mine")
            made.append(attach(registry, signed, "late signature").manifest)
            made.append(attach(registry, image.manifest, "late").manifest)
        return found

    monkeypatch.setattr(manifest_deletion.ManifestDeletion, "_plan", planned)
    delete(registry, image.manifest)
    assert made
    assert tags(registry) == ["mine"]
    left = [each for each in (image.manifest, *made, *attached) if is_there(registry, each)]
    assert [each for each in left if subject_of(each) != mine.digest] == [mine]


@pytest.mark.usefixtures("few")
def test_an_image_that_is_listed_meanwhile_stays_with_what_is_left(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = push_image(registry, "image", "v1")
    attached = attach_many(registry, image, 8)
    publication = registry.manifests.deletion._publication
    record, bundle = publication.record, index([image.manifest])

    def list_it(change: Any) -> Any:
        record(change)
        if not is_there(registry, bundle):
            push_manifest(registry, bundle, "bundle")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "record", list_it)
        with pytest.raises(Unsupported):
            delete(registry, image.manifest)
    assert is_there(registry, image.manifest)
    assert sum(is_there(registry, each) for each in attached) == len(attached) - 3
    assert len(registry.restoration.last(NAME, actor=ACTOR)) == 3
    assert all(is_there(registry, each) for each in attached)


def statements_of_a_deletion(registry: Registry, count: int) -> int:
    """How many it takes to delete an image with a chain of lists of its referrers, the last of which a user has named.

    Each stays because the one after it does.
    """
    image = push_image(registry, f"image of {count}", f"v{count}")
    made: list[Manifest] = []
    for number in range(count):
        made.append(index(made[-1:], subject=image.manifest, annotations={"number": str(number)}))
        push_manifest(registry, made[-1], *([f"mine-{count}"] if number == count - 1 else []))
    with failing(0) as statements:
        delete(registry, image.manifest)
    assert all(is_there(registry, each) for each in made)
    return statements[0]


@pytest.mark.usefixtures("few")
def test_the_work_of_a_deletion_grows_as_what_is_attached_and_no_faster(registry: Registry) -> None:
    assert statements_of_a_deletion(registry, 24) < 4 * statements_of_a_deletion(registry, 8)


@pytest.mark.usefixtures("few")
def test_what_stays_is_not_looked_at_while_others_wait(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    image = push_image(registry, "image", "v1")
    kept = [attach(registry, image.manifest, f"sbom {number}", f"mine-{number}").manifest for number in range(30)]
    gone = attach(registry, image.manifest, "another").manifest
    found: list[int] = []
    remove = manifest_deletion.ManifestDeletion._delete

    def count(self: Any, *arguments: Any, **more: Any) -> Any:
        with failing(0) as statements:
            try:
                return remove(self, *arguments, **more)
            finally:
                found.append(statements[0])

    monkeypatch.setattr(manifest_deletion.ManifestDeletion, "_delete", count)
    delete(registry, image.manifest)
    assert all(is_there(registry, each) for each in kept)
    assert not is_there(registry, gone)
    assert max(found) < 40

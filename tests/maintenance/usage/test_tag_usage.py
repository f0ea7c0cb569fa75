"""What a tag takes and would free: its closure, without what another root, repository or the trash keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.config.access_sections import ImmutableSettings
from registry.images.registry import Registry
from registry.maintenance.usage.tag_usage import TagFigures
from registry.maintenance.usage.usage import Usage
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.oci.immutable_tags import ImmutableTags
from tests.images.trash.test_attachments import attach, prefix
from tests.maintenance.usage.test_repository_usage import size_of
from tests.support.payloads import Blob, Manifest, image, index
from tests.support.registry_world import ACTOR, NAME, World, make_image, push_blob, push_image, push_manifest


def of_tag(registry: Registry, tag: str) -> TagFigures:
    return Usage(registry).manifest(NAME, tag, tag)


def of_manifest(registry: Registry, manifest: Manifest) -> TagFigures:
    return Usage(registry).manifest(NAME, Digest.parse(manifest.digest), None)


def told(figures: TagFigures) -> tuple[int, int, int]:
    return figures.bytes, figures.manifests, figures.frees


def on_base(registry: Registry, base: Blob, text: str, *names: str) -> int:
    """Push an image over a base layer; bytes of all but that."""
    made = make_image(text)
    for blob in (base, made.config, made.layer):
        push_blob(registry, blob.data)
    manifest = image(made.config, [base, made.layer])
    push_manifest(registry, manifest, *names)
    return len(manifest.data) + len(made.config.data) + len(made.layer.data)


def test_an_image_of_its_own_goes_whole(registry: Registry) -> None:
    size = size_of(push_image(registry, "one", "v1"))
    assert told(of_tag(registry, "v1")) == (size, 1, size)


def test_what_another_image_names_stays(registry: Registry) -> None:
    base = Blob(b"base" * 100)
    first, second = (on_base(registry, base, text, text) for text in ("one", "two"))
    assert told(of_tag(registry, "one")) == (first + 400, 1, first)
    registry.manifests.delete(NAME, Digest.parse(of_tag(registry, "two").digest), actor=ACTOR)
    registry.fold_waiting()
    assert told(of_tag(registry, "one")) == (first + 400, 1, first), "the trash needs the base"
    assert second


def test_a_second_tag_keeps_all_and_is_named(registry: Registry) -> None:
    made = push_image(registry, "one", "v1", "v2")
    found = of_tag(registry, "v1")
    assert (told(found), found.kept_by) == ((size_of(made), 0, 0), ("v2",))
    assert told(of_manifest(registry, made.manifest)) == (size_of(made), 1, size_of(made))


def test_what_was_restored_is_not_kept_by_the_trash(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    registry.manifests.delete(NAME, made.digest, actor=ACTOR)
    registry.fold_waiting()
    registry.restoration.last(NAME, actor=ACTOR)
    registry.fold_waiting()
    found = of_tag(registry, "v1")
    assert found.frees == found.bytes >= size_of(made)


def test_what_another_repository_has_stays(registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    push_image(registry, "one", "v1", name="other/app")
    assert told(of_tag(registry, "v1")) == (size_of(made), 1, 0)


def test_an_index_goes_with_its_children_and_what_is_attached_to_these(registry: Registry) -> None:
    first, second = (push_image(registry, text) for text in ("one", "two"))
    push_manifest(registry, listed := index([first.manifest, second.manifest]), "all")
    signature = attach(registry, listed, "signature")
    child_signature = attach(registry, first.manifest, "of a child")
    cosign = push_image(registry, "cosign", f"{prefix(listed)}.sig")
    push_image(registry, "apart", "apart")
    size = len(listed.data) + sum(map(size_of, (first, second, signature, child_signature, cosign)))
    assert told(of_tag(registry, "all")) == (size, 6, size)


def test_a_child_with_a_tag_or_in_another_index_stays_with_its_attachments(registry: Registry) -> None:
    first, second, third = (push_image(registry, text) for text in ("one", "two", "three"))
    push_manifest(registry, first.manifest, "own")
    attached = attach(registry, first.manifest, "signature")
    push_manifest(registry, listed := index([first.manifest, second.manifest, third.manifest]), "all")
    push_manifest(registry, index([second.manifest]), "fewer")
    size = len(listed.data) + sum(map(size_of, (first, second, third, attached)))
    assert told(of_tag(registry, "all")) == (size, 2, len(listed.data) + size_of(third))
    assert told(of_manifest(registry, second.manifest))[1:] == (0, 0), "an index lists it"


def test_an_immutable_signature_stays(world: World) -> None:
    rule = ImmutableSettings(repositories=("**",), tags=("sha256-*",))
    world.policy = replace(world.policy, immutable=ImmutableTags([rule]))
    registry = world.registry()
    made = push_image(registry, "one", "v1")
    push_image(registry, "cosign", f"{prefix(made.manifest)}.sig")
    assert told(of_tag(registry, "v1"))[1:] == (1, size_of(made))


def test_what_is_not_there_is_unknown(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    with pytest.raises(ManifestUnknown):
        of_tag(registry, "v2")


@pytest.mark.parametrize("page", [1, 500])
def test_pages_do_not_change_what_is_found(registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("registry.database.usage.blobs.PAGE", page)
    base = Blob(b"base" * 100)
    sizes = [on_base(registry, base, text, text) for text in ("one", "two")]
    assert told(of_tag(registry, "one")) == (sizes[0] + 400, 1, sizes[0])

"""Tags that stay what they are: for every caller, by every way, and where two push at once (check 20 of access)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.config.access_sections import ImmutableSettings
from registry.config.settings import Settings
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, TagImmutable
from registry.oci.immutable_tags import ImmutableTags
from tests.support.interpreter_steps import steps
from tests.support.payloads import Blob, Manifest, image

NAME = "team/app"
IMAGES = [image(Blob(b"{}"), [], annotations={"number": str(number)}) for number in range(8)]
ACCESS = {
    "immutable": [
        {"repositories": ["team/**"], "tags": ["v*", "latest"], "except": ["v*-rc*"]},
        {"repositories": ["team/**"], "tags": ["old*"], "delete": True},
    ]
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    given: dict[str, Any] = {
        "storage": {"root_directory": tmp_path, "fsync": False},
        "manifests": {"missing_blobs": "accept"},
        "access": ACCESS,
    }
    opened = Registry.open(Settings(**given))
    yield opened
    opened.close()


def push(registry: Registry, manifest: Manifest, *tags: str, name: str = NAME) -> None:
    digest = Digest.parse(manifest.digest)
    registry.manifests.put(name, manifest.data, manifest.media_type, digest=digest, tags=tags, actor="test")


def digest_of(registry: Registry, tag: str, name: str = NAME) -> str:
    return registry.manifests.find(name, tag).digest


@pytest.mark.parametrize("tag", ["v1", "latest", "old"])
def test_a_tag_keeps_its_digest_and_the_refusal_says_both(registry: Registry, tag: str) -> None:
    push(registry, IMAGES[0], tag)
    push(registry, IMAGES[0], tag)
    with pytest.raises(TagImmutable, match=f"{tag} .*{IMAGES[0].digest}.*{IMAGES[1].digest}"):
        push(registry, IMAGES[1], tag)
    assert digest_of(registry, tag) == IMAGES[0].digest


@pytest.mark.parametrize(("name", "tag"), [(NAME, "v1-rc1"), (NAME, "main"), ("other/app", "v1"), ("team", "w1")])
def test_other_tags_move(registry: Registry, name: str, tag: str) -> None:
    push(registry, IMAGES[0], tag, name=name)
    push(registry, IMAGES[1], tag, name=name)
    assert digest_of(registry, tag, name) == IMAGES[1].digest


def test_a_push_that_sets_one_immutable_tag_among_others_changes_nothing(registry: Registry) -> None:
    push(registry, IMAGES[0], "v1", "main")
    with pytest.raises(TagImmutable):
        push(registry, IMAGES[1], "main", "new", "v1")
    assert digest_of(registry, "main") == IMAGES[0].digest
    for reference in ("new", Digest.parse(IMAGES[1].digest)):
        with pytest.raises(ManifestUnknown):
            registry.manifests.find(NAME, reference)


def test_of_pushes_of_a_new_tag_at_the_same_time_one_is_taken(registry: Registry) -> None:
    def attempt(manifest: Manifest) -> bool:
        try:
            push(registry, manifest, "v1")
        except TagImmutable:
            return False
        return True

    with ThreadPoolExecutor(len(IMAGES)) as pool:
        taken = list(pool.map(attempt, IMAGES))
    assert taken.count(True) == 1
    assert digest_of(registry, "v1") == IMAGES[taken.index(True)].digest


def test_a_tag_and_its_manifest_are_removed_only_where_that_is_allowed(registry: Registry) -> None:
    push(registry, IMAGES[0], "v1", "main")
    push(registry, IMAGES[1], "old1")
    push(registry, IMAGES[2], "old2")
    said = f"v1 .*{IMAGES[0].digest}"
    with pytest.raises(TagImmutable, match=said):
        registry.manifests.untag(NAME, "v1", actor="test")
    with pytest.raises(TagImmutable, match=said):
        registry.manifests.delete(NAME, Digest.parse(IMAGES[0].digest), actor="test")
    assert digest_of(registry, "v1") == IMAGES[0].digest
    assert registry.manifests.untag(NAME, "main", actor="test")
    assert registry.manifests.untag(NAME, "old1", actor="test")
    assert registry.manifests.delete(NAME, Digest.parse(IMAGES[2].digest), actor="test")


def test_the_first_of_many_tags_that_may_not_go_is_named_and_none_costs_a_call_where_there_are_no_rules() -> None:
    """A manifest may have thousands of tags, and the database is locked meanwhile."""
    many = dict.fromkeys((f"x{number}" for number in range(1000)), "sha256:1")
    tags = ImmutableTags()
    assert steps(lambda: tags.check_removal(NAME, many)).calls < 1100
    tags.take([ImmutableSettings(repositories=("team/**",), tags=("v*",))])
    tags.check_removal(NAME, many)
    tags.check_removal("other/app", many | {"v1": "sha256:2"})
    with pytest.raises(TagImmutable, match="v1") as caught:
        tags.check_removal(NAME, many | {"v1": "sha256:2", "v2": "sha256:3"})
    assert caught.value.detail == {"tag": "v1", "digest": "sha256:2"}

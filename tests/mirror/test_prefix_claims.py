"""A mirror has its prefix for itself, or the registry does not start (check 22 of mirrors)."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config.mirror_sections import MirrorSettings
from registry.images.registry import Registry
from registry.mirror.prefix_claims import CLAIMS, PrefixTaken, claim_prefixes
from registry.storage.errors import StorageUnavailable
from tests.support.registry_world import World, push_image


def mirror(name: str = "hub", prefix: str = "docker.io") -> MirrorSettings:
    return MirrorSettings.model_validate({"name": name, "prefix": prefix, "url": ["https://hub.example.org"]})


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry()


def test_a_new_prefix_is_claimed_once(registry: Registry) -> None:
    for _ in range(2):
        claim_prefixes(registry, [mirror(), mirror("partner", "mirrors/partner")])
    data, _ = registry.backends.driver.read(f"{CLAIMS}/mirrors/partner.json", max_bytes=100)
    assert data == b'{"mirror": "partner"}\n'


def test_a_prefix_with_a_repository_of_clients_is_refused_by_its_name(registry: Registry) -> None:
    push_image(registry, "one", "v1", name="docker.io.old/app")
    push_image(registry, "one", "v1", name="docker.io/team/app")
    with pytest.raises(PrefixTaken, match=r"has the repository docker\.io/team.* give the mirror another prefix"):
        claim_prefixes(registry, [mirror()])
    claim_prefixes(registry, [mirror(prefix="mirrors/hub")])


def test_a_new_database_does_not_hide_a_repository(world: World, registry: Registry) -> None:
    push_image(registry, "one", "v1", name="docker.io/team/app")
    registry.fold_waiting()
    with pytest.raises(PrefixTaken, match=r"docker\.io/team"):
        claim_prefixes(world.registry(url=world.another()), [mirror()])


def test_a_repository_with_the_name_of_the_prefix_is_not_below_it(registry: Registry) -> None:
    push_image(registry, "one", "v1", name="docker.io")
    claim_prefixes(registry, [mirror()])


def test_what_came_from_a_mirror_stays_its_own(registry: Registry) -> None:
    claim_prefixes(registry, [mirror()])
    push_image(registry, "one", "v1", name="docker.io/library/app")
    claim_prefixes(registry, [mirror()])
    with pytest.raises(PrefixTaken, match="came from the mirror hub"):
        claim_prefixes(registry, [mirror("other")])


def test_a_claim_that_is_not_understood_is_no_claim_of_ours(registry: Registry) -> None:
    registry.backends.driver.write(f"{CLAIMS}/docker.io.json", b"[]")
    with pytest.raises(PrefixTaken, match="is not understood"):
        claim_prefixes(registry, [mirror()])


def test_a_storage_that_does_not_answer_does_not_keep_the_registry_from_starting(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_arguments: Any, **_options: Any) -> None:
        raise StorageUnavailable("a key", "it is away")

    monkeypatch.setattr(registry.backends.driver, "read", read)
    claim_prefixes(registry, [mirror()])

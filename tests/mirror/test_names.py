"""Every entrance means one repository, and no client can name a host that the settings do not."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config.mirror_sections import MirrorSettings, check_mirrors
from registry.mirror.names import MirrorNames, is_docker_hub
from registry.oci.errors import NameInvalid


def settings(**keys: Any) -> MirrorSettings:
    return MirrorSettings.model_validate({"url": ["https://hub.example.org"], **keys})


HUB = settings(
    name="hub", prefix="docker.io", namespaces=["docker.io"], hosts=["hub.example.org", "m.example.org:5000"]
)
OTHER = settings(name="other", prefix="mirrors/other", namespaces=["other.example.org:5000"])
NAMES = MirrorNames(check_mirrors((HUB, OTHER)))


@pytest.mark.parametrize(
    ("repository", "mirror", "here", "upstream"),
    [
        ("docker.io/library/app", "hub", "docker.io/library/app", "library/app"),
        ("docker.io/app", "hub", "docker.io/library/app", "library/app"),
        ("docker.io/team/app", "hub", "docker.io/team/app", "team/app"),
        ("mirrors/other/app", "other", "mirrors/other/app", "app"),
        ("mirrors/other/a/b/c", "other", "mirrors/other/a/b/c", "a/b/c"),
    ],
)
def test_a_name_below_a_prefix_is_that_of_the_mirror(repository: str, mirror: str, here: str, upstream: str) -> None:
    found = NAMES.find(repository)
    assert found is not None
    assert (found.mirror.name, found.repository, found.upstream) == (mirror, here, upstream)
    assert NAMES.find(found.repository) == found, "the mapped name is one that means itself"
    assert NAMES.below(found.mirror, repository.removeprefix(f"{found.mirror.prefix}/")) == found


@pytest.mark.parametrize(
    "repository", ["docker.io", "docker.iox/app", "library/app", "team/docker.io/app", "mirrors/app"]
)
def test_any_other_name_is_of_this_registry_alone(repository: str) -> None:
    assert NAMES.find(repository) is None


@pytest.mark.parametrize("name", ["blobs", "app/blobs", "App", "a" * 250])
def test_a_name_that_no_repository_can_have_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        NAMES.below(HUB, name)


@pytest.mark.parametrize(
    ("namespace", "mirror"),
    [
        ("docker.io", HUB),
        ("Index.Docker.IO:443", HUB),
        ("registry-1.docker.io", HUB),
        ("other.example.org:5000", OTHER),
        ("other.example.org", None),
        ("hub.example.org", None),
        ("169.254.169.254", None),
        ("", None),
    ],
)
def test_a_namespace_is_looked_up_and_never_an_address(namespace: str, mirror: MirrorSettings | None) -> None:
    assert NAMES.of_namespace(namespace) is mirror


@pytest.mark.parametrize(
    ("host", "mirror"),
    [
        ("hub.example.org", HUB),
        ("HUB.example.org:8443", HUB),
        ("m.example.org:5000", HUB),
        ("m.example.org", None),
        ("m.example.org:443", None),
        ("other.example.org", None),
        ("", None),
    ],
)
def test_a_host_is_one_of_the_settings(host: str, mirror: MirrorSettings | None) -> None:
    assert NAMES.of_host(host) is mirror


def test_a_mirror_is_found_by_its_own_name() -> None:
    assert NAMES.of_name("other") is OTHER
    assert NAMES.of_name("docker.io") is None


@pytest.mark.parametrize(
    ("keys", "is_hub"),
    [
        ({}, False),
        ({"namespaces": ["docker.io"]}, True),
        ({"url": ["https://registry-1.docker.io"]}, True),
        ({"url": ["https://cache.example.org", "https://index.docker.io"]}, True),
        ({"url": ["https://docker.io.example.org"]}, False),
    ],
)
def test_docker_hub_is_known_by_its_namespace_or_its_address(keys: dict[str, Any], is_hub: bool) -> None:
    assert is_docker_hub(settings(name="hub", prefix="hub", **keys)) is is_hub

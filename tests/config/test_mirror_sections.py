"""Mirrors that cannot be meant, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from registry.config.file import Sources
from registry.config.mirror_sections import Mirrors, MirrorSettings
from registry.config.mistakes import problems_of
from registry.config.settings import Settings

HUB: dict[str, Any] = {"name": "hub", "url": ["https://hub.example.org"], "prefix": "docker.io"}
OTHER: dict[str, Any] = {"name": "other", "url": ["https://other.example.org"], "prefix": "other.example.org"}


def said_of(section: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        MirrorSettings.model_validate(section)
    found = problems_of(raised.value, MirrorSettings, Sources({}))
    return "\n".join(f"{problem.key}: {problem.message}" for problem in found)


def parsed(*sections: dict[str, Any]) -> tuple[MirrorSettings, ...]:
    found: tuple[MirrorSettings, ...] = TypeAdapter(Mirrors).validate_python(sections)
    return found


def test_the_least_of_a_mirror_is_name_url_and_prefix() -> None:
    (mirror,) = parsed(HUB)
    assert (mirror.ttl, mirror.negative_ttl, mirror.revalidate_timeout, mirror.fetches) == (60, 60, 3, 8)
    assert (mirror.max_stale, mirror.on_delete, mirror.offline, mirror.fill_on_disconnect) == (
        None,
        "keep",
        False,
        True,
    )
    assert (mirror.repositories, mirror.immutable_tags, mirror.namespaces, mirror.hosts) == (("**",), (), (), ())
    for key in HUB:
        assert "is missing; give it a value" in said_of({name: value for name, value in HUB.items() if name != key})


def test_lists_may_be_text_and_times_have_units() -> None:
    (mirror,) = parsed(
        HUB
        | {"namespaces": "Docker.io, registry.example.org:5000", "hosts": "HUB.mirror.example.org", "ttl": "0s"}
        | {"max_stale": "14d", "immutable_tags": "v*.*.*, 20*", "repositories": "library/*, grafana/**"}
    )
    assert mirror.namespaces == ("docker.io", "registry.example.org:5000")
    assert mirror.hosts == ("hub.mirror.example.org",)
    assert (mirror.ttl, mirror.max_stale) == (0, 1209600)
    assert mirror.immutable_tags == ("v*.*.*", "20*")
    assert mirror.repositories == ("library/*", "grafana/**")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Hub"}, 'name: "Hub" is no name of a mirror: 1 to 64 of a-z, 0-9'),
        ({"name": ""}, "is no name of a mirror"),
        ({"name": "a/b"}, "is no name of a mirror"),
        ({"prefix": ""}, "is no prefix of repositories such as docker.io or mirrors/hub"),
        ({"prefix": "docker.io/"}, "no slash at the end"),
        ({"prefix": "/hub"}, "is no prefix"),
        ({"prefix": "Docker.io"}, "is no prefix"),
        ({"prefix": "storage"}, "neither storage in front"),
        ({"prefix": "storage/hub"}, "neither storage in front"),
        ({"prefix": "hub/blobs"}, "nor blobs further on"),
        ({"prefix": "a" * 129}, "128 characters at most"),
        ({"url": []}, "it needs at least one"),
        ({"url": ["hub.example.org"]}, "has no scheme"),
        ({"namespaces": ["https://docker.io"]}, "namespaces: the value is no list of hosts such as"),
        ({"hosts": ["hub.example.org/v2"]}, 'hosts: ["hub.example.org/v2"] is no list of hosts such as'),
        ({"ttl": -1}, "ttl: -1 is too small; it must be at least 0"),
        ({"ttl": "soon"}, 'ttl: "soon" is no duration'),
        ({"ttl": float("inf")}, "is not a number"),
        ({"negative_ttl": -1}, "is too small"),
        ({"max_stale": -1}, "is too small"),
        ({"revalidate_timeout": 0}, "revalidate_timeout: 0 is too small; it must be more than 0"),
        ({"on_delete": "remove"}, "on_delete: \"remove\" is not one of 'keep' or 'follow'"),
        ({"immutable_tags": ["v[0-9]"]}, 'immutable_tags.0: "v[0-9]" is no pattern of tags'),
        ({"immutable_tags": ["a/b"]}, "is no pattern of tags"),
        ({"repositories": ["Library/*"]}, 'repositories.0: "Library/*" is no pattern of repositories'),
        ({"repositories": ["{user}/*"]}, "has a {claim}, and no identity is asked here"),
        ({"repositories": []}, "has nothing in it"),
        ({"fetches": 0}, "fetches: 0 is too small; it must be at least 1"),
        ({"offline": "perhaps"}, "is neither true nor false"),
        ({"sync": {"interval": 3600}}, "sync: there is no such key"),
        ({"max_stall": 60}, "there is no such key; did you mean max_stale?"),
        ({"client_key": "/dev/null"}, "is not the path of a file"),
    ],
    ids=str,
)
def test_a_mistake_in_a_mirror_is_named_with_what_would_be_right(change: dict[str, Any], said: str) -> None:
    assert said in said_of(HUB | change)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({}, {"name": "hub"}, "two mirrors with the name hub; give each its own"),
        ({}, {"prefix": "docker.io"}, "the same prefix, of the mirrors hub and other; give each a prefix of its own"),
        ({}, {"prefix": "docker.io/team"}, "prefixes within each other, docker.io and docker.io/team"),
        ({"prefix": "a/b/c"}, {"prefix": "a/b"}, "prefixes within each other, a/b and a/b/c"),
        (
            {"namespaces": ["docker.io"]},
            {"namespaces": ["quay.example.org", "Registry-1.docker.io:443"]},
            "two mirrors with one of namespaces docker.io; name it in one of them",
        ),
        (
            {"hosts": ["m.example.org"]},
            {"hosts": ["M.example.org"]},
            "two mirrors with one of hosts m.example.org; give each mirror its own host",
        ),
    ],
    ids=str,
)
def test_two_mirrors_that_a_request_could_mean_are_refused(
    one: dict[str, Any], other: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        parsed(HUB | one, OTHER | other)


def test_mirrors_that_only_look_alike_are_two() -> None:
    found = parsed(HUB | {"namespaces": ["docker.io", "index.docker.io"]}, OTHER | {"prefix": "docker.io-2"})
    assert [mirror.name for mirror in found] == ["hub", "other"]


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mirrors.md").read_text()
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    (mirror,) = Settings(**example).mirrors
    assert (mirror.name, mirror.prefix, mirror.namespaces) == ("hub", "docker.io", ("docker.io",))

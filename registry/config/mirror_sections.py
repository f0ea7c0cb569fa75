"""*Mirror sections* of the settings: OCI registries of other organisations, each below a prefix of repositories."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from registry.config.access_sections import Patterns, check_no_claims
from registry.config.durations import Seconds, SecondsOrNone  # noqa: TC001 - pydantic reads them
from registry.config.namespaces import normal_namespace
from registry.config.retention_sections import TagPatterns  # noqa: TC001 - pydantic reads it
from registry.config.sections import Count, split_commas
from registry.config.upstream_sections import UpstreamSettings, check_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEGMENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PREFIX: Final = re.compile(f"(?!storage(?:/|$)){_SEGMENT}(?:/(?!blobs(?:/|$)){_SEGMENT})*")
_LONGEST_PREFIX: Final = 128
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("is no name of a mirror: 1 to 64 of a-z, 0-9, '.', '_', '-', of which the first is a-z or 0-9")
    return value


def _check_prefix(value: str) -> str:
    if len(value) > _LONGEST_PREFIX or not _PREFIX.fullmatch(value):
        message = "is no prefix of repositories such as docker.io or mirrors/hub: 128 characters at most, no slash at"
        raise ValueError(f"{message} the end, and neither storage in front nor blobs further on")
    return value


def _check_namespaces(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(normal_namespace, check_hosts(value)))


class MirrorSettings(UpstreamSettings):
    """An OCI registry of another organisation, whose repositories are here below a prefix."""

    name: Annotated[str, AfterValidator(_check_name)]
    """Name of the mirror in logs, metrics and commands, unlike those of the rest."""
    prefix: Annotated[str, AfterValidator(_check_prefix)]
    """What the names of its repositories begin with, before a slash; no client can push there."""
    namespaces: Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(_check_namespaces)] = ()
    """Registries that it stands for where a client sends ?ns=, such as docker.io."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(split_commas), AfterValidator(check_hosts)] = ()
    """Hosts under which clients reach this mirror alone, as the root of the upstream's names."""
    ttl: SecondsOrNone = 60
    """Seconds for which a tag is served without asking the upstream for it; 0 asks at each pull."""
    immutable_tags: TagPatterns = ()
    """Patterns of tags, in which * is any text, that the upstream is never asked for again."""
    max_stale: SecondsOrNone | None = None
    """Seconds after which a tag that the upstream could not be asked for is not served any more; null: always."""
    on_delete: Literal["keep", "follow"] = "keep"
    """What becomes of a tag that the upstream has no more: it stays, or it goes here too (follow)."""
    negative_ttl: SecondsOrNone = 60
    """Seconds for which the upstream is not asked again for what it did not have."""
    revalidate_timeout: Seconds = 3
    """Seconds that the upstream may take to say what a tag is that is here already; then that is served."""
    repositories: Annotated[Patterns, AfterValidator(check_no_claims)] = ("**",)
    """Patterns of the upstream's repositories that are mirrored: * is any text within one segment, ** any segments."""
    unused_after: SecondsOrNone | None = None
    """Seconds without a pull after which tags and manifests go, which come again when asked for; null: they stay."""
    offline: bool = False
    """Serve what is here, and never ask the upstream."""
    fetches: Count = 8
    """Blobs that each worker brings from the upstream at a time."""
    fill_on_disconnect: bool = True
    """Bring a blob whole although the clients that wanted it have left."""


def check_mirrors(mirrors: tuple[MirrorSettings, ...]) -> tuple[MirrorSettings, ...]:
    """Mirrors of which each request concerns one at most. Raises ValueError, which says what to change."""
    _check_once((mirror.name for mirror in mirrors), "the name", "give each its own")
    for one, other in combinations(mirrors, 2):
        _check_apart(one, other)
    for key, way in (("namespaces", "name it in one of them"), ("hosts", "give each mirror its own host")):
        _check_once((each for mirror in mirrors for each in set(getattr(mirror, key))), f"one of {key}", way)
    return mirrors


def _check_once(values: Iterable[str], what: str, way: str) -> None:
    twice = next((value for value, count in Counter(values).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"has two mirrors with {what} {twice}; {way}")


def _check_apart(one: MirrorSettings, other: MirrorSettings) -> None:
    shorter, longer = sorted((one.prefix, other.prefix), key=len)
    if f"{longer}/".startswith(f"{shorter}/"):
        relation = "the same prefix" if shorter == longer else f"prefixes within each other, {shorter} and {longer}"
        message = f"has {relation}, of the mirrors {one.name} and {other.name}; give each a prefix of its own"
        raise ValueError(f"{message}, such as mirrors/{one.name} and mirrors/{other.name}")


Mirrors: TypeAlias = Annotated[tuple[MirrorSettings, ...], AfterValidator(check_mirrors)]
"""The mirrors of a registry."""

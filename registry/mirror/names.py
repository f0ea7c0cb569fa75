"""*Names*: which mirror a request means, and what a repository is called here and upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from registry.config.namespaces import DOCKER_HUB, normal_namespace
from registry.oci.name import parse_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.config.mirror_sections import MirrorSettings


class MirroredName(NamedTuple):
    """A repository of a mirror."""

    mirror: MirrorSettings
    repository: str
    """Its name here, below the prefix of the mirror."""
    upstream: str
    """Its name at the upstream."""


class MirrorNames:
    """Immutable; any thread. Each look-up is among the mirrors of the settings alone: a client names no other host."""

    def __init__(self, mirrors: Sequence[MirrorSettings]) -> None:
        """``mirrors`` have passed ``check_mirrors``."""
        self._mirrors = tuple(mirrors)
        self._by_name = {mirror.name: mirror for mirror in mirrors}
        self._by_namespace = {namespace: mirror for mirror in mirrors for namespace in mirror.namespaces}
        self._by_host = {host: mirror for mirror in mirrors for host in mirror.hosts}
        self.has_hosts = bool(self._by_host)
        """Whether a mirror has hosts of its own."""
        self.hub_prefixes = tuple(mirror.prefix for mirror in mirrors if is_docker_hub(mirror))
        """Prefixes below which names of one segment are those of ``library``."""

    def find(self, repository: str) -> MirroredName | None:
        """The name below the prefix of a mirror; None if it is a repository of this registry alone.

        Raises NameInvalid where it would be none that a repository can have.
        """
        for mirror in self._mirrors:
            if repository.startswith(f"{mirror.prefix}/"):
                return self.below(mirror, repository.removeprefix(f"{mirror.prefix}/"))
        return None

    def below(self, mirror: MirrorSettings, name: str) -> MirroredName:
        """The repository of a mirror that clients call ``name``. Raises NameInvalid."""
        upstream = f"library/{name}" if "/" not in name and is_docker_hub(mirror) else name
        parse_name(upstream)
        return MirroredName(mirror, parse_name(f"{mirror.prefix}/{upstream}"), upstream)

    def of_name(self, name: str) -> MirrorSettings | None:
        """The mirror of this name."""
        return self._by_name.get(name)

    def of_namespace(self, namespace: str) -> MirrorSettings | None:
        """The mirror that stands for a registry, as clients name it (``?ns=``)."""
        return self._by_namespace.get(normal_namespace(namespace))

    def of_host(self, host: str) -> MirrorSettings | None:
        """The mirror that clients reach under this host; one that the settings name without a port has every port."""
        lower = host.strip().lower()
        name, _, port = lower.rpartition(":")
        return self._by_host.get(lower) or (self._by_host.get(name) if port.isdecimal() else None)


def is_docker_hub(mirror: MirrorSettings) -> bool:
    """Whether names of one segment are those of ``library``, as Docker Hub has them."""
    hosts = (urlsplit(url).hostname or "" for url in mirror.url)
    return DOCKER_HUB in mirror.namespaces or any(normal_namespace(host) == DOCKER_HUB for host in hosts)

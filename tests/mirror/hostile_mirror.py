"""A mirror of a hostile server, with everything between: manifests, pauses, and the client of upstreams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from registry.config.mirror_sections import MirrorSettings
from registry.images.referrers import Wanted
from registry.images.registry import Registry
from registry.mirror.mirror import Mirror
from registry.mirror.mirrored_manifest import MirroredManifest
from registry.mirror.names import MirroredName, MirrorNames
from registry.mirror.referrers import ListedReferrers
from registry.mirror.tag_lists import ListedTags
from registry.oci.digest import Digest
from tests.support.payloads import Manifest
from tests.upstream.hostile import HostileServer, Reply, local, whole

APP = "library/app"
HERE = f"docker.io/{APP}"


class HostileMirror:
    """One process; ``find`` is what a client's request does."""

    def __init__(self, registry: Registry, url: str, **keys: Any) -> None:
        section = {"name": "hub", "prefix": "docker.io", "url": [url], "proxy": None, "ttl": 60, **keys}
        section = {"connect_timeout": 5, "read_timeout": 10, **section}
        self.settings = MirrorSettings.model_validate(section)
        self.registry = registry
        self._mirror = Mirror(self.settings, registry, resolver=local())

    def find(self, reference: str = "v1") -> MirroredManifest:
        target = Digest.parse(reference) if ":" in reference else reference
        return self._mirror.manifests.find(self._name(HERE), target)

    def tags(self, *, last: str = "", count: int = 1000, repository: str = HERE) -> ListedTags:
        return self._mirror.tag_lists.page(self._name(repository), last=last, count=count)

    def tags_here(self) -> list[str] | None:
        """What is listed without a request; None if the upstream has to be asked."""
        found = self._mirror.tag_lists.page_here(self._name(HERE), last="", count=1000)
        return None if found is None else found.tags

    def referrers(
        self, subject: str, *, artifact_type: str | None = None, last: str = "", count: int = 1000, size: int = 1 << 20
    ) -> ListedReferrers:
        wanted = Wanted(artifact_type, last, count, size)
        return self._mirror.referrers.page(self._name(HERE), Digest.parse(subject), wanted)

    def _name(self, repository: str) -> MirroredName:
        name = MirrorNames([self.settings]).find(repository)
        assert name is not None
        return name

    def close(self) -> None:
        self._mirror.close()


@contextlib.contextmanager
def mirror_of(registry: Registry, url: str, **keys: Any) -> Iterator[HostileMirror]:
    mirror = HostileMirror(registry, url, **keys)
    try:
        yield mirror
    finally:
        mirror.close()


def path_of(reference: str) -> str:
    return f"/v2/{APP}/manifests/{reference}"


def give(server: HostileServer, manifest: Manifest, *tags: str, **headers: str) -> None:
    """Let the server have a manifest, with its digest in the header unless ``headers`` say another one."""
    sent = {"Content_Type": manifest.media_type, "Docker_Content_Digest": manifest.digest, **headers}
    reply_all(server, whole(200, manifest.data, **sent), manifest.digest, *tags)


def reply_all(server: HostileServer, reply: Reply, *references: str) -> None:
    server.replies |= {path_of(reference): reply for reference in references}

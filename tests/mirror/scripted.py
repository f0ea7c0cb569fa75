"""An upstream that a test writes down, and the mirror in front of it, as any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from registry.config.mirror_sections import MirrorSettings
from registry.images.registry import Registry
from registry.mirror.manifests import MirrorManifests
from registry.mirror.mirrored_manifest import MirroredManifest
from registry.mirror.names import MirroredName, MirrorNames
from registry.mirror.remote_manifests import RemoteHead, RemoteManifest
from registry.oci.digest import Digest
from registry.upstream.errors import UpstreamStatus
from tests.support.payloads import Manifest
from tests.support.registry_world import Clock, World

APP = "library/app"
HERE = f"docker.io/{APP}"
STEP = 0.001
"""Seconds that a request takes."""


class Asked(NamedTuple):
    """One request."""

    method: str
    reference: str
    etag: str | None


class ScriptedRemote:
    """Has ``tags`` and every manifest that was ever one of them; each request takes time, and may find a fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tags: dict[str, Manifest] = {}
        self.manifests: dict[str, Manifest] = {}
        self.asked: list[Asked] = []
        self.fault: Exception | None = None
        self.says_digest = True
        self.has_etags = True
        self.during: Callable[[], object] = str
        """Is called once while a request is under way, after what it will say is settled."""

    def push(self, manifest: Manifest, *tags: str) -> Digest:
        self.manifests[manifest.digest] = manifest
        self.tags.update(dict.fromkeys(tags, manifest))
        return Digest.parse(manifest.digest)

    def methods(self) -> list[str]:
        """What was asked since the last call."""
        found, self.asked = [asked.method for asked in self.asked], []
        return found

    def head(self, name: str, reference: Digest | str, *, seconds: float | None = None) -> RemoteHead:
        assert seconds is not None, "a tag that is here waits for a bounded time"
        manifest = self._answer("HEAD", name, reference, None)
        return RemoteHead(Digest.parse(manifest.digest) if self.says_digest else None, self._etag(manifest))

    def get(
        self, name: str, reference: Digest | str, *, etag: str | None = None, seconds: float | None = None
    ) -> RemoteManifest | None:
        del seconds
        manifest = self._answer("GET", name, reference, etag)
        if etag is not None and etag == self._etag(manifest):
            return None
        digest = Digest.parse(manifest.digest)
        return RemoteManifest(manifest.data, manifest.media_type, digest, self._etag(manifest))

    def _etag(self, manifest: Manifest) -> str | None:
        return f'"{manifest.digest[-8:]}"' if self.has_etags else None

    def _answer(self, method: str, name: str, reference: str, etag: str | None) -> Manifest:
        assert name == APP
        self.asked.append(Asked(method, str(reference), etag))
        self._clock.now += STEP
        known = self.manifests if ":" in reference else self.tags
        found = known.get(str(reference))
        fault = self.fault
        during, self.during = self.during, str
        during()
        if fault is not None:
            raise fault
        if found is None:
            raise UpstreamStatus("the upstream does not give the manifest: status 404", 404)
        return found


class Mirror:
    """One process with one mirror."""

    def __init__(self, registry: Registry, remote: ScriptedRemote, clock: Clock, **keys: Any) -> None:
        metrics = keys.pop("metrics", None)
        section = {"name": "hub", "url": ["https://hub.example.org"], "prefix": "docker.io", "ttl": 60, **keys}
        self.settings = MirrorSettings.model_validate(section)
        self.registry = registry
        self.remote = remote
        self.waits: list[float] = []

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            clock.now += seconds

        self.manifests = MirrorManifests(self.settings, registry, remote, metrics=metrics, sleep=sleep)

    def name(self, repository: str = HERE) -> MirroredName:
        found = MirrorNames([self.settings]).find(repository)
        assert found is not None
        return found

    def find(self, reference: str = "v1", repository: str = HERE) -> MirroredManifest:
        target = Digest.parse(reference) if ":" in reference else reference
        return self.manifests.find(self.name(repository), target)

    def pull(self, reference: str = "v1") -> tuple[str, bool]:
        """The digest that is served, and whether it is said to be stale."""
        found = self.find(reference)
        return str(found.found.digest), found.is_stale


def open_mirror(world: World, remote: ScriptedRemote, *, url: str | None = None, **keys: Any) -> Mirror:
    """A process over the storage of the world."""
    registry = world.registry(url=url, mirrored=frozenset({"docker.io"}))
    return Mirror(registry, remote, world.clock, **keys)

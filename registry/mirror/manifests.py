"""*Manifests* of a mirror: served from what is here, brought where they are not, and tags asked for again in time.

A digest that is here is never asked for. A tag is served without a request for ``ttl``; then one process asks, and each
other one serves what is here meanwhile. No failure of an upstream takes away what is here; only an answer that a tag is
another manifest, or none, changes it, and only if no request that began later was answered before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry.mirror.arrivals import Arrivals
from registry.mirror.freshness import Verdict
from registry.mirror.kept_manifests import KeptManifests
from registry.mirror.revalidation import Revalidation
from registry.mirror.selection import Selection
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.mirrored_manifest import MirroredManifest
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_manifests import Remote
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics


class MirrorManifests:
    """The manifests of one mirror. Any thread, any process."""

    def __init__(
        self,
        settings: MirrorSettings,
        registry: Registry,
        remote: Remote,
        *,
        metrics: UpstreamMetrics | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._name = settings.name
        self._metrics = metrics
        self._selection = Selection(settings)
        self._manifests = KeptManifests(settings, registry)
        self._revalidation = Revalidation(settings, registry, remote, self._manifests)
        self._arrivals = Arrivals(settings, registry, remote, self._manifests, sleep)

    def find(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        """The manifest with this digest or tag. It may wait for the upstream.

        Raises ManifestUnknown where the upstream has none, NameUnknown where the settings do not mirror it; and where
        nothing is here that could be served, TooManyRequests, BadGateway, GatewayTimeout, Unavailable, StorageError.
        """
        try:
            found = self._find(name, reference)
        except RegistryError as error:
            self._count("absent" if error.status == ManifestUnknown.status else "error")
            raise
        self._count("stale" if found.is_stale else found.source)
        return found

    def find_here(self, name: MirroredName, reference: Digest | str) -> MirroredManifest | None:
        """As ``find``, without the upstream; None if that has to be asked."""
        found = self._find_here(name, reference)
        if found is not None:
            self._count("stale" if found.is_stale else found.source)
        return found

    def find_stale(self, name: MirroredName, reference: Digest | str) -> MirroredManifest | None:
        """A tag that is here, for a client that has waited long enough; None if it is not. Raises RegistryError."""
        kept = None if isinstance(reference, Digest) else self._manifests.tag(name, reference)
        if kept is None:
            return None
        found = self._manifests.serve_at_once(name, str(reference), kept)
        self._count("stale" if found.is_stale else found.source)
        return found

    def _find_here(self, name: MirroredName, reference: Digest | str) -> MirroredManifest | None:
        self._selection.require(name)
        if isinstance(reference, Digest):
            return self._manifests.digest(name, reference)
        kept = self._manifests.tag(name, reference)
        verdict = Verdict.ASK if kept is None else self._manifests.judge(name, reference, kept)
        return None if kept is None or verdict is Verdict.ASK else self._manifests.serve(name, kept, verdict)

    def _find(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        self._selection.require(name)
        if isinstance(reference, Digest):
            return self._manifests.digest(name, reference) or self._arrivals.bring(name, reference)
        kept = self._manifests.tag(name, reference)
        if kept is None:
            return self._arrivals.bring(name, reference)
        verdict = self._manifests.judge(name, reference, kept)
        if verdict is Verdict.ASK:
            return self._revalidation.ask(name, reference, kept)
        return self._manifests.serve(name, kept, verdict)

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.add_manifest(self._name, result)

"""*Mirror*: one of the settings with everything that serves it, and all of them by their names."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from registry.mirror.blob_proofs import BlobProofs
from registry.mirror.manifests import MirrorManifests
from registry.mirror.names import MirrorNames
from registry.mirror.patient_upstream import PatientUpstream
from registry.mirror.referrers import MirrorReferrers
from registry.mirror.remote_blob import RemoteBlob
from registry.mirror.remote_manifests import RemoteManifests
from registry.mirror.remote_referrers import RemoteReferrers
from registry.mirror.remote_tags import RemoteTags
from registry.mirror.tag_lists import TagLists
from registry.upstream.client import Upstream
from registry.upstream.tokens import TokenCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.names import MirroredName
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.oci.digest import Digest
    from registry.upstream.resolver import Resolver


class Mirror:
    """Any thread. It asks its upstream for nothing before a client wants it."""

    def __init__(
        self,
        settings: MirrorSettings,
        registry: Registry,
        *,
        tokens: TokenCache | None = None,
        metrics: UpstreamMetrics | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """Raises ValueError, OSError for a file of the settings that cannot be used."""
        self.settings = settings
        self._client = Upstream(settings.name, settings, tokens=tokens, metrics=metrics, resolver=resolver)
        self.upstream = PatientUpstream(settings, self._client, registry.backends.database, metrics)
        remote = RemoteManifests(self.upstream, max_bytes=registry.backends.policy.manifest_bytes)
        self.manifests = MirrorManifests(settings, registry, remote, metrics=metrics)
        self.tag_lists = TagLists(settings, registry, RemoteTags(self.upstream))
        self.referrers = MirrorReferrers(settings, registry, RemoteReferrers(self.upstream), self.manifests)
        self.blob_proofs = BlobProofs(settings, registry, self.upstream)

    def blob(self, name: MirroredName, digest: Digest) -> RemoteBlob:
        """Where a fetch has a blob of one of its repositories from. Nothing is asked yet."""
        path, scope = f"/v2/{name.upstream}/blobs/{digest}", f"repository:{name.upstream}:pull"
        return RemoteBlob(self.upstream, path, scope, partial(self.blob_proofs.note_miss, name, digest))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._client.close()


class Mirrors:
    """All mirrors of a process; they share what they know of tokens, each for its own credentials. Any thread."""

    def __init__(
        self,
        settings: Sequence[MirrorSettings],
        registry: Registry,
        *,
        metrics: UpstreamMetrics | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """``settings`` have passed ``check_mirrors``. Raises ValueError, OSError as ``Mirror`` does."""
        tokens = TokenCache()
        self.names = MirrorNames(settings)
        self._mirrors = {
            each.name: Mirror(each, registry, tokens=tokens, metrics=metrics, resolver=resolver) for each in settings
        }

    def __getitem__(self, name: str) -> Mirror:
        """The mirror of this name. Raises KeyError."""
        return self._mirrors[name]

    def close(self) -> None:
        """Close the connections that are not in use."""
        for mirror in self._mirrors.values():
            mirror.close()

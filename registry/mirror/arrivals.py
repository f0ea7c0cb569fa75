"""*Arrivals*: manifests that are not here are brought from the upstream, once for all processes that want them.

Tests: ``tests/mirror/test_manifests.py``.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from registry.background.leases import Leases
from registry.database.mirrors import mirror_tags
from registry.mirror.failures import failure, is_absence
from registry.mirror.kept_manifests import Superseded, key_of
from registry.mirror.shared_calls import SharedCalls
from registry.oci.digest import Digest
from registry.oci.errors import BadGateway, GatewayTimeout, Unavailable
from registry.upstream.errors import UpstreamError
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.kept_manifests import KeptManifests
    from registry.mirror.mirrored_manifest import MirroredManifest
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_manifests import Remote

LEASE: Final = 15.0
"""Seconds after which another process brings what a killed one on another machine was about to."""
WAIT: Final = 60.0
"""Seconds that a caller waits for another process to bring a manifest."""
LEASE_PREFIX: Final = "mirror:"
"""What the names of leases of arrivals begin with."""
_POLL: Final = 0.1


class Arrivals:
    """Those of one mirror. Any thread, any process."""

    def __init__(
        self,
        settings: MirrorSettings,
        registry: Registry,
        remote: Remote,
        manifests: KeptManifests,
        sleep: Callable[[float], object],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._database = registry.backends.database
        self._remote = remote
        self._manifests = manifests
        self._sleep = sleep
        self._leases = Leases(self._database, registry.backends.holder)
        self._shared: SharedCalls[MirroredManifest] = SharedCalls()

    def bring(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        """A manifest from the upstream; threads of this process share the result, and its error.

        It is stored before it is returned. Raises RegistryError, StorageError.
        """
        if self._settings.offline:
            raise Unavailable(f"mirror {name.mirror.name} is offline, and has no {reference} of {name.upstream} here")
        return self._shared.run(key_of(name, reference), lambda: self._bring(name, reference))

    def _bring(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        deadline = monotonic() + WAIT
        lease = f"{LEASE_PREFIX}{name.mirror.name}:{key_of(name, reference)}"
        while True:
            came = self._came(name, reference)
            if came is not None:
                return came
            with self._leases.hold(lease, LEASE, succeeds_dead=True) as held:
                if held:
                    return self._came(name, reference) or self._fetch(name, reference)
            if monotonic() > deadline:
                message = f"mirror {name.mirror.name}: another process still waits for the upstream; try again"
                raise GatewayTimeout(message, headers={"Retry-After": "1"})
            with aside:
                self._sleep(_POLL)

    def _came(self, name: MirroredName, reference: Digest | str) -> MirroredManifest | None:
        """What another process has brought. Raises ManifestUnknown if the upstream has told it that there is none."""
        if isinstance(reference, Digest):
            came = self._manifests.digest(name, reference)
        else:
            kept = self._manifests.tag(name, reference)
            came = None if kept is None else self._manifests.serve_at_once(name, reference, kept)
        if came is None:
            self._manifests.require_not_missed(name, reference)
        return came

    def _fetch(self, name: MirroredName, reference: Digest | str) -> MirroredManifest:
        with self._database.autocommit() as connection:
            started = mirror_tags.now(connection)
        try:
            got = self._remote.get(name.upstream, reference)
        except UpstreamError as error:
            if is_absence(error):
                self._manifests.note_miss(name, reference)
            is_known = self._registry.repositories.touch(name.repository) is not None
            raise failure(name, reference, error, is_known=is_known) from error
        if got is None:
            raise BadGateway(
                f"mirror {name.mirror.name}: the upstream says that nothing has changed, and sends nothing"
            )
        if isinstance(reference, Digest):
            return self._manifests.put(name, got)
        try:
            return self._manifests.put_tag(name, reference, got, started=started)
        except Superseded:
            return self._manifests.serve_at_once(name, reference, self._manifests.tag(name, reference))

"""*Revalidation*: one process asks whether a tag that is here is still what the upstream has.

Whatever else than an answer comes, the tag stays as it is, and is served as stale.

Tests: ``tests/mirror/test_manifests.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from registry.database.mirrors import mirror_tags
from registry.images.manifests import MIRROR
from registry.mirror.failures import absence, failure, is_absence
from registry.mirror.freshness import Verdict, backoff
from registry.mirror.kept_manifests import Superseded
from registry.mirror.mirrored_manifest import MirroredManifest
from registry.mirror.remote_manifests import RemoteManifest
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError, Unavailable
from registry.storage.errors import StorageError
from registry.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.kept_manifests import KeptManifests, KeptTag
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_manifests import Remote

_PUTTING: Final = 10.0
"""Seconds that a process may take to put a manifest, beyond those that the upstream may take."""

log = structlog.get_logger(__name__)


class Revalidation:
    """For the tags of one mirror. Any thread, any process."""

    def __init__(self, settings: MirrorSettings, registry: Registry, remote: Remote, manifests: KeptManifests) -> None:
        self._settings = settings
        self._registry = registry
        self._database = registry.backends.database
        self._remote = remote
        self._manifests = manifests

    def ask(self, name: MirroredName, tag: str, kept: KeptTag) -> MirroredManifest:
        """What is to be served of a tag that is due. Where another process asks, that is what is here.

        Raises ManifestUnknown where the tag goes with that of the upstream, RegistryError where it is too old.
        """
        started = self._claim(tag, kept)
        if started is None:
            return self._manifests.serve(name, kept, Verdict.STALE)
        try:
            return self._ask(name, tag, kept, started)
        except Superseded:
            return self._manifests.serve_at_once(name, tag, self._manifests.tag(name, tag))
        except UpstreamError as error:
            if is_absence(error):
                return self._gone(name, tag, kept, started)
            problem, seconds = failure(name, tag, error, is_known=True), getattr(error, "seconds", None)
        except RegistryError as error:
            problem, seconds = error, None
        except StorageError as error:
            problem, seconds = Unavailable(f"the manifest could not be stored: {error}"), None
        self._note_failure(name, tag, kept, started, problem, seconds)
        return self._manifests.serve(name, kept, Verdict.STALE, problem)

    def _claim(self, tag: str, kept: KeptTag) -> float | None:
        """The moment from which this process asks; None if another one does."""
        seconds, checked_at = 3 * self._settings.revalidate_timeout + _PUTTING, kept.row.checked_at
        with self._database.statement() as connection:
            return mirror_tags.claim(connection, kept.repository_id, tag, checked_at=checked_at, seconds=seconds)

    def _ask(self, name: MirroredName, tag: str, kept: KeptTag, started: float) -> MirroredManifest:
        """Raises Superseded, UpstreamError, RegistryError, StorageError."""
        seconds, current = self._settings.revalidate_timeout, kept.found.digest
        head = self._remote.head(name.upstream, tag, seconds=seconds)
        if head.digest == current:
            return self._confirm(tag, kept, started, head.etag)
        stored = None if head.digest is None else self._manifests.stored(name, head.digest)
        if stored is not None:  # a tag that goes back to a manifest which is here
            body = self._registry.manifests.read(stored)
            here = RemoteManifest(body, stored.media_type, stored.digest, head.etag)
            return self._manifests.put_tag(name, tag, here, started=started)
        etag = None if head.digest is not None else kept.row.etag
        got = self._remote.get(name.upstream, tag, etag=etag, seconds=seconds)
        if got is None or Digest.of(got.body, current.algorithm) == current:
            return self._confirm(tag, kept, started, kept.row.etag if got is None else got.etag)
        return self._manifests.put_tag(name, tag, got, started=started)

    def _confirm(self, tag: str, kept: KeptTag, started: float, etag: str | None) -> MirroredManifest:
        """The tag is still that. Raises Superseded."""
        digest = str(kept.found.digest)
        with self._database.statement() as connection:
            is_noted = mirror_tags.confirm(
                connection, kept.repository_id, tag, digest=digest, etag=etag, started=started
            ).get()
        if not is_noted:
            raise Superseded
        return MirroredManifest(kept.found, "cache", 0.0, fresh_for=self._settings.ttl)

    def _gone(self, name: MirroredName, tag: str, kept: KeptTag, started: float) -> MirroredManifest:
        """The upstream has it no more: it stays, or it goes here too. Raises ManifestUnknown."""
        with self._database.statement() as connection:
            seconds = self._settings.ttl
            is_noted = mirror_tags.miss(connection, kept.repository_id, tag, started=started, seconds=seconds)
        if not is_noted:
            return self._manifests.serve_at_once(name, tag, self._manifests.tag(name, tag))
        if self._settings.on_delete == "follow" and self._remove(name, tag, kept):
            raise absence(name, tag)
        log.info("an upstream has a tag no more", mirror=name.mirror.name, repository=name.repository, tag=tag)
        return self._manifests.serve(name, kept._replace(row=kept.row._replace(is_gone=1)), Verdict.STALE)

    def _remove(self, name: MirroredName, tag: str, kept: KeptTag) -> bool:
        """Remove a tag here, too. False if it was set meanwhile, never changes, or cannot go now."""
        try:
            gone = self._registry.manifests.expire(
                name.repository, {tag: kept.row.sequence}, actor=MIRROR, cause=MIRROR
            )
        except (RegistryError, StorageError) as error:
            log.warning("a tag could not be removed", repository=name.repository, tag=tag, reason=str(error))
            return False
        if gone:
            self._manifests.note_miss(name, tag)
        return bool(gone)

    def _note_failure(
        self,
        name: MirroredName,
        tag: str,
        kept: KeptTag,
        started: float,
        problem: RegistryError,
        told: float | None,
    ) -> None:
        """Have no process ask for a while; ``told`` are the seconds of it, where they are known."""
        seconds = backoff(kept.row.fails) if told is None else told
        log.warning(
            "an upstream could not be asked for a tag, which is served as it is here",
            mirror=name.mirror.name,
            repository=name.repository,
            tag=tag,
            again_after=seconds,
            reason=str(problem),
        )
        with self._database.statement() as connection:
            mirror_tags.fail(connection, kept.repository_id, tag, started=started, seconds=seconds)

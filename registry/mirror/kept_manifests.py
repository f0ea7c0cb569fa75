"""*Kept manifests*: what of a mirror is here, with what is known of it upstream, and how more comes.

Tests: ``tests/mirror/test_manifests.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.mirrors import mirror_tags, remote_misses
from registry.mirror.failures import absence
from registry.mirror.freshness import Verdict, age_of, judge
from registry.mirror.mirrored_manifest import FOR_EVER, MirroredManifest
from registry.oci.digest import Digest
from registry.oci.errors import (
    BadGateway,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    Unavailable,
)
from registry.oci.glob import text_pattern

if TYPE_CHECKING:
    from registry.config.mirror_sections import MirrorSettings
    from registry.database.mirrors.mirror_tags import MirrorTagRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.manifest_store import FoundManifest
    from registry.images.publication.manifest_publication import Alongside
    from registry.images.registry import Registry
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_manifests import RemoteManifest


class Superseded(Exception):
    """A request that began later was answered before: what it said is what counts."""


class KeptTag(NamedTuple):
    """A tag that is here, with its manifest."""

    repository_id: int
    row: MirrorTagRow
    found: FoundManifest


class KeptManifests:
    """Those of one mirror. Any thread, any process."""

    def __init__(self, settings: MirrorSettings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._database = registry.backends.database

    def digest(self, name: MirroredName, digest: Digest) -> MirroredManifest | None:
        """A manifest by its digest, which never changes; None if it is not here."""
        found = self.stored(name, digest)
        return None if found is None else MirroredManifest(found, "cache", fresh_for=FOR_EVER)

    def stored(self, name: MirroredName, digest: Digest) -> FoundManifest | None:
        """The manifest in its repository; None if it is not there."""
        try:
            return self._registry.manifests.find(name.repository, digest)
        except (ManifestUnknown, NameUnknown):
            return None

    def tag(self, name: MirroredName, tag: str) -> KeptTag | None:
        """The tag with a manifest that can be served; None if it has to be brought."""
        repository = self._registry.repositories.touch(name.repository)
        if repository is None:
            return None
        with self._database.autocommit() as connection:
            row = mirror_tags.find(connection, repository.id, tag).get()
        found = None if row is None else self.stored(name, Digest(row.digest))
        return None if row is None or found is None else KeptTag(repository.id, row, found)

    def judge(self, name: MirroredName, tag: str, kept: KeptTag) -> Verdict:
        """Whether the upstream is asked for a tag."""
        patterns, settings = self._settings.immutable_tags, self._settings
        is_immutable = self._registry.backends.policy.immutable.has(name.repository, tag)
        is_fixed = is_immutable or any(text_pattern(pattern).fullmatch(tag) for pattern in patterns)
        return judge(kept.row, ttl=settings.ttl, is_fixed=is_fixed, is_offline=settings.offline)

    def serve(
        self, name: MirroredName, kept: KeptTag, verdict: Verdict, error: RegistryError | None = None
    ) -> MirroredManifest:
        """What is here. Raises ``error``, or Unavailable if that is None, where it is older than it may be."""
        settings, age = self._settings, age_of(kept.row)
        if verdict is Verdict.FRESH:
            is_fixed = age >= settings.ttl
            return MirroredManifest(kept.found, "cache", age, fresh_for=FOR_EVER if is_fixed else settings.ttl - age)
        is_bounded = settings.max_stale is not None and not (settings.offline or kept.row.is_gone)
        if is_bounded and age > (settings.max_stale or 0.0):
            message = f"mirror {name.mirror.name}: the upstream could not be asked for {int(age)} seconds (max_stale)"
            raise error or Unavailable(message, headers={"Retry-After": "1"})
        return MirroredManifest(kept.found, "cache", age, is_stale=True)

    def serve_at_once(self, name: MirroredName, tag: str, kept: KeptTag | None) -> MirroredManifest:
        """What is here, without a request; ``kept`` is that, unless it has gone. Raises ManifestUnknown then."""
        if kept is None:
            raise absence(name, tag)
        verdict = self.judge(name, tag, kept)
        return self.serve(name, kept, Verdict.STALE if verdict is Verdict.ASK else verdict)

    # ---- what comes

    def put(self, name: MirroredName, got: RemoteManifest) -> MirroredManifest:
        """Put a manifest without a tag. Raises RegistryError, StorageError."""
        self._put(name, got, (), None)
        found = self._registry.manifests.find(name.repository, got.digest)
        return MirroredManifest(found, "remote", fresh_for=FOR_EVER)

    def put_tag(self, name: MirroredName, tag: str, got: RemoteManifest, *, started: float) -> MirroredManifest:
        """Put a manifest and move a tag to it, by the answer to a request that began at ``started``.

        Raises Superseded if one that began later was answered: nothing has changed then. RegistryError, StorageError.
        """

        def note(connection: Transaction, repository: RepositoryRow) -> None:
            digest = str(got.digest)
            if not mirror_tags.confirm(
                connection, repository.id, tag, digest=digest, etag=got.etag, started=started
            ).get():
                raise Superseded

        self._put(name, got, (tag,), note)
        found = self._registry.manifests.find(name.repository, got.digest)
        return MirroredManifest(found, "remote", 0.0, fresh_for=self._settings.ttl)

    def _put(self, name: MirroredName, got: RemoteManifest, tags: tuple[str, ...], note: Alongside | None) -> None:
        put = self._registry.manifests.put_mirrored
        try:
            put(name.repository, got.body, got.media_type, digest=got.digest, tags=tags, alongside=note)
        except ManifestBlobUnknown as error:  # its repository would lack more than it may
            raise BadGateway(f"mirror {name.mirror.name}: {error.message}") from error

    # ---- what the upstream does not have

    def note_miss(self, name: MirroredName, reference: Digest | str) -> None:
        """Note that the upstream does not have it."""
        key, seconds = key_of(name, reference), self._settings.negative_ttl
        with self._database.statement() as connection:
            remote_misses.put(connection, name.mirror.name, key, seconds=seconds)

    def require_not_missed(self, name: MirroredName, reference: Digest | str) -> None:
        """Raises ManifestUnknown if the upstream has said a moment ago that it does not have it."""
        key, most = key_of(name, reference), self._settings.negative_ttl
        with self._database.autocommit() as connection:
            left = remote_misses.left(connection, name.mirror.name, key, most=most).get()
        if left > 0:
            raise absence(name, reference)


def key_of(name: MirroredName, reference: Digest | str) -> str:
    """What names a manifest of a mirror in rows."""
    return f"{name.repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"

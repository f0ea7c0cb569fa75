"""*Referrers* of a mirror: what the upstream lists, kept for ``ttl``, together with what is here.

An upstream without the API for them has clients keep them under a fallback tag, which is a tag like any other: it comes
through ``MirrorManifests``, and what it lists is listed here.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import orjson

from registry.images.referrers import Referrers
from registry.mirror.failures import failure
from registry.mirror.freshness import headers_of
from registry.mirror.kept_answers import KeptAnswers
from registry.mirror.remote_referrers import BOUNDS, listed_in
from registry.mirror.selection import Selection
from registry.mirror.tag_lists import FIRST
from registry.oci.errors import BadGateway, ManifestUnknown, NameUnknown, RegistryError
from registry.oci.tag import fallback_of
from registry.upstream.errors import AnswerInvalid, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.config.mirror_sections import MirrorSettings
    from registry.images.manifest_store import FoundManifest
    from registry.images.registry import Registry
    from registry.mirror.manifests import MirrorManifests
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_referrers import Listed, RemoteReferrers
    from registry.oci.digest import Digest

_ENTRY = 300
"""Bytes of an entry in memory, without its descriptor."""


class ListedReferrers(NamedTuple):
    """A page of referrers of a manifest of a mirror."""

    found: Referrers
    age: float | None
    """Seconds since the upstream was asked; None if it could not be."""
    fresh_for: float
    """Seconds for which memory may give this answer."""
    is_stale: bool
    """It is not what the upstream has, or may not be."""

    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        return headers_of("cache" if self.age is None else "remote", self.age, is_stale=self.is_stale)


class _Remote(NamedTuple):
    """What an upstream lists."""

    listed: list[Listed]
    is_stale: bool = False


class MirrorReferrers:
    """Those of one mirror. Any thread; each process keeps lists of its own."""

    def __init__(
        self, settings: MirrorSettings, registry: Registry, remote: RemoteReferrers, manifests: MirrorManifests
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._remote = remote
        self._manifests = manifests
        self._selection = Selection(settings)
        self._kept: KeptAnswers[_Remote] = KeptAnswers(
            registry.backends.database.clocks.boot, _size, ttl=settings.ttl, max_stale=settings.max_stale
        )

    def page(
        self,
        name: MirroredName,
        subject: Digest,
        *,
        artifact_type: str | None,
        last: str,
        count: int,
        max_bytes: int,
    ) -> ListedReferrers:
        """A page of the manifests with this subject; see ``Manifests.referrers``. It may wait for the upstream.

        Where the upstream cannot be asked, that is what it listed before with what is here. Raises NameUnknown where
        the settings do not mirror the repository.
        """
        self._selection.require(name)
        remote, age, fresh_for, is_stale = self._remote_of(name, subject)
        here, _version = self._registry.manifests.referrers(
            name.repository, subject, artifact_type=artifact_type, last=last, count=count, max_bytes=max_bytes
        )
        behind = remote.listed[bisect_right(remote.listed, last, key=lambda each: each.digest) :]
        wanted = [each for each in behind if artifact_type is None or each.artifact_type == artifact_type]
        found = _merged(here, wanted, last, count, max_bytes)
        return ListedReferrers(found, age, 0.0 if is_stale else fresh_for, is_stale)

    def _remote_of(self, name: MirroredName, subject: Digest) -> tuple[_Remote, float | None, float, bool]:
        """What the upstream lists, its age, how long it counts, and whether it is stale."""
        if not self._settings.offline:
            try:
                kept = self._kept.find(
                    f"{name.repository}@{subject}", lambda has_older: self._ask(name, subject, has_older=has_older)
                )
            except RegistryError:
                pass  # it was logged where it was noted, or names what has not come yet
            else:
                return kept.value, kept.age, kept.fresh_for, kept.is_stale or kept.value.is_stale
        return _Remote(self._fallback_here(name, subject)), None, 0.0, True

    def _ask(self, name: MirroredName, subject: Digest, *, has_older: bool) -> _Remote:
        """Raises RegistryError."""
        is_known = self._registry.repositories.touch(name.repository) is not None
        try:
            listed = self._remote.list(name.upstream, subject, first=FIRST if has_older or is_known else None)
        except UpstreamError as error:
            found = failure(name, f"referrers of {subject}", error, is_known=is_known)
            raise BadGateway(found.message) if found.status == NameUnknown.status else found from error
        return _Remote(listed) if listed is not None else self._ask_fallback(name, subject)

    def _ask_fallback(self, name: MirroredName, subject: Digest) -> _Remote:
        """What is listed under the tag that clients keep. Raises RegistryError, StorageError."""
        try:
            index = self._manifests.find(name, fallback_of(subject))
        except ManifestUnknown:
            return _Remote([])
        return _Remote(self._read(name, index.found), index.is_stale)

    def _fallback_here(self, name: MirroredName, subject: Digest) -> list[Listed]:
        try:
            return self._read(name, self._registry.manifests.find(name.repository, fallback_of(subject)))
        except (ManifestUnknown, NameUnknown, BadGateway):
            return []

    def _read(self, name: MirroredName, index: FoundManifest) -> list[Listed]:
        """Raises BadGateway."""
        if index.size > BOUNDS.size:
            raise BadGateway(f"mirror {name.mirror.name}: the index of referrers {index.digest} is too large")
        try:
            return sorted(
                {each.digest: each for each in listed_in(self._registry.manifests.read(index), "it")}.values()
            )
        except AnswerInvalid as error:
            raise BadGateway(f"mirror {name.mirror.name}: {error}") from error


def _size(remote: _Remote) -> int:
    return sum(_ENTRY + len(each.descriptor) for each in remote.listed)


def _merged(here: Referrers, remote: Sequence[Listed], last: str, count: int, max_bytes: int) -> Referrers:
    """The page that both have together. What is here counts where both have it: its manifest says it."""
    descriptors = {each.digest: each.descriptor for each in remote if not here.more or each.digest <= here.last}
    is_more = here.more or len(descriptors) < len(remote)
    descriptors.update((_digest(descriptor), descriptor) for descriptor in here.descriptors)
    found: list[bytes] = []
    size = 0
    for digest in sorted(descriptors):
        size += len(descriptors[digest])
        if len(found) == count or (found and size > max_bytes):
            return Referrers(found, last, more=True)
        found.append(descriptors[digest])
        last = digest
    return Referrers(found, last, more=is_more)


def _digest(descriptor: bytes) -> str:
    digest: str = orjson.loads(descriptor)["digest"]
    return digest

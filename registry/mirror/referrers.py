"""*Referrers* of a mirror: what the upstream lists, kept for ``ttl``, together with what is here.

An upstream without the API for them has clients keep them under a fallback tag, which is a tag like any other: it comes
through ``MirrorManifests``, and what it lists is listed here.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import orjson

from registry.images.referrers import Referrers, Wanted
from registry.mirror.failures import failure
from registry.mirror.freshness import headers_of
from registry.mirror.kept_answers import KeptAnswer, KeptAnswers
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
    is_here: bool = False
    """It is what is here in place of that."""


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

    def page(self, name: MirroredName, subject: Digest, wanted: Wanted) -> ListedReferrers:
        """A page of the manifests with this subject. It may wait for the upstream.

        Where the upstream cannot be asked, that is what it listed before with what is here. Raises NameUnknown where
        the settings do not mirror the repository.
        """
        here = self.page_here(name, subject, wanted)
        if here is not None:
            return here
        try:
            kept = self._kept.find(_key(name, subject), lambda has_older: self._ask(name, subject, has_older))
        except RegistryError:  # the log has it
            kept = self._kept_here(name, subject)
        return self._listed(name, subject, wanted, kept)

    def page_here(self, name: MirroredName, subject: Digest, wanted: Wanted) -> ListedReferrers | None:
        """As ``page``, without a request; None if the upstream has to be asked."""
        self._selection.require(name)
        kept: KeptAnswer[_Remote] | None
        try:
            kept = None if self._settings.offline else self._kept.at_once(_key(name, subject))
        except RegistryError:
            kept = self._kept_here(name, subject)
        if kept is None and not self._settings.offline:
            return None
        return self._listed(name, subject, wanted, kept or self._kept_here(name, subject))

    def _listed(
        self, name: MirroredName, subject: Digest, wanted: Wanted, kept: KeptAnswer[_Remote]
    ) -> ListedReferrers:
        is_stale = kept.is_stale or kept.value.is_stale
        here, _version = self._registry.manifests.referrers(name.repository, subject, wanted)
        behind = kept.value.listed[bisect_right(kept.value.listed, wanted.last, key=lambda each: each.digest) :]
        remote = [each for each in behind if wanted.artifact_type in {None, each.artifact_type}]
        age = None if kept.value.is_here else kept.age
        return ListedReferrers(_merged(here, remote, wanted), age, 0.0 if is_stale else kept.fresh_for, is_stale)

    def _kept_here(self, name: MirroredName, subject: Digest) -> KeptAnswer[_Remote]:
        """What is listed under the fallback tag that is here."""
        listed: list[Listed] = []
        with contextlib.suppress(ManifestUnknown, NameUnknown, BadGateway):
            listed = self._read(name, self._registry.manifests.find(name.repository, fallback_of(subject)))
        return KeptAnswer(_Remote(listed, is_here=True), 0.0, 0.0, is_stale=True)

    def _ask(self, name: MirroredName, subject: Digest, has_older: bool) -> _Remote:  # noqa: FBT001 - as above
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


def _key(name: MirroredName, subject: Digest) -> str:
    return f"{name.repository}@{subject}"


def _size(remote: _Remote) -> int:
    return sum(_ENTRY + len(each.descriptor) for each in remote.listed)


def _merged(here: Referrers, remote: Sequence[Listed], wanted: Wanted) -> Referrers:
    """The page that both have together. What is here counts where both have it: its manifest says it."""
    descriptors = {each.digest: each.descriptor for each in remote if not here.more or each.digest <= here.last}
    is_more = here.more or len(descriptors) < len(remote)
    descriptors.update((_digest(descriptor), descriptor) for descriptor in here.descriptors)
    found: list[bytes] = []
    size, last = 0, wanted.last
    for digest in sorted(descriptors):
        size += len(descriptors[digest])
        if len(found) == wanted.count or (found and size > wanted.max_bytes):
            return Referrers(found, last, more=True)
        found.append(descriptors[digest])
        last = digest
    return Referrers(found, last, more=is_more)


def _digest(descriptor: bytes) -> str:
    digest: str = orjson.loads(descriptor)["digest"]
    return digest

"""*Tag lists* of a mirror: what the upstream lists, kept for ``ttl``; what is here where it gives no list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database.mirrors import remote_misses
from registry.mirror.failures import failure, is_absence
from registry.mirror.freshness import headers_of
from registry.mirror.kept_answers import KeptAnswers
from registry.mirror.selection import Selection
from registry.oci.errors import NameUnknown, RegistryError, Unavailable
from registry.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from registry.config.mirror_sections import MirrorSettings
    from registry.images.registry import Registry
    from registry.mirror.kept_answers import KeptAnswer
    from registry.mirror.names import MirroredName
    from registry.mirror.remote_tags import RemoteTags, TagList

FIRST: Final = 10.0
"""Seconds in which the first page has to begin, where something else could be listed."""


class ListedTags(NamedTuple):
    """Tags of a mirror, in byte order."""

    tags: list[str]
    age: float | None
    """Seconds since the upstream was asked; None for what is here."""
    fresh_for: float
    """Seconds for which memory may give this answer."""
    is_stale: bool
    """It is not what the upstream has, or may not be."""

    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        return headers_of("cache" if self.age is None else "remote", self.age, is_stale=self.is_stale)


class TagLists:
    """Those of one mirror. Any thread; each process keeps its own, and all know which repositories are absent."""

    def __init__(self, settings: MirrorSettings, registry: Registry, remote: RemoteTags) -> None:
        self._settings = settings
        self._registry = registry
        self._database = registry.backends.database
        self._remote = remote
        self._selection = Selection(settings)
        self._kept: KeptAnswers[TagList] = KeptAnswers(
            self._database.clocks.boot, lambda tags: tags.size, ttl=settings.ttl, max_stale=settings.max_stale
        )

    def page(self, name: MirroredName, *, last: str, count: int) -> ListedTags:
        """At most ``count`` tags behind ``last`` of all that the upstream lists; see ``Manifests.tags``. It may wait.

        Where the upstream gives no list, that is what it listed before, else what is here. Raises NameUnknown where the
        upstream has no such repository, and nothing is here that stays, and where the settings do not mirror it; and
        where nothing could be listed, TooManyRequests, BadGateway, GatewayTimeout, Unavailable.
        """
        here = self.page_here(name, last=last, count=count)
        if here is not None:
            return here
        try:
            kept = self._kept.find(name.repository, lambda has_older: self._ask(name, has_older))
        except RegistryError as error:
            return self._instead(name, last, count, error)
        return _listed(kept, last, count)

    def page_here(self, name: MirroredName, *, last: str, count: int) -> ListedTags | None:
        """As ``page``, without a request; None if the upstream has to be asked."""
        self._selection.require(name)
        if self._settings.offline:
            message = f"mirror {name.mirror.name} is offline, and has nothing of {name.upstream} here"
            return self._here(name, last, count, Unavailable(message))
        try:
            kept = self._kept.at_once(name.repository)
        except RegistryError as error:
            return self._instead(name, last, count, error)
        if kept is None and self._is_missed(name):
            return self._instead(name, last, count, _absence(name))
        return None if kept is None else _listed(kept, last, count)

    def _instead(self, name: MirroredName, last: str, count: int, error: RegistryError) -> ListedTags:
        """What is listed in place of what the upstream does not list. Raises ``error``."""
        if error.status == NameUnknown.status and self._settings.on_delete == "follow":
            raise error
        return self._here(name, last, count, error)

    def _here(self, name: MirroredName, last: str, count: int, error: RegistryError) -> ListedTags:
        """What can be pulled without the upstream. Raises ``error`` if that is nothing."""
        try:
            found, _version = self._registry.manifests.tags(name.repository, last=last, count=count)
        except NameUnknown:
            found = []
        if not found and not (last and self._has_tags(name)):
            raise error
        return ListedTags(found, None, 0.0, is_stale=True)

    def _has_tags(self, name: MirroredName) -> bool:
        try:
            return bool(self._registry.manifests.tags(name.repository, last="", count=1)[0])
        except NameUnknown:
            return False

    def _is_missed(self, name: MirroredName) -> bool:
        """Whether the upstream has said a moment ago, to any process, that it has no such repository."""
        most = self._settings.negative_ttl
        with self._database.autocommit() as connection:
            return remote_misses.left(connection, name.mirror.name, _key(name), most=most).get() > 0

    def _ask(self, name: MirroredName, has_older: bool) -> TagList:  # noqa: FBT001 - as its caller calls it
        """Raises RegistryError."""
        if self._is_missed(name):
            raise _absence(name)
        first = FIRST if has_older or self._has_tags(name) else None
        try:
            return self._remote.list(name.upstream, first=first)
        except UpstreamError as error:
            if is_absence(error):
                with self._database.statement() as connection:
                    seconds = self._settings.negative_ttl
                    remote_misses.put(connection, name.mirror.name, _key(name), seconds=seconds)
                raise _absence(name) from error
            is_known = self._registry.repositories.touch(name.repository) is not None
            found = failure(name, "tags", error, is_known=is_known)
            raise (NameUnknown(found.message) if found.status == NameUnknown.status else found) from error


def _key(name: MirroredName) -> str:
    return f"{name.repository}/tags"


def _listed(kept: KeptAnswer[TagList], last: str, count: int) -> ListedTags:
    return ListedTags(kept.value.after(last, count), kept.age, kept.fresh_for, kept.is_stale)


def _absence(name: MirroredName) -> NameUnknown:
    return NameUnknown(f"mirror {name.mirror.name}: the upstream has no repository {name.upstream}")

"""*Tag usage*: what a tag or a manifest takes with all that it needs, and what would go with it.

With a manifest goes what is attached to it, what an index lists and nothing else keeps, and what is attached to that.
Another tag, another index or an immutable tag keeps a manifest, and this keeps what it names.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.database import tags
from registry.database.usage import blobs, closures
from registry.images.trash import attachments
from registry.maintenance.usage.places import Places
from registry.oci.errors import ManifestUnknown
from registry.oci.quotas import shown
from registry.oci.tag import attachment_prefix

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.database.usage.closures import ManifestUse, NamedUse
    from registry.images.backends import Backends


class TagFigures(NamedTuple):
    """What is told of a tag or a manifest."""

    repository: str
    tag: str | None
    digest: str
    bytes: int
    """The manifest and all that it needs or that is attached to it, each blob once."""
    manifests: int
    """Manifests that would go."""
    frees: int
    """Bytes that would leave storage with them, as it is now."""
    kept_by: tuple[str, ...]
    """Other tags that keep the manifest."""

    def document(self, *, knows_others: bool = True) -> dict[str, Any]:
        """As a JSON value; without ``knows_others`` nothing that says what other repositories have."""
        found = {**self._asdict(), "kept_by": list(self.kept_by)}
        return found if knows_others else {**found, "frees": None}

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        yield f"{self.repository}{f':{self.tag}' if self.tag else ''}@{self.digest}"
        yield f"  takes         {shown(self.bytes)}"
        yield f"  frees         {shown(self.frees)}, with {self.manifests} manifests"
        if self.kept_by:
            yield f"  kept by       {', '.join(self.kept_by)}"


class TagUsage:
    """Any thread. Memory grows with the manifests and blobs of the one that is asked for."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._places = Places(backends)

    def measure(self, repository_id: int, name: str, *, tag: str | None, digest: str) -> TagFigures:
        """The figures of a tag, or of a manifest without one. Raises ManifestUnknown, DatabaseError, StorageError."""
        closure = self._closure(repository_id, name, digest)
        if digest not in closure:
            raise ManifestUnknown(f"repository {name} has no manifest {digest}")
        with self._backends.database.autocommit() as connection:
            pointing = [row.name for row in tags.of_manifest(connection, repository_id, closure[digest].id).get()]
        kept_by = tuple(each for each in sorted(pointing) if tag is not None and each != tag)
        named = self._named(repository_id, closure.values())
        going = {} if kept_by else self._going(repository_id, name, digest, closure, named)
        freed = self._freed(repository_id, going, named)
        taken = frees = 0
        with self._backends.database.autocommit() as connection:
            uses = blobs.of_digests(
                connection, repository_id, {*closure, *named}, store=self._backends.driver.name
            ).get()
            kept = closures.kept_by_trash(connection, repository_id, freed).get()
        for use in uses:
            place = self._places.taken(name, use)
            taken += place.bytes
            if use.digest in freed and use.digest not in kept:
                frees += place.freed
        return TagFigures(name, tag, digest, taken, len(going), frees, kept_by)

    def _closure(self, repository_id: int, name: str, digest: str) -> dict[str, ManifestUse]:
        """The manifest, what it lists, and what is attached to any of these."""
        immutable = self._backends.policy.immutable
        found: dict[str, ManifestUse] = {}
        waiting = {digest}
        while waiting:
            with self._backends.database.autocommit() as connection:
                new = closures.manifests(connection, repository_id, waiting).get()
            found |= new
            waiting = set()
            for each in new.values():
                waiting |= {use.digest for use in self._names(repository_id, each.id) if use.is_manifest}
                with self._backends.database.autocommit() as connection:
                    attached = attachments.of_manifest(connection, repository_id, name, each.digest, immutable).going
                waiting |= {attachment.digest for attachment in attached}
            waiting -= found.keys()
        return found

    def _going(
        self,
        repository_id: int,
        name: str,
        root: str,
        closure: dict[str, ManifestUse],
        named: dict[str, list[str]],
    ) -> dict[str, ManifestUse]:
        """Those that nothing outside of them keeps."""
        going = dict(closure)
        immutable = self._backends.policy.immutable
        with self._backends.database.autocommit() as connection:
            tagged = {
                digest: [row.name for row in tags.of_manifest(connection, repository_id, use.id).get()]
                for digest, use in closure.items()
            }
        listed = {digest: namers for digest, namers in named.items() if digest in closure}
        with self._backends.database.autocommit() as connection:
            listing = closures.namers(connection, repository_id, closure.keys()).get()
        while True:
            prefixes = tuple(attachment_prefix(digest) for digest in going)
            stay = {
                digest
                for digest, use in going.items()
                if listing.get(digest, 0) > sum(each in going for each in listed.get(digest, ()))
                or (
                    digest != root
                    and (
                        immutable.keeps(name, tagged[digest])
                        or not all(tag.startswith(prefixes) for tag in tagged[digest])
                        or (use.subject is not None and use.subject not in going)
                    )
                )
            }
            if not stay:
                return going
            going = {digest: use for digest, use in going.items() if digest not in stay}

    def _freed(self, repository_id: int, going: dict[str, ManifestUse], named: dict[str, list[str]]) -> set[str]:
        """The manifests that go, and what only they name."""
        counts = Counter({digest: sum(each in going for each in namers) for digest, namers in named.items()})
        only = [digest for digest, count in counts.items() if count and digest not in going]
        with self._backends.database.autocommit() as connection:
            namers = closures.namers(connection, repository_id, only).get()
            others = closures.manifests(connection, repository_id, only).get()
        return {*going, *(each for each in only if namers.get(each, 0) <= counts[each] and each not in others)}

    def _named(self, repository_id: int, manifests: Collection[ManifestUse]) -> dict[str, list[str]]:
        """What these manifests name, each with those that name it."""
        named: dict[str, list[str]] = {}
        for manifest in manifests:
            for use in self._names(repository_id, manifest.id):
                named.setdefault(use.digest, []).append(manifest.digest)
        return named

    def _names(self, repository_id: int, manifest_id: int) -> Iterator[NamedUse]:
        after = ""
        while True:
            with self._backends.database.autocommit() as connection:
                page = closures.named(connection, repository_id, manifest_id, after=after).get()
            yield from page
            if len(page) < blobs.PAGE:
                return
            after = page[-1].digest

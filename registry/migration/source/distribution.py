"""Docker distribution's layout: bytes once for all repositories, and a link for each thing that a repository has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.migration.report import Problem, ProblemKind
from registry.migration.rollback.steps import Delete, Write
from registry.migration.source.layout import SourceLayout
from registry.migration.source.objects import KeyInfo, ObjectKind, RepositoryPath, SourceRepository
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.oci.tag import is_tag
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry.migration.rollback.steps import Step, TargetContent, WantedManifest
    from registry.migration.source.inventory import Inventory
    from registry.storage.driver import StorageDriver

ROOT = "docker/registry/v2"
_HEX = r"(?:sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})"
_DATA = re.compile(rf"{ROOT}/blobs/(sha256|sha512)/([0-9a-f]{{2}})/([0-9a-f]+)/data")
_IN_REPOSITORY = re.compile(rf"{ROOT}/repositories/(?:(.+?)/)?_(layers|manifests|uploads)/(.+)")
_BELOW = {
    "layers": ((re.compile(rf"({_HEX})/link"), ObjectKind.LAYER_LINK),),
    "manifests": (
        (re.compile(rf"revisions/({_HEX})/link"), ObjectKind.REVISION_LINK),
        (re.compile(r"tags/[^/]+/current/link()"), ObjectKind.TAG_LINK),
        (re.compile(rf"tags/[^/]+/index/({_HEX})/link"), ObjectKind.OLD_TAG_LINK),
        (re.compile(r"revisions/.+/signatures/.+()"), ObjectKind.LEFT),
    ),
    "uploads": ((re.compile(r".+()"), ObjectKind.UPLOAD),),
}
"""What lies below each of the three directories of a repository; the group is a digest."""
_TAG = re.compile(r".*/_manifests/tags/([^/]+)/current/link")
_DIGEST_OF_LINK = re.compile(rf"/({_HEX})/link$")
_MAX_LINK = 4096
_CURRENT_LINKS = (ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK, ObjectKind.TAG_LINK)


class Distribution(SourceLayout):
    """``docker/registry/v2/blobs/{algorithm}/{xx}/{hex}/data``, and links below ``repositories/{name}/``."""

    kind = "distribution"
    bytes_kind = ObjectKind.DATA
    member_kinds = (ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK)
    has_stubs = False
    keeps_media_types = False
    link_requests = 1

    def __init__(self) -> None:
        super().__init__((ROOT,))

    @staticmethod
    def classify(key: str) -> KeyInfo | None:
        """See SourceLayout."""
        if not key.startswith((f"{ROOT}/blobs/", f"{ROOT}/repositories/")):
            return None
        if found := _DATA.fullmatch(key):
            digest = _digest(f"{found[1]}:{found[3]}")
            if digest is not None and digest.encoded.startswith(found[2]):
                return KeyInfo(ObjectKind.DATA, digest=digest)
        if found := _IN_REPOSITORY.fullmatch(key):
            for pattern, kind in _BELOW[found[2]]:
                if below := pattern.fullmatch(found[3]):
                    return KeyInfo(kind, found[1] or "", below[1].replace("/", ":"))
        return KeyInfo(ObjectKind.UNKNOWN)

    def repositories(self, inventory: Inventory) -> list[RepositoryPath]:
        """See SourceLayout."""
        return [RepositoryPath(name, name, ROOT) for name in inventory.paths(*_CURRENT_LINKS)]

    def home(self, located: RepositoryPath, digest: Digest) -> str:  # noqa: ARG002 - one place for all repositories
        """See SourceLayout."""
        return f"{ROOT}/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"

    def read(self, located: RepositoryPath, inventory: Inventory, driver: StorageDriver) -> SourceRepository | None:
        """See SourceLayout. Asks the store for what the listing lacks: it may have come while the listing went on."""
        repository = SourceRepository(located.name, located.path, located.prefix)
        links = inventory.links(located.path, *_CURRENT_LINKS, data=ObjectKind.DATA)
        for key, kind, text, size, has_data in links:
            if kind == ObjectKind.TAG_LINK:
                continue
            digest = Digest(text)
            if size != len(digest) and self._link(driver, key, repository) is None:
                continue
            if not has_data and not _is_there(driver, self.home(located, digest)):
                detail = "the link leads to bytes that are not there"
                repository.problems.append(Problem(ProblemKind.DANGLING_LINK, located.name, key, digest, detail))
            elif kind == ObjectKind.REVISION_LINK:
                repository.manifests[digest] = None
        for key, kind, *_ in links:
            if kind == ObjectKind.TAG_LINK:
                self._read_tag(driver, key, repository)
        return repository

    def steps(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Step]:
        """See SourceLayout. A listing does not tell what a tag points at: a tag that moved is written each time."""
        lost = {loss.digest for loss in self.losses(wanted, inventory)}
        yield from self._copies(wanted, lost, inventory)
        base = _directory(wanted.located)
        for digest, size in wanted.blobs.items():
            served = digest in wanted.sources or self.has_bytes(wanted.located, digest, size, inventory, wanted.lost)
            if served and digest not in lost:
                yield from _link(f"{base}/_layers/{_path(digest)}/link", digest, inventory)
        for digest in wanted.manifests:
            if digest not in lost:
                yield from _link(_revision(wanted.located, digest), digest, inventory)
        for tag, digest in sorted(wanted.tags.items()):
            if digest not in lost:
                at = f"{base}/_manifests/tags/{tag}"
                yield from _link(f"{at}/index/{_path(digest)}/link", digest, inventory)
                yield from _link(f"{at}/current/link", digest, inventory, moved=wanted.said.get(tag, digest) != digest)
        yield from self._deletions(wanted, inventory)

    def _deletions(self, wanted: TargetContent, inventory: Inventory) -> Iterator[Delete]:
        """Deletes the links of content that went; the current link of a tag goes last, until then the tag is whole."""
        base = _directory(wanted.located)
        for tag in sorted(wanted.gone_tags):
            at = f"{base}/_manifests/tags/{tag}/"
            if found := inventory.keys_below(at):
                yield Delete(tuple(reversed(found)))
        revisions = [_revision(wanted.located, digest) for digest in wanted.gone_manifests]
        layers = [f"{base}/_layers/{_path(digest)}/link" for digest in wanted.gone_blobs]
        for key in (*sorted(revisions), *sorted(layers)):
            if inventory.find(key) is not None:
                yield Delete((key,))

    def removable_keys(self, located: RepositoryPath, inventory: Inventory) -> Iterator[str]:
        """See SourceLayout."""
        return inventory.keys_in(located.path, *_CURRENT_LINKS, ObjectKind.OLD_TAG_LINK)

    def has_manifest(self, located: RepositoryPath, digest: Digest, inventory: Inventory) -> bool:
        """See SourceLayout."""
        return inventory.find(_revision(located, digest)) is not None

    def has_bytes(
        self, located: RepositoryPath, digest: Digest, size: int, inventory: Inventory, lost: Collection[str]
    ) -> bool:
        """See SourceLayout."""
        key = self.home(located, digest)
        found = inventory.find(key)
        return found is not None and found.size == size and key not in lost

    def refuses(self, digest: Digest, manifest: WantedManifest | None = None) -> str:
        """See SourceLayout."""
        if digest.algorithm != "sha256":
            return f"docker distribution has no {digest.algorithm}"
        if manifest is not None and manifest.taken_for not in {"", manifest.media_type}:
            return f"docker distribution keeps no media types: it would be {manifest.taken_for} there"
        return ""

    def _read_tag(self, driver: StorageDriver, key: str, repository: SourceRepository) -> None:
        found = _TAG.fullmatch(key)
        tag = found[1] if found else ""
        if not is_tag(tag):
            detail = f"{tag}: is not a tag that the specification allows"
            repository.problems.append(Problem(ProblemKind.INVALID_TAG, repository.name, key, "", detail))
            return
        digest = self._link(driver, key, repository)
        if digest is None:
            return
        if digest not in repository.manifests:
            if not _is_there(driver, _revision(repository, digest)):
                detail = f"the tag {tag} leads to a manifest that the repository has not"
                repository.problems.append(Problem(ProblemKind.DANGLING_LINK, repository.name, key, digest, detail))
                return
            repository.manifests[digest] = None
        repository.tags[tag] = digest

    def _link(self, driver: StorageDriver, key: str, repository: SourceRepository) -> Digest | None:
        """The digest that a link holds; None if it holds none, which is a problem, or the link has gone."""
        try:
            data, _ = driver.read(key, max_bytes=_MAX_LINK)
        except PathNotFound:
            return None
        except ObjectTooLarge as error:
            found, detail = None, str(error)
        else:
            found = _digest(data.decode(errors="replace"))
            detail = f"{len(data)} bytes that are not a digest"
        expected = _DIGEST_OF_LINK.search(key)
        if found is not None and expected and expected[1].replace("/", ":") != found:
            found, detail = None, f"it leads to {found}, and its name says otherwise"
        if found is None:
            repository.problems.append(Problem(ProblemKind.UNREADABLE_LINK, repository.name, key, "", detail))
        return found


def _path(digest: str) -> str:
    return digest.replace(":", "/")


def _directory(repository: RepositoryPath | SourceRepository) -> str:
    return f"{ROOT}/repositories/{repository.path}"


def _revision(repository: RepositoryPath | SourceRepository, digest: Digest) -> str:
    return f"{_directory(repository)}/_manifests/revisions/{_path(digest)}/link"


def _link(key: str, digest: Digest, inventory: Inventory, *, moved: bool = False) -> Iterator[Write]:
    """Writes a link, unless the listing shows it; ``moved``: it may be there and hold another digest."""
    found = inventory.find(key)
    if found is None or found.size != len(digest) or moved:
        yield Write(key, digest.encode(), "" if found is None else found.etag)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except DigestInvalid:
        return None


def _is_there(driver: StorageDriver, key: str) -> bool:
    try:
        driver.stat(key)
    except PathNotFound:
        return False
    return True

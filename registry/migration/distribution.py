"""The tree of docker distribution: bytes once for all repositories, and a link for each thing that one has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.migration.original_layout import Entry, Located, ObjectKind, OriginalLayout, OriginalRepository
from registry.migration.problem import Problem, ProblemKind
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.oci.tag import is_tag
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.migration.snapshot import Snapshot
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


class Distribution(OriginalLayout):
    """``docker/registry/v2/blobs/{algorithm}/{xx}/{hex}/data``, and links below ``repositories/{name}/``."""

    kind = "distribution"
    bytes_kind = ObjectKind.DATA
    member_kinds = (ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK)
    has_stubs = False
    link_requests = 1

    def __init__(self) -> None:
        super().__init__((ROOT,))

    @staticmethod
    def classify(key: str) -> Entry | None:
        """See OriginalLayout."""
        if not key.startswith((f"{ROOT}/blobs/", f"{ROOT}/repositories/")):
            return None
        if found := _DATA.fullmatch(key):
            digest = _digest(f"{found[1]}:{found[3]}")
            if digest is not None and digest.encoded.startswith(found[2]):
                return Entry(ObjectKind.DATA, digest=digest)
        if found := _IN_REPOSITORY.fullmatch(key):
            for pattern, kind in _BELOW[found[2]]:
                if below := pattern.fullmatch(found[3]):
                    return Entry(kind, found[1] or "", below[1].replace("/", ":"))
        return Entry(ObjectKind.UNKNOWN)

    def repositories(self, snapshot: Snapshot) -> list[Located]:
        """See OriginalLayout."""
        kinds = (ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK, ObjectKind.TAG_LINK)
        found = snapshot.rows("SELECT DISTINCT repository FROM object WHERE kind IN (?, ?, ?) ORDER BY 1", *kinds)
        return [Located(name, name, ROOT) for (name,) in found]

    def home(self, located: Located, digest: Digest) -> str:  # noqa: ARG002 - one place for all repositories
        """See OriginalLayout."""
        return f"{ROOT}/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"

    def read(self, located: Located, snapshot: Snapshot, driver: StorageDriver) -> OriginalRepository | None:
        """See OriginalLayout. What the listing lacks is asked for: it may have come while the listing went on."""
        repository = OriginalRepository(located.name, located.path, located.prefix)
        links = snapshot.rows(
            "SELECT key, kind, digest, size, EXISTS (SELECT 1 FROM object d WHERE d.digest = o.digest AND d.kind = ?)"
            " FROM object o WHERE repository = ? AND kind IN (?, ?, ?) ORDER BY key",
            ObjectKind.DATA, located.path, ObjectKind.LAYER_LINK, ObjectKind.REVISION_LINK, ObjectKind.TAG_LINK,
        )  # fmt: skip
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

    def _read_tag(self, driver: StorageDriver, key: str, repository: OriginalRepository) -> None:
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
            revision = f"{ROOT}/repositories/{repository.path}/_manifests/revisions/{digest.replace(':', '/')}/link"
            if not _is_there(driver, revision):
                detail = f"the tag {tag} leads to a manifest that the repository has not"
                repository.problems.append(Problem(ProblemKind.DANGLING_LINK, repository.name, key, digest, detail))
                return
            repository.manifests[digest] = None
        repository.tags[tag] = digest

    def _link(self, driver: StorageDriver, key: str, repository: OriginalRepository) -> Digest | None:
        """What a link says; None where it says nothing, which is a problem, or has gone."""
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

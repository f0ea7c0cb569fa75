"""Content: what clients were told that a registry has, and what it must answer them, whichever release asks."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.client import Client
    from tests.support.payloads import Blob, Manifest


@dataclass
class Upload:
    """A session that is not closed: where it is, and how many bytes of the blob were acknowledged."""

    repository: str
    location: str
    blob: Blob
    offset: int


@dataclass
class Repository:
    """What one repository has."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    """Pushed or mounted, also what no manifest names."""
    foreign: dict[str, Blob] = field(default_factory=dict)
    """Pushed although the manifest that names them says that they are to be had elsewhere."""
    withheld: set[str] = field(default_factory=set)
    """Digests that a manifest names, that other repositories have, and that this one was never given."""
    gone: set[str] = field(default_factory=set)
    """Ends of paths (``manifests/...``, ``blobs/...``) that were deleted."""

    @property
    def named(self) -> set[str]:
        """Digests that its manifests name and need."""
        return {digest for manifest in self.manifests.values() for digest in manifest.blobs}


class Content:
    """Everything that was acknowledged, by repository."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = defaultdict(Repository)
        self.uploads: list[Upload] = []

    def forget_what_only_a_database_knows(self, *, shared: bool, withheld_too: bool = True) -> None:
        """The database was lost: unfinished uploads, and in a bucket blobs that no manifest names.

        Which references were withheld stands in the records of later releases alone, so a bucket says nothing of what
        a former release withheld until this one has written it down, by a job or by ``registry rebuild``; without
        ``withheld_too`` it has. On disk a repository without the file is one without the blob.
        """
        self.uploads.clear()
        for repository in self.repositories.values():
            if shared:
                named = repository.named | repository.foreign.keys()
                repository.blobs = {digest: blob for digest, blob in repository.blobs.items() if digest in named}
                if withheld_too:
                    repository.withheld.clear()

    def forget_foreign(self) -> None:
        """A former release has filled its database from a bucket: it leaves out what need not be there."""
        for repository in self.repositories.values():
            for digest in repository.foreign:
                repository.blobs.pop(digest, None)

    def find_foreign(self) -> None:
        """This release has read the bucket again, or was told to by ``registry rebuild``."""
        for repository in self.repositories.values():
            repository.blobs.update(repository.foreign)

    def check(self, client: Client) -> None:
        """Ask for everything by every name. Raises AssertionError."""
        for name, repository in self.repositories.items():
            _check_manifests(client, name, repository)
            _check_blobs(client, name, repository)
            _check_referrers(client, name, repository)
            for end in repository.gone:
                assert client.call("GET", f"/v2/{name}/{end}").status == 404, (name, end)
        self._check_catalog(client)

    def _check_catalog(self, client: Client) -> None:
        """Each repository that was read is listed, whatever was reconciled so far."""
        reply = client.call("GET", "/v2/_catalog?n=1000")
        listed = json.loads(reply.body)["repositories"]
        assert listed == sorted(listed)
        assert {name for name, repository in self.repositories.items() if repository.manifests} <= set(listed)


def _check_manifests(client: Client, name: str, repository: Repository) -> None:
    assert client.tags(name) == sorted(repository.tags), name
    references = {digest: digest for digest in repository.manifests} | repository.tags
    for reference, digest in references.items():
        manifest = repository.manifests[digest]
        for method, body in (("GET", manifest.data), ("HEAD", b"")):
            reply = client.call(method, f"/v2/{name}/manifests/{reference}")
            assert (reply.status, reply.body) == (200, body), (name, reference, reply)
            said = {key: reply.headers[key] for key in ("content-type", "docker-content-digest", "content-length")}
            assert list(said.values()) == [manifest.media_type, digest, str(len(manifest.data))], (name, reference)


def _check_blobs(client: Client, name: str, repository: Repository) -> None:
    for digest, blob in repository.blobs.items():
        path = f"/v2/{name}/blobs/{digest}"
        head, reply = client.call("HEAD", path), client.call("GET", path)
        assert (reply.status, reply.body == blob.data) == (200, True), (name, digest, reply.status)
        assert (head.status, head.headers["content-length"]) == (200, str(len(blob.data))), (name, digest)
        if len(blob.data) > 1:
            part = client.call("GET", path, headers={"Range": "bytes=1-9"})
            assert (part.status, part.body) == (206, blob.data[1:10]), (name, digest)
    for digest in repository.withheld:
        assert client.call("GET", f"/v2/{name}/blobs/{digest}").status == 404, (name, digest)


def _check_referrers(client: Client, name: str, repository: Repository) -> None:
    subjects = {manifest.subject for manifest in repository.manifests.values() if manifest.subject}
    for subject in subjects | repository.manifests.keys():
        wanted = {digest for digest, manifest in repository.manifests.items() if manifest.subject == subject}
        reply = client.call("GET", f"/v2/{name}/referrers/{subject}")
        found = {entry["digest"]: entry for entry in json.loads(reply.body)["manifests"]}
        assert found.keys() == wanted, (name, subject)
        for digest, entry in found.items():
            manifest = repository.manifests[digest]
            assert entry.get("artifactType") == manifest.artifact_type, (name, digest)
            assert entry.get("annotations", {}) == manifest.annotations, (name, digest)

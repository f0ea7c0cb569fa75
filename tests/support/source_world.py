"""One description of content, and the trees of objects that registries make of it: zot's, distribution's, and ours.

A tree is a dictionary from keys to bytes. A breakage is a change of it, made before the tree is put into a store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.oci.digest import Digest
from registry.oci.index import FOLDED, LAYOUT_FILE
from registry.oci.record import Record
from tests.support.payloads import INDEX, Blob, Manifest, image, index

if TYPE_CHECKING:
    from registry.storage.driver import StorageDriver

Tree = dict[str, bytes]
TREE = "docker/registry/v2"


@dataclass
class Repository:
    """What one repository has."""

    name: str
    tags: dict[str, Manifest] = field(default_factory=dict)
    untagged: list[Manifest] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)

    @property
    def manifests(self) -> list[Manifest]:
        """Each once, tagged or not."""
        return list({manifest.digest: manifest for manifest in (*self.tags.values(), *self.untagged)}.values())


AMD, ARM = Blob(b'{"architecture": "amd64"}'), Blob(b'{"architecture": "arm64"}')
SHARED, FIRST, SECOND = Blob(b"shared layer " * 900), Blob(b"first layer " * 700), Blob(b"second layer " * 500)
SBOM, NOTHING, EMPTY_JSON = Blob(b'{"components": []}'), Blob(b""), Blob(b"{}")
ON_AMD, ON_ARM = image(AMD, [SHARED, FIRST]), image(ARM, [SHARED, SECOND])
BOTH = index([ON_AMD, ON_ARM])
ATTACHED = image(EMPTY_JSON, [SBOM], subject=ON_AMD, artifact_type="application/vnd.example.sbom")
PLAIN = image(AMD, [SHARED, NOTHING])
OTHER = image(ARM, [SHARED])

BLOBS = [AMD, ARM, SHARED, FIRST, SECOND, SBOM, NOTHING, EMPTY_JSON]
MANIFESTS = [ON_AMD, ON_ARM, BOTH, ATTACHED, PLAIN, OTHER]
BYTES = sum(len(blob.data) for blob in BLOBS) + sum(len(manifest.data) for manifest in MANIFESTS)


def repositories() -> list[Repository]:
    """A multi-arch image with something attached, and layers that repositories share; six manifests, five tags."""
    return [
        Repository(
            "app",
            {"v1": BOTH, "amd": ON_AMD},
            [ON_ARM, ATTACHED],
            [AMD, ARM, SHARED, FIRST, SECOND, SBOM, EMPTY_JSON],
        ),
        Repository("team/web", {"v1": PLAIN, "stable": PLAIN}, [], [AMD, SHARED, NOTHING]),
        Repository("team/web/nested", {"latest": OTHER}, [], [ARM, SHARED]),
    ]


def path(digest: str) -> str:
    """``sha256/{hex}``."""
    return digest.replace(":", "/")


def per_repository(content: list[Repository], *, prefix: str = "", stubs: bool = True) -> Tree:
    """As zot keeps it: bytes in the first repository that has them, stubs in every other one, manifests in each."""
    tree: Tree = {}
    written: set[str] = set()
    for repository in content:
        base = f"{prefix}{repository.name}"
        for blob in repository.blobs:
            is_stub = stubs and blob.digest in written
            tree[f"{base}/blobs/{path(blob.digest)}"] = b"" if is_stub else blob.data
            written.add(blob.digest)
        for manifest in repository.manifests:
            tree[f"{base}/blobs/{path(manifest.digest)}"] = manifest.data
        tree[f"{base}/index.json"] = zot_index(repository)
        tree[f"{base}/oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    return tree


def zot_index(repository: Repository) -> bytes:
    """Entries with a tag, and bare ones."""
    entries = [
        manifest.descriptor() | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, manifest in repository.tags.items()
    ]
    tagged = {manifest.digest for manifest in repository.tags.values()}
    entries += [manifest.descriptor() for manifest in repository.untagged if manifest.digest not in tagged]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def earlier_layout(content: list[Repository]) -> Tree:
    """As ours were once: bytes in each repository, and the last tag of each in a record that no index has yet."""
    tree = per_repository(content, stubs=False)
    for repository in content:
        document = json.loads(tree[f"{repository.name}/index.json"])
        last = document["manifests"][len(repository.tags) - 1]
        tag = last["annotations"]["org.opencontainers.image.ref.name"]
        document["manifests"].remove(last)
        document["annotations"] = {FOLDED: "1"}
        tree[f"{repository.name}/index.json"] = json.dumps(document).encode()
        line = {
            "seq": 2, "time": "2026-01-01T00:00:00Z", "actor": "127.0.0.1", "op": "put", "tags": [tag], "old": {},
            "new": repository.tags[tag].descriptor(),
        }  # fmt: skip
        assert Record.parse(json.dumps(line).encode()).sequence == 2
        tree[f"{repository.name}/.journal/{2:016d}.json"] = json.dumps(line).encode() + b"\n"
    return tree


def distribution(content: list[Repository]) -> Tree:
    """As docker-registry and distribution keep it."""
    tree: Tree = {}
    for repository in content:
        base = f"{TREE}/repositories/{repository.name}"
        for blob in repository.blobs:
            tree[data_key(blob.digest)] = blob.data
            tree[f"{base}/_layers/{path(blob.digest)}/link"] = blob.digest.encode()
        for manifest in repository.manifests:
            tree[data_key(manifest.digest)] = manifest.data
            tree[f"{base}/_manifests/revisions/{path(manifest.digest)}/link"] = manifest.digest.encode()
        for tag, manifest in repository.tags.items():
            for place in ("current", f"index/{path(manifest.digest)}"):
                tree[f"{base}/_manifests/tags/{tag}/{place}/link"] = manifest.digest.encode()
    return tree


def data_key(digest: str) -> str:
    """The key of bytes in a distribution tree."""
    algorithm, _, encoded = digest.partition(":")
    return f"{TREE}/blobs/{algorithm}/{encoded[:2]}/{encoded}/data"


def ours(name: str = "own/app") -> Tree:
    """A repository of Stowage, as this release writes it."""
    made = image(Blob(b"own config"), [Blob(b"own layer")])
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [made.descriptor()], "annotations": {FOLDED: "1"}}
    blobs = {f"storage/blobs/{path(Digest.of(data))}": data for data in (b"own config", b"own layer", made.data)}
    return {
        **blobs,
        f"{name}/index.json": json.dumps(document).encode(),
        f"{name}/oci-layout": LAYOUT_FILE,
        f"{name}/.journal/{1:016d}.json": b"{}\n",
        ".probe/0123": b"",
    }


def fill(driver: StorageDriver, tree: Tree) -> None:
    """Put a tree into a store."""
    for key, data in tree.items():
        driver.write(key, data)

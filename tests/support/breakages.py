"""Breakages: changes of a tree, and what a review has to say about each."""

from __future__ import annotations

import json
from collections.abc import Callable

from registry.migration.report import ProblemKind
from registry.oci.digest import Digest
from tests.support.payloads import MANIFEST
from tests.support.source_world import ATTACHED, FIRST, ON_AMD, ON_ARM, OTHER, SHARED, TREE, Tree, data_key, path

Break = Callable[[Tree], None]
APP = "app/blobs/"
LINKS = f"{TREE}/repositories/app"


def delete(*keys: str) -> Break:
    """Objects that are gone."""

    def change(tree: Tree) -> None:
        for key in keys:
            del tree[key]

    return change


def put(key: str, data: bytes) -> Break:
    """An object that is there, or another one in its place."""
    return lambda tree: tree.update({key: data})


def cut(key: str) -> Break:
    """An object that lacks its end."""
    return lambda tree: tree.update({key: tree[key][:-3]})


def flip(key: str) -> Break:
    """An object of the right size with other bytes."""
    return lambda tree: tree.update({key: bytes(byte ^ 1 for byte in tree[key])})


def entry(**fields: object) -> Break:
    """One more entry in the index of ``app``."""

    def change(tree: Tree) -> None:
        document = json.loads(tree["app/index.json"])
        document["manifests"].append(fields)
        tree["app/index.json"] = json.dumps(document).encode()

    return change


def manifest(data: bytes, media_type: str = MANIFEST, tag: str = "odd") -> Break:
    """One more manifest in ``app``, of a zot tree."""
    digest = str(Digest.of(data))
    annotations = {"org.opencontainers.image.ref.name": tag}

    def change(tree: Tree) -> None:
        tree[f"app/blobs/{path(digest)}"] = data
        entry(mediaType=media_type, digest=digest, size=len(data), annotations=annotations)(tree)

    return change


OTHER_SIZE = json.loads(OTHER.data)
OTHER_SIZE["layers"][0]["size"] += 1
SCHEMA1 = b'{"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": []}'

ZOT: list[tuple[str, Break, ProblemKind, str, str, dict[str, int]]] = [
    ("a layer is gone", delete(APP + path(FIRST.digest)), ProblemKind.MISSING_BLOB, "app", FIRST.digest, {"blobs": -1}),
    (
        "a layer is cut short",
        cut(APP + path(FIRST.digest)),
        ProblemKind.TRUNCATED_BLOB,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a layer has other bytes",
        flip(APP + path(FIRST.digest)),
        ProblemKind.WRONG_DIGEST,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "only a stub is left",
        put(APP + path(FIRST.digest), b""),
        ProblemKind.STUB_WITHOUT_BYTES,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a layer is too long",
        put(APP + path(FIRST.digest), FIRST.data + b"!"),
        ProblemKind.SIZE_CONFLICT,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a manifest is gone",
        delete(APP + path(ATTACHED.digest)),
        ProblemKind.MISSING_BLOB,
        "app",
        ATTACHED.digest,
        {"manifests": -1, "blobs": -2},
    ),
    (
        "a child is gone",
        delete(APP + path(ON_ARM.digest)),
        ProblemKind.MISSING_BLOB,
        "app",
        ON_ARM.digest,
        {"manifests": -1, "blobs": -1},
    ),
    (
        "a manifest is cut short",
        cut(APP + path(ATTACHED.digest)),
        ProblemKind.TRUNCATED_BLOB,
        "app",
        ATTACHED.digest,
        {"manifests": -1, "blobs": -2},
    ),
    (
        "a manifest has other bytes",
        flip(APP + path(ATTACHED.digest)),
        ProblemKind.WRONG_DIGEST,
        "app",
        ATTACHED.digest,
        {"manifests": -1, "blobs": -2},
    ),
    (
        "an index is no JSON",
        put("app/index.json", b"{"),
        ProblemKind.UNREADABLE_INDEX,
        "app",
        "",
        {"repositories": -1, "tags": -2, "manifests": -4, "blobs": -4},
    ),
    (
        "an index is gone",
        delete("app/index.json"),
        ProblemKind.UNREADABLE_INDEX,
        "app",
        "",
        {"repositories": -1, "tags": -2, "manifests": -4, "blobs": -4},
    ),
    ("an entry is none", entry(digest="sha256:no"), ProblemKind.UNREADABLE_INDEX, "app", "", {}),
    ("a manifest is none", manifest(b"[]"), ProblemKind.UNREADABLE_MANIFEST, "app", str(Digest.of(b"[]")), {}),
    (
        "a manifest is of schema 1",
        manifest(SCHEMA1, "application/vnd.docker.distribution.manifest.v1+json"),
        ProblemKind.UNSUPPORTED_MANIFEST,
        "app",
        str(Digest.of(SCHEMA1)),
        {},
    ),
    (
        "a tag is none",
        entry(**ON_AMD.descriptor(), annotations={"org.opencontainers.image.ref.name": "a/b"}),
        ProblemKind.INVALID_TAG,
        "app",
        "",
        {},
    ),
    (
        "manifests disagree on a size",
        manifest(json.dumps(OTHER_SIZE).encode()),
        ProblemKind.SIZE_CONFLICT,
        "app, team/web, team/web/nested",
        SHARED.digest,
        {"manifests": 1, "tags": 1},
    ),
    ("something else is there", put("photos/1.jpg", b"?"), ProblemKind.UNKNOWN_OBJECT, "", "", {}),
]


TREES: list[tuple[str, Break, ProblemKind, str, str, dict[str, int]]] = [
    (
        "a layer is cut short",
        cut(data_key(FIRST.digest)),
        ProblemKind.TRUNCATED_BLOB,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a layer has no bytes",
        put(data_key(FIRST.digest), b""),
        ProblemKind.TRUNCATED_BLOB,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a layer has other bytes",
        flip(data_key(FIRST.digest)),
        ProblemKind.WRONG_DIGEST,
        "app",
        FIRST.digest,
        {"blobs": -1},
    ),
    (
        "a manifest has other bytes",
        flip(data_key(ATTACHED.digest)),
        ProblemKind.WRONG_DIGEST,
        "app",
        ATTACHED.digest,
        {"manifests": -1, "blobs": -2},
    ),
    (
        "bytes of a revision are gone",
        delete(data_key(ATTACHED.digest)),
        ProblemKind.DANGLING_LINK,
        "app",
        ATTACHED.digest,
        {"manifests": -1, "blobs": -2},
    ),
    (
        "a tag leads nowhere",
        put(f"{LINKS}/_manifests/tags/gone/current/link", b"sha256:" + b"0" * 64),
        ProblemKind.DANGLING_LINK,
        "app",
        "sha256:" + "0" * 64,
        {},
    ),
    (
        "a layer link leads nowhere",
        put(f"{LINKS}/_layers/sha256/{'0' * 64}/link", b"sha256:" + b"0" * 64),
        ProblemKind.DANGLING_LINK,
        "app",
        "sha256:" + "0" * 64,
        {},
    ),
    (
        "a link is empty",
        put(f"{LINKS}/_manifests/tags/amd/current/link", b""),
        ProblemKind.UNREADABLE_LINK,
        "app",
        "",
        {"tags": -1},
    ),
    (
        "a tag is none",
        put(f"{LINKS}/_manifests/tags/-x/current/link", ON_AMD.digest.encode()),
        ProblemKind.INVALID_TAG,
        "app",
        "",
        {},
    ),
    (
        "a name is reserved",
        put(f"{TREE}/repositories/storage/app/_layers/{path(SHARED.digest)}/link", SHARED.digest.encode()),
        ProblemKind.INVALID_NAME,
        "storage/app",
        "",
        {},
    ),
    (
        "a name is none",
        put(f"{TREE}/repositories/App/_layers/{path(SHARED.digest)}/link", SHARED.digest.encode()),
        ProblemKind.INVALID_NAME,
        "App",
        "",
        {},
    ),
    (
        "a name is in the tree",
        put(f"{TREE}/repositories/{TREE}/x/_layers/{path(SHARED.digest)}/link", SHARED.digest.encode()),
        ProblemKind.NAME_COLLISION,
        f"{TREE}/x",
        "",
        {},
    ),
    ("something else is in the tree", put(f"{TREE}/blobs/notes.txt", b"?"), ProblemKind.UNKNOWN_OBJECT, "", "", {}),
]

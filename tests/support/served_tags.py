"""Served tags: what the registry that a bucket came from would serve, read from the tree alone, without our code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.payloads import digest_of
from tests.support.source_world import TREE, Tree, data_key, path

REF_NAME = "org.opencontainers.image.ref.name"
Tags = dict[str, dict[str, str]]
"""The tags of each repository, and their digests."""


def zot_tags(tree: Tree, prefix: str = "") -> Tags:
    """As zot serves a tree, whose repositories are below ``prefix``; raises AssertionError where a blob is not there.

    A repository has a blob as its bytes, or as a stub whose bytes another one has.
    """
    bytes_of = {}
    for key, data in tree.items():
        base, _, name = key.rpartition("/blobs/")
        if data and f"{base}/oci-layout" in tree:
            bytes_of[name] = data
    found: Tags = {}
    for key, data in tree.items():
        base = key.removesuffix("/index.json")
        if base == key or not key.startswith(prefix) or f"{base}/oci-layout" not in tree:
            continue

        def body(digest: str, base: str = base) -> bytes:
            there = tree[f"{base}/blobs/{path(digest)}"]
            return there or bytes_of.get(path(digest), b"")

        entries = json.loads(data)["manifests"]
        for entry in entries:
            _check(entry["digest"], body)
        tags = {entry["annotations"][REF_NAME]: entry["digest"] for entry in entries if REF_NAME in _notes(entry)}
        if tags:
            found[base.removeprefix(prefix)] = tags
    return found


def distribution_tags(tree: Tree) -> Tags:
    """As docker distribution serves a tree; raises AssertionError where a link or a blob is not there."""
    top = f"{TREE}/repositories/"
    found: Tags = {}
    for key, link in tree.items():
        name, _, rest = key.removeprefix(top).partition("/_manifests/tags/")
        tag, _, place = rest.partition("/")
        if not key.startswith(top) or place != "current/link":
            continue
        digest = link.decode()
        assert tree[f"{top}{name}/_manifests/tags/{tag}/index/{path(digest)}/link"] == link

        def body(digest: str, name: str = name) -> bytes:
            links = (f"_layers/{path(digest)}/link", f"_manifests/revisions/{path(digest)}/link")
            assert any(tree.get(f"{top}{name}/{link}") == digest.encode() for link in links), (name, digest)
            return tree[data_key(digest)]

        _check(digest, body)
        found.setdefault(name, {})[tag] = digest
    return found


def _check(digest: str, body: Callable[[str], bytes]) -> None:
    """Everything that a manifest reaches has its bytes."""
    data = _bytes(digest, body)
    for child, is_manifest in _reached(json.loads(data)):
        if is_manifest:
            _check(child, body)
        else:
            _bytes(child, body)


def _bytes(digest: str, body: Callable[[str], bytes]) -> bytes:
    data = body(digest)
    assert digest_of(data, digest.partition(":")[0]) == digest
    return data


def _reached(document: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for child in document.get("manifests", ()):
        yield child["digest"], True
    for blob in (*document.get("layers", ()), *([document["config"]] if "config" in document else ())):
        if "foreign" not in blob["mediaType"]:  # its clients fetch it from elsewhere
            yield blob["digest"], False


def _notes(entry: dict[str, Any]) -> dict[str, str]:
    return entry.get("annotations") or {}

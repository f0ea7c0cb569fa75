"""Reading a repository from storage alone, as another tool would: is it a valid OCI image layout?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from registry.storage.driver import BlobLayout
from tests.support.payloads import digest_of

if TYPE_CHECKING:
    from registry.storage.driver import StorageDriver

REF_NAME = "org.opencontainers.image.ref.name"
LIMIT = 1 << 20
"""Bytes of the largest object in these tests."""


def read_layout(driver: StorageDriver, repository: str) -> tuple[dict[str, str], set[str]]:
    """(tags, digests of all manifests) of an index, each of whose blobs is there with its size and digest."""
    marker = json.loads(driver.read(f"{repository}/oci-layout", max_bytes=LIMIT)[0])
    assert marker["imageLayoutVersion"] == "1.0.0"
    index = json.loads(driver.read(f"{repository}/index.json", max_bytes=LIMIT)[0])
    assert index["schemaVersion"] == 2
    tags: dict[str, str] = {}
    for entry in index["manifests"]:
        _check_content(driver, repository, entry)
        tag = entry.get("annotations", {}).get(REF_NAME)
        if tag is not None:
            assert tag not in tags, f"{tag} is listed twice"
            tags[tag] = entry["digest"]
    return tags, {entry["digest"] for entry in index["manifests"]}


def _check_content(driver: StorageDriver, repository: str, descriptor: dict[str, object]) -> None:
    """A descriptor's bytes are right, and so are those of everything that it lists."""
    algorithm, encoded = str(descriptor["digest"]).split(":")
    shared = driver.capabilities.blob_layout is BlobLayout.SHARED
    key = f"{'storage' if shared else repository}/blobs/{algorithm}/{encoded}"
    data, stat = driver.read(key, max_bytes=LIMIT)
    assert len(data) == stat.size == descriptor["size"]
    assert digest_of(data, algorithm) == descriptor["digest"]
    if "manifest" in str(descriptor["mediaType"]) or "index" in str(descriptor["mediaType"]):
        document = json.loads(data)
        needed = [*document.get("layers", []), *document.get("manifests", [])]
        for inner in needed + ([document["config"]] if "config" in document else []):
            _check_content(driver, repository, inner)

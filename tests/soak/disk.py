"""What must hold of the storage directory after anything, read without the registry."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tests.soak.loss import require_kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REF_NAME = "org.opencontainers.image.ref.name"
OWN_NAMES = frozenset({"oci-layout", "index.json", "blobs", ".journal"})
"""What a repository's directory has beside the directories of repositories below it."""


def repositories(root: Path) -> Iterator[Path]:
    """Every directory that is an image layout."""
    for path in root.rglob("index.json"):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path.parent


def read_index(directory: Path) -> tuple[dict[str, str], set[str]]:
    """(tags, digests of manifests) of an index that is valid and whose blobs are all there and right."""
    assert json.loads((directory / "oci-layout").read_bytes())["imageLayoutVersion"] == "1.0.0"
    index = json.loads((directory / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    tags = {}
    for entry in index["manifests"]:
        check_content(directory, entry)
        tag = entry.get("annotations", {}).get(REF_NAME)
        if tag is not None:
            assert tag not in tags, f"{directory}: {tag} is listed twice"
            tags[tag] = entry["digest"]
    return tags, {entry["digest"] for entry in index["manifests"]}


def tags(directory: Path) -> dict[str, str]:
    """The tags of an index that a server may replace meanwhile: what the former one listed may be gone already."""
    index = directory / "index.json"
    while True:
        before = index.read_bytes()
        try:
            return read_index(directory)[0]
        except FileNotFoundError:
            if index.read_bytes() == before:
                raise


def check_content(directory: Path, descriptor: dict[str, object]) -> None:
    """A descriptor's bytes are there, of the right size and digest, and so is everything below it."""
    algorithm, encoded = str(descriptor["digest"]).split(":")
    data = (directory / "blobs" / algorithm / encoded).read_bytes()
    require_kept(len(data) == descriptor["size"], f"{directory}: {descriptor['digest']} has {len(data)} bytes")
    require_kept(hashlib.new(algorithm, data).hexdigest() == encoded, f"{directory}: {descriptor['digest']} is wrong")
    if "manifest" in str(descriptor["mediaType"]) or "index" in str(descriptor["mediaType"]):
        document = json.loads(data)
        inner = [*document.get("layers", []), *document.get("manifests", [])]
        for below in inner + ([document["config"]] if "config" in document else []):
            check_content(directory, below)


def wrong_blobs(root: Path) -> list[Path]:
    """Files in the directories of blobs whose bytes are not what their name says, or whose name says nothing."""
    wrong = []
    for algorithm in ("sha256", "sha512"):
        for directory in root.rglob(f"blobs/{algorithm}"):
            for path in directory.iterdir():
                try:
                    right = hashlib.new(algorithm, path.read_bytes()).hexdigest() == path.name
                except FileNotFoundError:
                    continue
                if not right:
                    wrong.append(path)
    return wrong


def strangers(root: Path) -> list[Path]:
    """Files in repositories that belong to no layout and no journal: temporary names that stayed."""
    found = []
    for directory in repositories(root):
        below = {path.name for path in directory.iterdir()} - OWN_NAMES
        found += [directory / name for name in below if not (directory / name).is_dir()]
        found += [path for path in (directory / "blobs").glob("*") if path.name not in {"sha256", "sha512"}]
    return found


def uploads(root: Path) -> list[Path]:
    """What the directory of uploads and temporary files holds."""
    return [path for path in (root / ".uploads").rglob("*") if path.is_file()]


def identities(root: Path, digest: str) -> set[tuple[int, int]]:
    """The (device, inode) of every file with this digest; one where each blob is stored once."""
    algorithm, encoded = digest.split(":")
    found = [path.stat() for path in root.rglob(f"blobs/{algorithm}/{encoded}")]
    return {(stat.st_dev, stat.st_ino) for stat in found}

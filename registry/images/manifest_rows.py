"""What the database keeps of a manifest: its row and its references, from the parsed document."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from registry.database import manifests as manifest_rows

if TYPE_CHECKING:
    from registry.database.transaction import Transaction
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest


def slim(manifest: Manifest) -> Manifest:
    """What ``note`` needs of a manifest, for a caller that keeps many: without most of their annotations."""
    return replace(
        manifest,
        config=_bare(manifest.config) if manifest.config is not None else None,
        layers=tuple(map(_bare, manifest.layers)),
        manifests=tuple(map(_bare, manifest.manifests)),
        subject=_bare(manifest.subject) if manifest.subject is not None else None,
        annotations=_fitting(manifest.annotations),
    )


def note(connection: Transaction, repository_id: int, blob_id: int, manifest: Manifest, *, now: float) -> None:
    """Write the rows of a manifest whose bytes are stored and verified."""
    manifest_rows.put(
        connection,
        repository_id,
        blob_id,
        media_type=manifest.media_type,
        artifact_type=manifest.artifact_type,
        subject=manifest.subject.digest if manifest.subject else None,
        annotations=orjson.dumps(_fitting(manifest.annotations)).decode(),
        now=now,
    )
    # Of a digest that is named twice, the first counts.
    references = [(child.digest, manifest_rows.MANIFEST) for child in manifest.children()]
    references += [(blob.digest, manifest_rows.BLOB) for blob in manifest.needed_blobs()]
    references += [(blob.digest, manifest_rows.OPTIONAL) for blob in manifest.named_blobs()]
    manifest_rows.refer(connection, repository_id, blob_id, references)


def _bare(descriptor: Descriptor) -> Descriptor:
    return replace(descriptor, annotations=None)


def _fitting(annotations: dict[str, str]) -> dict[str, str]:
    """Those that fit into MOST_ANNOTATIONS as JSON, in their order; one that does not fit is left out."""
    room = manifest_rows.MOST_ANNOTATIONS - len("{}")
    kept = {}
    for name, value in annotations.items():
        size = len(orjson.dumps({name: value})) - 1  # its comma in place of two braces
        if size <= room:
            room -= size
            kept[name] = value
    return kept

"""Writer: a client that changes a registry, and notes in the content what was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.payloads import Blob, Manifest
from tests.upgrade.content import Upload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.soak.client import Client
    from tests.upgrade.content import Content

CHUNK = 700_000
"""Bytes of a chunk: two are more than the tail that a bucket's session keeps in its row, and not a part."""


@dataclass
class Writer:
    """Each method is one change; AssertionError unless it is acknowledged."""

    client: Client
    content: Content

    def push_blob(self, name: str, blob: Blob) -> None:
        """Push in one request, or in chunks where it is large."""
        if len(blob.data) <= CHUNK:
            self.client.push_blob(name, blob)
        else:
            self.finish(self.begin(name, blob, CHUNK))
        self._has(name, blob)

    def begin(self, name: str, blob: Blob, size: int) -> Upload:
        """Open a session and send so many bytes of the blob."""
        upload = Upload(name, self.client.begin(name), blob, 0)
        self._send(upload, size)
        return upload

    def leave(self, name: str, blob: Blob, size: int) -> None:
        """Begin an upload for ``finish_uploads``, of this release or of another."""
        self.content.uploads.append(self.begin(name, blob, size))

    def finish_uploads(self) -> None:
        """Go on where each session says that it is, and close it."""
        while self.content.uploads:
            upload = self.content.uploads.pop()
            status = self.client.call("GET", upload.location)
            assert (status.status, status.headers["range"]) == (204, f"0-{upload.offset - 1}"), status
            self.finish(upload)

    def finish(self, upload: Upload) -> None:
        """Send the rest in chunks and close the session."""
        while upload.offset < len(upload.blob.data):
            self._send(upload, CHUNK)
        self.client.finish(upload.location, upload.blob.digest, b"")
        self._has(upload.repository, upload.blob)

    def _send(self, upload: Upload, size: int) -> None:
        part = upload.blob.data[upload.offset : upload.offset + size]
        headers = {"Content-Range": f"{upload.offset}-{upload.offset + len(part) - 1}"}
        reply = self.client.call("PATCH", upload.location, part, headers)
        assert reply.status == 202, reply
        upload.location, upload.offset = reply.location, upload.offset + len(part)

    def mount(self, name: str, blob: Blob, source: str) -> None:
        """Take a blob from another repository."""
        assert self.client.mount(name, blob.digest, source)
        self._has(name, blob)

    def put(
        self,
        name: str,
        manifest: Manifest,
        *tags: str,
        blobs: Iterable[Blob] = (),
        foreign: Iterable[Blob] = (),
    ) -> None:
        """Push a manifest, after these blobs, under each of the tags; by its digest where there are none."""
        for blob in (*blobs, *foreign):
            self.push_blob(name, blob)
        for reference in tags or (manifest.digest,):
            reply = self.client.call(
                "PUT", f"/v2/{name}/manifests/{reference}", manifest.data, {"Content-Type": manifest.media_type}
            )
            assert (reply.status, reply.headers.get("docker-content-digest")) == (201, manifest.digest), reply
        repository = self.content.repositories[name]
        repository.manifests[manifest.digest] = manifest
        repository.foreign.update({blob.digest: blob for blob in foreign})
        repository.tags.update(dict.fromkeys(tags, manifest.digest))
        repository.gone -= {f"manifests/{reference}" for reference in (*tags, manifest.digest)}
        repository.withheld.update(digest for digest in manifest.blobs if digest not in repository.blobs)

    def delete(self, name: str, reference: str) -> None:
        """Delete a tag, or a manifest with its tags."""
        self._delete(name, f"manifests/{reference}")
        repository = self.content.repositories[name]
        if repository.tags.pop(reference, None) is None:
            del repository.manifests[reference]
            gone = [tag for tag, digest in repository.tags.items() if digest == reference]
            for tag in gone:
                del repository.tags[tag]
            repository.gone.update(f"manifests/{tag}" for tag in gone)

    def delete_blob(self, name: str, blob: Blob) -> None:
        """Delete what no manifest of the repository needs."""
        self._delete(name, f"blobs/{blob.digest}")
        del self.content.repositories[name].blobs[blob.digest]

    def _delete(self, name: str, end: str) -> None:
        reply = self.client.call("DELETE", f"/v2/{name}/{end}")
        assert reply.status == 202, (end, reply)
        self.content.repositories[name].gone.add(end)

    def _has(self, name: str, blob: Blob) -> None:
        repository = self.content.repositories[name]
        repository.blobs[blob.digest] = blob
        repository.withheld.discard(blob.digest)
        repository.gone.discard(f"blobs/{blob.digest}")

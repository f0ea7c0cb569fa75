"""What clients must find after anything, by what was acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.loss import require_kept

if TYPE_CHECKING:
    from tests.soak.client import Client
    from tests.soak.history import History


def check_tags(client: Client, history: History) -> None:
    """Each tag is one that it may be, and listed if and only if it is there."""
    tried = list(history.tags())
    listed = {repository: set(client.tags(repository)) for repository, *_ in tried}
    for repository, tag, possible, required in tried:
        digest = client.digest_of_tag(repository, tag)
        require_kept(digest in possible or (digest is None and not required), repository, tag, digest, possible)
        assert (tag in listed[repository]) == (digest is not None), (repository, tag)


def check_images(client: Client, history: History) -> None:
    """Every image that was acknowledged is there to its last byte; every deletion that was acknowledged stays."""
    pulled: set[tuple[str, str]] = set()  # many images have some layers in common
    for attempt in history.acknowledged():
        base = f"/v2/{attempt.repository}"
        reply = client.call("GET", f"{base}/manifests/{attempt.manifest.digest}")
        require_kept((reply.status, reply.body) == (200, attempt.manifest.data), attempt)
        for blob in attempt.blobs:
            digest = blob.digest
            if (attempt.repository, digest) in pulled:
                continue
            pulled.add((attempt.repository, digest))
            reply = client.call("GET", f"{base}/blobs/{digest}")
            require_kept((reply.status, reply.body == blob.data) == (200, True), attempt, digest)
    for attempt in history.deleted():
        reply = client.call("GET", f"/v2/{attempt.repository}/manifests/{attempt.manifest.digest}")
        require_kept(reply.status == (404 if attempt.manifest_deleted else 200), attempt)

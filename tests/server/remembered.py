"""An image that a registry has in memory, and requests for it, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.payloads import Blob, image
from tests.support.servers import HOST

if TYPE_CHECKING:
    from tests.server.sending import Client

REPO = "kept/in-memory"
CONFIG = Blob(b'{"kept": true}')
LAYER = Blob(b"of a small layer" * 50)
IMAGE = image(CONFIG, [LAYER])
OTHER = image(CONFIG, [LAYER], annotations={"other": "yes"})
MANIFEST = f"/v2/{REPO}/manifests/one"
BLOB = f"/v2/{REPO}/blobs/{LAYER.digest}"
TAGS = f"/v2/{REPO}/tags/list"
ABSENT = f"/v2/{REPO}/manifests/absent"
TIMEOUT = 20.0


def request(method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
    """A request without a body, or the head of one with it."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {HOST}", *lines, "", ""]).encode()


def push(client: Client) -> None:
    """Push the image as ``one``."""
    for blob in (CONFIG, LAYER):
        assert client.call("POST", f"/v2/{REPO}/blobs/uploads/?digest={blob.digest}", blob.data).status == 201
    tag(client, IMAGE.data)


def tag(client: Client, manifest: bytes) -> None:
    """Let ``one`` be another manifest."""
    assert client.call("PUT", MANIFEST, manifest, {"Content-Type": IMAGE.media_type}).status == 201

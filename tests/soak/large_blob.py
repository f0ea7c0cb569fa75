"""A blob of any size that is made while it is sent, and hashed while it is read: never whole in memory."""

from __future__ import annotations

import hashlib
import http.client
import random
from typing import TYPE_CHECKING

from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
TIMEOUT = 600
"""Seconds: a store may take long to copy what it has."""


class LargeBlob:
    """Blocks that are all different, and the same again for the same seed."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._block = random.Random(seed).randbytes(MIB)
        self.digest = self._hash()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self.size, MIB):
            block = start.to_bytes(8, "big") + self._block[8:]
            yield block if start + MIB <= self.size else block[: self.size - start]

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for block in self:
            digest.update(block)
        return f"sha256:{digest.hexdigest()}"


class LargeClient:
    """One request on each connection."""

    def __init__(self, port: int, repository: str) -> None:
        self._port = port
        self._base = f"/v2/{repository}/blobs"

    def push_at_once(self, blob: LargeBlob) -> None:
        """A body with the closing request: the digest is known before the first byte."""
        status, _ = self._send("PUT", f"{self._begin()}?digest={blob.digest}", blob)
        assert status == http.client.CREATED

    def push_staged(self, blob: LargeBlob) -> None:
        """A stream, and its digest only at the end."""
        location = self._begin()
        status, _ = self._send("PATCH", location, blob)
        assert status == http.client.ACCEPTED
        status, _ = self._send("PUT", f"{location}?digest={blob.digest}", None)
        assert status == http.client.CREATED

    def pull(self, blob: LargeBlob) -> None:
        """Read it all; it must be the same."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", f"{self._base}/{blob.digest}")
            response = connection.getresponse()
            assert response.status == http.client.OK, response.read()
            digest, size = hashlib.sha256(), 0
            while piece := response.read(MIB):
                digest.update(piece)
                size += len(piece)
        finally:
            connection.close()
        assert (size, f"sha256:{digest.hexdigest()}") == (blob.size, blob.digest)

    def _begin(self) -> str:
        status, location = self._send("POST", f"{self._base}/uploads/", None)
        assert status == http.client.ACCEPTED
        return location

    def _send(self, method: str, path: str, blob: LargeBlob | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT)
        try:
            headers = {} if blob is None else {"Content-Length": str(blob.size)}
            connection.request(method, path, blob, headers)
            response = connection.getresponse()
            response.read()
            return response.status, response.headers.get("Location", "")
        finally:
            connection.close()

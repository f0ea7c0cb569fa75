"""A client over one HTTP connection, as plain as it can be: each method is one request or one push."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.support.payloads import Blob, Manifest

TIMEOUT = 120.0
"""Seconds without an answer after which a request counts as failed."""
BROKEN = (OSError, http.client.HTTPException)
"""What a connection to a server that was killed raises."""


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def location(self) -> str:
        """Path and query of the Location."""
        parts = urlsplit(self.headers["location"])
        return parts.path + (f"?{parts.query}" if parts.query else "")


class Client:
    """One connection, opened at the first request. Not for several threads."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the next request opens another."""
        self.connection.close()

    def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request. Raises one of ``BROKEN`` when the connection fails, after which it is closed."""
        try:
            self.connection.request(method, target, body=body, headers=dict(headers or {}))
            response = self.connection.getresponse()
            content = response.read()
        except BROKEN:
            self.close()
            raise
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, content)

    # ---- pushes: each raises AssertionError unless the registry acknowledges

    def push_blob(self, repository: str, blob: Blob, way: str = "put") -> None:
        """Push a blob: ``post`` (one request), ``put`` (two), ``chunks`` or ``stream`` (with and without ranges)."""
        if way == "post":
            reply = self.call("POST", f"/v2/{repository}/blobs/uploads/?digest={blob.digest}", blob.data)
            assert reply.status == 201, reply
            return
        location = self.begin(repository)
        if way == "put":
            self.finish(location, blob.digest, blob.data)
            return
        half = len(blob.data) // 2
        for start, part in ((0, blob.data[:half]), (half, blob.data[half:])):
            headers = {"Content-Range": f"{start}-{start + len(part) - 1}"} if part and way == "chunks" else {}
            reply = self.call("PATCH", location, part, headers)
            assert reply.status == 202, reply
            location = reply.location
        self.finish(location, blob.digest, b"")

    def begin(self, repository: str) -> str:
        """Open an upload session; its path."""
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/", b"")
        assert reply.status == 202, reply
        return reply.location

    def finish(self, location: str, digest: str, rest: bytes) -> None:
        """Close a session."""
        joint = "&" if "?" in location else "?"
        reply = self.call(
            "PUT", f"{location}{joint}digest={digest}", rest, {"Content-Type": "application/octet-stream"}
        )
        assert reply.status == 201, reply

    def has_blob(self, repository: str, digest: str) -> bool:
        """HEAD of a blob, as clients ask before they upload."""
        reply = self.call("HEAD", f"/v2/{repository}/blobs/{digest}")
        assert reply.status in {200, 404}, reply
        return reply.status == 200

    def push_manifest(self, repository: str, manifest: Manifest, tag: str) -> None:
        """Push a manifest by tag."""
        reply = self.call(
            "PUT", f"/v2/{repository}/manifests/{tag}", manifest.data, {"Content-Type": manifest.media_type}
        )
        assert reply.status == 201, reply
        assert reply.headers["docker-content-digest"] == manifest.digest

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """Ask for a blob of another repository; whether that was granted. A session opened instead is cancelled."""
        reply = self.call("POST", f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}", b"")
        assert reply.status in {201, 202}, reply
        if reply.status == 202:
            assert self.call("DELETE", reply.location).status == 204
        return reply.status == 201

    # ---- reads

    def digest_of_tag(self, repository: str, tag: str) -> str | None:
        """What a tag points at; None when it is not there."""
        reply = self.call("HEAD", f"/v2/{repository}/manifests/{tag}")
        assert reply.status in {200, 404}, reply
        return reply.headers["docker-content-digest"] if reply.status == 200 else None

    def tags(self, repository: str) -> list[str]:
        """All tags, page by page."""
        found: list[str] = []
        while True:
            last = f"&last={found[-1]}" if found else ""
            reply = self.call("GET", f"/v2/{repository}/tags/list?n=500{last}")
            if reply.status == 404:
                return found
            assert reply.status == 200, reply
            page = json.loads(reply.body)["tags"]
            found.extend(page)
            if "link" not in reply.headers:
                return found

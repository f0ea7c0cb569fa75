"""Upstream: a registry for reading, which counts requests and bytes.

``python -m benchmarks.mirrors.upstream PORT DIRECTORY``. The directory has a file for each blob and manifest, by its
digest, and for each tag. ``GET /counts`` tells what was asked for since the last such request.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.content import MANIFEST, sha256

_PIECE = 1 << 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/counts":
            self._answer(json.dumps(self.server.take_counts()).encode(), "application/json")
        elif path in {"/v2/", "/v2"}:
            self._answer(b"{}", "application/json")
        else:
            self._give(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the interface of http.server
        """Say nothing."""

    def _give(self, path: str) -> None:
        kind, name = path.rsplit("/", 2)[-2:]
        file = self.server.directory / name.replace(":", "-")
        if kind not in {"manifests", "blobs"} or not file.is_file():
            self._answer(b"", "text/plain", status=404)
            return
        if kind == "manifests":
            self.server.count("manifests", 0)
            self._answer(file.read_bytes(), MANIFEST)
            return
        self._send_blob(file, name)

    def _send_blob(self, file: Path, digest: str) -> None:
        size, start = file.stat().st_size, 0
        wanted = self.headers.get("Range")
        if wanted is not None:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if wanted else 200)
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self._finish_head(size - start, "application/octet-stream", digest)
        if self.command == "HEAD":
            return
        if size > _PIECE:
            self.server.count("blobs", 0)
        with file.open("rb") as source, contextlib.suppress(OSError):
            while start < size:
                sent = os.sendfile(self.connection.fileno(), source.fileno(), start, min(_PIECE, size - start))
                self.server.count("", sent)
                start += sent

    def _answer(self, body: bytes, media_type: str, status: int = 200) -> None:
        self.send_response(status)
        self._finish_head(len(body), media_type, sha256(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _finish_head(self, length: int, media_type: str, digest: str) -> None:
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", media_type)
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def count(self, what: str, size: int) -> None:
        """Count a request, or, without a name, bytes of blobs."""
        with self._lock:
            key = what or "bytes"
            self._counts[key] = self._counts.get(key, 0) + (size if not what else 1)

    def take_counts(self) -> dict[str, int]:
        """What was counted since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
            return counts


if __name__ == "__main__":
    _Server(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()

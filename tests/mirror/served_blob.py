"""A blob of a hostile server, which is sent as a test wants it, with ranges, and counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from registry.oci.digest import Digest
from tests.upstream.hostile import Handler, HostileServer

WAIT = 60.0
_PIECE = 64 << 10


class ServedBlob:
    """``stops`` are offsets at which a body waits for ``go_on``; ``cuts`` ones at which it ends too early, once."""

    def __init__(self, server: HostileServer, data: bytes, *, path: str | None = None) -> None:
        self.digest = Digest.of(data)
        self.path = path or f"/v2/team/app/blobs/{self.digest}"
        self.data = data
        self.etag = '"one"'
        self.starts: list[int] = []
        """The offset of each request."""
        self.sent = self.heads = 0
        self.stops: set[int] = set()
        self.cuts: set[int] = set()
        self.cuts_always: set[int] = set()
        """As ``cuts``, each time."""
        self.ignores_ranges = False
        self.stopped = threading.Event()
        self.go_on = threading.Event()
        self.on_cut: Callable[[], object] = lambda: None
        self._server = server
        server.replies[self.path] = self._reply

    def _reply(self, handler: Handler) -> None:
        data, start, stop = self.data, 0, len(self.data)
        headers = {"ETag": self.etag, "Content_Type": "application/octet-stream"}
        if handler.command == "HEAD":
            with self._server.lock:
                self.heads += 1
            handler.answer(200, b"", Content_Length=str(len(data)), **headers)
            return
        given = handler.headers.get("Range")
        is_same = handler.headers.get("If-Range") in (None, self.etag)
        if given is not None and is_same and not self.ignores_ranges:
            first, _, last = given.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, len(data)) if last else len(data)
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        with self._server.lock:
            self.starts.append(start)
        is_part = "Content_Range" in headers
        handler.answer(206 if is_part else 200, b"", Content_Length=str(stop - start), **headers)
        for offset in range(start, stop, _PIECE):
            begin, end = offset, min(offset + _PIECE, stop)
            if any(begin <= stop < end for stop in self.stops):
                handler.wfile.flush()
                self.stopped.set()
                assert self.go_on.wait(WAIT)
            cut = next((cut for cut in self.cuts | self.cuts_always if begin <= cut < end), None)
            if cut is not None:
                self.cuts.discard(cut)
                self.on_cut()
                handler.cut()
                return
            handler.wfile.write(data[begin:end])
            with self._server.lock:
                self.sent += end - begin

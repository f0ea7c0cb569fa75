"""Null server: reads uploads and discards them, to measure the client alone.

``python -m benchmarks.null_server PORT DIRECTORY``. One process per connection. A GET sends as many bytes as
the last large PATCH had.
"""

from __future__ import annotations

import socketserver
import sys
from pathlib import Path

_BUFFER_BYTES = 1 << 20
_REPLIES = {
    b"POST": b"HTTP/1.1 202 Accepted\r\nLocation: /upload\r\nContent-Length: 0\r\n\r\n",
    b"PATCH": b"HTTP/1.1 202 Accepted\r\nLocation: /upload\r\nContent-Length: 0\r\n\r\n",
    b"PUT": b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
}


class _Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, length: Path) -> None:
        length.write_text("0", encoding="ascii")
        self.length = length
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        while line := self.rfile.readline():
            length = self._length()
            left = length
            view = memoryview(buffer)
            while left and (count := self.rfile.readinto1(view[: min(left, _BUFFER_BYTES)])):
                left -= count
            method = line.split(b" ", 1)[0]
            if method == b"PATCH" and length > _BUFFER_BYTES:
                self.server.length.write_text(str(length), encoding="ascii")
            if method == b"GET":
                self._send(buffer)
            else:
                self.wfile.write(_REPLIES[method])

    def _length(self) -> int:
        length = 0
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return length

    def _send(self, buffer: bytearray) -> None:
        left = int(self.server.length.read_text(encoding="ascii"))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
        view = memoryview(buffer)
        while left:
            left -= self.connection.send(view[: min(left, _BUFFER_BYTES)])


if __name__ == "__main__":
    with _Server(int(sys.argv[1]), Path(sys.argv[2]) / "length") as server:
        server.serve_forever()

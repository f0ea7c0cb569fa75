"""One line per request, made for the hot path: at most 2 µs each as JSON, written in batches."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.observability.request_line import Render

BATCH_BYTES = 64 << 10
"""Bytes of lines that are kept before they are written."""
BATCH_SECONDS = 0.05
"""Seconds after which the owner is to flush, so that a line is never older than that."""
_PATH_LIMIT = 1024
_AGENT_LIMIT = 256
_PIPE_ATOMIC = 4096
"""Bytes that one write to a pipe moves without those of another process in between (PIPE_BUF of Linux)."""

_now = datetime.now


class RequestLog:
    """Renders lines as they come and hands them on in batches: at 64 KiB, and whenever the owner flushes.

    For one thread. Values may come from clients: a line never contains another (control characters are escaped), and
    its length is bounded (paths are cut at 1024 characters, agents at 256).
    """

    __slots__ = ("_lines", "_render", "_size", "_write")

    def __init__(self, write: Callable[[bytes], None], render: Render) -> None:
        """``write`` takes whole lines and must not raise; see ``LineWriter``. ``render`` makes one of its fields."""
        self._write = write
        self._render = render
        self._lines: list[bytes] = []
        self._size = 0

    def add(  # noqa: PLR0913, PLR0917 - the fields of a line; a record made to carry them would cost as much as the line
        self,
        request_id: str,
        method: str,
        path: str,
        status: int,
        repository: str | None,
        digest: str | None,
        bytes_in: int,
        bytes_out: int,
        duration_seconds: float,
        client: str | None,
        user_agent: str | None,
        error_code: str | None,
    ) -> None:
        """Note one answered request; ``None`` where a field has no value. Sizes are of bodies, in bytes."""
        fields: dict[str, object] = {
            "timestamp": _now(UTC),
            "level": "info",
            "event": "request",
            "request_id": request_id,
            "method": method,
            "path": path[:_PATH_LIMIT],
            "status": status,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "duration": round(duration_seconds, 6),
            "client": client,
        }
        if repository is not None:
            fields["repository"] = repository
        if digest is not None:
            fields["digest"] = digest
        if user_agent is not None:
            fields["user_agent"] = user_agent[:_AGENT_LIMIT]
        if error_code is not None:
            fields["error_code"] = error_code
        line = self._render(fields)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept. Called by the owner every ``BATCH_SECONDS`` and once at the end."""
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._write(b"".join(lines))


class LineWriter:
    """Writes whole lines to a file descriptor without raising: a log that cannot be written must not stop the registry.

    To a pipe, which several workers may share, lines go in pieces that the kernel does not interleave with others.
    Safe for threads: nothing is kept between calls.
    """

    __slots__ = ("_descriptor", "_piecewise")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        self._piecewise = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def __call__(self, data: bytes) -> None:
        """Write ``data``, which ends with a newline; what cannot be written is dropped."""
        try:
            for piece in _pieces(data) if self._piecewise else (data,):
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            return


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, as many at once as fit into an atomic write; a longer line alone."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _PIPE_ATOMIC) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end

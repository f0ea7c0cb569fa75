"""Request log: one line for each request, at most 2 µs each as JSON, written in batches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.observability.request_line import Render

BATCH_BYTES = 32 << 10
"""Bytes of lines that are kept before they are written: a pipe, which holds 64 KiB, takes them at once."""
BATCH_SECONDS = 0.05
"""Seconds after which the owner must flush; no line is older than that."""
_PATH_LIMIT = 1024
_AGENT_LIMIT = 256
_NAME_LIMIT = 255
_DIGEST_LIMIT = 135
_CLIENT_LIMIT = 64
_METHOD_LIMIT = 32
_SHORT_LIMIT = 120
"""Characters of each text of the client, if escapes make the line too long for one write."""
_LINE_LIMIT = 4096
"""Bytes of a line at most: one write to a pipe moves them at once."""

_now = datetime.now


class RequestLog:
    """Renders lines as they come and hands them on in batches: at 32 KiB, and whenever the owner flushes.

    For one thread. Values may come from clients: a line never contains another (control characters are escaped), and
    each field is cut (a path at 1024 characters, an agent at 256), so that a line fits into one write to a pipe.
    """

    __slots__ = ("_lines", "_render", "_size", "_write")

    def __init__(self, write: Callable[[bytes], object], render: Render) -> None:
        """``write`` takes whole lines and must not raise. ``render`` makes one of its fields."""
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
            "method": method[:_METHOD_LIMIT],
            "path": path[:_PATH_LIMIT],
            "status": status,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "duration": round(duration_seconds, 6),
            "client": client and client[:_CLIENT_LIMIT],
        }
        if repository is not None:
            fields["repository"] = repository[:_NAME_LIMIT]
        if digest is not None:
            fields["digest"] = digest[:_DIGEST_LIMIT]
        if user_agent is not None:
            fields["user_agent"] = user_agent[:_AGENT_LIMIT]
        if error_code is not None:
            fields["error_code"] = error_code
        line = self._render(fields)
        if len(line) > _LINE_LIMIT:
            line = self._render({name: _shortened(name, value) for name, value in fields.items()})
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the kept lines. The owner calls it every ``BATCH_SECONDS`` and once at the end."""
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._write(b"".join(lines))


def _shortened(name: str, value: object) -> object:
    return value[:_SHORT_LIMIT] if isinstance(value, str) and name in {"path", "repository", "user_agent"} else value

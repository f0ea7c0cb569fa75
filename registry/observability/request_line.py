"""Request line: one answered request in the log, for programs and for people.

Tests: ``tests/observability/test_request_log.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from registry.oci.escaping import escape_controls, escape_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Fields = Mapping[str, Any]
    """As ``RequestLog.add`` makes them."""
    Render = Callable[[Fields], bytes]
    """Makes the line of a request, its end included; nothing in a field begins a line of its own."""

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_DIGEST = re.compile(r"\b(?:sha256:([0-9a-f]{12})[0-9a-f]{52}|sha512:([0-9a-f]{12})[0-9a-f]{116})\b")
_KINDS = {"blobs": "blob", "manifests": "manifest"}
_LOOPBACK = ("127.", "::1")
_UNITS = ("B", "KiB", "MiB", "GiB")
_STEP = 1024
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_GREEN, _YELLOW, _RED, _DIM, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def render_json(fields: Fields) -> bytes:
    """One JSON object: every field."""
    try:
        return escape_json(orjson.dumps(fields, option=_OPTIONS))
    except TypeError:  # a lone surrogate, which no UTF-8 can hold
        printable = {
            key: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for key, value in fields.items()
        }
        return escape_json(orjson.dumps(printable, option=_OPTIONS))


def render_text(fields: Fields) -> bytes:
    """Every field as text, for a file that people search."""
    head = "{timestamp:%Y-%m-%dT%H:%M:%S.%fZ} [info] {method} {path} {status} in={bytes_in} out={bytes_out}"
    shown = ("duration", "repository", "digest", "error_code", "client", "user_agent", "request_id")
    rest = [f"{name}={fields[name]!r}" for name in shown if fields.get(name) is not None]
    return _encoded(" ".join([head.format_map(fields), *rest]))


def render_terminal(*, colors: bool) -> Render:
    """A renderer for a terminal: what was asked, by which program, and what came of it, in one short line.

    ``14:33:54 404 HEAD team/app blob 87d4b8658e32 0.6 ms skopeo/1.9.3``. The time is that of the machine.
    """

    def render(fields: Fields) -> bytes:
        status = int(fields["status"])
        time = f"{fields['timestamp'].astimezone():%H:%M:%S}"
        rest = escape_controls(" ".join(_said(fields, status)))
        if not colors:
            return f"{time} {status} {rest}\n".encode(errors="replace")
        color = _GREEN if status < _CLIENT_ERROR else _YELLOW if status < _SERVER_ERROR else _RED
        return f"{_DIM}{time}{_PLAIN} {color}{status}{_PLAIN} {rest}\n".encode(errors="replace")

    return render


def _said(fields: Fields, status: int) -> list[str]:
    """The fields behind the status; usual values are left out."""
    words = [str(fields["method"]), _target(str(fields["path"])), f"{fields['duration'] * 1000:.1f} ms"]
    if fields["bytes_in"]:
        words.append(f"in {_size(fields['bytes_in'])}")
    if fields["bytes_out"]:
        words.append(f"out {_size(fields['bytes_out'])}")
    absent = fields["method"] == "HEAD" and status == _CLIENT_ERROR + 4  # what each push asks before it sends
    if fields.get("error_code") is not None and not absent:
        words.append(str(fields["error_code"]))
    client = fields.get("client")
    if client is not None and not client.startswith(_LOOPBACK):
        words.append(client)
    if fields.get("user_agent"):
        words.append(fields["user_agent"].split(" ", 1)[0])
    if status >= _SERVER_ERROR:
        words.append(f"request_id={fields['request_id']}")
    return words


def _target(path: str) -> str:
    """The path without its beginning ``/v2/``, the kind as a word and digests by their first twelve characters."""
    name, slash, last = path.rpartition("/")
    repository, _, kind = name.removeprefix("/v2/").rpartition("/")
    if path.startswith("/v2/") and slash and repository and kind in _KINDS:
        path = f"{repository} {_KINDS[kind]} {last}"
    return _DIGEST.sub(lambda found: found[1] or found[2], path)


def _size(count: int) -> str:
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"


def _encoded(text: str) -> bytes:
    return escape_controls(text).encode(errors="replace") + b"\n"

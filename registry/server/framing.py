"""Framing: what a head must say so that its server and every proxy before it agree where the request ends (RFC 9112).

The parser refuses most of what is wrong; here stands what it accepts, or treats as the beginning of another protocol.

Tests: ``tests/hostile/test_framing.py``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from registry.oci.errors import MalformedRequest, Unsupported, VersionUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.api.cache.response_cache import RawHeaders

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_LONGEST_NAME = 253
"""Bytes of the longest host name in the DNS; a longer one is not remembered."""
_SCHEMES = (b"http://", b"https://")
_COLON_AND_LINE_END = 4


def check_framing(method: bytes, target: bytes, version: str, headers: RawHeaders) -> None:
    """Raises RegistryError for a head after which nothing on its connection can be believed. Names are in lower case.

    A Host exactly once, at most once in HTTP/1.0 (section 3.2); no coding but chunked, and none in HTTP/1.0 (6.1).
    """
    if version not in {"1.0", "1.1"}:
        raise VersionUnknown
    if method == b"CONNECT":
        raise Unsupported("this server is no proxy")
    if not target.startswith((b"/", *_SCHEMES)):
        raise MalformedRequest("the target of a request is a path that begins with a slash")
    hosts, codings = _hosts_and_codings(headers)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise MalformedRequest("a request has one Host header")
    if hosts and not (_is_host(hosts[0]) if len(hosts[0]) <= _LONGEST_NAME else _HOST.fullmatch(hosts[0])):
        raise MalformedRequest("the Host header is not a host")
    if codings and version == "1.0":
        raise MalformedRequest("HTTP/1.0 knows no Transfer-Encoding")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        raise MalformedRequest("the only Transfer-Encoding here is chunked")


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    """Remembered, since clients ask for few."""
    return _HOST.fullmatch(value) is not None


def _hosts_and_codings(headers: RawHeaders) -> tuple[list[bytes], list[bytes]]:
    hosts: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    return hosts, codings


def without_upgrade(method: bytes, target: bytes, version: str, headers: RawHeaders) -> bytes:
    """The head of a request again, asking for no other protocol: a server may always ignore that (RFC 9110, 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def trimmed(headers: RawHeaders) -> RawHeaders:
    """Without the spaces and tabs at the ends of values, which are no part of them (RFC 9112, section 5.1)."""
    return [(name, value.strip(b" \t")) for name, value in headers]


def size_of(target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes of a head, but for its method and version."""
    return len(target) + sum(len(name) + len(value) + _COLON_AND_LINE_END for name, value in headers)

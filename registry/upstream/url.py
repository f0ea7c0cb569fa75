"""*URL*: an address of HTTP, read once: what is checked is what is connected to and what is sent."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_.])?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SENT: Final = "!#$%&'()*+,/:;=?@[]~"
"""Characters that go out as they came, besides letters, digits and ``_.-``."""


class Origin(NamedTuple):
    """What credentials belong to: another scheme, host or port is another server."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int

    @property
    def authority(self) -> str:
        """Host and port as a URL has them; the port is left out where it is that of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Url(NamedTuple):
    """An origin, and what is asked of it."""

    origin: Origin
    target: str
    """Path and query, quoted; it begins with a slash."""

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def parse_url(text: str) -> Url:
    """A URL of http or https, without user and fragment. Raises ValueError, whose message has no part of it."""
    if _CONTROL.search(text):
        raise ValueError("the URL has control characters")
    try:
        parts = urlsplit(quote(text, safe=_SENT, encoding="latin-1", errors="strict"))
        given, host = parts.port, _host(parts.hostname or "")
    except ValueError:
        raise ValueError("the URL has no host and port that can be used") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("the URL is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("the URL has a user")
    port = DEFAULT_PORTS[parts.scheme] if given is None else given
    if not port:
        raise ValueError("the URL has port 0")
    path = parts.path or "/"
    return Url(Origin(parts.scheme, host, port), f"{path}?{parts.query}" if parts.query else path)


def join_url(base: Url, reference: str) -> Url:
    """A URL that an answer of ``base`` names, perhaps relative to that. Raises ValueError."""
    if _CONTROL.search(reference):  # the standard library would leave some of them out
        raise ValueError("the URL has control characters")
    return parse_url(urljoin(str(base), reference.strip(" ")))


def _host(host: str) -> str:
    if ":" in host and "%" not in host:  # no zone: it is that of another machine
        return str(IPv6Address(host))
    if not _NAME.fullmatch(host):
        raise ValueError
    try:
        return str(ip_address(host))
    except ValueError:
        return host

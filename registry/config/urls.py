"""*URLs* in the settings: their checks, and how they are shown. No message here has any part of a URL."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import unquote_plus, urlsplit

MASK = "********"

_DATABASE = re.compile(
    r"postgresql(?:\+psycopg)?://"
    r"(?:[^:/]*(?::[^@]*)?@)?"  # user and password
    r"(?:\[[0-9A-Fa-f:.%]+\]|[^/:?@\[\]]*)(?::(?P<port>[0-9]{1,5})?)?"
    r"(?:/[^?]*)?(?:\?.*)?"
)
_USERINFO = re.compile(r"^([^:]+://[^:/?@]*):.*@")
_SECRETS = ("password", "secret", "token", "scram_")
"""Parts of the names of parameters whose values are not shown."""
_LARGEST_PORT = 65_535


def check_database(value: str) -> str:
    """A URL of SQLAlchemy for one of our two databases. Raises ValueError."""
    if value.startswith("sqlite:///"):
        return value
    if not value.startswith(("postgresql://", "postgresql+psycopg://")):
        raise ValueError("must be sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE")
    found = _DATABASE.fullmatch(value)
    if found is None or int(found["port"] or 0) > _LARGEST_PORT:
        message = (
            "cannot be read; it is postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, and in user and password"
        )
        raise ValueError(f"{message} @ is written %40, : is %3A, / is %2F and % is %25")
    return value


def check_address(value: str) -> str:
    """An address of HTTP, without a slash at its end and anything that would be a secret.

    Raises ValueError, which says what is missing.
    """
    if "://" not in value:
        raise ValueError("has no scheme; write http:// or https:// in front of it")
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, or a port that is no number
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc:
        form = "https://registry.example.org or http://127.0.0.1:9000"
        raise ValueError(f"is not an address such as {form}, without user and password")
    return value.rstrip("/")


def check_issuer(value: str) -> str:
    """An issuer of tokens, kept as it is: its tokens have every character of it. Raises ValueError."""
    if not is_trustworthy(value):
        raise ValueError("is not an address of https, nor of http on this machine")
    return value


def is_trustworthy(url: str) -> bool:
    """Whether what comes from there is what its owner sent: over TLS, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def mask(url: str) -> str:
    """A URL of a database without its secrets: the password of ``user:password@``, and those of the query."""
    head, mark, query = _USERINFO.sub(rf"\1:{MASK}@", url).partition("?")
    return head + mark + "&".join(_masked(parameter) for parameter in query.split("&"))


def _masked(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    is_secret = any(part in unquote_plus(name).lower() for part in _SECRETS)
    return f"{name}={MASK}" if is_secret and equals else parameter

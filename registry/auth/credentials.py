"""*Credentials*: what a request has in Authorization (RFC 7617, RFC 6750), not yet verified."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple

from registry.oci.errors import MalformedRequest, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable

AUTHORIZATION = b"authorization"


class Basic(NamedTuple):
    """A user and a password, which may be a key or a token."""

    user: str
    password: str


class Bearer(NamedTuple):
    """A token."""

    token: str


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> Basic | Bearer | None:
    """What a request comes with; None if it has no credentials, as an empty user with an empty password has none.

    ``headers`` have names in lower case. Raises MalformedRequest for two Authorization headers, of which a proxy may
    have looked at the other, and Unauthorized for what is neither Basic nor Bearer.
    """
    lines = [value for name, value in headers if name == AUTHORIZATION]
    if not lines:
        return None
    if len(lines) > 1:
        raise MalformedRequest("the request has more than one Authorization header")
    scheme, _, value = lines[0].strip().partition(b" ")
    match scheme.lower():
        case b"basic":
            return _basic(value.strip())
        case b"bearer" if token := value.strip().decode("latin-1"):
            return Bearer(token)
        case _:
            raise Unauthorized("the Authorization header is neither Basic nor Bearer")


def _basic(value: bytes) -> Basic | None:
    try:
        user, colon, password = b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized("the Basic credentials are not base64 of UTF-8") from error
    if not colon or "\0" in user + password:
        raise Unauthorized("the Basic credentials have no colon between user and password")
    return Basic(user, password) if user or password else None

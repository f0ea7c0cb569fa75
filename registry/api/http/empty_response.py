"""*Empty response*: an answer that is its head, as most answers to a push are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_CONTENT: Final = 204
_LENGTH: Final = (b"content-length", b"0")


class EmptyResponse(Response):
    """As a response of Starlette without content, made in a third of the steps."""

    body = b""
    background = None

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        """``headers`` are those of an answer without a body: their names are few, and none is Content-Length."""
        self.status_code = status
        self.raw_headers = [(_lower(name), value.encode("latin-1")) for name, value in headers.items()]
        if status != _NO_CONTENT:
            self.raw_headers.append(_LENGTH)


@lru_cache(maxsize=64)
def _lower(name: str) -> bytes:
    return name.lower().encode("latin-1")

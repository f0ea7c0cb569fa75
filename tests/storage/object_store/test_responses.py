"""Headers and bodies of a store's responses."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from urllib3 import HTTPResponse

from registry.storage.driver import ObjectStat
from registry.storage.errors import StorageUnavailable
from registry.storage.object_store.responses import body_of, described, range_of

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS = {"Content-Length": "4", "Last-Modified": "Thu, 01 Jan 1970 00:01:00 GMT", "ETag": "one"}


def respond(headers: Mapping[str, str], data: bytes = b"data") -> HTTPResponse:
    return HTTPResponse(io.BytesIO(data), headers, 200, preload_content=False)


@pytest.mark.parametrize(
    ("start", "end", "header"),
    [(0, None, {}), (5, None, {"range": "bytes=5-"}), (0, 1, {"range": "bytes=0-0"}), (3, 9, {"range": "bytes=3-8"})],
)
def test_a_range_is_asked_for_only_where_it_is_not_the_whole(
    start: int, end: int | None, header: dict[str, str]
) -> None:
    assert range_of(start, end) == header


@pytest.mark.parametrize(("more", "size"), [({}, 4), ({"Content-Range": "bytes 3-6/10"}, 10)])
def test_a_response_with_a_range_says_how_large_the_whole_object_is(more: dict[str, str], size: int) -> None:
    stat, body = described("key", respond(HEADERS | more), "ETag")
    assert stat == ObjectStat(size, "one", 60.0)
    assert body.length == 4
    assert body.read(3) + body.read(3) == b"data"


@pytest.mark.parametrize("missing", HEADERS)
def test_a_response_that_does_not_describe_its_object_is_refused_and_closed(missing: str) -> None:
    response = respond({name: value for name, value in HEADERS.items() if name != missing})
    with pytest.raises(StorageUnavailable, match="does not describe an object"):
        described("key", response, "ETag")
    assert response.closed


class Reset(io.BytesIO):
    """A body whose connection is reset."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError("reset")


def test_an_error_whose_body_breaks_off_says_its_status() -> None:
    with pytest.raises(StorageUnavailable, match=r"503, and .*reset"):
        body_of("key", HTTPResponse(Reset(), status=503, preload_content=False))

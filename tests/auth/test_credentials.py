"""What clients put into Authorization."""

from __future__ import annotations

from base64 import b64encode

import pytest

from registry.auth.credentials import Basic, Bearer, credentials_of
from registry.oci.errors import MalformedRequest, Unauthorized


def basic(text: str | bytes) -> bytes:
    return b"Basic " + b64encode(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (basic("alice:secret"), Basic("alice", "secret")),
        (basic("alice:se:cr:et"), Basic("alice", "se:cr:et")),
        (basic("älice:pässword"), Basic("älice", "pässword")),
        (basic(":stw_key"), Basic("", "stw_key")),
        (basic("alice:"), Basic("alice", "")),
        (basic(":"), None),
        (b"Basic Og==", None),
        (b"bAsIc " + b64encode(b"a:b"), Basic("a", "b")),
        (b"Bearer a.b.c", Bearer("a.b.c")),
        (b"bearer   a.b.c ", Bearer("a.b.c")),
        (b"Bearer \xff", Bearer("\xff")),
    ],
)
def test_credentials_are_read(value: bytes, expected: Basic | Bearer | None) -> None:
    assert credentials_of([(b"host", b"x"), (b"authorization", value)]) == expected


def test_a_request_without_the_header_has_none() -> None:
    assert credentials_of([(b"host", b"x"), (b"x-authorization", basic("a:b"))]) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic !",
        b"Basic YQ",
        basic("alice"),
        basic(b"\xff:\xff"),
        basic("a\0:b"),
        b"Bearer",
        b"Digest a",
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(Unauthorized):
        credentials_of([(b"authorization", value)])


def test_two_headers_are_no_request() -> None:
    for second in (basic("a:b"), b"Bearer x", b""):
        with pytest.raises(MalformedRequest):
            credentials_of([(b"authorization", basic("a:b")), (b"authorization", second)])

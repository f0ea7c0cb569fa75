"""References: a colon decides between digest and tag."""

from __future__ import annotations

import pytest

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, RegistryError, TagInvalid
from registry.oci.reference import parse_reference


def test_a_reference_is_a_digest_or_a_tag() -> None:
    digest = Digest.of(b"content")
    assert isinstance(parse_reference(str(digest)), Digest)
    tag = parse_reference("latest")
    assert tag == "latest"
    assert not isinstance(tag, Digest)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sha256:short", DigestInvalid),
        ("latest:1", DigestInvalid),
        (":", DigestInvalid),
        ("", TagInvalid),
        ("a b", TagInvalid),
    ],
)
def test_a_wrong_reference_is_refused_as_the_kind_that_it_looks_like(text: str, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        parse_reference(text)

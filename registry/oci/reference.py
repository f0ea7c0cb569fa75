"""References: a tag or a digest, as it follows ``/manifests/`` in a path."""

from __future__ import annotations

from registry.oci.digest import Digest, looks_like_digest
from registry.oci.tag import parse_tag

Reference = str | Digest
"""A tag (a plain ``str``) or a ``Digest``; ``isinstance(reference, Digest)`` tells which."""


def parse_reference(text: str) -> Reference:
    """Read ``text`` as a digest if it has a colon, else as a tag.

    Raises:
        DigestInvalid: it holds a colon and is no digest of a supported algorithm.
        TagInvalid: it holds no colon and is no tag.
    """
    return Digest.parse(text) if looks_like_digest(text) else parse_tag(text)

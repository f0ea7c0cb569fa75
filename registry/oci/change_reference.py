"""*Change reference*: what ``registry restore`` and ``registry history`` are told: a repository, a tag, a change."""

from __future__ import annotations

from dataclasses import dataclass

from registry.oci.digest import Digest
from registry.oci.errors import RequestInvalid
from registry.oci.escaping import quoted
from registry.oci.name import parse_name
from registry.oci.tag import parse_tag


@dataclass(frozen=True, slots=True)
class ChangeReference:
    """``REPO``, ``REPO:TAG``, ``REPO:TAG@NUMBER`` or ``REPO@DIGEST``."""

    repository: str
    tag: str | None = None
    sequence: int | None = None
    """The number of a change; only with a tag."""
    digest: Digest | None = None
    """Only without a tag."""

    @classmethod
    def parse(cls, text: str) -> ChangeReference:
        """Read it. Raises RequestInvalid, NameInvalid, TagInvalid, DigestInvalid."""
        front, at, last = text.partition("@")
        name, colon, tag = front.partition(":")
        parse_name(name)
        if colon:
            parse_tag(tag)
        if not at:
            return cls(name, tag or None)
        if not colon:
            return cls(name, digest=Digest.parse(last))
        if not (last.isascii() and last.isdecimal() and len(last) < len(str(1 << 63))):
            raise RequestInvalid(f"{quoted(text)} is none of REPO, REPO:TAG, REPO:TAG@NUMBER and REPO@DIGEST")
        return cls(name, tag, int(last))

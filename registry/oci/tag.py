"""Tag: a name for a manifest (distribution spec, "Pulling manifests", ``<reference>`` as a tag)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry.oci.errors import TagInvalid
from registry.oci.escaping import quoted

if TYPE_CHECKING:
    from registry.oci.digest import Digest

_FALLBACK = re.compile(r"sha(?:256|512)-[0-9a-f]{64}")
_OF_SUBJECT = re.compile(r"sha(?:256|512)-[0-9a-f]{64,}(?:[.-].*)?")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def is_tag(text: str) -> bool:
    """Whether ``text`` follows the grammar of tags."""
    return _TAG.fullmatch(text) is not None


def is_fallback(text: str) -> bool:
    """Whether clients keep the referrers of a digest under this tag (spec, "Referrers Tag Schema")."""
    return _FALLBACK.fullmatch(text) is not None


def belongs_to_subject(text: str) -> bool:
    """Whether clients keep under this tag what belongs to the manifest of the digest in it.

    That is the list of its referrers, and signatures, attestations and SBOMs of cosign: ``sha256-{hex}.sig``.
    """
    return _OF_SUBJECT.fullmatch(text) is not None


def fallback_of(digest: Digest) -> str:
    """The tag under which clients keep the referrers of ``digest`` (spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.encoded[:64]}"


def attachment_prefix(digest: str) -> str:
    """What the tags of signatures and other attachments of a manifest begin with: ``sha256-{hex}``, then perhaps more.

    Clients that keep no referrers keep them so (``.sig``, ``.att``, ``.sbom``), and those of the spec's "Referrers Tag
    Schema" their list.
    """
    return digest.replace(":", "-", 1)


def parse_tag(text: str) -> str:
    """Return ``text``, if it follows the grammar of tags.

    Raises:
        TagInvalid: it does not.
    """
    if not is_tag(text):
        raise TagInvalid(
            f"the tag {quoted(text)} is not valid; it has 1 to 128 letters, digits, '_', '.' or '-' "
            "and does not start with '.' or '-'"
        )
    return text

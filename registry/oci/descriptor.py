"""Descriptors: typed, sized references to content by digest (image-spec, "Content Descriptors")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid
from registry.oci.media_types import MANIFESTS

MAXIMUM_SIZE: Final = 2**63 - 1
"""Bytes; sizes are 64-bit signed integers in every implementation and in SQL."""
_REQUIRED: Final = frozenset({"mediaType", "digest", "size"})
_MAXIMUM_MEDIA_TYPE: Final = 255
# RFC 6838 allows 127 characters on each side of the slash.


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content. ``size`` is in bytes; ``annotations`` must not be changed in place.

    ``platform``, ``data`` and unknown fields of a descriptor mean nothing to a registry and are not kept here.
    """

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    annotations: dict[str, str] | None = field(default=None, hash=False)
    urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: object, where: str = "descriptor") -> Descriptor:
        """The descriptor in a decoded JSON value. ``where`` names it in messages, for example ``layers[2]``.

        Raises:
            ManifestInvalid: a field is missing or wrong; the message names it.
        """
        if not isinstance(value, dict):
            raise _invalid(where, "is not an object")
        media_type = value.get("mediaType")
        if type(media_type) is not str or media_type not in MANIFESTS:  # one that is known needs no second look
            media_type = parse_media_type(media_type, f"{where}.mediaType")
        if media_type is None:
            raise _invalid(f"{where}.mediaType", "is missing")
        digest, size = _parse_digest(value.get("digest"), where), _parse_size(value.get("size"), where)
        if value.keys() <= _REQUIRED:  # nearly every entry of an index.json is so, and ten thousand are read at once
            return cls(media_type, digest, size)
        return cls(
            media_type,
            digest,
            size,
            parse_media_type(value.get("artifactType"), f"{where}.artifactType"),
            parse_annotations(value.get("annotations"), f"{where}.annotations"),
            _parse_urls(value.get("urls"), where),
        )

    def to_json(self) -> dict[str, object]:
        """The descriptor with the field names of the image spec; fields without a value are left out."""
        document: dict[str, object] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        if self.annotations is not None:
            document["annotations"] = self.annotations
        if self.urls:
            document["urls"] = list(self.urls)
        return document


def parse_media_type(value: object, where: str) -> str | None:
    """A media type in decoded JSON, or None where it is absent, null or empty (Go writes absent strings as empty).

    Refuses only what no header, log or database could carry. The grammar of RFC 6838 is not enforced, because clients
    push values outside it.

    Raises:
        ManifestInvalid: it is not a string of at most 255 printable characters.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAXIMUM_MEDIA_TYPE or not value.isprintable():
        raise _invalid(where, f"is not a string of at most {_MAXIMUM_MEDIA_TYPE} printable characters")
    return value


def parse_annotations(value: object, where: str) -> dict[str, str] | None:
    """Annotations in decoded JSON, or None where they are absent or null (image-spec, "Annotations").

    Raises:
        ManifestInvalid: they are not a map of strings to strings.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _invalid(where, "is not an object")
    for key, text in value.items():
        if not isinstance(text, str):
            raise _invalid(where, f"maps {key[:80]!a} to something that is not a string")
    return value


def _parse_digest(value: object, where: str) -> Digest:
    if not isinstance(value, str):
        raise _invalid(f"{where}.digest", "is missing" if value is None else "is not a string")
    try:
        return Digest.parse(value)
    except DigestInvalid as error:
        raise _invalid(f"{where}.digest", f"is not usable: {error.message}") from error


def _parse_size(value: object, where: str) -> int:
    # bool is a subclass of int: the exact type is meant.
    if type(value) is int and 0 <= value <= MAXIMUM_SIZE:
        return value
    raise _invalid(f"{where}.size", "is missing" if value is None else "is not a number of bytes from 0 to 2^63-1")


def _parse_urls(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(url, str) for url in value):
        return tuple(value)
    raise _invalid(f"{where}.urls", "is not a list of strings")


def _invalid(where: str, problem: str) -> ManifestInvalid:
    return ManifestInvalid(f"{where} {problem}")

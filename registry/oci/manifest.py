"""Manifests: the fields of pushed manifests that a registry needs (image-spec, "Image Manifest", "Image Index").

The bytes themselves are kept as they came (I5); references, referrers and collection are built on the fields read here.
A document that two readers could understand differently is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from registry.oci import media_types
from registry.oci.descriptor import Descriptor, parse_annotations, parse_media_type
from registry.oci.errors import ManifestInvalid
from registry.oci.escaping import quoted
from registry.oci.strict_json import StrictJSONError, loads

# Sent by clients without a better type, or added by their HTTP library.
_UNTYPED: Final = frozenset({"", "application/json", "application/octet-stream"})
_ACCEPTED: Final = ", ".join(sorted(media_types.MANIFESTS))
_SCHEMA_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as far as a registry understands it."""

    media_type: str
    """One of ``media_types.MANIFESTS``."""
    config: Descriptor | None
    """The config of an image manifest; None for an index."""
    layers: tuple[Descriptor, ...]
    """The layers of an image manifest, in order, non-distributable ones included."""
    manifests: tuple[Descriptor, ...]
    """The entries of an index, in order, whatever their media types."""
    subject: Descriptor | None
    """The manifest that this one refers to; it need not exist."""
    artifact_type: str | None
    """The type in the referrers API: the image manifest's artifactType or else its config's media type; the index's
    artifactType or None."""
    annotations: dict[str, str]
    """The manifest's own annotations; empty when it has none."""

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests rather than layers."""
        return self.media_type in media_types.INDEXES

    def named_blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that it names, each digest once.

        If present, they are kept, rebuilt, migrated and copied (I13). They are the config, all layers, and the entries
        of an index whose type is no manifest's: BuildKit exports its cache as an index of layers.
        """
        config = () if self.config is None else (self.config,)
        return _each_once((*config, *self._content()))

    def needed_blobs(self) -> tuple[Descriptor, ...]:
        """The ``named_blobs`` that must be present for the manifest to be accepted (I2).

        Layers that clients fetch from elsewhere may be missing: foreign and non-distributable ones, and those with
        ``urls``, which skopeo does not push.
        """
        config = () if self.config is None else (self.config,)
        return _each_once((*config, *(content for content in self._content() if not _is_elsewhere(content))))

    def children(self) -> tuple[Descriptor, ...]:
        """Every manifest that must be present (I2), each digest once: the entries of an index that are manifests."""
        if not self.manifests:
            return ()
        return _each_once(tuple(entry for entry in self.manifests if entry.media_type in media_types.MANIFESTS))

    def _content(self) -> tuple[Descriptor, ...]:
        """The layers, or the blobs that an index lists."""
        if not self.manifests:
            return self.layers
        return (*self.layers, *(entry for entry in self.manifests if entry.media_type not in media_types.MANIFESTS))


def parse_manifest(body: bytes, content_type: str | None) -> Manifest:
    """Read a pushed manifest. ``content_type`` is the request's Content-Type; its parameters are ignored.

    If the Content-Type says only "bytes" or "JSON", the document's own ``mediaType`` decides, and without that its
    fields.

    Raises:
        ManifestInvalid: it is not strict JSON, its type is unknown or contradicts the Content-Type, it could be read
            both as an image manifest and as an index, or a field is missing or wrong. The message names what.
    """
    try:
        document = loads(body)
    except StrictJSONError as error:
        raise ManifestInvalid(f"the manifest is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    media_type = _media_type(document, content_type)
    _check_schema_version(document)
    _check_unambiguous(document, media_type)
    return _index(document, media_type) if media_type in media_types.INDEXES else _image(document, media_type)


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    """The type of the document, one of ``media_types.MANIFESTS``."""
    declared = media_types.without_parameters(content_type or "")
    own = parse_media_type(document.get("mediaType"), "mediaType")
    if declared in _UNTYPED:
        declared = own or _guess(document)
    elif own is not None and own != declared:
        raise ManifestInvalid(f"the Content-Type is {quoted(declared)} but the manifest's mediaType is {quoted(own)}")
    if declared in media_types.MANIFESTS:
        return declared
    if declared in media_types.SCHEMA1:
        raise _schema1()
    raise ManifestInvalid(f"the manifest type {quoted(declared)} is not supported; accepted are {_ACCEPTED}")


def _guess(document: dict[str, Any]) -> str:
    """The type of a document without a declared type, from its fields."""
    if "manifests" in document:
        return media_types.OCI_INDEX
    if "config" in document or "layers" in document:
        return media_types.OCI_MANIFEST
    if "fsLayers" in document:
        raise _schema1()
    raise ManifestInvalid(f"the manifest has no type: send a Content-Type or a mediaType; accepted are {_ACCEPTED}")


def _check_schema_version(document: dict[str, Any]) -> None:
    version = document.get("schemaVersion")
    # True and 2.0 compare equal to numbers and are none of this specification: the exact type is meant.
    if type(version) is int and version == _SCHEMA_VERSION:
        return
    if type(version) is int and version == 1:
        raise _schema1()
    raise ManifestInvalid("schemaVersion is missing" if version is None else f"schemaVersion is not {_SCHEMA_VERSION}")


def _check_unambiguous(document: dict[str, Any], media_type: str) -> None:
    """Refuse a document whose fields look like another type than the declared one (CVE-2021-41190)."""
    foreign = ("config", "layers", "fsLayers") if media_type in media_types.INDEXES else ("manifests", "fsLayers")
    for name in foreign:
        if document.get(name) is not None:
            raise ManifestInvalid(
                f"a manifest of type {media_type} cannot have {name}: readers would disagree on what it is"
            )


def _image(document: dict[str, Any], media_type: str) -> Manifest:
    if document.get("config") is None:
        raise ManifestInvalid(
            "config is missing; an artifact without one uses the empty descriptor of the image specification"
        )
    config = Descriptor.from_json(document["config"], "config")
    return Manifest(
        media_type=media_type,
        config=config,
        # Absent and null are read as no layers: Go writes an empty list of layers as null.
        layers=_descriptors(document.get("layers"), "layers"),
        manifests=(),
        subject=_subject(document),
        artifact_type=_artifact_type(document) or config.media_type,
        annotations=parse_annotations(document.get("annotations"), "annotations") or {},
    )


def _index(document: dict[str, Any], media_type: str) -> Manifest:
    if "manifests" not in document:
        raise ManifestInvalid("manifests is missing")
    return Manifest(
        media_type=media_type,
        config=None,
        layers=(),
        manifests=_descriptors(document["manifests"], "manifests"),
        subject=_subject(document),
        artifact_type=_artifact_type(document),
        annotations=parse_annotations(document.get("annotations"), "annotations") or {},
    )


def _descriptors(value: object, name: str) -> tuple[Descriptor, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestInvalid(f"{name} is not a list")
    return tuple(Descriptor.from_json(item, f"{name}[{position}]") for position, item in enumerate(value))


def _subject(document: dict[str, Any]) -> Descriptor | None:
    value = document.get("subject")
    return None if value is None else Descriptor.from_json(value, "subject")


def _artifact_type(document: dict[str, Any]) -> str | None:
    return parse_media_type(document.get("artifactType"), "artifactType")


def _is_elsewhere(content: Descriptor) -> bool:
    """Whether clients may fetch it from elsewhere."""
    return bool(content.urls) or media_types.is_nondistributable(content.media_type)


def _each_once(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """The descriptors in order, only the first of each digest."""
    if len({descriptor.digest for descriptor in descriptors}) == len(descriptors):
        return descriptors
    first: dict[str, Descriptor] = {}
    for descriptor in descriptors:
        first.setdefault(descriptor.digest, descriptor)
    return tuple(first.values())


def _schema1() -> ManifestInvalid:
    return ManifestInvalid("Docker schema 1 manifests are not supported; push with a client from 2016 or later")

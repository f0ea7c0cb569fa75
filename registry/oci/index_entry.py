"""Entry: one member of ``manifests`` in an ``index.json``, with its descriptor, its tag and its times.

Tests: ``tests/oci/test_index.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.tag import is_tag

if TYPE_CHECKING:
    from collections.abc import Container

REF_NAME: Final = "org.opencontainers.image.ref.name"
"""The annotation of an entry that names its tag."""
PUSHED: Final = "io.stowage.pushed"
"""The annotation of an entry with the time at which its manifest was last pushed; the latest of a manifest counts."""
TAGGED: Final = "io.stowage.tagged"
"""The annotation of an entry with the time at which its tag was last set."""

_OF_THE_TAG: Final = (REF_NAME, TAGGED)
_OURS: Final = frozenset({REF_NAME, PUSHED, TAGGED})


class Entry(NamedTuple):
    """One member of ``manifests``. A tuple, because ten thousand of them are made whenever a large index is read."""

    raw: Any
    """The decoded JSON, never changed in place."""
    descriptor: Descriptor | None = None
    """Its descriptor, without name and times; None if it cannot be read: then the entry is kept and not served."""
    tag: str | None = None
    """Its reference name, if that is a tag."""
    bare: bool = False
    """It has no reference name at all."""
    is_timed: bool = True
    """Its times are complete, as they always are for an unreadable entry."""

    def says(self, name: str) -> str | None:
        """The text of an annotation; None if there is none."""
        annotations = self.raw.get("annotations") if isinstance(self.raw, dict) else None
        value = annotations.get(name) if isinstance(annotations, dict) else None
        return value if isinstance(value, str) else None

    def saying(self, **annotations: str | None) -> Entry:
        """The entry of the same manifest and tag with these times; None keeps the noted one. ``pushed``, ``tagged``."""
        said = {_TIMES[name]: value for name, value in annotations.items() if value is not None}
        if not said:
            return self
        annotations = (self.raw.get("annotations") or {}) | said
        return self._replace(raw=self.raw | {"annotations": annotations}, is_timed=_is_timed(annotations, self.tag))


_TIMES: Final = {"pushed": PUSHED, "tagged": TAGGED}


def read(raw: Any) -> Entry:  # noqa: ANN401  # any JSON value
    """The entry for one member of ``manifests``, readable or not."""
    annotations = raw.get("annotations") if isinstance(raw, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    tag = name if isinstance(name, str) and is_tag(name) else None
    try:
        descriptor = Descriptor.from_json(_described(raw, annotations) if annotations else raw)
    except ManifestInvalid:
        return Entry(raw, None, tag, name is None)
    return Entry(raw, descriptor, tag, name is None, _is_timed(annotations or (), tag))


def make(base: dict[str, Any], descriptor: Descriptor, tag: str | None) -> Entry:
    """An entry for ``descriptor`` with the further fields of ``base``, an entry of the same manifest."""
    raw = base | descriptor.to_json()
    if descriptor.annotations and base.get("annotations"):
        raw["annotations"] = base["annotations"] | descriptor.annotations
    return read(_renamed(raw, tag))


def without_tag(entry: Entry) -> Entry:
    """The entry of the same manifest with no tag."""
    return read(_renamed(entry.raw, None))


def complaint(raw: Any) -> str:  # noqa: ANN401  # any JSON value
    """Why an entry is no descriptor."""
    try:
        Descriptor.from_json(raw)
    except ManifestInvalid as error:
        return str(error)
    return "its reference name hides what is wrong"


def _is_timed(annotations: Container[str], tag: str | None) -> bool:
    return PUSHED in annotations and (tag is None or TAGGED in annotations)


def _described(raw: dict[str, Any], annotations: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
    """``raw`` without the annotations that are not about the manifest itself."""
    if not isinstance(annotations, dict):
        return raw
    described = raw.copy()
    if annotations.keys() <= _OURS:
        del described["annotations"]
    else:
        described["annotations"] = {name: value for name, value in annotations.items() if name not in _OURS}
    return described


def _renamed(raw: dict[str, Any], tag: str | None) -> dict[str, Any]:
    """A copy of ``raw`` with ``tag`` as its reference name, or without name and tag times."""
    renamed = raw.copy()
    annotations = dict(renamed.pop("annotations", None) or {})
    for name in _OF_THE_TAG if tag is None else (REF_NAME,):
        annotations.pop(name, None)
    if tag is not None:
        annotations[REF_NAME] = tag
    if annotations:
        renamed["annotations"] = annotations
    return renamed

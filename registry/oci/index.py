"""The ``index.json`` of an image layout: the manifests and tags of one repository (image-spec, "Image Layout").

Other tools write this file too. Whatever they put there that a registry does not understand is kept.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import orjson

from registry.oci.descriptor import Descriptor
from registry.oci.errors import ManifestInvalid
from registry.oci.media_types import OCI_INDEX
from registry.oci.tag import is_tag, parse_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.oci.digest import Digest

LAYOUT_FILE: Final = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of ``oci-layout``."""
REF_NAME: Final = "org.opencontainers.image.ref.name"
"""The annotation of an entry that names its tag."""
FOLDED: Final = "io.stowage.folded"
"""The annotation of the index with the sequence number of the last record that was folded into it (I11)."""
MIGRATION: Final = "io.stowage.migration"
"""The annotation of the index with the migration that has taken the original's content into it."""

Key = TypeVar("Key")

_SHOWN: Final = 160
_SEQUENCE = re.compile(r"[0-9]{1,18}")


class _Entry(NamedTuple):
    """One member of ``manifests``. A tuple, because ten thousand of them are made whenever a large index is read."""

    raw: Any
    """The decoded JSON, never changed in place."""
    descriptor: Descriptor | None = None
    """What it describes, without its reference name; None where this cannot be read: then it is only kept."""
    tag: str | None = None
    """Its reference name, where that is a tag."""
    bare: bool = False
    """It has no reference name at all."""


class Index:
    """An ``index.json`` in memory. Each operation takes constant time, whatever the number of entries.

    Not safe for use by several threads at once.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        """Take over ``document``, a decoded index whose ``manifests`` is a list. Use ``parse`` or ``empty``."""
        self._document = document
        self._entries: dict[int, _Entry] = {}
        self._slots = itertools.count()
        # Slots are in the order of the file. A tag has more than one only where another tool wrote it twice.
        self._by_tag: dict[str, dict[int, None]] = {}
        self._by_digest: dict[Digest, dict[int, None]] = {}
        self._bare: dict[Digest, dict[int, None]] = {}
        for raw in document["manifests"]:
            self._append(_read_entry(raw))

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an ``index.json``.

        Raises:
            ManifestInvalid: it is not a JSON object with a list of manifests. A single entry that cannot be read is no
                error: it is kept, and neither in ``tags`` nor in ``manifests``.
        """
        try:
            document = orjson.loads(data)
        except ValueError as error:
            raise ManifestInvalid(f"index.json is not valid JSON: {error}") from error
        if not isinstance(document, dict) or "manifests" not in document:
            raise ManifestInvalid("index.json is not an object with manifests")
        if document["manifests"] is None:  # Go writes an empty list so.
            document["manifests"] = []
        if not isinstance(document["manifests"], list):
            raise ManifestInvalid("manifests in index.json is not a list")
        return cls(document)

    @classmethod
    def empty(cls) -> Index:
        """The index of a repository without manifests."""
        return cls({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})

    def serialise(self) -> bytes:
        """The content of ``index.json``; the same operations on the same index give the same bytes.

        Raises:
            ManifestInvalid: what another tool put there is nested too deeply to be written (more than 250 levels).
        """
        manifests = [entry.raw for entry in self._entries.values()]
        try:
            return orjson.dumps(self._document | {"manifests": manifests})
        except TypeError as error:
            raise ManifestInvalid(f"index.json cannot be written: {error}") from error

    @property
    def has_folded(self) -> bool:
        """Whether it says which record it contains, as every index does that a registry of ours wrote."""
        annotations = self._document.get("annotations")
        return isinstance(annotations, dict) and FOLDED in annotations

    @property
    def is_ours(self) -> bool:
        """Whether a registry of ours wrote it: it says what it has folded, or is as ``empty`` makes it."""
        return self.has_folded or (not self._entries and self._document == Index.empty()._document)  # noqa: SLF001 - of the same class

    @property
    def folded(self) -> int:
        """The sequence number of the last record that this index contains; 0 when it says nothing usable."""
        annotations = self._document.get("annotations")
        value = annotations.get(FOLDED) if isinstance(annotations, dict) else None
        return int(value) if isinstance(value, str) and _SEQUENCE.fullmatch(value) else 0

    @folded.setter
    def folded(self, sequence: int) -> None:
        self._annotate(FOLDED, str(sequence))

    @property
    def migration(self) -> str | None:
        """The migration that has taken the original's content into this index; None for none."""
        annotations = self._document.get("annotations")
        value = annotations.get(MIGRATION) if isinstance(annotations, dict) else None
        return value if isinstance(value, str) else None

    @migration.setter
    def migration(self, migration: str) -> None:
        self._annotate(MIGRATION, migration)

    def _annotate(self, name: str, value: str) -> None:
        annotations = self._document.get("annotations")
        kept = annotations if isinstance(annotations, dict) else {}
        self._document["annotations"] = kept | {name: value}

    def tags(self) -> dict[str, Descriptor]:
        """Every tag and what it points at, without the reference name. Of a name that appears twice the last wins."""
        return {
            tag: descriptor
            for tag, slots in self._by_tag.items()
            if (descriptor := self._entries[next(reversed(slots))].descriptor)
        }

    def manifests(self) -> dict[Digest, Descriptor]:
        """Every manifest, tagged or not, without reference names. Of entries with one digest the first wins."""
        return {
            digest: descriptor
            for digest, slots in self._by_digest.items()
            if (descriptor := self._entries[next(iter(slots))].descriptor)
        }

    def left_out(self) -> Iterator[tuple[str, str]]:
        """What is only kept: (the reference name that does not count, "" for an entry that cannot be read, and why)."""
        for slot, entry in self._entries.items():
            if entry.descriptor is None:
                yield "", f"an entry that cannot be read: {_complaint(entry.raw)}"
            elif entry.tag is None and not entry.bare:
                yield str(entry.raw["annotations"][REF_NAME])[:_SHOWN], "is not a tag that the specification allows"
            elif entry.tag is not None and self._is_overruled(slot, entry.tag):
                yield (
                    entry.tag,
                    f"also names {entry.descriptor.digest}: of several entries with one name the last counts",
                )

    def _is_overruled(self, slot: int, tag: str) -> bool:
        """Whether a later entry gives the tag to another manifest."""
        first, last = self._entries[slot].descriptor, self._entries[next(reversed(self._by_tag[tag]))].descriptor
        return first is not None and (last is None or last.digest != first.digest)

    def set_tag(self, tag: str, descriptor: Descriptor) -> None:
        """Point ``tag`` at a manifest.

        The manifest's bare entry becomes the tag's, with all that other tools wrote into it. A manifest whose last
        entry was this tag's becomes a bare entry.

        Raises:
            TagInvalid: ``tag`` is none.
        """
        parse_tag(tag)
        digest = descriptor.digest
        previous = [self._remove(slot) for slot in list(self._by_tag.get(tag, ()))]
        taken = [entry for entry in previous if entry.descriptor is not None and entry.descriptor.digest == digest]
        taken += [self._remove(slot) for slot in list(self._bare.get(digest, ()))]
        self._append(_make_entry(taken[0].raw if taken else {}, descriptor, tag))
        self._keep(previous)

    def remove_tag(self, tag: str) -> None:
        """Forget ``tag``, if it is there. A manifest whose last entry was this tag's becomes a bare entry."""
        self._keep([self._remove(slot) for slot in list(self._by_tag.get(tag, ()))])

    def add_manifest(self, descriptor: Descriptor) -> None:
        """Add a manifest without a tag; nothing changes where an entry has its digest."""
        if descriptor.digest not in self._by_digest:
            self._append(_make_entry({}, descriptor, None))

    def remove_manifest(self, digest: Digest) -> None:
        """Forget a manifest and every tag that points at it, if it is there."""
        for slot in list(self._by_digest.get(digest, ())):
            tag = self._entries[slot].tag
            # Through the tag, so that a name written twice does not come back with the manifest of its other entry.
            if tag is not None and slot == next(reversed(self._by_tag[tag])):
                self.remove_tag(tag)
        for slot in list(self._by_digest.get(digest, ())):
            self._remove(slot)

    def _keep(self, removed: list[_Entry]) -> None:
        """Put back, without their names, those of the removed entries that were the last of their manifests."""
        for entry in removed:
            if entry.descriptor is None or entry.descriptor.digest not in self._by_digest:
                self._append(_read_entry(_rename(entry.raw, None)))

    def _append(self, entry: _Entry) -> None:
        slot = next(self._slots)
        self._entries[slot] = entry
        if entry.tag is not None:
            self._by_tag.setdefault(entry.tag, {})[slot] = None
        if entry.descriptor is not None:
            self._by_digest.setdefault(entry.descriptor.digest, {})[slot] = None
            if entry.bare:
                self._bare.setdefault(entry.descriptor.digest, {})[slot] = None

    def _remove(self, slot: int) -> _Entry:
        entry = self._entries.pop(slot)
        if entry.tag is not None:
            _discard(self._by_tag, entry.tag, slot)
        if entry.descriptor is not None:
            _discard(self._by_digest, entry.descriptor.digest, slot)
            if entry.bare:
                _discard(self._bare, entry.descriptor.digest, slot)
        return entry


def _discard(slots_by_key: dict[Key, dict[int, None]], key: Key, slot: int) -> None:
    slots = slots_by_key[key]
    del slots[slot]
    if not slots:
        del slots_by_key[key]


def _read_entry(raw: Any) -> _Entry:  # noqa: ANN401  # any JSON value
    """The entry for one member of ``manifests``, readable or not."""
    annotations = raw.get("annotations") if isinstance(raw, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    tag = name if isinstance(name, str) and is_tag(name) else None
    try:
        descriptor = Descriptor.from_json(raw if name is None else _rename(raw, None))
    except ManifestInvalid:
        descriptor = None
    return _Entry(raw, descriptor, tag, name is None)


def _complaint(raw: Any) -> str:  # noqa: ANN401  # any JSON value
    """Why an entry is no descriptor."""
    try:
        Descriptor.from_json(raw)
    except ManifestInvalid as error:
        return str(error)
    return "its reference name hides what is wrong"


def _make_entry(base: dict[str, Any], descriptor: Descriptor, tag: str | None) -> _Entry:
    """An entry for ``descriptor`` that keeps what ``base``, an entry of the same manifest, says beyond it."""
    raw = base | descriptor.to_json()
    if descriptor.annotations and base.get("annotations"):
        raw["annotations"] = base["annotations"] | descriptor.annotations
    return _read_entry(_rename(raw, tag))


def _rename(raw: dict[str, Any], tag: str | None) -> dict[str, Any]:
    """A copy of ``raw`` with ``tag`` as its reference name, or with none."""
    renamed = raw.copy()
    annotations = dict(renamed.pop("annotations", None) or {})
    annotations.pop(REF_NAME, None)
    if tag is not None:
        annotations[REF_NAME] = tag
    if annotations:
        renamed["annotations"] = annotations
    return renamed

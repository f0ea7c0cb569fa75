"""The ``index.json`` of an image layout: the manifests and tags of one repository (image-spec, "Image Layout").

Other tools write this file too. Fields and entries of theirs that a registry does not understand are kept.
"""

from __future__ import annotations

import enum
import itertools
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from registry.oci import index_entry as entries
from registry.oci import moment
from registry.oci.errors import ManifestInvalid, RegistryError
from registry.oci.index_entry import PUSHED, REF_NAME, TAGGED, Entry
from registry.oci.media_types import OCI_INDEX
from registry.oci.tag import parse_tag
from registry.oci.withheld import NOTHING, Lacks, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest

LAYOUT_FILE: Final = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of ``oci-layout``."""
FOLDED: Final = "io.stowage.folded"
"""The annotation of the index with the sequence number of the last record that was folded into it (I11)."""
NOTED: Final = "io.stowage.noted"
"""The annotation of the index with the last record whose times and withheld references it has.

An earlier release folds without raising it; the records after it are then read from the journal.
"""
DELETED: Final = "io.stowage.deleted"
"""The annotation of the index with the last folded record that deleted a manifest: from it back the trash is read."""
WITHHELD: Final = "io.stowage.withheld"
"""The annotation of the index with its withheld references: what its manifests name and the repository lacks (I12)."""
MIGRATION: Final = "io.stowage.migration"
"""The annotation of the index with the migration that adopted the source's content into it."""

Key = TypeVar("Key")

_SHOWN: Final = 160
_SEQUENCE = re.compile(r"[0-9]{1,18}")


class Owner(enum.Enum):
    """Which registry wrote an index."""

    OURS = "ours"
    """It says which records it contains, as every index that one of our registries has folded into."""
    EMPTY = "empty"
    """It is the index of a new repository of ours, without any content."""
    FOREIGN = "foreign"
    """Another registry or tool wrote it: it is never overwritten."""


class Index:
    """An ``index.json`` in memory. Each operation takes constant time, whatever the number of entries.

    Not safe for use by several threads at once.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        """Take over ``document``, a decoded index whose ``manifests`` is a list. Use ``parse`` or ``empty``."""
        self._document = document
        self._entries: dict[int, Entry] = {}
        self._slots = itertools.count()
        # Slots are in the order of the file. A tag has more than one only if another tool wrote it twice.
        self._by_tag: dict[str, dict[int, None]] = {}
        self._by_digest: dict[Digest, dict[int, None]] = {}
        self._bare: dict[Digest, dict[int, None]] = {}
        self._untimed: dict[int, None] = {}
        for raw in document["manifests"]:
            self._append(entries.read(raw))
        self.read_withheld = self._read_withheld()
        """The withheld references when it was read."""
        self._lacks = Lacks(self.read_withheld)
        self._says_withheld = True

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read an ``index.json``.

        Raises:
            ManifestInvalid: it is not a JSON object with a list of manifests. A single unreadable entry is no error: it
                is kept, and is neither in ``tags`` nor in ``manifests``.
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
            ManifestInvalid: content of another tool is nested too deeply to be written (more than 250 levels).
        """
        if not self._says_withheld:
            withheld = self.withheld
            self._annotate(WITHHELD, withheld.to_text() if withheld else None)
            self._says_withheld = True
        manifests = [entry.raw for entry in self._entries.values()]
        try:
            return orjson.dumps(self._document | {"manifests": manifests})
        except TypeError as error:
            raise ManifestInvalid(f"index.json cannot be written: {error}") from error

    @property
    def owner(self) -> Owner:
        """Which registry wrote it."""
        annotations = self._document.get("annotations")
        if isinstance(annotations, dict) and FOLDED in annotations:
            return Owner.OURS
        is_new = not self._entries and self._document == Index.empty()._document  # noqa: SLF001 - of the same class
        return Owner.EMPTY if is_new else Owner.FOREIGN

    @property
    def folded(self) -> int:
        """The sequence number of the last record that this index contains; 0 if it has no usable number."""
        return self._sequence(FOLDED)

    @folded.setter
    def folded(self, sequence: int) -> None:
        self._annotate(FOLDED, str(sequence))

    @property
    def noted(self) -> int:
        """The last record whose times and withheld references are in this index; at most ``folded``."""
        return min(self._sequence(NOTED), self.folded)

    @noted.setter
    def noted(self, sequence: int) -> None:
        self._annotate(NOTED, str(sequence))

    @property
    def deleted(self) -> int:
        """The last folded record that deleted a manifest; 0 for none since this is written down."""
        return self._sequence(DELETED)

    @deleted.setter
    def deleted(self, sequence: int) -> None:
        if sequence > self.deleted:
            self._annotate(DELETED, str(sequence))

    @property
    def migration(self) -> str | None:
        """The migration that adopted the source's content into this index; None if there is none."""
        return self._says(MIGRATION)

    @migration.setter
    def migration(self, migration: str) -> None:
        self._annotate(MIGRATION, migration)

    @property
    def withheld(self) -> Withheld:
        """The withheld references: what its manifests name and the repository lacks (I12)."""
        return self._lacks.withheld

    @withheld.setter
    def withheld(self, withheld: Withheld) -> None:
        self._lacks = Lacks(withheld)
        self._says_withheld = False

    def withhold(self, withheld: Withheld, *, released: Withheld) -> None:
        """Add the references that a record withholds, and remove those that it releases."""
        if withheld or released:
            self._lacks.change(withheld, released)
            self._says_withheld = False

    def _says(self, name: str) -> str | None:
        annotations = self._document.get("annotations")
        value = annotations.get(name) if isinstance(annotations, dict) else None
        return value if isinstance(value, str) else None

    def _sequence(self, name: str) -> int:
        value = self._says(name)
        return int(value) if value is not None and _SEQUENCE.fullmatch(value) else 0

    def _read_withheld(self) -> Withheld:
        text = self._says(WITHHELD)
        try:
            return NOTHING if text is None else Withheld.parse(text)
        except (ValueError, RegistryError) as error:  # to guess would grant
            raise ManifestInvalid(f"index.json does not say clearly what is withheld: {error}") from error

    def _annotate(self, name: str, value: str | None) -> None:
        annotations = self._document.get("annotations")
        kept = annotations if isinstance(annotations, dict) else {}
        left = {other: text for other, text in kept.items() if other != name}
        self._document["annotations"] = left if value is None else left | {name: value}

    def tags(self) -> dict[str, Descriptor]:
        """Every tag and its descriptor, without the reference name. If a name appears twice, the last one wins."""
        return {
            tag: descriptor
            for tag, slots in self._by_tag.items()
            if (descriptor := self._entries[next(reversed(slots))].descriptor)
        }

    def manifests(self) -> dict[Digest, Descriptor]:
        """Every manifest, tagged or not, without reference names. If entries share a digest, the first one wins."""
        return {
            digest: descriptor
            for digest, slots in self._by_digest.items()
            if (descriptor := self._entries[next(iter(slots))].descriptor)
        }

    def left_out(self) -> Iterator[tuple[str, str]]:
        """Entries that are kept but not served: (ignored reference name, "" for an unreadable entry; the reason)."""
        for number, (slot, entry) in enumerate(self._entries.items(), 1):
            if entry.descriptor is None:
                yield "", f"an entry that cannot be read, number {number}: {entries.complaint(entry.raw)}"
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

    def set_tag(
        self, tag: str, descriptor: Descriptor, *, pushed: str | None = None, tagged: str | None = None
    ) -> None:
        """Point ``tag`` at a manifest, and note when that was pushed and the tag set; None keeps the noted time.

        The manifest's bare entry becomes the tag's, with all fields that other tools wrote into it. A manifest whose
        last entry was this tag's becomes a bare entry.

        Raises:
            TagInvalid: ``tag`` is no tag.
        """
        parse_tag(tag)
        digest = descriptor.digest
        previous = [self._remove(slot) for slot in list(self._by_tag.get(tag, ()))]
        taken = [entry for entry in previous if entry.descriptor is not None and entry.descriptor.digest == digest]
        taken += [self._remove(slot) for slot in list(self._bare.get(digest, ()))]
        made = entries.make(taken[0].raw if taken else {}, descriptor, tag)
        self._append(made.saying(pushed=pushed, tagged=tagged))
        self._keep([*previous, *taken[1:]])

    def remove_tag(self, tag: str) -> None:
        """Forget ``tag``, if it is there. A manifest whose last entry was this tag's becomes a bare entry."""
        self._keep([self._remove(slot) for slot in list(self._by_tag.get(tag, ()))])

    def add_manifest(self, descriptor: Descriptor, *, pushed: str | None = None) -> None:
        """Add a manifest without a tag, and its push time; an existing entry with its digest takes the time."""
        if descriptor.digest not in self._by_digest:
            self._append(entries.make({}, descriptor, None))
        self._say(next(iter(self._by_digest[descriptor.digest])), pushed=pushed)

    def remove_manifest(self, digest: Digest) -> None:
        """Forget a manifest and every tag that points at it, if it is there."""
        for slot in list(self._by_digest.get(digest, ())):
            tag = self._entries[slot].tag
            # Through the tag, so that a name written twice does not come back with the manifest of its other entry.
            if tag is not None and slot == next(reversed(self._by_tag[tag])):
                self.remove_tag(tag)
        for slot in list(self._by_digest.get(digest, ())):
            self._remove(slot)

    def pushed(self, digest: Digest) -> float | None:
        """The time of a manifest's last push (seconds since the epoch); None if it is not noted."""
        said = [moment.to_seconds(self._entries[slot].says(PUSHED)) for slot in self._by_digest.get(digest, ())]
        return max((seconds for seconds in said if seconds is not None), default=None)

    def tagged(self, tag: str) -> float | None:
        """The time when a tag was last set (seconds since the epoch); None if it is not noted."""
        slots = self._by_tag.get(tag)
        return moment.to_seconds(self._entries[next(reversed(slots))].says(TAGGED)) if slots else None

    def note(self, digest: Digest, tags: Iterable[str], *, pushed: str, tagged: Mapping[str, str]) -> None:
        """Note the times of a manifest that was put before, if it is still there with these tags."""
        slots = [next(reversed(self._by_tag[tag])) for tag in tags if tag in self._by_tag]
        here = [slot for slot in slots if slot in self._by_digest.get(digest, ())]
        for slot in here:
            self._say(slot, pushed=pushed, tagged=tagged.get(self._entries[slot].tag or "", pushed))
        if not here and digest in self._by_digest:
            self._say(next(iter(self._by_digest[digest])), pushed=pushed)

    def take_notes(self, earlier: Index) -> None:
        """Take times and withheld references from ``earlier``: this index some records ago, complete up to then.

        Later records are still to be noted.
        """
        for digest, slots in self._by_digest.items():
            pushed = earlier.pushed(digest)
            for slot in slots:
                tag = self._entries[slot].tag or ""
                tagged = earlier.tagged(tag) if digest in earlier._digests_at(tag) else None
                times = {"pushed": pushed, "tagged": tagged}
                self._say(slot, **{name: moment.to_text(at) for name, at in times.items() if at is not None})
        self.withheld = earlier.withheld | (self.withheld - earlier.read_withheld)
        self.noted = earlier.noted

    def _digests_at(self, tag: str) -> set[Digest]:
        named = (self._entries[slot].descriptor for slot in self._by_tag.get(tag, ()))
        return {descriptor.digest for descriptor in named if descriptor is not None}

    @property
    def untimed(self) -> int:
        """The number of readable entries without times."""
        return len(self._untimed)

    def fill(self, pushed: Mapping[Any, float], tagged: Mapping[str, float]) -> None:
        """Add missing times: manifests by digest, tags by name, in seconds since the epoch."""
        for slot in list(self._untimed):
            entry = self._entries[slot]
            if entry.descriptor is None:
                continue
            times = {"pushed": pushed.get(entry.descriptor.digest), "tagged": tagged.get(entry.tag or "")}
            said = {"pushed": entry.says(PUSHED), "tagged": entry.says(TAGGED)}
            missing = {name: at for name, at in times.items() if at is not None and said[name] is None}
            self._say(slot, **{name: moment.to_text(at) for name, at in missing.items()})

    def _say(self, slot: int, **times: str | None) -> None:
        self._entries[slot] = entry = self._entries[slot].saying(**times)
        if entry.is_timed:
            self._untimed.pop(slot, None)

    def _keep(self, removed: list[Entry]) -> None:
        """Put back, without their names, removed entries that were the last of their manifests.

        A push time that only another removed entry has is kept.
        """
        for entry in removed:
            if entry.descriptor is None or entry.descriptor.digest not in self._by_digest:
                self._append(entries.without_tag(entry))
                continue
            slot = next(iter(self._by_digest[entry.descriptor.digest]))
            said = [moment.to_seconds(one.says(PUSHED)) or 0.0 for one in (entry, self._entries[slot])]
            if said[0] > said[1]:
                self._say(slot, pushed=entry.says(PUSHED))

    def _append(self, entry: Entry) -> None:
        slot = next(self._slots)
        self._entries[slot] = entry
        if not entry.is_timed:
            self._untimed[slot] = None
        if entry.tag is not None:
            self._by_tag.setdefault(entry.tag, {})[slot] = None
        if entry.descriptor is not None:
            self._by_digest.setdefault(entry.descriptor.digest, {})[slot] = None
            if entry.bare:
                self._bare.setdefault(entry.descriptor.digest, {})[slot] = None

    def _remove(self, slot: int) -> Entry:
        entry = self._entries.pop(slot)
        self._untimed.pop(slot, None)
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

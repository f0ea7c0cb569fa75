"""The index of an image layout: a model, what other tools wrote into it, and its speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, TagInvalid
from registry.oci.index import FOLDED, LAYOUT_FILE, Index, Owner
from registry.oci.index_entry import REF_NAME
from registry.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registry.oci.moment import to_seconds, to_text, whole


def manifest(number: int) -> Descriptor:
    """A descriptor that differs from that of every other number."""
    data = str(number).encode()
    return Descriptor(OCI_MANIFEST, Digest.of(data), len(data))


def raw(number: int, name: object = None, **more: object) -> dict[str, Any]:
    """An entry as another tool writes it."""
    entry = manifest(number).to_json() | more
    return entry if name is None else entry | {"annotations": {REF_NAME: name}}


def parse(*entries: object, **fields: object) -> Index:
    return Index.parse(orjson.dumps({"schemaVersion": 2, "manifests": entries, **fields}))


def written(index: Index) -> list[Any]:
    """The entries of the file that ``index`` writes."""
    entries = orjson.loads(index.serialise())["manifests"]
    assert isinstance(entries, list)
    return entries


NAMES = ["a", "b", "c"]
NUMBERS = range(4)
DESCRIPTORS = [manifest(number) for number in NUMBERS]
FOREIGN = [
    *[raw(number, name) for number in NUMBERS for name in [None, "a", "b", "docker.io/library/app:1", "not a tag", 5]],
    *[raw(number, platform={"os": "linux"}, annotations={"x": "y", REF_NAME: "c"}) for number in NUMBERS],
    *[raw(number, platform={"os": "linux"}, annotations={"x": "y"}) for number in NUMBERS],
]
UNREADABLE = [None, "text", {}, {"digest": str(manifest(0).digest)}, raw(0, size=-1), raw(1, digest="blake3:00")]


class _Model(RuleBasedStateMachine):
    """The index against a dictionary of tags and a set of manifests."""

    index: Index
    tags: dict[str, Digest]
    present: set[Digest]

    @rule(name=st.sampled_from(NAMES), descriptor=st.sampled_from(DESCRIPTORS))
    def set_tag(self, name: str, descriptor: Descriptor) -> None:
        self.index.set_tag(name, descriptor)
        assert [entry["digest"] for entry in written(self.index) if _name(entry) == name] == [descriptor.digest]
        self.tags[name] = descriptor.digest
        self.present.add(descriptor.digest)

    @rule(name=st.sampled_from(NAMES))
    def remove_tag(self, name: str) -> None:
        self.index.remove_tag(name)
        self.tags.pop(name, None)

    @rule(descriptor=st.sampled_from(DESCRIPTORS))
    def add_manifest(self, descriptor: Descriptor) -> None:
        self.index.add_manifest(descriptor)
        self.present.add(descriptor.digest)

    @rule(descriptor=st.sampled_from(DESCRIPTORS))
    def remove_manifest(self, descriptor: Descriptor) -> None:
        self.index.remove_manifest(descriptor.digest)
        self.present.discard(descriptor.digest)
        self.tags = {name: digest for name, digest in self.tags.items() if digest != descriptor.digest}

    @rule(sequence=st.integers(0, 10**15))
    def fold(self, sequence: int) -> None:
        self.index.folded = sequence
        assert self.index.folded == sequence

    @rule()
    def write_and_read(self) -> None:
        data = self.index.serialise()
        folded = self.index.folded
        self.index = Index.parse(data)
        assert self.index.serialise() == data
        assert self.index.folded == folded

    @invariant()
    def agrees(self) -> None:
        assert {name: found.digest for name, found in self.index.tags().items()} == self.tags
        assert self.index.manifests().keys() == self.present


class OwnIndex(_Model):
    """From an empty index, where every entry is ours."""

    @initialize()
    def start(self) -> None:
        self.index, self.tags, self.present = Index.empty(), {}, set()

    @invariant()
    def has_one_entry_per_tag_and_one_per_untagged_manifest(self) -> None:
        tagged = [self.index.tags()[name].to_json() | {"annotations": {REF_NAME: name}} for name in self.tags]
        bare = [manifest(number).to_json() for number in NUMBERS if self.is_untagged(manifest(number).digest)]
        assert sorted(written(self.index), key=orjson.dumps) == sorted(tagged + bare, key=orjson.dumps)

    def is_untagged(self, digest: Digest) -> bool:
        return digest in self.present - set(self.tags.values())


class ForeignIndex(_Model):
    """From what other tools wrote: names twice, names that are no tags, several entries of one manifest, nonsense."""

    @initialize(entries=st.lists(st.sampled_from(FOREIGN + UNREADABLE), max_size=12))
    def start(self, entries: list[Any]) -> None:
        readable = [entry for entry in entries if entry not in UNREADABLE]
        self.kept = [entry for entry in entries if entry in UNREADABLE]
        named = [(entry["annotations"].get(REF_NAME), entry["digest"]) for entry in readable if "annotations" in entry]
        self.index = parse(*entries, other={"x": 1})
        self.tags = {name: digest for name, digest in named if name in NAMES}
        self.present = {entry["digest"] for entry in readable}

    @invariant()
    def keeps_what_it_does_not_understand(self) -> None:
        assert [entry for entry in written(self.index) if entry in UNREADABLE] == self.kept
        assert orjson.loads(self.index.serialise())["other"] == {"x": 1}

    @invariant()
    def writes_what_each_tag_means_last(self) -> None:
        for name, digest in self.tags.items():
            assert [entry["digest"] for entry in written(self.index) if _name(entry) == name][-1] == digest


def _name(entry: Any) -> object:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None


TestOwnIndex = OwnIndex.TestCase
TestForeignIndex = ForeignIndex.TestCase


def test_an_empty_index_is_a_valid_one() -> None:
    assert orjson.loads(Index.empty().serialise()) == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    assert orjson.loads(LAYOUT_FILE) == {"imageLayoutVersion": "1.0.0"}
    assert Index.empty().folded == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"manifests":{}}',
        b'{"manifests":"x"}',
        b"\xff",
        b"\x00" * 64,
        b"[" * 100_000,
        b'{"manifests":[]',
    ],
)
def test_a_file_that_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"index\.json"):
        Index.parse(data)


def test_null_in_place_of_the_list_is_an_empty_index() -> None:
    assert Index.parse(b'{"schemaVersion":2,"manifests":null}').manifests() == {}


def test_an_index_nested_too_deeply_to_be_written_is_invalid() -> None:
    index = Index.parse(b'{"manifests":[],"deep":' + b"[" * 400 + b"]" * 400 + b"}")
    with pytest.raises(ManifestInvalid, match=r"index\.json cannot be written"):
        index.serialise()


def test_unknown_fields_of_index_and_entries_survive_every_change() -> None:
    platform = {"os": "linux", "architecture": "arm64", "os.features": ["x"]}
    entry = raw(1, "docker.io/library/app:1", platform=platform, data="eA==", custom={"x": [1, None]})
    index = parse(raw(0, "a"), entry, annotations={"k": "v"}, subject={"x": 1}, custom=[1])
    index.set_tag("a", manifest(2))
    index.add_manifest(manifest(3))
    index.remove_manifest(manifest(0).digest)
    index.folded = 7
    document = orjson.loads(index.serialise())
    assert entry in document["manifests"]
    assert {key: document[key] for key in ("annotations", "subject", "custom")} == {
        "annotations": {"k": "v", FOLDED: "7"},
        "subject": {"x": 1},
        "custom": [1],
    }


def test_fields_that_another_tool_wrote_follow_the_manifest_when_it_is_tagged_and_untagged() -> None:
    index = parse(raw(0, platform={"os": "linux"}, annotations={"x": "y"}))
    index.set_tag("a", manifest(0))
    assert written(index) == [raw(0, platform={"os": "linux"}, annotations={"x": "y", REF_NAME: "a"})]
    index.set_tag("a", manifest(0))
    assert written(index) == [raw(0, platform={"os": "linux"}, annotations={"x": "y", REF_NAME: "a"})]
    index.set_tag("a", manifest(1))
    assert written(index) == [raw(1, "a"), raw(0, platform={"os": "linux"}, annotations={"x": "y"})]


def test_a_name_written_twice_means_its_last_entry() -> None:
    index = parse(raw(0, "a"), raw(1, "a"))
    assert index.tags() == {"a": manifest(1)}
    assert list(index.manifests()) == [manifest(0).digest, manifest(1).digest]


def remove_tag(index: Index) -> None:
    index.remove_tag("a")


def remove_manifest(index: Index) -> None:
    index.remove_manifest(manifest(1).digest)


@pytest.mark.parametrize("remove", [remove_tag, remove_manifest])
def test_a_name_written_twice_does_not_come_back_with_its_other_manifest(remove: Callable[[Index], None]) -> None:
    index = parse(raw(0, "a"), raw(1, "a"))
    remove(index)
    assert Index.parse(index.serialise()).tags() == {}
    assert manifest(0).digest in index.manifests()


def test_annotations_of_a_tool_and_of_a_push_are_joined() -> None:
    index = parse(raw(0, annotations={"x": "theirs", "y": "theirs"}))
    index.set_tag("a", replace(manifest(0), annotations={"x": "ours"}))
    assert written(index) == [raw(0, annotations={"x": "ours", "y": "theirs", REF_NAME: "a"})]


def test_names_that_are_no_tags_are_manifests_without_tags() -> None:
    index = parse(raw(0, "docker.io/library/app:1"), raw(1, "a b"), raw(2, ""), raw(3, "ok"))
    assert index.tags() == {"ok": manifest(3)}
    assert len(index.manifests()) == 4
    index.add_manifest(manifest(0))
    assert len(written(index)) == 4


def test_an_entry_that_cannot_be_read_does_not_hide_a_manifest_that_is_added() -> None:
    index = parse(raw(0, size="large"))
    index.add_manifest(manifest(0))
    assert index.manifests() == {manifest(0).digest: manifest(0)}


def test_an_unreadable_entry_does_not_keep_a_tag_that_is_set() -> None:
    index = parse(raw(1, "a", digest="blake3:" + "0" * 64))
    assert index.tags() == {}
    index.set_tag("a", manifest(0))
    assert [entry for entry in written(index) if _name(entry) == "a"] == [raw(0, "a")]
    assert raw(1, digest="blake3:" + "0" * 64) in written(index)


def test_a_descriptor_does_not_smuggle_a_name_in() -> None:
    named = Descriptor(OCI_MANIFEST, manifest(0).digest, 1, annotations={REF_NAME: "b", "x": "y"})
    index = Index.empty()
    index.add_manifest(named)
    assert index.tags() == {}
    index.set_tag("a", named)
    assert list(index.tags()) == ["a"]
    assert index.tags()["a"].annotations == {"x": "y"}


@pytest.mark.parametrize("tag", ["", "a b", "a/b", "a" * 129, "a\n"])
def test_only_tags_are_set(tag: str) -> None:
    index = Index.empty()
    with pytest.raises(TagInvalid):
        index.set_tag(tag, manifest(0))
    assert written(index) == []


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        [],
        "x",
        {},
        {FOLDED: 5},
        {FOLDED: "x"},
        {FOLDED: "-1"},
        {FOLDED: "1.0"},
        {FOLDED: ""},
        {FOLDED: "9" * 5000},
    ],
)
def test_an_index_without_a_folded_number_counts_as_folded_up_to_zero(annotations: object) -> None:
    index = parse(annotations=annotations)
    assert index.folded == 0
    index.folded = 12
    assert Index.parse(index.serialise()).folded == 12


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(DESCRIPTORS))))
def test_the_same_changes_give_the_same_bytes(changes: list[tuple[str, Descriptor]]) -> None:
    indexes = Index.empty(), Index.empty()
    for index in indexes:
        for name, descriptor in changes:
            index.set_tag(name, descriptor)
    assert indexes[0].serialise() == indexes[1].serialise()


def test_a_change_costs_the_same_in_a_large_index() -> None:
    def seconds(entries: int) -> float:
        index = Index.empty()
        for number in range(entries):
            index.set_tag(f"t{number}", manifest(0))
        rounds = []
        for _ in range(5):
            start = time.process_time()
            for number in range(200):
                index.set_tag(f"t{number}", manifest(1))
                index.set_tag(f"t{number}", manifest(0))
                index.remove_tag(f"t{number}")
                index.set_tag(f"t{number}", manifest(0))
            rounds.append(time.process_time() - start)
        return min(rounds)

    assert seconds(20_000) < 10 * seconds(200)


def test_ten_thousand_entries_are_read_and_written_in_a_fraction_of_a_second() -> None:
    index = Index.empty()
    for number in range(10_000):
        index.set_tag(f"t{number}", manifest(number))
    rounds = []
    for _ in range(3):
        start = time.process_time()
        index = Index.parse(index.serialise())
        rounds.append(time.process_time() - start)
    assert len(index.tags()) == 10_000
    assert min(rounds) < 0.5


def test_entries_that_are_kept_but_not_served_are_listed_with_a_reason() -> None:
    told = list(parse(raw(0), raw(1, "a"), raw(2, "not a tag"), raw(3, 5), *UNREADABLE).left_out())
    assert [name for name, _ in told] == ["not a tag", "5", *[""] * len(UNREADABLE)]
    assert all(reason for _, reason in told)


def test_our_index_is_told_from_a_foreign_one() -> None:
    assert parse(annotations={FOLDED: "0"}).owner is Owner.OURS
    assert parse(annotations={"other": "1"}).owner is Owner.FOREIGN
    assert parse(annotations=5).owner is Owner.FOREIGN
    assert Index.empty().owner is Owner.EMPTY
    assert Index.parse(b'{"schemaVersion":2,"manifests":[]}').owner is Owner.FOREIGN


def test_noting_the_migration_keeps_all_other_annotations() -> None:
    index = Index.parse(b'{"manifests": [], "annotations": {"mine": "kept"}}')
    assert index.migration is None
    index.migration = "0001"
    index.folded = 7
    again = Index.parse(index.serialise())
    assert (again.migration, again.folded, again.owner) == ("0001", 7, Owner.OURS)
    assert b'"mine":"kept"' in index.serialise()
    assert Index.parse(b'{"manifests": [], "annotations": {"io.stowage.migration": 1}}').migration is None


@given(st.floats(min_value=-2_000_000_000, max_value=4_000_000_000))
def test_a_whole_moment_is_what_its_text_says(seconds: float) -> None:
    cut = whole(seconds)
    assert to_seconds(to_text(cut)) == cut == whole(cut)
    assert -1e-6 < seconds - cut < 0.001

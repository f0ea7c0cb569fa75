"""Records: one line each, read back as they were written, refused when torn, and applied to an index."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.index import Index
from registry.oci.media_types import OCI_MANIFEST
from registry.oci.record import Record
from tests.oci.test_descriptor import descriptors

ONE = Descriptor(OCI_MANIFEST, Digest.of(b"one"), 3)
TWO = Descriptor(OCI_MANIFEST, Digest.of(b"two"), 3)

PUT = Record(1, "2026-07-20T10:11:12.345678Z", "alice", "put", ONE.digest, ONE, ("v1", "latest"), {"v1": TWO.digest})
UNTAG = replace(PUT, sequence=2, operation="untag", digest=None, descriptor=None)
DELETE = replace(PUT, sequence=3, operation="delete", descriptor=None, tags=())

_TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}", fullmatch=True)


@given(
    record=st.sampled_from([UNTAG, DELETE])
    | descriptors.map(lambda new: replace(PUT, descriptor=new, digest=new.digest)),
    sequence=st.integers(1, 2**63 - 1),
    actor=st.text(),
    tags=st.lists(_TAGS, min_size=1, max_size=3).map(tuple),
)
def test_a_record_survives_being_written_and_read(
    record: Record, sequence: int, actor: str, tags: tuple[str, ...]
) -> None:
    record = replace(record, sequence=sequence, actor=actor, tags=tags, old=dict.fromkeys(tags, str(TWO.digest)))
    line = record.to_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Record.parse(line) == record
    assert Record.parse(line.rstrip(b"\n")) == record


def test_the_line_has_the_documented_fields() -> None:
    assert orjson.loads(PUT.to_line()) == {
        "seq": 1,
        "time": "2026-07-20T10:11:12.345678Z",
        "actor": "alice",
        "op": "put",
        "digest": str(ONE.digest),
        "tags": ["v1", "latest"],
        "old": {"v1": str(TWO.digest)},
        "new": {"mediaType": OCI_MANIFEST, "digest": str(ONE.digest), "size": 3},
    }
    assert orjson.loads(UNTAG.to_line()).keys() == {"seq", "time", "actor", "op", "tags", "old"}
    assert orjson.loads(DELETE.to_line()).keys() == {"seq", "time", "actor", "op", "tags", "old", "digest"}


@pytest.mark.parametrize("record", [PUT, UNTAG, DELETE])
def test_a_torn_line_is_refused_wherever_it_is_torn(record: Record) -> None:
    line = record.to_line().rstrip(b"\n")
    for length in range(len(line)):
        with pytest.raises(ValueError, match=r".+"):
            Record.parse(line[:length])
        with pytest.raises(ValueError, match=r".+"):
            Record.parse(line[length + 1 :])
    with pytest.raises(ValueError, match=r".+"):
        Record.parse(line + line)


def test_the_address_of_a_caller_with_a_name_stands_beside_it() -> None:
    record = replace(UNTAG, address="192.0.2.7")
    assert orjson.loads(record.to_line())["address"] == "192.0.2.7"
    assert Record.parse(record.to_line()) == record


def test_a_purge_is_written_only_where_it_was_one() -> None:
    purged = replace(DELETE, purged=True)
    assert Record.parse(purged.to_line()) == purged
    assert "purged" not in orjson.loads(DELETE.to_line())
    assert Record.parse(orjson.dumps(orjson.loads(DELETE.to_line()) | {"purged": 1})) == DELETE


def test_a_deletion_names_the_manifest_because_of_which_it_was_only_where_that_follows() -> None:
    attached = replace(DELETE, root=TWO.digest, batch=7)
    assert Record.parse(attached.to_line()) == attached
    assert "root" not in orjson.loads(DELETE.to_line())


def test_a_field_of_a_later_release_is_ignored() -> None:
    assert Record.parse(orjson.dumps(orjson.loads(PUT.to_line()) | {"reason": "because"})) == PUT


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (PUT, {"seq": 0}),
        (PUT, {"seq": -1}),
        (PUT, {"seq": True}),
        (PUT, {"seq": "1"}),
        (PUT, {"seq": 2**63}),
        (PUT, {"seq": None}),
        (PUT, {"time": "yesterday"}),
        (PUT, {"time": "2026-07-20T10:11:12+02:00"}),
        (PUT, {"time": "2026-07-20T10:11:12Z\n"}),
        (PUT, {"time": 0}),
        (PUT, {"actor": None}),
        (PUT, {"address": 7}),
        (PUT, {"op": "rename"}),
        (PUT, {"op": ["put"]}),
        (PUT, {"op": None}),
        (PUT, {"digest": "sha256:x"}),
        (PUT, {"digest": str(TWO.digest)}),
        (PUT, {"digest": 1}),
        (PUT, {"tags": ["not a tag"]}),
        (PUT, {"tags": [1]}),
        (PUT, {"tags": None}),
        (PUT, {"tags": "v1"}),
        (PUT, {"old": {"v1": "x"}}),
        (PUT, {"old": {"v1": None}}),
        (PUT, {"old": {"not a tag": str(TWO.digest)}}),
        (PUT, {"old": []}),
        (PUT, {"new": None}),
        (PUT, {"new": {"mediaType": OCI_MANIFEST}}),
        (PUT, {"new": "x"}),
        (UNTAG, {"tags": []}),
        (UNTAG, {"new": ONE.to_json()}),
        (DELETE, {"digest": None}),
        (DELETE, {"new": ONE.to_json()}),
    ],
)
def test_a_damaged_record_is_refused(record: Record, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^the .*record"):
        Record.parse(orjson.dumps(orjson.loads(record.to_line()) | change))


@pytest.mark.parametrize("line", [b"", b"\n", b"[]", b"null", b"{}", b"\x00" * 100, b"\xff"])
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Record.parse(line)


@pytest.mark.parametrize(
    "change",
    [{"descriptor": None}, {"digest": TWO.digest}, {"sequence": 0}, {"time": ""}, {"operation": "untag", "tags": ()}],
)
def test_a_record_that_could_not_be_read_back_is_not_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="record"):
        replace(PUT, **change)


def test_records_make_their_changes_in_an_index() -> None:
    index = Index.empty()
    PUT.apply(index)
    assert index.tags() == {"v1": ONE, "latest": ONE}
    replace(PUT, descriptor=TWO, digest=None, tags=()).apply(index)
    assert index.manifests() == {ONE.digest: ONE, TWO.digest: TWO}
    replace(UNTAG, tags=("v1",)).apply(index)
    assert index.tags() == {"latest": ONE}
    DELETE.apply(index)
    assert index.tags() == {}
    assert index.manifests() == {TWO.digest: TWO}


@given(
    st.lists(st.sampled_from([PUT, UNTAG, DELETE, replace(PUT, tags=()), replace(PUT, descriptor=TWO, digest=None)]))
)
def test_a_record_applied_twice_is_applied_once(records: list[Record]) -> None:
    once, twice = Index.empty(), Index.empty()
    for record in records:
        record.apply(once)
        record.apply(twice)
        record.apply(twice)
        assert twice.tags() == once.tags()
        assert twice.manifests() == once.manifests()

"""Descriptors: reading them strictly, naming the wrong field, writing them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.descriptor import MAXIMUM_SIZE, Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid

DIGEST = Digest.of(b"content")
WHOLE: dict[str, object] = {"mediaType": "a/b", "digest": str(DIGEST), "size": 7}

descriptors = st.builds(
    Descriptor,
    media_type=st.from_regex(r"[a-z]{1,9}/[a-z0-9.+-]{1,20}", fullmatch=True),
    digest=st.binary(max_size=4).flatmap(
        lambda data: st.sampled_from([Digest.of(data), Digest.of(data, algorithm="sha512")])
    ),
    size=st.integers(0, MAXIMUM_SIZE),
    artifact_type=st.none() | st.just("application/vnd.example"),
    annotations=st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
    urls=st.lists(st.text(), max_size=2).map(tuple),
)


@given(descriptors)
def test_a_descriptor_survives_being_written_and_read(descriptor: Descriptor) -> None:
    assert Descriptor.from_json(descriptor.to_json()) == descriptor
    assert hash(Descriptor.from_json(descriptor.to_json())) == hash(descriptor)


def test_only_fields_with_a_value_are_written() -> None:
    assert Descriptor.from_json(WHOLE).to_json() == WHOLE


def test_empty_and_null_fields_as_go_writes_them_count_as_absent() -> None:
    empty: dict[str, object] = {"artifactType": "", "annotations": None, "urls": None, "platform": None}
    assert Descriptor.from_json(WHOLE | empty) == Descriptor.from_json(WHOLE)


def test_data_platform_and_unknown_fields_are_accepted() -> None:
    more = {"data": "Y29udGVudA==", "platform": {"os": "linux", "architecture": "arm64"}, "org.example": ["x"]}
    assert Descriptor.from_json(WHOLE | more) == Descriptor.from_json(WHOLE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mediaType", None),
        ("mediaType", ""),
        ("mediaType", 1),
        ("mediaType", "a/b\n"),
        ("mediaType", "a/\x00"),
        ("mediaType", "a/" + "b" * 254),
        ("digest", None),
        ("digest", 5),
        ("digest", ""),
        ("digest", "sha256:short"),
        ("digest", "blake3:" + "a" * 64),
        ("size", None),
        ("size", "7"),
        ("size", 7.0),
        ("size", True),
        ("size", False),
        ("size", -1),
        ("size", MAXIMUM_SIZE + 1),
        ("artifactType", 1),
        ("artifactType", "a" * 256),
        ("artifactType", ["a/b"]),
        ("annotations", []),
        ("annotations", "x"),
        ("annotations", {"a": 1}),
        ("annotations", {"a": None}),
        ("annotations", {"a": {}}),
        ("urls", "http://example.com"),
        ("urls", {}),
        ("urls", [1]),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ManifestInvalid, match=rf"^layers\[3\]\.{field} "):
        Descriptor.from_json(WHOLE | {field: value}, "layers[3]")


@pytest.mark.parametrize("field", ["mediaType", "digest", "size"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ManifestInvalid, match=rf"^descriptor\.{field} is missing$"):
        Descriptor.from_json({key: value for key, value in WHOLE.items() if key != field})


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_a_value_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ManifestInvalid, match=r"^descriptor is not an object$"):
        Descriptor.from_json(value)


def test_the_smallest_and_the_largest_size_are_accepted() -> None:
    assert Descriptor.from_json(WHOLE | {"size": 0}).size == 0
    assert Descriptor.from_json(WHOLE | {"size": MAXIMUM_SIZE}).size == MAXIMUM_SIZE

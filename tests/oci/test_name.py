"""Repository names: the grammar, the length, and what the storage layout reserves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.errors import NameInvalid
from registry.oci.name import parse_name


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "team/app",
        "a/b/c/d/e/f",
        "a.b_c__d-e---f",
        "library/alpine",
        "blobs",
        "blobs/app",
        "index.json",
        "index.json/app",
        "oci-layout",
        "oci-layout/app",
        "team/storage",
        "storages/app",
        "storage-a/app",
        "manifests/tags/uploads",
        "team/manifests",
        "team/tags/list",
        "team/blobs-x/app",
        "team/referrers",
        "v2/v2",
        "a" * 255,
        "/".join(["a"] * 128),
    ],
)
def test_a_name_inside_the_grammar_is_itself(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "team/App",
        ".",
        "..",
        "a/..",
        "a/../b",
        "./a",
        ".a",
        "a.",
        "a..b",
        "a._b",
        "a___b",
        "-a",
        "a-",
        "a_-b",
        "_a",
        "a_",
        "_catalog",
        "a/_ext",
        "a b",
        "a\n",
        "\na",
        "a/b\n",
        "a\x00b",
        "a\\b",
        "a:b",
        "a@b",
        "a%2fb",
        "\u00e4",
        "\uff41",
        "\u0661",
        "\ud800",
    ],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid) as raised:
        parse_name(name)
    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("name", ["storage", "storage/app", "storage/blobs/sha256"])
def test_the_first_segment_storage_is_reserved(name: str) -> None:
    with pytest.raises(NameInvalid, match="cannot start with the segment 'storage'"):
        parse_name(name)


@pytest.mark.parametrize("segment", ["blobs", "index.json", "oci-layout"])
@pytest.mark.parametrize("pattern", ["a/{}", "a/{}/b", "a/b/{}", "{0}/{0}"])
def test_later_segments_of_the_image_layout_are_reserved(pattern: str, segment: str) -> None:
    with pytest.raises(NameInvalid, match="reserved for the image layout"):
        parse_name(pattern.format(segment))


def test_a_name_has_255_characters_at_most() -> None:
    with pytest.raises(NameInvalid, match="has 256 characters"):
        parse_name("a" * 256)


@pytest.mark.parametrize("name", ["a-" * 127, "a/" * 127, "a" * 254 + "!", "a" + "-" * 254, "a-" * 500_000])
@pytest.mark.timeout(30)
def test_a_name_that_nearly_matches_is_refused_at_once(name: str) -> None:
    with pytest.raises(NameInvalid):
        parse_name(name)


_SEGMENTS = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)


@given(st.lists(_SEGMENTS, min_size=1, max_size=8).map("/".join))
def test_names_made_by_the_grammar_are_accepted(name: str) -> None:
    assert parse_name(name) == name


@given(st.text(alphabet=st.sampled_from("ab0._-/ A\n"), max_size=20))
def test_an_accepted_name_stays_inside_its_directory(name: str) -> None:
    try:
        parse_name(name)
    except NameInvalid:
        return
    assert all(segment and not segment.startswith(".") and segment.strip() == segment for segment in name.split("/"))

"""Tags: the grammar, on both sides of each of its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.digest import Digest
from registry.oci.errors import TagInvalid
from registry.oci.tag import belongs_to_subject, fallback_of, is_fallback, is_tag, parse_tag


@pytest.mark.parametrize("tag", ["latest", "1", "_", "_.-", "v1.2.3-rc_1", "UPPER", "a" * 128, "sha256-abc.sig"])
def test_a_tag_inside_the_grammar_is_itself(tag: str) -> None:
    assert is_tag(tag)
    assert parse_tag(tag) == tag


@pytest.mark.parametrize(
    "tag",
    [
        "",
        ".",
        "..",
        "-a",
        ".a",
        "a" * 129,
        "a b",
        "a\n",
        "\n",
        "a/b",
        "a:b",
        "a+b",
        "a\x00",
        "\u00e4",
        "\uff11",
        "\ud800",
    ],
)
def test_a_tag_outside_the_grammar_is_refused(tag: str) -> None:
    assert not is_tag(tag)
    with pytest.raises(TagInvalid) as raised:
        parse_tag(tag)
    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True))
def test_tags_made_by_the_grammar_are_accepted(tag: str) -> None:
    assert parse_tag(tag) == tag


@pytest.mark.parametrize(
    "tag", [f"sha256-{'a' * 64}", f"sha512-{'0' * 64}", f"sha256-{'a' * 64}.sig", f"sha256-{'a' * 64}-x"]
)
def test_a_tag_made_of_a_digest_belongs_to_its_manifest(tag: str) -> None:
    assert belongs_to_subject(tag)


@pytest.mark.parametrize(
    "tag",
    ["latest", "sha256-abc", f"sha256-{'a' * 63}", f"SHA256-{'a' * 64}", f"xsha256-{'a' * 64}", f"sha256-{'a' * 64}_x"],
)
def test_other_tags_belong_to_themselves(tag: str) -> None:
    assert not belongs_to_subject(tag)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_referrers_are_kept_under_a_tag_that_the_digest_gives(algorithm: str) -> None:
    digest = Digest.of(b"subject", algorithm)
    tag = fallback_of(digest)
    assert is_tag(tag)
    assert is_fallback(tag)
    assert digest.startswith(tag.replace("-", ":", 1))

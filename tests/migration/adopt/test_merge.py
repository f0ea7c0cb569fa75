"""The three ways of a pass: what each of them says of a tag or manifest, and which wins."""

from __future__ import annotations

import itertools

import pytest

from registry.images.migration_journal.documents import ManifestInfo
from registry.migration.adopt.merge import Content, Difference, Kept, difference
from registry.oci.digest import Digest
from registry.oci.media_types import OCI_MANIFEST

NAMED = ManifestInfo(OCI_MANIFEST, 1)
A, B, C = (Digest.of(letter.encode()) for letter in "abc")


def content(*digests: Digest, **tags: Digest) -> Content:
    return Content(tags, dict.fromkeys({*digests, *tags.values()}, NAMED))


def test_a_first_taking_adds_what_ours_lacks_and_keeps_what_it_has() -> None:
    found = difference(Content(), content(C, v1=A, v2=B), content(v2=C))
    assert found.tags == {"v1": A}
    assert set(found.manifests) == {A, B}
    assert found.kept == [Kept("v2", C, B)]
    assert (found.gone_tags, found.gone_manifests) == ([], [])


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "expected"),
    [
        (content(v1=A), content(v1=A), content(v1=A), Difference()),
        (content(v1=A), content(A, v1=B), content(v1=A), Difference({B: NAMED}, {"v1": B})),
        (content(v1=A), content(A, v1=B), content(A, v1=B), Difference()),
        (content(v1=A), content(A, v1=B), content(v1=C), Difference({B: NAMED}, kept=[Kept("v1", C, B)])),
        (content(v1=A), content(v1=A), content(v1=C), Difference()),
        (content(v1=A), content(v1=A), content(), Difference()),
        (content(v1=A), content(A), content(v1=A), Difference(gone_tags=["v1"])),
        (content(v1=A), content(), content(v1=A), Difference(gone_tags=["v1"], gone_manifests=[A])),
        (content(v1=A), content(), content(A, v1=C), Difference(gone_manifests=[A], kept=[Kept("v1", C, None)])),
        (content(v1=A), content(), content(v1=A, mine=A), Difference(gone_tags=["v1"])),
        (content(v1=A), content(), content(), Difference()),
        (content(A), content(v1=A), content(), Difference({A: NAMED}, {"v1": A})),
        (content(v1=A), content(A, v1=B), content(A), Difference({B: NAMED}, kept=[Kept("v1", None, B)])),
    ],
    ids=[
        "nothing changed", "moved by the source", "moved by both to the same", "moved by both", "moved by Stowage",
        "deleted by Stowage", "untagged by the source", "deleted by the source", "deleted there and moved here",
        "deleted there and tagged here", "deleted by both", "tagged again after Stowage deleted it",
        "moved there and untagged here",
    ],
)  # fmt: skip
def test_what_the_source_changed_is_taken_where_stowage_did_not(
    base: Content, theirs: Content, ours: Content, expected: Difference
) -> None:
    assert difference(base, theirs, ours) == expected


def test_applied_twice_is_the_same_as_once() -> None:
    """For every combination of what the three may say of one tag."""
    choices = (None, A, B, C)
    for base, theirs, ours in itertools.product(choices, repeat=3):
        three = [content(v1=digest) if digest else content() for digest in (base, theirs, ours)]
        found = difference(*three)
        tags = {tag: digest for tag, digest in three[2].tags.items() if tag not in found.gone_tags} | found.tags
        manifests = {
            digest: named for digest, named in three[2].manifests.items() if digest not in found.gone_manifests
        }
        again = difference(three[0], three[1], Content(tags, manifests | found.manifests))
        assert not again, (base, theirs, ours, again)

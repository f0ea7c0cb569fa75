"""Which registry filled a bucket is found, not asked."""

from __future__ import annotations

import json

import pytest

from registry.config.file import ConfigError
from registry.migration.source.detection import BothLayouts
from registry.oci.index import Index
from tests.migration.conftest import Reviewing
from tests.support.source_world import Repository, distribution, ours, per_repository, repositories


@pytest.mark.parametrize(
    "more", [per_repository(repositories()), per_repository([Repository("empty")])], ids=["blobs", "an index alone"]
)
def test_two_registries_in_one_bucket_are_refused_with_examples(more: dict[str, bytes], reviewing: Reviewing) -> None:
    with pytest.raises(BothLayouts, match=r"(app|empty)/.*docker/registry/v2/"):
        reviewing(distribution(repositories()) | more)


def test_a_bucket_of_ours_alone_has_nothing_to_migrate(reviewing: Reviewing) -> None:
    plan = reviewing(ours() | {"fresh/index.json": Index.empty().serialise()})
    assert plan.layout is None
    assert plan.problems == []
    assert json.loads(json.dumps(plan.document()))["counts"]["repositories"] == 0


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "there is nothing below zot/"),
        (
            {"photos/1.jpg": b"", "photos/2.jpg": b""},
            "which has photos/1.jpg, photos/2.jpg; it is what stands in front",
        ),
        (
            {f"old/{key}": data for key, data in distribution(repositories()).items()},
            "docker distribution's lies below old/: add that",
        ),
    ],
    ids=["nothing", "others", "another root"],
)
def test_neither_says_what_is_there_and_where_to_look(tree: dict[str, bytes], words: str, reviewing: Reviewing) -> None:
    with pytest.raises(ConfigError) as caught:
        reviewing(tree)
    (problem,) = caught.value.problems
    assert problem.key == "storage.root_directory"
    assert words in problem.message


def test_an_index_that_cannot_be_read_is_not_ours(reviewing: Reviewing) -> None:
    plan = reviewing({"app/index.json": b"{ io.stowage.folded", "app/oci-layout": b""})
    assert [problem.kind for problem in plan.problems] == ["unreadable-index"]

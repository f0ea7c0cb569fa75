"""Blobs in each repository: what zot and earlier layouts of ours leave in a bucket."""

from __future__ import annotations

import json

import pytest

from registry.migration.report import ProblemKind
from registry.migration.review.review import Options
from registry.oci.index import FOLDED, Index
from tests.migration.conftest import Reviewing
from tests.support.payloads import Blob, image
from tests.support.source_world import (
    BLOBS,
    BYTES,
    MANIFESTS,
    NOTHING,
    SHARED,
    Repository,
    earlier_layout,
    ours,
    path,
    per_repository,
    repositories,
)

WHOLE = (3, 5, len(MANIFESTS), len(BLOBS), BYTES)


def counted(plan: object) -> tuple[int, int, int, int, int]:
    counts = plan.counts  # type: ignore[attr-defined]
    return counts.repositories, counts.tags, counts.manifests, counts.blobs, counts.bytes


@pytest.mark.parametrize("prefix", ["", "zot/"], ids=["root once", "root twice"])
@pytest.mark.parametrize("stubs", [True, False], ids=["stubs", "copies"])
def test_a_bucket_of_zot_is_counted_with_either_prefix(prefix: str, stubs: bool, reviewing: Reviewing) -> None:
    plan = reviewing(per_repository(repositories(), prefix=prefix, stubs=stubs), Options("full"))
    assert plan.layout == "per-repository"
    assert plan.prefixes == ("zot",)
    assert counted(plan) == WHOLE
    assert plan.problems == []
    assert plan.stays == []
    wasted = 0 if stubs else 2 * len(SHARED.data) + sum(len(blob.data) for blob in (BLOBS[0], BLOBS[1]))
    assert (plan.counts.stubs, plan.counts.duplicates) == ((4, 0) if stubs else (0, 4))
    assert plan.counts.duplicate_bytes == wasted
    assert [line.repository for line in plan.repositories] == ["app", "team/web", "team/web/nested"]
    app, web, nested = plan.repositories
    assert (app.tags, app.manifests, app.blobs) == (2, 4, 7)
    assert (web.tags, web.manifests, web.blobs) == (2, 1, 3)
    assert (nested.tags, nested.manifests, nested.blobs) == (1, 1, 2)


def test_an_earlier_layout_of_ours_is_read_with_the_records_that_its_indexes_lack(reviewing: Reviewing) -> None:
    plan = reviewing(earlier_layout(repositories()), Options("full"), root="registry-data")
    assert counted(plan) == WHOLE
    assert plan.problems == []
    assert plan.estimate.rollback.adopted.requests.put == 2 + 3 * 3


def test_a_record_that_cannot_be_read_is_told(reviewing: Reviewing) -> None:
    tree = earlier_layout(repositories())
    key = "app/.journal/0000000000000002.json"
    tree[key] = b"{"
    (problem,) = reviewing(tree).problems
    assert (problem.kind, problem.repository, problem.key) == (ProblemKind.UNREADABLE_INDEX, "app", key)


def test_a_blob_of_no_bytes_is_no_stub(reviewing: Reviewing) -> None:
    made = image(Blob(b"config"), [NOTHING])
    content = [Repository("app", {"v1": made}, [], [Blob(b"config"), NOTHING])]
    tree = per_repository(content)
    plan = reviewing(tree, Options("full"))
    assert (plan.counts.blobs, plan.counts.stubs, plan.problems) == (2, 0, [])
    del tree[f"app/blobs/{path(NOTHING.digest)}"]
    assert [problem.kind for problem in reviewing(tree).problems] == ["missing-blob"]


def test_both_prefixes_side_by_side_are_noted(reviewing: Reviewing) -> None:
    one, other, nested = repositories()
    tree = per_repository([one], prefix="zot/") | per_repository([other, nested])
    plan = reviewing(tree)
    assert [line.repository for line in plan.repositories] == ["app", "team/web", "team/web/nested"]
    (note,) = [note for note in plan.notes if note.kind == "two-prefixes"]
    assert note.count == 1
    assert "zot/app" in note.detail
    plan = reviewing(tree, Options(single_prefix=True))
    assert [line.repository for line in plan.repositories] == ["team/web", "team/web/nested", "zot/app"]
    assert plan.prefixes == ()
    assert [note.kind for note in plan.notes if note.kind == "two-prefixes"] == []


def test_a_name_from_both_prefixes_is_a_collision_and_neither_is_taken(reviewing: Reviewing) -> None:
    one, other, _ = repositories()
    tree = per_repository([one], prefix="zot/") | per_repository([one, other])
    plan = reviewing(tree)
    (problem,) = plan.problems
    assert (problem.kind, problem.repository) == (ProblemKind.NAME_COLLISION, "app")
    assert [line.repository for line in plan.repositories] == ["team/web"]
    assert "not-taken" in {stay.reason for stay in plan.stays}


def test_repositories_of_stowage_beside_it_are_left_alone(reviewing: Reviewing) -> None:
    tree = per_repository(repositories(), prefix="zot/")
    plan = reviewing(tree | ours("app") | ours("zot/own"), Options("full"))
    assert counted(plan) == WHOLE
    assert (plan.problems, plan.stays) == ([], [])
    assert plan.counts.objects == len(tree)


def test_a_blob_that_stowage_has_already_is_not_copied_again(reviewing: Reviewing) -> None:
    tree = per_repository(repositories())
    before = reviewing(dict(tree))
    tree[f"storage/blobs/{path(SHARED.digest)}"] = SHARED.data
    after = reviewing(tree)
    assert before.estimate.consolidate.requests.copy - after.estimate.consolidate.requests.copy == 1
    assert before.extra_bytes - after.extra_bytes == len(SHARED.data)


@pytest.mark.parametrize("key", ["zot/_restore_complete", "zot/_trivy/db/metadata.json", "scheduler-state.json"])
def test_what_zot_leaves_beside_images_is_no_problem(key: str, reviewing: Reviewing) -> None:
    plan = reviewing(per_repository(repositories(), prefix="zot/") | {key: b"{}"})
    assert plan.problems == []
    assert [stay.reason for stay in plan.stays] == ["left"]


def test_a_repository_without_images_counts(reviewing: Reviewing) -> None:
    tree = per_repository([*repositories(), Repository("empty")])
    assert reviewing(tree).counts.repositories == 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Index.empty().serialise(), True),
        (json.dumps({"schemaVersion": 2, "manifests": [], "annotations": {FOLDED: "0"}}).encode(), True),
        (b'{"schemaVersion":2,"manifests":[]}', False),
        (json.dumps({"manifests": [{"annotations": {FOLDED: "1"}}]}).encode(), False),
    ],
)
def test_only_an_index_that_stowage_wrote_is_taken_for_ours(reviewing: Reviewing, data: bytes, expected: bool) -> None:
    plan = reviewing({"app/index.json": data})
    assert (plan.layout is None) is expected


def test_what_only_looks_like_an_index_of_ours_is_a_problem(reviewing: Reviewing) -> None:
    plan = reviewing({"app/index.json": FOLDED.encode()})
    assert [problem.kind for problem in plan.problems] == [ProblemKind.UNREADABLE_INDEX]

"""Every breakage is named, and the healthy rest is counted as if nothing were broken."""

from __future__ import annotations

import pytest

from registry.migration.report import ProblemKind
from registry.migration.review.plan_file import Plan
from registry.migration.review.review import Options
from registry.storage.errors import StorageUnavailable
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.migration.conftest import Reviewing
from tests.support.breakages import APP, TREES, ZOT, Break, cut, delete, flip, put
from tests.support.payloads import Blob, image
from tests.support.source_world import (
    FIRST,
    ON_AMD,
    SBOM,
    SHARED,
    Repository,
    distribution,
    ours,
    path,
    per_repository,
    repositories,
)


def check(plan: Plan, healthy: Plan, kind: ProblemKind, repository: str, digest: str, change: dict[str, int]) -> None:
    (problem,) = plan.problems
    assert (problem.kind, problem.repository, problem.digest) == (kind, repository, digest), problem
    assert problem.key or kind is ProblemKind.SIZE_CONFLICT
    assert problem.detail
    for name in ("repositories", "tags", "manifests", "blobs"):
        assert getattr(plan.counts, name) - getattr(healthy.counts, name) == change.get(name, 0), name


@pytest.mark.parametrize(
    ("breakage", "kind", "repository", "digest", "change"),
    [row[1:] for row in ZOT],
    ids=[row[0] for row in ZOT],
)
def test_what_is_broken_in_a_bucket_of_zot_is_named_and_the_rest_counted(
    breakage: Break, kind: ProblemKind, repository: str, digest: str, change: dict[str, int], reviewing: Reviewing
) -> None:
    content = repositories()
    tree = per_repository(content)
    healthy = reviewing(dict(tree), Options("full"))
    assert healthy.problems == []
    breakage(tree)
    plan = reviewing(tree, Options("full"))
    check(plan, healthy, kind, repository, digest, change)


@pytest.mark.parametrize(
    ("breakage", "kind", "repository", "digest", "change"),
    [row[1:] for row in TREES],
    ids=[row[0] for row in TREES],
)
def test_what_is_broken_in_a_tree_of_distribution_is_named_and_the_rest_counted(
    breakage: Break, kind: ProblemKind, repository: str, digest: str, change: dict[str, int], reviewing: Reviewing
) -> None:
    tree = distribution(repositories())
    healthy = reviewing(dict(tree), Options("full"))
    breakage(tree)
    check(reviewing(tree, Options("full")), healthy, kind, repository, digest, change)


@pytest.mark.parametrize("name", ["storage/app", "App", "team/blobs/x"])
def test_a_name_that_stowage_refuses_is_told_and_its_objects_stay(name: str, reviewing: Reviewing) -> None:
    content = repositories()
    healthy = reviewing(per_repository(content))
    made = image(Blob(b"its config"), [Blob(b"its layer")])
    odd = per_repository([Repository(name, {"v1": made}, [], [Blob(b"its config"), Blob(b"its layer")])])
    plan = reviewing(per_repository(content) | odd)
    check(plan, healthy, ProblemKind.INVALID_NAME, name, "", {})
    assert {stay.reason: stay.objects for stay in plan.stays} == {"unreferenced": 3, "not-taken": 2}


def test_a_name_below_a_root_that_was_applied_twice_is_a_collision(reviewing: Reviewing) -> None:
    made = image(Blob(b"its config"), [Blob(b"its layer")])
    odd = [Repository("zot/x", {"v1": made}, [], [Blob(b"its config"), Blob(b"its layer")])]
    plan = reviewing(per_repository([*repositories(), *odd], prefix="zot/"))
    assert [(problem.kind, problem.repository) for problem in plan.problems] == [("name-collision", "zot/x")]


def test_a_foreign_index_where_no_repository_can_be_is_told(reviewing: Reviewing) -> None:
    tree = per_repository(repositories()) | {"Photos/index.json": b"{}"}
    assert [(problem.kind, problem.repository) for problem in reviewing(tree).problems] == [("invalid-name", "Photos")]


def test_a_repository_of_ours_that_only_looks_like_one_of_the_source_is_no_problem(reviewing: Reviewing) -> None:
    plan = reviewing(per_repository(repositories(), prefix="zot/") | ours("zot/zot/x"))
    assert (plan.problems, plan.stays) == ([], [])
    plan = reviewing(per_repository(repositories(), prefix="zot/") | {"zot/zot/x/index.json": b"{}"})
    assert [problem.kind for problem in plan.problems] == ["name-collision"]


def test_wrong_bytes_of_a_layer_are_found_by_a_full_verification_alone(reviewing: Reviewing) -> None:
    tree = per_repository(repositories())
    flip(APP + path(FIRST.digest))(tree)
    assert reviewing(dict(tree)).problems == []
    assert [problem.kind for problem in reviewing(tree, Options("full")).problems] == ["wrong-digest"]


def test_a_bad_copy_is_told_and_the_good_one_counts(reviewing: Reviewing) -> None:
    tree = per_repository(repositories(), stubs=False)
    flip("team/web/blobs/" + path(SHARED.digest))(tree)
    healthy = reviewing(per_repository(repositories(), stubs=False), Options("full"))
    plan = reviewing(tree, Options("full"))
    check(plan, healthy, ProblemKind.WRONG_DIGEST, "team/web", SHARED.digest, {})
    assert healthy.counts.duplicates - plan.counts.duplicates == 1


def test_every_copy_of_a_manifest_is_hashed_in_full(reviewing: Reviewing) -> None:
    content = repositories()
    content[1].tags["same"] = ON_AMD
    content[1].blobs.append(FIRST)
    tree = per_repository(content)
    flip("team/web/blobs/" + path(ON_AMD.digest))(tree)
    assert reviewing(dict(tree)).problems == []
    (problem,) = reviewing(tree, Options("full")).problems
    assert (problem.kind, problem.repository) == ("wrong-digest", "team/web")


def test_all_problems_are_told_at_once_in_one_order(reviewing: Reviewing) -> None:
    tree = per_repository(repositories())
    for breakage in (
        delete(APP + path(SBOM.digest)),
        cut(APP + path(FIRST.digest)),
        put("x/y", b""),
        put("x/z", b""),
    ):
        breakage(tree)
    plan = reviewing(tree)
    assert [problem.kind for problem in plan.problems] == ["missing-blob", "truncated-blob", "unknown-object"]
    assert plan.problems[2].key == "x/"
    assert "2 objects" in plan.problems[2].detail
    assert reviewing(tree).problems == plan.problems


def test_what_stays_is_counted_by_its_reason(reviewing: Reviewing) -> None:
    tree = per_repository(repositories())
    tree |= {f"app/blobs/sha256/{'0' * 64}": b"orphan", "app/.uploads/1": b"half", "_trivy/db": b"scanner"}
    found = {stay.reason: (stay.objects, stay.bytes) for stay in reviewing(tree).stays}
    assert found == {"unreferenced": (1, 6), "uploads": (1, 4), "left": (1, 7)}


def test_a_store_that_fails_ends_the_review(reviewing: Reviewing) -> None:
    for operation in ("list", "read"):
        faulty = FaultyDriver(MemoryDriver(), [Fault(operation)])
        with pytest.raises(StorageUnavailable):
            reviewing(per_repository(repositories()), driver=faulty)


def test_nothing_is_written(reviewing: Reviewing) -> None:
    for tree in (per_repository(repositories(), prefix="zot/"), distribution(repositories())):
        store = MemoryDriver()
        faulty = FaultyDriver(store)
        reviewing(tree, Options("full"), driver=faulty)
        filled = len(tree)
        assert {name for name in faulty.calls if name not in {"list", "read", "open", "reader.read", "stat"}} == {
            "write"
        }
        assert faulty.calls["write"] == filled
        assert {key: store.read(key, max_bytes=1 << 20)[0] for key, _ in store.list("")} == tree


def test_requests_and_bytes_of_each_phase_follow_from_what_is_there(reviewing: Reviewing) -> None:
    tree = per_repository(repositories())
    plan = reviewing(tree, Options(rate=10.0))
    estimate = plan.estimate
    assert estimate.review.requests.get == 3 + 6
    assert estimate.adopt.requests.list == 2 + 3
    assert estimate.adopt.requests.get == 3 + 6 + 2 * 13 + 5 * 3
    assert estimate.adopt.requests.put == len(plan.shards) + 3 * 3 + 3 + 2
    assert estimate.consolidate.requests.copy == 8 + 6
    assert estimate.consolidate.requests.get == 2 * 8 + 6
    assert estimate.consolidate.read_bytes == 2 * plan.counts.blob_bytes + plan.counts.manifest_bytes
    assert plan.extra_bytes == plan.counts.bytes
    assert estimate.rollback.adopted.requests.copy == estimate.rollback.adopted.requests.get == 0
    assert estimate.consolidate.seconds_at_rate == estimate.consolidate.requests.total / 10
    assert plan.freed_bytes == sum(len(data) for key, data in tree.items() if "/blobs/" in key)

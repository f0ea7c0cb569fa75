"""The tree of docker distribution."""

from __future__ import annotations

from registry.migration.review.review import Options
from registry.migration.source.distribution import Distribution
from registry.migration.source.objects import RepositoryPath
from registry.oci.digest import Digest
from registry.storage.driver import ObjectStat
from registry.storage.memory import MemoryDriver
from tests.migration.conftest import Reviewing
from tests.migration.source.test_zot import WHOLE, counted
from tests.support.source_world import BOTH, PLAIN, SHARED, TREE, data_key, distribution, ours, path, repositories


def test_a_tree_is_counted_and_bytes_are_there_once(reviewing: Reviewing) -> None:
    tree = distribution(repositories())
    plan = reviewing(tree | ours(), Options("full"))
    assert (plan.layout, plan.prefixes) == ("distribution", (TREE,))
    assert counted(plan) == WHOLE
    assert (plan.counts.duplicates, plan.counts.stubs) == (0, 0)
    assert (plan.problems, plan.notes, plan.stays) == ([], [], [])
    assert plan.counts.objects == len(tree)
    assert plan.estimate.finalize.requests.delete == len(tree)  # the memory driver deletes one with each request


def test_only_the_present_link_of_each_tag_and_each_manifest_once_are_read(reviewing: Reviewing) -> None:
    plan = reviewing(distribution(repositories()))
    assert plan.estimate.review.requests.get == 5 + 6
    assert plan.estimate.review.requests.head == 0


def test_a_link_of_another_length_is_read_and_a_broken_one_told(reviewing: Reviewing) -> None:
    tree = distribution(repositories())
    base = f"{TREE}/repositories/app"
    broken = {
        f"{base}/_layers/{path(SHARED.digest)}/link": b"",
        f"{base}/_manifests/revisions/{path(BOTH.digest)}/link": BOTH.digest.encode() + b"\n",
        f"{base}/_manifests/tags/amd/current/link": b"sha256:no",
    }
    plan = reviewing(tree | broken)
    told = {problem.key for problem in plan.problems if problem.kind == "unreadable-link"}
    assert told == set(broken)
    assert plan.counts.tags == 4


def test_a_blob_without_a_link_is_noted(reviewing: Reviewing) -> None:
    tree = distribution(repositories())
    del tree[f"{TREE}/repositories/app/_layers/{path(SHARED.digest)}/link"]
    plan = reviewing(tree)
    assert counted(plan) == WHOLE
    assert plan.problems == []
    ((note),) = plan.notes
    assert (note.kind, note.count) == ("unlinked", 1)
    assert SHARED.digest in note.detail


def test_sha512_has_links_of_its_own_length(reviewing: Reviewing) -> None:
    digest = str(Digest.of(PLAIN.data, "sha512"))
    tree = distribution(repositories())
    tree[data_key(digest)] = PLAIN.data
    tree[f"{TREE}/repositories/app/_manifests/revisions/{path(digest)}/link"] = digest.encode()
    plan = reviewing(tree)
    assert plan.problems == []
    assert plan.counts.manifests == 7


class _Pushing(MemoryDriver):
    """A store that takes a push while it is listed: bytes come after their place in the listing has passed."""

    def stat(self, key: str) -> ObjectStat:
        if key == data_key(SHARED.digest):
            self.write(key, SHARED.data)
        return super().stat(key)


def test_what_came_while_the_listing_went_on_is_no_problem(reviewing: Reviewing) -> None:
    tree = distribution(repositories())
    del tree[data_key(SHARED.digest)]
    assert {problem.kind for problem in reviewing(dict(tree)).problems} == {"dangling-link", "missing-blob"}
    plan = reviewing(tree, driver=_Pushing())
    assert plan.problems == []
    assert counted(plan) == WHOLE


def test_the_home_of_bytes_is_where_distribution_puts_them() -> None:
    located = RepositoryPath("app", "app", TREE)
    assert Distribution().home(located, Digest(SHARED.digest)) == data_key(SHARED.digest)

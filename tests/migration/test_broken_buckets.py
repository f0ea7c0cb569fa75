"""A bucket with something broken in it: what a review said is what a run says, and everything else is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import manifests, tags
from registry.database import repositories as repository_rows
from registry.images.registry import Registry
from registry.migration.review.plan_file import Plan
from registry.migration.review.requests import Tally
from registry.migration.review.review import Options, Review
from registry.oci.digest import Digest
from registry.storage.middleware.metrics import MeasuredDriver
from tests.support.breakages import TREES, ZOT, Break
from tests.support.migrated_bucket import MAKE, Bucket
from tests.support.source_world import repositories

ROWS = [("zot-without-prefix", *row[:2]) for row in ZOT] + [("distribution", *row[:2]) for row in TREES]


def reviewed(bucket: Bucket) -> Plan:
    tally = Tally()
    return Review(MeasuredDriver(bucket.driver, tally.observe), bucket.settings(), Options(), tally, bucket="b").run()


def served(registry: Registry) -> tuple[int, int, int]:
    """Repositories, tags, and distinct manifests; each is read."""
    with registry.backends.database.snapshot() as connection:
        names = repository_rows.names(connection).get()
        rows = [found for name in names if (found := repository_rows.find(connection, name).get()) is not None]
        tag_count = sum(len(tags.of_repository(connection, row.id).get()) for row in rows)
        known = {(row.name, digest) for row in rows for digest in manifests.of_repository(connection, row.id).get()}
    for name, digest in known:
        body = registry.manifests.read(registry.manifests.find(name, Digest(digest)))
        assert Digest.of(body, Digest(digest).algorithm) == digest
    return len(names), tag_count, len({digest for _, digest in known})


@pytest.mark.parametrize(("layout", "name", "breakage"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_what_is_broken_is_named_and_the_rest_is_served(
    layout: str, name: str, breakage: Break, tmp_path: Path
) -> None:
    tree = MAKE[layout](repositories())
    breakage(tree)
    bucket = Bucket(tmp_path, layout, tree)
    plan = reviewed(bucket)
    found = bucket.adopt()
    assert found.is_quiet
    assert found.problems == plan.problems
    counts = plan.counts
    registry = bucket.registry()
    assert served(registry) == (counts.repositories, counts.tags, counts.manifests), name
    assert {key: data for key, data in bucket.objects().items() if key in tree and not key.endswith("index.json")} == {
        key: data for key, data in tree.items() if not key.endswith("index.json")
    }
    again = bucket.adopt()
    assert (again.is_quiet, again.problems) == (True, plan.problems)
    assert served(bucket.registry()) == (counts.repositories, counts.tags, counts.manifests)

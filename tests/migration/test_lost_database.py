"""The database is lost between two commands, and no operator rebuilds it: storage says what clients pushed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.migration.context import RunOptions
from tests.support.migrated_bucket import MAKE, Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.served_tags import distribution_tags, zot_tags
from tests.support.source_world import AMD, Repository, repositories

LAYER = Blob(b"pushed since")
PUSHED = image(AMD, [LAYER])


@pytest.fixture(params=MAKE)
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    bucket = Bucket(tmp_path, request.param)
    yield bucket
    bucket.world.close()


@pytest.mark.parametrize("adopt_only", [True, False], ids=["adopted", "consolidated"])
def test_what_was_pushed_is_given_back_although_the_database_was_lost(
    bucket: Bucket, adopt_only: bool, tmp_path: Path
) -> None:
    bucket.run(options=RunOptions(adopt_only=adopt_only))
    registry = bucket.registry()
    content = repositories()
    for name in ("app", "brand/new"):
        for blob in (AMD, LAYER):
            push_blob(registry, blob.data, name)
        push_manifest(registry, PUSHED, "since", name=name)
    registry.fold_waiting()
    content[0].tags["since"] = PUSHED
    content[0].blobs.append(LAYER)
    content.append(Repository("brand/new", {"since": PUSHED}, [], [AMD, LAYER]))
    bucket.world.url = f"sqlite:///{tmp_path / 'new.db'}"
    planned = bucket.process().plan_rollback()
    assert planned.copied
    report = bucket.process().rollback()
    assert report.problems == []
    tree = bucket.objects()
    prefix = "zot/" if bucket.layout == "zot" else ""
    found = distribution_tags(tree) if bucket.layout == "distribution" else zot_tags(tree, prefix)
    assert found == {made.name: {tag: manifest.digest for tag, manifest in made.tags.items()} for made in content}
    check_served(bucket.registry(), content)

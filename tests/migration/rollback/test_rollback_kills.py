"""Ended after any call to the store and any commit, and run again, a rollback ends as one that was not killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.kills import EVERY, kill_after_steps, objects
from tests.support.migrated_bucket import MAKE, Bucket, check_served
from tests.support.rollback import back, change, check_source

SAMPLED = 61


def adopted_and_changed(bucket: Bucket) -> None:
    """Then clients pushed, moved a tag, and deleted."""
    bucket.adopt()
    change(bucket.registry())


def given(bucket: Bucket) -> dict[str, Any]:
    """The bucket, but for what tells how often something was written, which in memory etags do."""
    found = objects(bucket)
    for key, data in bucket.objects("storage/migrations").items():
        if key.endswith("/.original.json"):
            document = json.loads(data)
            del document["fingerprint"]
            document["index"] = document["index"] and document["index"]["key"]
            found[key] = document
    return found


@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(SAMPLED, id="sample"), EVERY])
def test_a_rollback_ends_as_if_it_had_not_been_killed(step: int, layout: str, tmp_path: Path) -> None:
    content = change_of(tmp_path / "content")

    def check(bucket: Bucket) -> None:
        check_source(bucket, content)
        check_served(bucket.registry(), content)

    kill_after_steps(
        tmp_path, layout, adopted_and_changed, back, step=step, state="rolled-back", check=check, seen=given
    )


def change_of(directory: Path) -> list[Any]:
    """What is there after ``change``."""
    directory.mkdir()
    bucket = Bucket(directory, "zot")
    bucket.adopt()
    content = change(bucket.registry())
    bucket.world.close()
    return content

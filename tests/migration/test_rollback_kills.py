"""Ended after any call to the store and any commit, and run again, a rollback ends as one that nobody killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.migration.adopting import MAKE, Bucket, check_served
from tests.migration.deaths import Doom, Killed
from tests.migration.test_kills import EVERY, LOST, doomed, objects, prepared, rows
from tests.migration.test_rollback import back, change, check_original

SAMPLED = 61


def adopted_and_changed(bucket: Bucket) -> None:
    """Then clients pushed, moved a tag, and deleted."""
    bucket.adopt()
    change(bucket.core())


def given(bucket: Bucket) -> dict[str, Any]:
    """The bucket, but for what tells how often something was written, which in memory signatures do."""
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
def test_a_rollback_ends_as_if_nobody_had_killed_it(step: int, layout: str, tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole", layout, adopted_and_changed)
    content = change_of(tmp_path / "content")
    life = Doom()
    back(whole, doomed(whole, life))
    expected_objects, expected_rows = given(whole), rows(whole)
    check_original(whole, content)
    whole.world.close()
    deaths = range(1 + len(layout) % step, life.steps + 1, step)
    assert len(deaths) > 1
    for death in deaths:
        bucket = prepared(tmp_path / f"killed-{death}", layout, adopted_and_changed)
        with pytest.raises(Killed):
            back(bucket, doomed(bucket, Doom(death)))
        if death % LOST == 0:
            bucket.world.url = f"sqlite:///{tmp_path / f'new-{death}.db'}"
        found = back(bucket)
        assert (found.state, found.problems) == ("rolled-back", []), death
        assert given(bucket) == expected_objects, death
        check_original(bucket, content)
        if death % LOST:
            assert rows(bucket) == expected_rows, death
        else:
            check_served(bucket.core(), content)
        bucket.world.close()


def change_of(directory: Path) -> list[Any]:
    """What is there after ``change``."""
    directory.mkdir()
    bucket = Bucket(directory, "zot")
    bucket.adopt()
    content = change(bucket.core())
    bucket.world.close()
    return content

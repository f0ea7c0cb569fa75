"""Ended after any call to the store and any commit, and run again, a migration ends as one that was not killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.migration.context import RunOptions
from tests.support.kills import EVERY, Doom, Killed, Prepare, doomed, kill_after_steps, objects, prepared, rows
from tests.support.migrated_bucket import MAKE, Bucket, check_served
from tests.support.payloads import Blob, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.source_world import AMD, Repository, repositories

SAMPLED = 47
"""In the default run the process dies after each of so many steps; with ``-m stores`` after every one."""
MINE, NEW = image(AMD, [Blob(b"mine")]), image(AMD, [Blob(b"a new layer")])
ADOPT = RunOptions(adopt_only=True)
COPY = RunOptions()


def content(prepare: Prepare) -> list[Repository]:
    """What is served in the end."""
    found = repositories()
    if prepare is a_later_pass:
        found[0].tags |= {"own": MINE, "v2": NEW}
        found[0].blobs += [Blob(b"mine"), Blob(b"a new layer")]
        del found[1].tags["stable"]
    return found


def a_first_pass(bucket: Bucket) -> None:
    """Nothing was done yet."""


def a_later_pass(bucket: Bucket) -> None:
    """Adopted, and then the source, and Stowage, took a push and removed a tag."""
    bucket.run(bucket.registry(), ADOPT)
    registry = bucket.registry()
    push_blob(registry, b"mine", "app")
    push_manifest(registry, MINE, "own", name="app")
    registry.fold_waiting()
    if bucket.layout == "zot-without-prefix":  # its index is ours by now, so it takes no pushes: Stowage does
        push_blob(registry, b"a new layer", "app")
        push_manifest(registry, NEW, "v2", name="app")
        registry.manifests.untag("team/web", "stable", actor="client")
        registry.fold_waiting()
        return
    changed = repositories()
    changed[0].tags["v2"] = NEW
    changed[0].blobs.append(Blob(b"a new layer"))
    del changed[1].tags["stable"]
    bucket.become(changed)


@pytest.mark.parametrize(
    ("prepare", "options"),
    [(a_first_pass, ADOPT), (a_later_pass, ADOPT), (a_later_pass, COPY)],
    ids=["adopt", "adopt-again", "consolidate"],
)
@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(SAMPLED, id="sample"), EVERY])
def test_a_run_ends_as_if_it_had_not_been_killed(
    step: int, layout: str, prepare: Prepare, options: RunOptions, tmp_path: Path
) -> None:
    kill_after_steps(
        tmp_path,
        layout,
        prepare,
        lambda bucket, registry: bucket.run(registry, options),
        step=step,
        state="adopted" if options.adopt_only else "consolidated",
        check=lambda bucket: check_served(bucket.registry(), content(prepare)),
    )


@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(3 * SAMPLED, id="sample"), pytest.param(7, marks=pytest.mark.stores)])
def test_with_several_threads_it_ends_alike(step: int, layout: str, tmp_path: Path) -> None:
    """Whichever of them was where when the process died."""
    copy_named = prepared(tmp_path, layout, a_first_pass)
    whole = copy_named("whole")
    life = Doom()
    whole.run(doomed(whole, life), COPY)
    expected_objects, expected_rows = objects(whole), rows(whole)
    whole.world.close()
    for death in range(20 + len(layout), life.steps, step):
        bucket = copy_named(f"killed-{death}")
        with pytest.raises(Killed):
            bucket.run(doomed(bucket, Doom(death)), COPY, parallel=4)
        found = bucket.run(bucket.registry(), COPY, parallel=4)
        assert (found.state, found.problems) == ("consolidated", []), death
        assert objects(bucket) == expected_objects, death
        assert rows(bucket) == expected_rows, death
        bucket.world.close()


def test_a_process_dies_once_and_does_nothing_more() -> None:
    doom = Doom(2)
    with doom.step():
        pass
    with pytest.raises(Killed), doom.step():
        done = True
    assert done
    with pytest.raises(Killed), doom.step():
        pytest.fail("it is dead")

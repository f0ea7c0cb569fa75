"""Ended after any call to the store and any commit, and run again, a migration ends as one that nobody killed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.images.core import Core
from registry.images.stores import Stores
from registry.migration.context import RunOptions
from tests.images.world import push_blob, push_manifest
from tests.migration.adopting import MAKE, Bucket, check_served
from tests.migration.deaths import Doom, DyingDatabase, DyingDriver, Killed
from tests.migration.world import AMD, Repository, repositories
from tests.payloads import Blob, image

SAMPLED = 47
"""In the default run the process dies after each of so many steps; with ``-m stores`` after every one."""
LOST = 3
"""Of so many deaths one takes the database with it."""
EVERY = pytest.param(1, id="every-step", marks=pytest.mark.stores)
MINE, NEW = image(AMD, [Blob(b"mine")]), image(AMD, [Blob(b"a new layer")])
ADOPT = RunOptions(adopt_only=True)


COPY = RunOptions()
Prepare = Callable[[Bucket], None]


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
    """Adopted, and then the original, and Stowage, took a push and removed a tag."""
    bucket.run(bucket.core(), ADOPT)
    core = bucket.core()
    push_blob(core, b"mine", "app")
    push_manifest(core, MINE, "own", name="app")
    core.fold_waiting()
    if bucket.layout == "zot-without-prefix":  # its index is ours by now, so it takes no pushes: Stowage does
        push_blob(core, b"a new layer", "app")
        push_manifest(core, NEW, "v2", name="app")
        core.manifests.untag("team/web", "stable", actor="client")
        core.fold_waiting()
        return
    changed = repositories()
    changed[0].tags["v2"] = NEW
    changed[0].blobs.append(Blob(b"a new layer"))
    del changed[1].tags["stable"]
    bucket.become(changed)


def doomed(bucket: Bucket, doom: Doom) -> Core:
    """A process that dies."""
    world = bucket.world
    world.core().close()  # makes the database
    stores = Stores(DyingDriver(bucket.driver, doom), DyingDatabase(world.url, doom), world.rules, clock=world.clock)
    return Core(stores)


def rows(bucket: Bucket) -> dict[str, list[Any]]:
    """What the database says, but for the numbers of rows and for times."""
    queries = {
        "tags": "SELECT r.name, t.name, b.digest FROM tag t JOIN repository r ON r.id = t.repository_id"
        " JOIN blob b ON b.id = t.blob_id",
        "members": "SELECT r.name, b.digest FROM membership m JOIN repository r ON r.id = m.repository_id"
        " JOIN blob b ON b.id = m.blob_id",
        "manifests": "SELECT r.name, b.digest, m.media_type FROM manifest m JOIN repository r"
        " ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id",
        "places": "SELECT b.digest, b.size, b.state, l.key, l.state, l.verified_at IS NULL, coalesce(l.migration, ''),"
        " CASE WHEN l.migration IS NULL THEN '' ELSE l.signature END"
        " FROM blob b JOIN blob_location l ON l.blob_id = b.id",
        "store": "SELECT name, migration, mode, reason, prefixes FROM store",
        "pending": "SELECT r.name, c.sequence FROM change c JOIN repository r ON r.id = c.repository_id",
    }
    path = bucket.world.url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}


def objects(bucket: Bucket) -> dict[str, Any]:
    """The bucket, but for what tells how often the command was run, and by whom."""
    found: dict[str, Any] = dict(bucket.objects())
    for key, data in bucket.objects("storage/migrations").items():
        if key.endswith("/state.json"):
            told = {"revision", "passes", "writer"}
            found[key] = {name: value for name, value in json.loads(data).items() if name not in told}
        elif "/blobs/" in key:  # a copy that is made again has another signature
            lines = [json.loads(line) for line in data.splitlines()]
            found[key] = [line | {"copy": line["copy"] is not None} for line in lines]
    return found


def prepared(directory: Path, layout: str, prepare: Prepare) -> Bucket:
    directory.mkdir()
    bucket = Bucket(directory, layout)
    bucket.world.clock.now = 1_800_000_000.0
    prepare(bucket)
    return bucket


@pytest.mark.parametrize(
    ("prepare", "options"),
    [(a_first_pass, ADOPT), (a_later_pass, ADOPT), (a_later_pass, COPY)],
    ids=["adopt", "adopt-again", "consolidate"],
)
@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(SAMPLED, id="sample"), EVERY])
def test_a_run_ends_as_if_nobody_had_killed_it(
    step: int, layout: str, prepare: Prepare, options: RunOptions, tmp_path: Path
) -> None:
    whole = prepared(tmp_path / "whole", layout, prepare)
    life = Doom()
    state = whole.run(doomed(whole, life), options).state
    expected_objects, expected_rows = objects(whole), rows(whole)
    check_served(whole.core(), content(prepare))
    whole.world.close()
    deaths = range(1 + len(layout) % step, life.steps + 1, step)
    assert len(deaths) > 1
    for death in deaths:
        bucket = prepared(tmp_path / f"killed-{death}", layout, prepare)
        with pytest.raises(Killed):
            bucket.run(doomed(bucket, Doom(death)), options)
        if death % LOST == 0:
            bucket.world.url = f"sqlite:///{tmp_path / f'new-{death}.db'}"
        found = bucket.run(bucket.core(), options)
        assert (found.state, found.problems) == (state, []), death
        assert objects(bucket) == expected_objects, death
        if death % LOST:
            assert rows(bucket) == expected_rows, death
        check_served(bucket.core(), content(prepare))
        bucket.world.close()


@pytest.mark.parametrize("layout", MAKE)
@pytest.mark.parametrize("step", [pytest.param(3 * SAMPLED, id="sample"), pytest.param(7, marks=pytest.mark.stores)])
def test_with_several_threads_it_ends_alike(step: int, layout: str, tmp_path: Path) -> None:
    """Whichever of them was where when the process died."""
    whole = prepared(tmp_path / "whole", layout, a_first_pass)
    life = Doom()
    whole.run(doomed(whole, life), COPY)
    expected_objects, expected_rows = objects(whole), rows(whole)
    whole.world.close()
    for death in range(20 + len(layout), life.steps, step):
        bucket = prepared(tmp_path / f"killed-{death}", layout, a_first_pass)
        with pytest.raises(Killed):
            bucket.run(doomed(bucket, Doom(death)), COPY, parallel=4)
        found = bucket.run(bucket.core(), COPY, parallel=4)
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

"""An emptying of the trash that is killed is ended by the same again, and by the runs after it."""

from __future__ import annotations

import pytest

from registry.images.backends import Backends
from registry.images.registry import Registry
from registry.maintenance.collection.steps import emptied_trash
from tests.images.trash.test_trash_emptying import oldest
from tests.maintenance.collection.test_run import delete, stored_bytes
from tests.support.collecting import end_leases
from tests.support.collection import run, settle
from tests.support.kills import Doom, DyingDatabase, Killed
from tests.support.registry_world import NAME, World, pull, push_image

GRACE = 100.0


def test_killed_after_any_commit_the_same_again_empties_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emptied_trash, "PAGE", 2)
    registry = world.registry(grace=GRACE)
    kept = push_image(registry, "kept", "kept")
    size = stored_bytes(registry)
    at, is_killed = 0, True
    while is_killed:
        at += 1
        registry = world.registry(grace=GRACE)
        for number in range(5):
            delete(registry, push_image(registry, f"image {at} {number}"))
        end_leases(registry)
        database = DyingDatabase(world.url, Doom(at), world.clocks())
        dying = Registry(Backends(world.driver(), database, registry.backends.policy, clock=database.clocks.wall))
        is_killed = False
        try:
            run(dying, emptied=NAME)
        except Killed:
            is_killed = True
        finally:
            dying.close()
        world.clock.now += world.policy.claim + world.policy.unclear + 1
        again = world.registry(grace=GRACE)
        run(again, emptied=NAME)
        assert oldest(again) == []
        settle(again)
        world.clock.now += GRACE + 1
        again.blob_deletion.finish_abandoned()
        settle(again)
        assert stored_bytes(again) == size, at
        world.close()
    assert at > 5
    assert pull(world.registry(), "kept") == kept.digest

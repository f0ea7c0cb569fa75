"""The survey before a collection (checks 12 and 14): what cannot be relied on is named, or everything is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.background.leases import Leases
from registry.database import blobs, leases
from registry.database.collection import state
from registry.database.statement import Statement
from registry.images.backends import holder_name
from registry.images.layout import COLLECTION_STATE
from registry.images.registry import Registry
from registry.maintenance.collection.survey import survey as survey_module
from registry.maintenance.collection.survey.former_processes import SECONDS
from registry.maintenance.collection.survey.gc_state import DAY, GcState, meet
from registry.maintenance.collection.survey.survey import Survey, Surveyed
from registry.maintenance.rebuild import rebuild_registry
from registry.storage.errors import PathRefused, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.met_world import OWN, SHARED, copy_database
from tests.support.payloads import Blob, image
from tests.support.registry_world import World, push_image, read_index, write_index

_INCOMPLETE = Statement("UPDATE manifest SET complete = 0")
_UNREAD = Statement("UPDATE repository SET sequence = -1")
_SHUT = Statement("UPDATE store SET mode = 'read-only', reason = 'it is being moved'")
FORMER = "old-machine:1:2:boot:1:" + "0" * 32


def take(registry: Registry, *, dry: bool = False) -> Surveyed:
    return Survey(registry, dry=dry).take()


def counted(world: World, *faults: Fault) -> tuple[Registry, FaultyDriver]:
    """A process whose requests to storage are counted."""
    driver = FaultyDriver(world.driver(), faults)
    return world.registry(driver=driver), driver


def filled(registry: Registry, *names: str) -> None:
    for name in names or ("team/app",):
        push_image(registry, name, "v1", name=name)
    registry.fold_waiting()


def placed() -> bytes:
    """An index of another tool, whose manifest is not there."""
    made = image(Blob(b"config"), [Blob(b"layer")])
    entry = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.data)}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "PENDING_SECONDS", 0.01)
    monkeypatch.setattr(survey_module, "FOLD_SECONDS", 0.1)


def test_a_registry_that_agrees_with_its_storage_may_collect(registry: Registry) -> None:
    filled(registry, "a/one", "b/two", "b/two/three")
    for dry in (True, False):
        found = take(registry, dry=dry)
        assert (found.refusal, found.unsafe) == (None, {})


def test_a_registry_with_changes_that_are_not_folded_may_collect(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    found = take(registry)
    assert (found.refusal, found.unsafe) == (None, {})


def test_progress_says_how_many_were_looked_at(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(registry, "a", "b", "c")
    monkeypatch.setattr(survey_module, "BATCH", 2)
    told: list[tuple[int, int]] = []
    Survey(registry).take(lambda done, total: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]


def test_each_repository_is_asked_for_once_a_day_where_the_database_is_known_to_be_no_copy(
    world: World, registry: Registry
) -> None:
    names = [f"team/app{number}" for number in range(10)]
    filled(registry, *names)
    looking, driver = counted(world)
    found = take(looking)
    assert found.looked is not None
    assert found.refusal is None
    if not driver.capabilities.stat_is_local:
        assert driver.calls["list"] == len(names)
    GcState(looking).begin(found.looked)
    asked = driver.calls["list"] + driver.calls["stat"]
    again = take(looking)
    assert again.refusal is None
    if found.looked.instance is None:  # a file may be a copy at any time
        return
    assert again.looked == found.looked
    assert driver.calls["list"] + driver.calls["stat"] == asked
    world.clock.now += DAY
    looked = found.looked._replace(at=found.looked.at - DAY)
    GcState(looking).begin(looked)
    assert take(looking).looked != looked
    assert driver.calls["list"] > asked


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_each_repository_is_asked_for_again_after_rows_were_restored_into_the_same_database(
    world: World, registry: Registry
) -> None:
    """As ``pg_restore --data-only`` does after a DELETE: neither the server nor a file of it is another one."""
    filled(registry, "team/app")
    looking, driver = counted(world)
    GcState(looking).begin(take(looking).looked)
    asked = driver.calls["list"] + driver.calls["stat"]
    GcState(looking).begin(take(looking).looked)
    assert driver.calls["list"] + driver.calls["stat"] == asked, "a second run relies on the first look"
    with looking.backends.database.transaction() as connection:
        connection.execute(Statement("CREATE TEMPORARY TABLE dump ON COMMIT DROP AS SELECT * FROM milestone"), {})
        connection.execute(Statement("DELETE FROM milestone"), {})
        connection.execute(Statement("INSERT INTO milestone SELECT * FROM dump"), {})
    assert take(looking, dry=True).refusal is None
    again = driver.calls["list"] + driver.calls["stat"]
    assert again > asked
    GcState(looking).begin(take(looking).looked)
    asked = driver.calls["list"] + driver.calls["stat"]
    assert take(looking).refusal is None
    assert driver.calls["list"] + driver.calls["stat"] == asked


def test_an_empty_database_is_refused_and_nothing_is_deleted(
    world: World, registry: Registry, another: Callable[[], str]
) -> None:
    filled(registry)
    world.url = another()
    empty, driver = counted(world)
    meet(empty)
    for dry in (True, False):
        assert "registry rebuild" in str(take(empty, dry=dry).refusal)
    assert not {name for name in driver.calls if "delete" in name}
    rebuild_registry(empty)
    assert take(empty).refusal is None


def test_a_database_of_an_earlier_release_that_lacks_a_repository_is_refused(
    world: World, another: Callable[[], str]
) -> None:
    filled(world.registry(), "a/one")
    world.url = another()
    registry = world.registry()
    with registry.backends.database.transaction() as connection:
        state.adopt(connection, "taken over", state.EARLIER)
    found = take(registry)
    assert "does not know repository a/one" in str(found.refusal)
    assert "registry rebuild" in str(found.refusal)


@pytest.mark.parametrize("is_folded", [True, False])
def test_a_copy_of_the_database_that_is_one_push_older_is_refused(
    request: pytest.FixtureRequest, world: World, registry: Registry, tmp_path: Path, is_folded: bool
) -> None:
    filled(registry)
    copy = copy_database(request, world, tmp_path)
    newer = world.registry()
    push_image(newer, "later", "v2")
    if is_folded:
        newer.fold_waiting()
    older = world.registry(url=copy)
    for dry in (True, False):
        found = take(older, dry=dry)
        assert "later changes of repository team/app" in str(found.refusal)
    rebuild_registry(older)
    assert take(older).refusal is None


def test_a_repository_that_was_made_and_holds_nothing_is_no_reason(world: World, registry: Registry) -> None:
    registry.backends.index_file.create("killed/push")
    found = take(registry)
    assert (found.refusal, found.unsafe) == (None, {})


def test_an_index_that_cannot_be_read_keeps_its_repository(world: World, registry: Registry) -> None:
    filled(registry, "a/good", "b/bad")
    registry.backends.driver.write("b/bad/index.json", b"{ no index")
    found = take(registry)
    assert found.refusal is None
    assert list(found.unsafe) == ["b/bad"]
    assert found.looked is None, "it is looked at again"


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_an_index_of_another_registry_keeps_its_repository(world: World, registry: Registry) -> None:
    filled(registry, "a/good", "b/bad")
    registry.backends.driver.write("b/bad/index.json", placed())
    registry.backends.driver.write("c/new/index.json", placed())
    found = take(registry)
    assert found.refusal is None
    assert sorted(found.unsafe) == ["b/bad", "c/new"]


@pytest.mark.parametrize("world", OWN, indirect=True)
def test_what_another_tool_changed_is_read_first_and_not_by_a_dry_run(world: World, registry: Registry) -> None:
    filled(registry, "a/one")
    write_index(registry, read_index(registry, "a/one"), "a/one")
    world.driver().write("b/two/index.json", placed())
    dry = take(registry, dry=True)
    assert dry.refusal is None
    assert "b/two" in dry.unsafe
    wet = take(registry)
    assert wet.refusal is None
    assert list(wet.unsafe) == ["b/two"], "it names manifests that are not there"


def test_manifests_whose_references_are_not_complete_keep_their_repository(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    with registry.backends.database.transaction() as connection:
        connection.execute(_INCOMPLETE, {})
    found = take(registry)
    assert found.refusal is None
    assert "not all known yet" in found.unsafe["team/app"]


def test_a_repository_that_was_not_read_is_read_first_and_not_by_a_dry_run(registry: Registry) -> None:
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    with registry.backends.database.transaction() as connection:
        connection.execute(_UNREAD, {})
    assert "not read from storage yet" in take(registry, dry=True).unsafe["team/app"]
    found = take(registry)
    assert (found.refusal, found.unsafe) == (None, {})


def test_manifests_that_are_missing_keep_their_repository(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    registry.fold_waiting()
    registry.backends.driver.delete([registry.backends.layout.blob("team/app", made.digest)])
    with registry.backends.database.transaction() as connection:
        connection.execute(Statement("DELETE FROM manifest_body"), {})
        connection.execute(Statement("DELETE FROM repository"), {})
        connection.execute(Statement("DELETE FROM blob"), {})
    rebuild_registry(registry)
    found = take(registry)
    assert found.refusal is None
    assert "manifests that storage does not have" in found.unsafe["team/app"]
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    found = take(registry)
    assert (found.refusal, found.unsafe) == (None, {}), "it has come"


def test_a_repository_that_storage_does_not_tell_of_keeps_what_it_has(world: World, registry: Registry) -> None:
    filled(registry, "a/good", "b/bad")
    operation = "stat" if registry.backends.driver.capabilities.stat_is_local else "list"
    faults = [Fault(operation=operation, key="b/bad*", times=None, effect=StorageUnavailable)]
    failing, _ = counted(world, *faults)
    found = take(failing)
    assert found.refusal is None
    assert list(found.unsafe) == ["b/bad"]


def test_a_walk_that_fails_ends_the_collection(world: World, registry: Registry) -> None:
    filled(registry)
    failing, _ = counted(world, Fault(operation="children", times=None, effect=StorageUnavailable))
    with pytest.raises(StorageUnavailable):
        take(failing)


def test_a_directory_that_may_not_be_read_keeps_what_all_share(world: World, registry: Registry) -> None:
    filled(registry, "a/good")
    registry.backends.driver.write("closed/one/index.json", b"{}")
    failing, _ = counted(world, Fault(operation="children", key="closed", times=None, effect=PathRefused))
    assert "closed" in take(failing).unsafe


def test_very_many_repositories_that_cannot_be_relied_on_end_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "MOST_UNSAFE", 1)
    filled(registry, "a", "b")
    with registry.backends.database.transaction() as connection:
        connection.execute(_INCOMPLETE, {})
    assert "more than 1 repositories" in str(take(registry).refusal)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_storage_that_takes_no_changes_is_not_collected(registry: Registry) -> None:
    filled(registry)
    assert take(registry).refusal is None
    with registry.backends.database.transaction() as connection:
        connection.execute(_SHUT, {})
    assert "it is being moved" in str(take(registry).refusal)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_migration_that_is_under_way_is_waited_for(registry: Registry) -> None:
    with Leases(registry.backends.database, holder_name()).hold("migration", 60):
        assert "migration" in str(take(registry).refusal)
    assert take(registry).refusal is None


def test_a_process_of_a_former_release_stops_collection_for_a_day(world: World, registry: Registry) -> None:
    made = push_image(registry, "one", "v1")
    with registry.backends.database.transaction() as connection:
        row = blobs.find(connection, made.digest).get()
        assert row is not None
        values = {"blob": row.id, "since": 1.0}
        doom = "INSERT INTO doomed (repository_id, blob_id, since) VALUES (0, :blob, :since)"
        connection.execute(Statement(doom), values)
        leases.take(connection, "upload-expiry", FORMER, seconds=1)
    count = Statement("SELECT count(*) FROM doomed")
    dry = take(registry, dry=True)
    with registry.backends.database.autocommit() as connection:
        assert connection.execute(count, {}).one() == (1,)
    found = take(registry)
    for each in (dry, found):
        assert "former release" in str(each.refusal)
        assert FORMER in str(each.refusal)
    with registry.backends.database.autocommit() as connection:
        assert connection.execute(count, {}).one() == (0,)
    with registry.backends.database.transaction() as connection:
        connection.execute(Statement("UPDATE collection_state SET former_at = former_at - :day"), {"day": SECONDS + 60})
    assert take(registry).refusal is None


def test_a_dry_survey_writes_nothing(registry: Registry) -> None:
    filled(registry)
    before = registry.backends.driver.read(COLLECTION_STATE, max_bytes=1 << 16)
    take(registry, dry=True)
    assert registry.backends.driver.read(COLLECTION_STATE, max_bytes=1 << 16) == before


def lose_record(registry: Registry) -> bytes:
    """Push an image, and take its record from storage; its bytes."""
    push_image(registry, "one", "v1")
    key = registry.backends.layout.record("team/app", 1)
    data, _ = registry.backends.driver.read(key, max_bytes=1 << 16)
    registry.backends.driver.delete([key])
    return data


def test_a_change_whose_record_is_not_written_keeps_its_repository(registry: Registry) -> None:
    lose_record(registry)
    found = take(registry)
    assert found.refusal is None
    assert "change 1 of it is not on storage yet" in found.unsafe["team/app"]


def test_a_change_whose_record_is_just_being_written_is_no_reason(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lose_record(registry)
    key = registry.backends.layout.record("team/app", 1)
    monkeypatch.setattr("time.sleep", lambda _seconds: registry.backends.driver.write(key, data))
    found = take(registry)
    assert (found.refusal, found.unsafe) == (None, {})

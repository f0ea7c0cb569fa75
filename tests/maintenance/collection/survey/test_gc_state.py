"""The state of a collection: whose database it is, and whether that is a copy.

Check 12: an empty or older database, or a second registry on the same storage, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from registry.database.collection import state
from registry.database.engine import Database
from registry.database.schema import HEAD, upgrade_database
from registry.database.statement import Statement
from registry.images.layout import COLLECTION_STATE
from registry.images.registry import Registry
from registry.maintenance.collection.survey import gc_state
from registry.maintenance.collection.survey.gc_state import (
    DAY,
    CollectionRefused,
    GcState,
    Looked,
    RunOvertaken,
    announce,
    meet,
)
from registry.maintenance.collection.survey.state_document import KINDS, StateDocument, UnknownState
from registry.maintenance.rebuild import rebuild_registry
from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.met_world import copy_database
from tests.support.registry_world import World, push_image

_EARLIER = Statement(
    "INSERT INTO collection_state (id, run, intended, origin) VALUES (1, 0, 0, 'earlier')"
    " ON CONFLICT (id) DO UPDATE SET origin = 'earlier', database_id = NULL"
)


def stored(registry: Registry) -> dict[str, Any]:
    """What storage says."""
    document: dict[str, Any] = json.loads(registry.backends.driver.read(COLLECTION_STATE, max_bytes=1 << 16)[0])
    return document


def store(registry: Registry, **changes: object) -> None:
    """Have storage say something else."""
    data = json.dumps({**stored(registry), **changes}).encode()
    registry.backends.driver.write(COLLECTION_STATE, data)


def is_stored(registry: Registry) -> bool:
    try:
        registry.backends.driver.stat(COLLECTION_STATE)
    except PathNotFound:
        return False
    return True


def pass_seconds(world: World, seconds: float) -> None:
    world.clock.now += seconds


def test_an_empty_storage_says_at_once_whose_it_is(registry: Registry) -> None:
    row = GcState(registry)._row()
    assert stored(registry) == {"database": row.database_id, "run": 0, "kinds": list(KINDS), "new": True}
    assert GcState(registry).default_interval() == DAY
    meet(registry)
    assert GcState(registry)._row() == row
    with capture_logs() as logs:
        announce(registry)
    assert logs == []


def test_runs_are_counted_by_both(registry: Registry) -> None:
    for number in (1, 2, 3):
        run = GcState(registry)
        assert run.refusal() is None
        assert run.begin() == number
        assert stored(registry)["run"] == number
        assert run._row().run == number
        run.assert_mine()


def test_a_look_is_kept_with_the_run_and_read_by_the_next(registry: Registry) -> None:
    assert GcState(registry).looked() is None
    GcState(registry).begin(Looked(5.0, "server"))
    assert GcState(registry).looked() == Looked(5.0, "server")
    GcState(registry).begin()
    assert GcState(registry).looked() == Looked(5.0, "server")


def test_a_lost_database_is_refused_until_it_was_rebuilt(
    world: World, registry: Registry, another: Callable[[], str]
) -> None:
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    GcState(registry).begin()
    world.url = another()
    empty = world.registry()
    meet(empty)
    run = GcState(empty)
    assert "another database" in str(run.refusal())
    with pytest.raises(CollectionRefused, match="registry rebuild"):
        run.begin()
    assert rebuild_registry(empty).problems == []
    assert GcState(empty).refusal() is None
    assert GcState(empty).begin() == 3
    assert GcState(empty).default_interval() == DAY, "the storage is still one that was new"


def test_of_two_databases_on_one_storage_one_collects(
    world: World, registry: Registry, another: Callable[[], str]
) -> None:
    GcState(registry).begin()
    second = world.registry(url=another())
    meet(second)
    assert GcState(second).refusal() is not None
    run = GcState(registry)
    run.begin()
    rebuild_registry(second)
    assert GcState(second).refusal() is None
    assert "another database" in str(GcState(registry).refusal())
    run.assert_mine()  # read a moment ago
    pass_seconds(world, gc_state.CHECK_SECONDS + 1)
    with pytest.raises(RunOvertaken):
        run.assert_mine()


def test_a_copy_of_the_database_from_before_a_run_is_refused(
    request: pytest.FixtureRequest, world: World, registry: Registry, tmp_path: Path
) -> None:
    GcState(registry).begin()
    copy = copy_database(request, world, tmp_path)
    later = GcState(world.registry())
    later.begin()
    older = world.registry(url=copy)
    assert "older copy" in str(GcState(older).refusal())
    with pytest.raises(CollectionRefused, match="run 1, storage of run 2"):
        GcState(older).begin()
    assert (GcState(older).instance() == later.instance()) == world.url.startswith("sqlite"), (
        "a server tells them apart"
    )
    assert rebuild_registry(older).problems == []
    assert GcState(older).begin() == 4


def test_a_storage_without_the_document_that_was_written_is_another_one(registry: Registry) -> None:
    GcState(registry).begin()
    registry.backends.driver.delete([COLLECTION_STATE])
    assert "is it the same" in str(GcState(registry).refusal())


def test_a_kind_of_references_that_is_not_known_is_refused_and_kept(registry: Registry) -> None:
    store(registry, kinds=[*KINDS, "remotes"])
    assert "remotes" in str(GcState(registry).refusal())
    with pytest.raises(CollectionRefused, match="remotes"):
        GcState(registry).begin()
    rebuild_registry(registry)
    assert "remotes" in stored(registry)["kinds"]
    assert "remotes" in str(GcState(registry).refusal())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"database": "a", "run": 1, "kinds": [], "looked_at": 1' + b"0" * 400 + b"}",
        b"{}",
        b'{"database": 1, "run": 1, "kinds": []}',
        b'{"database": "a", "run": "1", "kinds": []}',
    ],
)
def test_a_document_that_is_not_understood_is_refused(registry: Registry, text: bytes) -> None:
    registry.backends.driver.write(COLLECTION_STATE, text)
    assert "not understood" in str(GcState(registry).refusal())
    with pytest.raises(CollectionRefused, match="not understood"):
        GcState(registry).begin()
    with pytest.raises(CollectionRefused, match="not understood"):
        GcState(registry).take_over()
    assert registry.backends.driver.read(COLLECTION_STATE, max_bytes=1000)[0] == text


def test_a_document_that_was_damaged_is_made_anew_as_the_refusal_says(registry: Registry) -> None:
    GcState(registry).begin()
    registry.backends.driver.write(COLLECTION_STATE, b"")
    assert "remove it and run `registry rebuild`" in str(GcState(registry).refusal())
    registry.backends.driver.delete([COLLECTION_STATE])
    assert rebuild_registry(registry).problems == []
    assert GcState(registry).refusal() is None
    assert GcState(registry).begin() == 3


def test_the_document_is_read_as_it_was_written() -> None:
    made = StateDocument("name", 3, ("a", "b"), new=True, looked_at=1.5, instance="server")
    assert StateDocument.parse(made.to_json()) == made
    with pytest.raises(UnknownState):
        StateDocument.parse(b'{"database": "a", "run": 1, "kinds": "ab"}')


def test_a_run_whose_process_was_killed_between_database_and_storage_stops_no_other(registry: Registry) -> None:
    run = GcState(registry)
    run.begin()
    with registry.backends.database.transaction() as connection:  # before it was written
        assert state.intend(connection, run._row(), 2)
    assert GcState(registry).refusal() is None
    assert GcState(registry).begin() == 3
    with registry.backends.database.transaction() as connection:  # after it was written
        assert state.intend(connection, run._row(), 4)
    store(registry, run=4)
    assert GcState(registry).refusal() is None
    assert GcState(registry).begin() == 5


def test_two_runs_that_begin_at_once_stop_no_other(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has its number on storage when another has a higher one in the database, and none there yet."""
    run, write = GcState(registry), GcState._write

    def write_late(self: GcState, document: StateDocument, read: Any) -> None:
        with registry.backends.database.transaction() as connection:
            assert state.intend(connection, self._row(), document.run + 1)
        write(self, document, read)

    monkeypatch.setattr(GcState, "_write", write_late)
    with pytest.raises(RunOvertaken):
        run.begin()
    monkeypatch.undo()
    assert stored(registry)["run"] == 1
    assert GcState(registry).refusal() is None
    assert GcState(registry).begin() == 3


def test_the_earlier_of_two_runs_stops(world: World, registry: Registry) -> None:
    first, second = GcState(registry), GcState(registry)
    first.begin()
    second.begin()
    pass_seconds(world, gc_state.CHECK_SECONDS + 1)
    second.assert_mine()
    with pytest.raises(RunOvertaken):
        first.assert_mine()


def test_a_run_that_did_not_begin_deletes_nothing(registry: Registry) -> None:
    with pytest.raises(RunOvertaken):
        GcState(registry).assert_mine()


def test_a_storage_that_does_not_answer_begins_no_run(world: World, registry: Registry) -> None:
    driver = FaultyDriver(world.driver(), [Fault(operation="write", effect=StorageUnavailable("", "500"))])
    broken = world.registry(driver=driver)
    with pytest.raises(StorageUnavailable):
        GcState(broken).begin()
    assert GcState(registry).begin() == 2
    driver = FaultyDriver(world.driver(), [Fault(operation="read", effect=StorageUnavailable("", "500"))])
    with pytest.raises(StorageUnavailable):
        GcState(world.registry(driver=driver)).begin()


def test_a_database_that_meets_content_has_to_be_rebuilt_first(world: World, another: Callable[[], str]) -> None:
    first = world.registry()  # no server: nothing is said of collection
    push_image(first, "one", "v1")
    first.fold_waiting()
    world.url = another()
    registry = world.registry()
    assert GcState(registry).refusal() is not None, "before it has met anything"
    meet(registry)
    assert not is_stored(registry)
    assert "registry rebuild" in str(GcState(registry).refusal())
    with pytest.raises(CollectionRefused):
        GcState(registry).begin()
    assert rebuild_registry(registry).problems == []
    assert stored(registry)["new"] is False
    assert GcState(registry).default_interval() is None
    assert GcState(registry).begin() == 2


def test_a_storage_of_an_earlier_release_is_collected_when_asked_for_and_not_by_itself(world: World) -> None:
    registry = world.registry()
    push_image(registry, "one", "v1")
    with registry.backends.database.transaction() as connection:
        connection.execute(_EARLIER, {})
    meet(registry)
    assert not is_stored(registry), "nothing is written before the first run"
    assert GcState(registry).refusal() is None
    assert GcState(registry).default_interval() is None
    with capture_logs() as logs:
        announce(registry)
    (line,) = logs
    assert "gc.interval" in line["event"]
    assert GcState(registry).begin() == 1
    assert stored(registry)["new"] is False


def test_a_database_that_was_migrated_is_one_of_an_earlier_release(tmp_path: Path) -> None:
    from tests.database.test_schema import migrate

    database = Database(f"sqlite:///{tmp_path / 'cache.db'}")
    migrate(database, "0014")
    assert upgrade_database(database).after == HEAD
    with database.autocommit() as connection:
        assert state.find(connection).get().origin == state.EARLIER
    database.close()


def test_an_empty_storage_that_does_not_answer_is_met_later(world: World) -> None:
    driver = FaultyDriver(world.driver(), [Fault(operation="stat", effect=StorageUnavailable("", "500"))])
    registry = world.registry(driver=driver)
    meet(registry)
    assert not GcState(world.registry()).is_met
    later = GcState(world.registry())
    later.adopt()
    assert later.is_met
    assert later.default_interval() == DAY

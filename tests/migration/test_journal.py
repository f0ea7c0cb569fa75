"""Writing the journal: on condition, once for the same content, and never over what an instance after us wrote."""

from __future__ import annotations

import json

import pytest

from registry.images.migration_journal.documents import Phase, ReadOnly, ShardEntry, SourceLocation
from registry.migration.journal import MigrationJournal
from registry.migration.report import Problem, ProblemKind, Refused
from registry.oci.digest import Digest
from registry.storage.errors import StorageUnavailable
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver, When

STATE = "storage/migrations/0001/state.json"
SHUT = ReadOnly("2026-01-01T00:00:00+00:00", "given back")
DIGEST = Digest.of(b"x")


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver()


def test_a_state_begins_once_and_moves_by_one_revision_each_time(driver: MemoryDriver) -> None:
    journal = MigrationJournal(driver, writer="me")
    assert journal.resume() is None
    with pytest.raises(ValueError, match="no migration"):
        _ = journal.state
    state = journal.begin("distribution", ("docker/registry/v2",))
    assert (state.id, state.revision, state.state) == ("0001", 1, Phase.ADOPTING)
    assert MigrationJournal(driver).begin("distribution", ()) == state
    moved = journal.move(Phase.ADOPTED, passes=1, counts={"blobs": 2})
    assert (moved.revision, moved.passes, moved.counts) == (2, 1, {"blobs": 2})
    assert journal.move(Phase.CONSOLIDATED).passes == 1
    assert json.loads(driver.read(STATE, max_bytes=9999)[0])["writer"] == "me"


def test_after_a_rollback_the_next_one_begins_read_only(driver: MemoryDriver) -> None:
    journal = MigrationJournal(driver)
    journal.begin("distribution", ())
    journal.move(Phase.ROLLED_BACK, read_only=SHUT)
    begun = MigrationJournal(driver).begin("per-repository", ("zot",))
    assert (begun.id, begun.revision, begun.read_only, begun.prefixes) == ("0002", 1, SHUT, ("zot",))
    assert journal.locations.ids() == ["0001", "0002"]


@pytest.mark.parametrize("is_new", [True, False])
def test_an_instance_that_was_overtaken_is_refused(is_new: bool, driver: MemoryDriver) -> None:
    other = MigrationJournal(driver, writer="other")

    def overtake() -> None:
        other.begin("distribution", ())

    begin = Fault("write", STATE, effect=overtake)
    journal = MigrationJournal(FaultyDriver(driver, [begin] if is_new else []))
    if is_new:
        with pytest.raises(Refused, match="other has written"):
            journal.begin("distribution", ())
        return
    journal.begin("distribution", ())
    other.resume()
    other.move(Phase.ADOPTED)
    with pytest.raises(Refused, match="other has written"):
        journal.move(Phase.ADOPTED)


def test_a_state_whose_answer_was_lost_is_found_by_the_next_instance(driver: MemoryDriver) -> None:
    lost = Fault("write", STATE, first=2, moment=When.AFTER)
    journal = MigrationJournal(FaultyDriver(driver, [lost]))
    journal.begin("distribution", ())
    with pytest.raises(StorageUnavailable):
        journal.move(Phase.ADOPTED)
    found = MigrationJournal(driver).resume()
    assert found is not None
    assert (found.state, found.revision) == (Phase.ADOPTED, 2)


def test_what_is_there_is_not_written_again(driver: MemoryDriver) -> None:
    counting = FaultyDriver(driver)
    journal = MigrationJournal(counting)
    journal.begin("distribution", ())
    lines = [ShardEntry(DIGEST, 1, (SourceLocation("a", "1", verified=True),))]
    assert journal.write_shard("sha256-2d", lines)
    assert not journal.write_shard("sha256-2d", lines)
    assert journal.shard("sha256-2d") == lines
    assert (journal.shard("sha256-00"), journal.shard_names()) == ([], ["sha256-2d"])
    problem = Problem(ProblemKind.MISSING_BLOB, "app", "key", DIGEST, "detail")
    other = Problem(ProblemKind.INVALID_NAME, "App", "App/", "", "detail")
    journal.write_problems([problem, other])
    journal.write_problems({other, problem})
    assert journal.problems() == sorted([problem, other])
    assert counting.calls["write"] == 3


def test_the_first_index_is_kept_until_it_is_replaced(driver: MemoryDriver) -> None:
    journal = MigrationJournal(driver)
    journal.begin("per-repository", ())
    assert journal.saved_index("app") is None
    for data, replace, kept in ((b"1", False, b"1"), (b"2", False, b"1"), (b"3", True, b"3")):
        journal.save_index("app", data, replace=replace)
        assert journal.saved_index("app") == kept
    journal.save_ours("app", b"ours")
    assert journal.locations.ours("app") == b"ours"

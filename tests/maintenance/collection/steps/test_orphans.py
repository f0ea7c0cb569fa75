"""Objects that no row knows, where all repositories share blobs; files that were found, on disk (check 19)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.database.collection import orphans as queries
from registry.database.statement import Statement
from registry.images.backends import Policy
from registry.images.registry import Registry
from registry.maintenance.collection.budget import Budget, Stopped
from registry.maintenance.collection.finding import Kind
from registry.maintenance.collection.ledger import Ledger
from registry.maintenance.collection.run import CollectionRun, Wanted
from registry.maintenance.collection.steps import named_digests
from registry.maintenance.collection.steps import orphans as orphans_module
from registry.maintenance.collection.steps.batch_deletion import BatchDeletion
from registry.maintenance.collection.steps.named_digests import NamedDigests
from registry.maintenance.collection.survey.gc_state import GcState
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.collection import Report, run, settle
from tests.support.met_world import OWN, PLACES, SHARED, met, open_world
from tests.support.payloads import Blob
from tests.support.registry_world import (
    NAME,
    World,
    make_image,
    pull,
    pull_blob,
    push_blob,
    push_image,
    read_index,
    write_index,
)

WEEK = 604800.0
LOST = Blob(b"of a push whose process was killed")
_NAME_ROWLESS = Statement(
    "INSERT INTO reference (repository_id, manifest_id, digest, kind)"
    " SELECT m.repository_id, m.blob_id, :digest, 'blob' FROM manifest m"
)
_IN_TRASH = Statement(
    "INSERT INTO trash_reference (repository_id, manifest_id, digest, kind) VALUES (1, 1, :digest, 'blob')"
)


@pytest.fixture(params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = open_world(request, tmp_path)
    made.policy = Policy(lease=0, grace=100, undelete_window=0, claim=2.0, unclear=2.0)
    made.clock.now += 60  # what is written now is older than a run that begins now
    yield made
    made.close()


@pytest.fixture
def registry(world: World) -> Registry:
    return met(world)


@pytest.fixture
def shared(registry: Registry) -> Registry:
    """A registry whose repositories share all blobs."""
    return registry


@pytest.fixture
def own(registry: Registry) -> Registry:
    """A registry whose repositories have blobs of their own."""
    return registry


def key_of(registry: Registry, data: bytes) -> str:
    return registry.backends.layout.blob(NAME, Digest.of(data))


def lose(registry: Registry, data: bytes = LOST.data) -> str:
    """Leave an object without rows; its key."""
    key = key_of(registry, data)
    registry.backends.driver.write(key, data)
    return key


def pass_seconds(world: World, seconds: float) -> None:
    """On SQLite by the clock of the world; a server has its own."""
    world.clock.now += seconds
    if not world.url.startswith("sqlite"):
        time.sleep(seconds)


def is_there(registry: Registry, key: str) -> bool:
    try:
        registry.backends.driver.stat(key)
    except PathNotFound:
        return False
    return True


def swept(registry: Registry, **wanted: Any) -> Report:
    """One run without any patience for orphans; as each run it writes the document of collection first."""
    if not wanted.get("dry"):
        GcState(registry).begin()
    return run(registry, **wanted)


def swept_with(registry: Registry, ledger: Ledger, budget: Budget | None = None) -> None:
    """As ``swept``, where a problem is looked for."""
    GcState(registry).begin()
    CollectionRun(registry, Wanted(), ledger, budget or Budget(None), {}).finish()


def cursor_of(registry: Registry) -> str:
    with registry.backends.database.autocommit() as connection:
        return queries.cursor(connection).get()


def orphans_of(report: Report) -> list[tuple[str | None, int]]:
    return [(each.digest, each.bytes) for each in report.removed if each.kind is Kind.ORPHAN]


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_an_object_that_no_row_knows_goes_and_what_is_known_stays(shared: Registry) -> None:
    push_image(shared, "one", "v1")
    push_blob(shared, b"not named yet")
    key = lose(shared)
    dry = swept(shared, dry=True)
    assert is_there(shared, key)
    report = swept(shared)
    assert orphans_of(dry) == orphans_of(report) == [(LOST.digest, len(LOST.data))]
    assert not is_there(shared, key)
    assert orphans_of(swept(shared)) == []
    pull(shared, "v1")
    push_blob(shared, LOST.data)
    assert pull_blob(shared, Digest.of(LOST.data)) == LOST.data


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_an_object_that_is_young_waits(shared: Registry, world: World) -> None:
    key = lose(shared)
    report = run(shared, orphans_after=WEEK)
    assert is_there(shared, key)
    (waiting,) = [each for each in report.waiting if each.kind is Kind.ORPHAN]
    assert waiting.digest == LOST.digest
    assert waiting.until == pytest.approx(world.clock.now + WEEK, abs=600)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_nothing_goes_before_what_was_deleted_can_be_restored_no_longer(world: World, shared: Registry) -> None:
    key = lose(shared)
    patient = world.registry(undelete_window=WEEK)
    run(patient, orphans_after=0.0)
    assert is_there(shared, key)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_what_a_manifest_names_stays_although_no_blob_is_known(shared: Registry) -> None:
    push_image(shared, "one", "v1")
    key = lose(shared)
    with shared.backends.database.transaction() as connection:
        connection.execute(_NAME_ROWLESS, {"digest": LOST.digest})
    report = swept(shared)
    assert orphans_of(report) == []
    assert is_there(shared, key)
    assert sum(report.ledger.kept.values()) >= 1


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_what_the_trash_names_stays_although_no_blob_is_known(shared: Registry) -> None:
    key = lose(shared)
    with shared.backends.database.transaction() as connection:
        connection.execute(_IN_TRASH, {"digest": LOST.digest})
    swept(shared)
    assert is_there(shared, key)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_an_object_that_is_no_blob_stays(shared: Registry) -> None:
    shared.backends.driver.write("storage/blobs/sha256/short", b"x")
    shared.backends.driver.write("storage/blobs/note.txt", b"x")
    report = swept(shared)
    assert orphans_of(report) == []
    assert is_there(shared, "storage/blobs/sha256/short")
    assert is_there(shared, "storage/blobs/note.txt")


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_no_orphan_goes_while_a_repository_is_not_known_whole(shared: Registry) -> None:
    key = lose(shared)
    swept(shared, unsafe={"team/bad": "it cannot be read"})
    assert is_there(shared, key)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_an_orphan_that_is_pushed_while_it_is_swept_is_there_afterwards(
    shared: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 5, by a whole run: the push comes between the look and the claim, or between the claim and the delete."""
    real = BatchDeletion.claim_orphans
    publisher = world.registry()
    for place in ("before", "after"):
        data = f"contested {place}".encode()
        key = lose(shared, data)
        threads = []

        def push_beside(self: BatchDeletion, found: Any) -> Any:
            if place == "before":  # noqa: B023 - called at once
                push_blob(publisher, data)  # noqa: B023
                return real(self, found)
            made = real(self, found)
            pushing = threading.Thread(target=push_blob, args=(publisher, data))  # noqa: B023
            pushing.start()
            threads.append(pushing)  # noqa: B023
            return made

        monkeypatch.setattr(BatchDeletion, "claim_orphans", push_beside)
        swept(shared)
        for thread in threads:
            thread.join(60)
        assert pull_blob(world.registry(), Digest.of(data)) == data
        assert is_there(shared, key)


@pytest.mark.parametrize("moment", list(When))
@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_delete_that_fails_is_a_problem_and_the_push_of_it_heals(
    shared: Registry, world: World, moment: When
) -> None:
    key = lose(shared)
    other = lose(shared, b"another")
    fault = Fault(operation="delete_once", key=key, effect=StorageUnavailable("", "500"), moment=moment, times=1)
    failing = world.registry(driver=FaultyDriver(world.driver(), [fault]))
    report = Report()
    swept_with(failing, report.ledger)
    assert not is_there(shared, other)
    if moment is When.BEFORE:
        assert report.ledger.problems
        if shared.backends.driver.capabilities.late_deletes:  # elsewhere the last step of the same run ends it
            assert is_there(shared, key)
        pass_seconds(world, 5.0)
        shared.blob_deletion.finish_abandoned()
    assert not is_there(shared, key)
    push_blob(shared, LOST.data)
    assert pull_blob(shared, Digest.of(LOST.data)) == LOST.data


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_list_that_fails_takes_nothing(shared: Registry, world: World) -> None:
    key = lose(shared)
    fault = Fault(operation="list", key="storage/blobs", effect=StorageUnavailable("", "500"), times=None)
    failing = world.registry(driver=FaultyDriver(world.driver(), [fault]))
    report = Report()
    swept_with(failing, report.ledger)
    assert report.ledger.problems
    assert is_there(shared, key)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_deleter_that_is_killed_after_its_claim_leaves_what_the_next_run_ends(
    shared: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = lose(shared)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(BatchDeletion, "delete", die)
        with pytest.raises(KeyboardInterrupt):
            swept(shared)
    assert is_there(shared, key)
    pass_seconds(world, 3.0)
    swept(world.registry())
    assert not is_there(shared, key)


@pytest.mark.parametrize("world", SHARED, indirect=True)
def test_a_sweep_that_is_stopped_goes_on_where_it_was(
    shared: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "BATCH", 2)
    monkeypatch.setattr(orphans_module, "NOTED", 1)
    lost = [f"lost {number}".encode() for number in range(9)]
    keys = sorted(lose(shared, data) for data in lost)
    stop = threading.Event()
    ledger = Ledger(lambda removed: stop.set() if removed.digest and ledger.objects == 3 else None)
    with pytest.raises(Stopped):
        swept_with(shared, ledger, Budget(None, stop=stop))
    assert [is_there(shared, key) for key in keys] == [False] * 4 + [True] * 5
    assert cursor_of(shared) == keys[3]
    late = (f"late {number}".encode() for number in range(1000))
    again = next(lose(shared, data) for data in late if key_of(shared, data) < keys[3])
    report = swept(shared)
    assert not any(is_there(shared, key) for key in [*keys, again])
    digests = [key.rpartition("/")[2] for key in [*keys[4:], again]]
    assert [digest for digest, _ in orphans_of(report)] == [f"sha256:{digest}" for digest in digests]
    assert cursor_of(shared) == ""


def test_more_digests_than_fit_are_taken_for_named_and_none_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_digests, "BYTES", 64)
    named = NamedDigests()
    digests = [f"sha256:{number:064x}" for number in range(300)]
    assert digests[0] not in named
    for digest in digests:
        named.add(digest)
    assert all(digest in named for digest in digests)


def test_named_digests_are_read_in_pages_over_all_repositories(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_digests, "PAGE", 2)
    for name in ("a", "b", "c"):
        push_image(registry, name, "v1", name=name)
    rowless = [f"sha256:{number:064x}" for number in range(5)]
    with registry.backends.database.transaction() as connection:
        for digest in rowless:
            connection.execute(_NAME_ROWLESS, {"digest": digest})
    named = NamedDigests.read(registry.backends.database)
    assert all(digest in named for digest in rowless)
    assert make_image("a").layer.digest not in named, "it has a row"


# ---- files that were found


def place(registry: Registry, data: bytes) -> str:
    """Put a file into the directory of the repository, as a tool does that names it later."""
    return lose(registry, data)


@pytest.mark.parametrize("world", OWN, indirect=True)
def test_what_a_tool_copies_for_longer_than_grace_stays_until_it_is_named(own: Registry, world: World) -> None:
    """Check 19: the layout comes blob by blob, and its index last."""
    made = make_image("copied for long")
    push_image(own, "one", "v1")
    own.fold_waiting()
    index = read_index(own)
    for blob in (made.config, made.layer):
        place(own, blob.data)
        own.reconciliation.reconcile(NAME)
        for _ in range(3):
            world.clock.now += 1000  # longer than lease and grace
            assert run(own).removed == []
    place(own, made.manifest.data)
    manifest = made.manifest
    index.set_tag("v2", Descriptor(manifest.media_type, made.digest, len(manifest.data)))
    write_index(own, index)
    own.reconciliation.reconcile(NAME)
    world.clock.now += 1000
    assert settle(own) == []
    pull(own, "v2")


@pytest.mark.parametrize("world", OWN, indirect=True)
def test_what_was_found_goes_when_it_is_asked_for(own: Registry, world: World) -> None:
    push_image(own, "one", "v1")
    own.fold_waiting()
    key = place(own, b"left by a tool")
    assert settle(own) == []
    assert is_there(own, key)
    run(own, with_found=True)
    world.clock.now += 1000
    removed = settle(own, with_found=True)
    assert [each.digest for each in removed] == [str(Digest.of(b"left by a tool"))]
    assert not is_there(own, key)
    pull(own, "v1")

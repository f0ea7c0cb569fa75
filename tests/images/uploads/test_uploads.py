"""Upload sessions: hashed once, continued by any process, ended with everything they held."""

from __future__ import annotations

import uuid

import pytest

from registry.database import upload_sessions as session_rows
from registry.images.registry import Registry
from registry.images.uploads import blob_writer as additions
from registry.images.uploads.session_ids import noted
from registry.images.uploads.uploads import PerhapsClosed
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, BlobUploadBusy, BlobUploadUnknown, DigestInvalid, RangeInvalid
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.support.registry_world import KINDS, NAME, REAL_KIND, World, pull_blob, push_blob

writes_at_once = pytest.mark.parametrize("kind", KINDS)
"""About what a store has that keeps an upload from its beginning, and a lock that ends with its holder."""


def add(registry: Registry, upload: str, start: int, data: bytes) -> None:
    """One PATCH."""
    with registry.uploads.open(NAME, upload, start) as addition:
        addition.write(data)
        addition.commit()


def finish(registry: Registry, upload: str, start: int | None, digest: Digest, data: bytes = b"") -> None:
    """The closing PUT."""
    with registry.uploads.open(NAME, upload, start, digest) as addition:
        addition.write(data)
        registry.uploads.finish(addition, digest)


@pytest.fixture
def storage(world: World) -> FaultyDriver:
    """Counts what is done to storage."""
    return FaultyDriver(world.driver())


@pytest.fixture
def counted(world: World, storage: FaultyDriver) -> Registry:
    return world.registry(driver=storage)


def reads(storage: FaultyDriver) -> tuple[int, int]:
    """How often the bytes of an upload, and of any object, were opened for reading."""
    return storage.calls["writer.read"], storage.calls["open"]


def test_an_upload_that_one_process_saw_is_not_read_again(counted: Registry, storage: FaultyDriver) -> None:
    upload = counted.uploads.start(NAME)
    add(counted, upload, 0, b"first ")
    add(counted, upload, 6, b"second ")
    finish(counted, upload, 13, Digest.of(b"first second third"), b"third")
    assert reads(storage) == (0, 0)
    assert pull_blob(counted, Digest.of(b"first second third")) == b"first second third"


def test_another_process_closes_with_the_digest_that_the_first_committed(
    world: World, registry: Registry, storage: FaultyDriver
) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"whole")
    other = world.registry(driver=storage)
    finish(other, upload, 5, Digest.of(b"whole"))
    assert reads(storage) == (0, 0)
    assert pull_blob(other, Digest.of(b"whole")) == b"whole"


def test_what_another_process_continued_is_read_once(world: World, registry: Registry, storage: FaultyDriver) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"here ")
    other = world.registry(driver=storage)
    add(other, upload, 5, b"there ")
    assert registry.uploads.find(NAME, upload).digest is None
    finish(other, upload, 11, Digest.of(b"here there end"), b"end")
    assert reads(storage) == (1, 0)
    assert pull_blob(registry, Digest.of(b"here there end")) == b"here there end"


def test_wrong_bytes_are_found_also_when_no_process_saw_them_all(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"here ")
    other = world.registry()
    add(other, upload, 5, b"there")
    with pytest.raises(DigestInvalid):
        finish(other, upload, 10, Digest.of(b"other bytes"))
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.find(NAME, upload)


def test_a_closing_digest_of_another_algorithm_reads_the_bytes_once(counted: Registry, storage: FaultyDriver) -> None:
    upload = counted.uploads.start(NAME)
    add(counted, upload, 0, b"some bytes")
    finish(counted, upload, 10, Digest.of(b"some bytes", "sha512"))
    assert reads(storage) == (1, 0)
    assert pull_blob(counted, Digest.of(b"some bytes", "sha512")) == b"some bytes"


def test_an_algorithm_known_from_the_start_is_hashed_while_receiving(counted: Registry, storage: FaultyDriver) -> None:
    upload = counted.uploads.start(NAME, "sha512")
    finish(counted, upload, 0, Digest.of(b"some bytes", "sha512"), b"some bytes")
    assert reads(storage) == (0, 0)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_empty_blob(registry: Registry, algorithm: str) -> None:
    assert pull_blob(registry, push_blob(registry, b"", algorithm=algorithm)) == b""


def test_bytes_that_were_not_committed_are_dropped_by_who_goes_on(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"kept ")
    with registry.uploads.open(NAME, upload, 5) as addition:
        addition.write(b"of a worker that died")
    for process in (registry, world.registry()):
        assert process.uploads.find(NAME, upload).offset == 5
    finish(registry, upload, 5, Digest.of(b"kept end"), b"end")
    assert pull_blob(registry, Digest.of(b"kept end")) == b"kept end"


@pytest.mark.parametrize("start", [0, 3, 5])
def test_a_chunk_out_of_order_is_refused_and_the_upload_lives_on(registry: Registry, start: int) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"four")
    with pytest.raises(RangeInvalid) as refusal:
        add(registry, upload, start, b"more")
    assert refusal.value.detail == {"offset": 4}
    finish(registry, upload, 4, Digest.of(b"four"))


@writes_at_once
def test_one_writer_at_a_time(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    other = world.registry()
    with registry.uploads.open(NAME, upload, 0) as addition:
        with pytest.raises(BlobUploadBusy):
            other.uploads.open(NAME, upload, 0)
        with pytest.raises(BlobUploadBusy):
            other.uploads.cancel(NAME, upload)
        addition.write(b"bytes")
        addition.commit()
    add(other, upload, 5, b" more")


def test_an_upload_belongs_to_its_repository(registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.find("other/app", upload)
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.open("other/app", upload, 0)
    assert registry.uploads.find(NAME, upload).offset == 0


def test_a_cancelled_upload_leaves_nothing(registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"bytes")
    registry.uploads.cancel(NAME, upload)
    assert registry.uploads.count() == 0
    assert list(registry.backends.driver.uploads()) == []
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.cancel(NAME, upload)


def test_wrong_bytes_end_the_upload_and_are_never_visible(registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    push_blob(registry, b"so that the repository exists")
    with pytest.raises(DigestInvalid):
        finish(registry, upload, 0, Digest.of(b"promised"), b"delivered")
    for data in (b"promised", b"delivered"):
        with pytest.raises(BlobUnknown):
            registry.blobs.find(NAME, Digest.of(data))
    assert registry.uploads.count() == 0
    assert list(registry.backends.driver.uploads()) == []


@writes_at_once
def test_abandoned_uploads_go_with_their_bytes(world: World, registry: Registry) -> None:
    old, orphan = registry.uploads.start(NAME), "of-a-lost-database"
    add(registry, old, 0, b"bytes")
    registry.backends.driver.start_upload(orphan)
    world.clock.now += registry.backends.policy.upload_expiry - 60
    young = registry.uploads.start(NAME)
    assert registry.uploads.expire() == 0
    world.clock.now += 120
    assert registry.uploads.expire() == 2
    assert registry.uploads.count() == 1
    assert registry.uploads.find(NAME, young).offset == 0


@pytest.mark.parametrize("kind", [REAL_KIND])
def test_a_long_upload_does_not_expire_while_bytes_come(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additions, "LOOK_SECONDS", -1)
    upload = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, upload, 0) as addition:
        for _ in range(3):
            world.clock.now += registry.backends.policy.upload_expiry - 60
            addition.write(b"slow")
            assert world.registry().uploads.expire() == 0
        registry.uploads.finish(addition, Digest.of(b"slow" * 3))
    assert pull_blob(registry, Digest.of(b"slow" * 3)) == b"slow" * 3


@writes_at_once
def test_an_upload_that_is_being_written_to_does_not_expire(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, upload, 0) as addition:
        world.clock.now += registry.backends.policy.upload_expiry + 60
        assert world.registry().uploads.expire() == 0
        addition.write(b"slow")
        registry.uploads.finish(addition, Digest.of(b"slow"))
    assert pull_blob(registry, Digest.of(b"slow")) == b"slow"


@writes_at_once
def test_an_upload_whose_remains_cannot_be_freed_is_finished_all_the_same(world: World) -> None:
    registry = world.registry(driver=FaultyDriver(world.driver(), [Fault("discard_upload", effect=StorageUnavailable)]))
    digest = push_blob(registry, b"bytes")
    assert pull_blob(registry, digest) == b"bytes"
    world.clock.now += registry.backends.policy.upload_expiry + 60
    assert registry.uploads.expire() == 1
    assert list(registry.backends.driver.uploads()) == []


@writes_at_once
@pytest.mark.parametrize("first", [b"", b"first "])
def test_a_session_that_goes_on_in_the_instant_of_its_expiry_stays(
    world: World, registry: Registry, first: bytes
) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, first)
    goes_on = Fault("open_upload", effect=lambda: add(registry, upload, len(first), b"goes on"))
    other = world.registry(driver=FaultyDriver(world.driver(), [goes_on]))
    world.clock.now += registry.backends.policy.upload_expiry + 60
    assert other.uploads.expire() == 0
    finish(registry, upload, len(first) + 7, Digest.of(first + b"goes on"))
    assert pull_blob(registry, Digest.of(first + b"goes on")) == first + b"goes on"


def test_the_running_hash_goes_with_its_upload(registry: Registry) -> None:
    data = b"hashed while it came"
    wrong = Digest.of(b"other bytes")
    for ending in ("finish", "wrong", "cancel"):
        upload_id = registry.uploads.start(NAME)
        with registry.uploads.open(NAME, upload_id, None) as addition:
            addition.write(data)
            addition.commit()
        assert registry.uploads.running_hashes == 1
        if ending == "cancel":
            registry.uploads.cancel(NAME, upload_id)
        else:
            with registry.uploads.open(NAME, upload_id, None) as addition:
                if ending == "finish":
                    registry.uploads.finish(addition, Digest.of(data))
                else:
                    with pytest.raises(DigestInvalid):
                        registry.uploads.finish(addition, wrong)
        assert registry.uploads.running_hashes == 0, ending


@pytest.mark.parametrize("moment", list(When))
def test_a_chunk_that_could_not_be_stored_is_sent_again_and_the_digest_is_right(world: World, moment: When) -> None:
    fault = Fault("writer.write", first=2, effect=StorageUnavailable, moment=moment)
    registry = world.registry(driver=FaultyDriver(world.driver(), [fault]))
    upload = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, upload, 0) as addition:
        addition.write(b"kept ")
        with pytest.raises(StorageUnavailable):
            addition.write(b"lost")
        addition.commit()  # what came before it is kept, as at the end of every request
    assert registry.uploads.find(NAME, upload).offset == 5
    add(registry, upload, 5, b"lost ")
    finish(registry, upload, 10, Digest.of(b"kept lost end"), b"end")
    assert pull_blob(registry, Digest.of(b"kept lost end")) == b"kept lost end"


def sessions(world: World) -> int:
    """Rows of upload sessions."""
    with world.registry().backends.database.autocommit() as connection:
        return len(session_rows.expired(connection, before=world.clock.now + 1).get())


@writes_at_once
def test_a_session_has_a_row_only_while_bytes_are_kept_between_requests(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    assert (sessions(world), registry.uploads.count()) == (0, 1)
    add(world.registry(), upload, 0, b"kept ")
    assert (sessions(world), registry.uploads.count()) == (1, 1)
    finish(world.registry(), upload, 5, Digest.of(b"kept end"), b"end")
    assert (sessions(world), registry.uploads.count()) == (0, 0)


@writes_at_once
def test_a_session_without_a_row_is_any_workers(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME, "sha512")
    found = world.registry().uploads.find(NAME, upload)
    assert (found.offset, found.algorithm) == (0, "sha512")
    world.registry().uploads.cancel(NAME, upload)
    for process in (registry, world.registry()):
        with pytest.raises(BlobUploadUnknown):
            process.uploads.find(NAME, upload)


@writes_at_once
def test_a_session_that_a_former_release_began_is_finished(world: World, registry: Registry) -> None:
    old = str(uuid.uuid4())
    note = registry.backends.driver.start_upload(old).note
    with registry.backends.database.transaction() as connection:
        row = session_rows.SessionRow(old, NAME, 0, "sha256", Digest.of(b""), note, None, world.clock.now)
        session_rows.add(connection, row, now=world.clock.now)
    add(registry, old, 0, b"old ")
    finish(world.registry(), old, 4, Digest.of(b"old end"), b"end")
    assert pull_blob(registry, Digest.of(b"old end")) == b"old end"
    assert (sessions(world), list(registry.backends.driver.uploads())) == (0, [])


@writes_at_once
def test_bytes_of_a_process_that_was_killed_before_their_row_are_dropped(world: World) -> None:
    registry = world.registry()
    upload = registry.uploads.start(NAME)
    with registry.uploads.open(NAME, upload, 0) as addition:
        addition.write(b"of a worker that died")
    other = world.registry()
    assert other.uploads.find(NAME, upload).offset == 0
    finish(other, upload, 0, Digest.of(b"whole"), b"whole")
    assert pull_blob(other, Digest.of(b"whole")) == b"whole"


@writes_at_once
@pytest.mark.parametrize("start", [None, 5])
@pytest.mark.parametrize("rest", [b"", b"rest"])
def test_closing_once_more_after_a_crash_left_the_file(world: World, rest: bytes, start: int | None) -> None:
    """The rows are committed, the process dies, and the client sends its last request to the next one."""
    left = Fault("discard_upload", effect=StorageUnavailable)
    registry, other = world.registry(driver=FaultyDriver(world.driver(), [left])), world.registry()
    digest, upload = Digest.of(b"kept " + rest), registry.uploads.start(NAME)
    world.clock.now += 1
    add(registry, upload, 0, b"kept ")
    finish(registry, upload, 5, digest, rest)
    with pytest.raises((BlobUploadUnknown, PerhapsClosed)):
        finish(other, upload, start, digest, rest)
    other.blobs.require_written_down(NAME, digest)
    assert pull_blob(other, digest) == b"kept " + rest


@writes_at_once
def test_all_bytes_once_more_after_a_crash_left_the_file(world: World) -> None:
    left = Fault("discard_upload", effect=StorageUnavailable)
    registry, other = world.registry(driver=FaultyDriver(world.driver(), [left])), world.registry()
    digest, upload = Digest.of(b"at once"), registry.uploads.start(NAME)
    for process in (registry, other):
        finish(process, upload, 0, digest, b"at once")
    assert pull_blob(other, digest) == b"at once"
    assert list(other.backends.driver.uploads()) == []


@writes_at_once
def test_wrong_bytes_for_a_blob_that_was_there_before_are_refused(world: World, registry: Registry) -> None:
    """Also where it came in the millisecond in which the session began."""
    digest = push_blob(registry, b"there before")
    upload = registry.uploads.start(NAME)
    with pytest.raises(DigestInvalid) as raised:
        finish(registry, upload, 0, digest, b"other bytes")
    assert not isinstance(raised.value, PerhapsClosed)


@writes_at_once
def test_a_client_that_took_one_byte_for_none_begins_anew(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"x")
    finish(world.registry(), upload, 0, Digest.of(b"other"), b"other")
    assert pull_blob(registry, Digest.of(b"other")) == b"other"
    assert sessions(world) == 0


@writes_at_once
def test_what_another_process_began_again_is_no_longer_what_this_one_hashed(world: World, registry: Registry) -> None:
    upload = registry.uploads.start(NAME)
    add(registry, upload, 0, b"x")
    add(world.registry(), upload, 0, b"y")
    with pytest.raises(DigestInvalid):
        finish(registry, upload, None, Digest.of(b"x"))


@writes_at_once
def test_a_session_that_began_again_and_has_nothing_yet_goes_on_and_ends(world: World, registry: Registry) -> None:
    """Its file is empty as that of one without a row, and it has a row."""
    going_on, cancelled = (registry.uploads.start(NAME) for _ in range(2))
    for upload in (going_on, cancelled):
        add(registry, upload, 0, b"x")
        registry.uploads.open(NAME, upload, 0).close()
    add(world.registry(), going_on, 0, b"abc")
    assert registry.uploads.find(NAME, going_on).offset == 3
    finish(registry, going_on, 3, Digest.of(b"abcd"), b"d")
    registry.uploads.cancel(NAME, cancelled)
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.find(NAME, cancelled)
    assert sessions(world) == 0


@writes_at_once
def test_asking_for_the_status_of_a_session_keeps_no_writer_out(counted: Registry, storage: FaultyDriver) -> None:
    upload = counted.uploads.start(NAME)
    assert counted.uploads.find(NAME, upload).offset == 0
    assert storage.calls["open_upload"] == 0


@writes_at_once
def test_an_expired_session_without_a_row_goes_unless_it_is_written_to(world: World, registry: Registry) -> None:
    idle, busy = registry.uploads.start(NAME), registry.uploads.start(NAME)
    with registry.uploads.open(NAME, busy, 0) as addition:
        world.clock.now += registry.backends.policy.upload_expiry + 60
        assert world.registry().uploads.expire() == 1
        assert {entry.upload_id for entry in registry.backends.driver.uploads()} == {noted(busy)}
        addition.write(b"goes on")
        registry.uploads.finish(addition, Digest.of(b"goes on"))
    with pytest.raises(BlobUploadUnknown):
        registry.uploads.find(NAME, idle)

"""Upload sessions: hashed once, continued by any process, ended with everything they held."""

from __future__ import annotations

import pytest

from registry.images import blob_writer as additions
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, BlobUploadBusy, BlobUploadUnknown, DigestInvalid, RangeInvalid
from registry.storage.errors import StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver, When
from tests.images.world import KINDS, NAME, REAL_KIND, World, pull_blob, push_blob

writes_at_once = pytest.mark.parametrize("kind", KINDS)
"""About what a store has that keeps an upload from its beginning, and a lock that ends with its holder."""


def add(core: Registry, upload: str, start: int, data: bytes) -> None:
    """One PATCH."""
    with core.uploads.add(NAME, upload, start) as addition:
        addition.add(data)
        addition.commit()


def finish(core: Registry, upload: str, start: int, digest: Digest, data: bytes = b"") -> None:
    """The closing PUT."""
    with core.uploads.add(NAME, upload, start) as addition:
        addition.add(data)
        core.uploads.finish(addition, digest)


@pytest.fixture
def storage(world: World) -> FaultyDriver:
    """Counts what is done to storage."""
    return FaultyDriver(world.driver())


@pytest.fixture
def counted(world: World, storage: FaultyDriver) -> Registry:
    return world.core(driver=storage)


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
    world: World, core: Registry, storage: FaultyDriver
) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"whole")
    other = world.core(driver=storage)
    finish(other, upload, 5, Digest.of(b"whole"))
    assert reads(storage) == (0, 0)
    assert pull_blob(other, Digest.of(b"whole")) == b"whole"


def test_what_another_process_continued_is_read_once(world: World, core: Registry, storage: FaultyDriver) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"here ")
    other = world.core(driver=storage)
    add(other, upload, 5, b"there ")
    assert core.uploads.find(NAME, upload).digest is None
    finish(other, upload, 11, Digest.of(b"here there end"), b"end")
    assert reads(storage) == (1, 0)
    assert pull_blob(core, Digest.of(b"here there end")) == b"here there end"


def test_wrong_bytes_are_found_also_when_nobody_saw_them_all(world: World, core: Registry) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"here ")
    other = world.core()
    add(other, upload, 5, b"there")
    with pytest.raises(DigestInvalid):
        finish(other, upload, 10, Digest.of(b"other bytes"))
    with pytest.raises(BlobUploadUnknown):
        core.uploads.find(NAME, upload)


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
def test_the_empty_blob(core: Registry, algorithm: str) -> None:
    assert pull_blob(core, push_blob(core, b"", algorithm=algorithm)) == b""


def test_bytes_that_were_not_committed_are_dropped_by_who_goes_on(world: World, core: Registry) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"kept ")
    with core.uploads.add(NAME, upload, 5) as addition:
        addition.add(b"of a worker that died")
    for process in (core, world.core()):
        assert process.uploads.find(NAME, upload).offset == 5
    finish(core, upload, 5, Digest.of(b"kept end"), b"end")
    assert pull_blob(core, Digest.of(b"kept end")) == b"kept end"


@pytest.mark.parametrize("start", [0, 3, 5])
def test_a_chunk_out_of_order_is_refused_and_the_upload_lives_on(core: Registry, start: int) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"four")
    with pytest.raises(RangeInvalid) as refusal:
        add(core, upload, start, b"more")
    assert refusal.value.detail == {"offset": 4}
    finish(core, upload, 4, Digest.of(b"four"))


@writes_at_once
def test_one_writer_at_a_time(world: World, core: Registry) -> None:
    upload = core.uploads.start(NAME)
    other = world.core()
    with core.uploads.add(NAME, upload, 0) as addition:
        with pytest.raises(BlobUploadBusy):
            other.uploads.add(NAME, upload, 0)
        with pytest.raises(BlobUploadBusy):
            other.uploads.cancel(NAME, upload)
        addition.add(b"bytes")
        addition.commit()
    add(other, upload, 5, b" more")


def test_an_upload_belongs_to_its_repository(core: Registry) -> None:
    upload = core.uploads.start(NAME)
    with pytest.raises(BlobUploadUnknown):
        core.uploads.find("other/app", upload)
    with pytest.raises(BlobUploadUnknown):
        core.uploads.add("other/app", upload, 0)
    assert core.uploads.find(NAME, upload).offset == 0


def test_a_cancelled_upload_leaves_nothing(core: Registry) -> None:
    upload = core.uploads.start(NAME)
    add(core, upload, 0, b"bytes")
    core.uploads.cancel(NAME, upload)
    assert core.uploads.count() == 0
    assert list(core.stores.driver.uploads()) == []
    with pytest.raises(BlobUploadUnknown):
        core.uploads.cancel(NAME, upload)


def test_wrong_bytes_end_the_upload_and_are_never_visible(core: Registry) -> None:
    upload = core.uploads.start(NAME)
    push_blob(core, b"so that the repository exists")
    with pytest.raises(DigestInvalid):
        finish(core, upload, 0, Digest.of(b"promised"), b"delivered")
    for data in (b"promised", b"delivered"):
        with pytest.raises(BlobUnknown):
            core.blobs.find(NAME, Digest.of(data))
    assert core.uploads.count() == 0
    assert list(core.stores.driver.uploads()) == []


@writes_at_once
def test_uploads_that_nobody_continued_go_with_their_bytes(world: World, core: Registry) -> None:
    old, orphan = core.uploads.start(NAME), "of-a-lost-database"
    add(core, old, 0, b"bytes")
    core.stores.driver.start_upload(orphan)
    world.clock.now += core.stores.rules.upload_expiry - 60
    young = core.uploads.start(NAME)
    assert core.uploads.expire() == 0
    world.clock.now += 120
    assert core.uploads.expire() == 2
    assert core.uploads.count() == 1
    assert core.uploads.find(NAME, young).offset == 0


@pytest.mark.parametrize("kind", [REAL_KIND])
def test_a_long_upload_does_not_expire_while_bytes_come(
    world: World, core: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additions, "LOOK_SECONDS", -1)
    upload = core.uploads.start(NAME)
    with core.uploads.add(NAME, upload, 0) as addition:
        for _ in range(3):
            world.clock.now += core.stores.rules.upload_expiry - 60
            addition.add(b"slow")
            assert world.core().uploads.expire() == 0
        core.uploads.finish(addition, Digest.of(b"slow" * 3))
    assert pull_blob(core, Digest.of(b"slow" * 3)) == b"slow" * 3


@writes_at_once
def test_an_upload_that_is_being_written_to_does_not_expire(world: World, core: Registry) -> None:
    upload = core.uploads.start(NAME)
    with core.uploads.add(NAME, upload, 0) as addition:
        world.clock.now += core.stores.rules.upload_expiry + 60
        assert world.core().uploads.expire() == 0
        addition.add(b"slow")
        core.uploads.finish(addition, Digest.of(b"slow"))
    assert pull_blob(core, Digest.of(b"slow")) == b"slow"


@writes_at_once
def test_an_upload_whose_remains_cannot_be_freed_is_finished_all_the_same(world: World) -> None:
    core = world.core(driver=FaultyDriver(world.driver(), [Fault("discard_upload", effect=StorageUnavailable)]))
    digest = push_blob(core, b"bytes")
    assert pull_blob(core, digest) == b"bytes"
    world.clock.now += core.stores.rules.upload_expiry + 60
    assert core.uploads.expire() == 1
    assert list(core.stores.driver.uploads()) == []


def test_the_running_hash_goes_with_its_upload(core: Registry) -> None:
    data = b"hashed while it came"
    wrong = Digest.of(b"other bytes")
    for ending in ("finish", "wrong", "cancel"):
        upload_id = core.uploads.start(NAME)
        with core.uploads.add(NAME, upload_id, None) as addition:
            addition.add(data)
            addition.commit()
        assert core.uploads.running_hashes == 1
        if ending == "cancel":
            core.uploads.cancel(NAME, upload_id)
        else:
            with core.uploads.add(NAME, upload_id, None) as addition:
                if ending == "finish":
                    core.uploads.finish(addition, Digest.of(data))
                else:
                    with pytest.raises(DigestInvalid):
                        core.uploads.finish(addition, wrong)
        assert core.uploads.running_hashes == 0, ending


@pytest.mark.parametrize("moment", list(When))
def test_a_chunk_that_could_not_be_stored_is_sent_again_and_the_digest_is_right(world: World, moment: When) -> None:
    fault = Fault("writer.write", first=2, effect=StorageUnavailable, moment=moment)
    core = world.core(driver=FaultyDriver(world.driver(), [fault]))
    upload = core.uploads.start(NAME)
    with core.uploads.add(NAME, upload, 0) as addition:
        addition.add(b"kept ")
        with pytest.raises(StorageUnavailable):
            addition.add(b"lost")
        addition.commit()  # what came before it is kept, as at the end of every request
    assert core.uploads.find(NAME, upload).offset == 5
    add(core, upload, 5, b"lost ")
    finish(core, upload, 10, Digest.of(b"kept lost end"), b"end")
    assert pull_blob(core, Digest.of(b"kept lost end")) == b"kept lost end"

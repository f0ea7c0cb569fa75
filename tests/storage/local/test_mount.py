"""The local driver over several file systems, on a full disk, on a read-only one, and when its disk is gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.storage.errors import AlreadyExists, PathNotFound, StorageError, StorageFull, StorageUnavailable
from registry.storage.local.driver import LocalDriver
from tests.storage import workers
from tests.storage.uploads import NO_STATE, publish

A, B, C = "near/blobs/sha256/0", "far/blobs/sha256/0", "far/app/blobs/sha256/0"

Mount = Callable[..., Path]


def upload(driver: LocalDriver, upload_id: str, data: bytes) -> None:
    driver.start_upload(upload_id)
    with driver.open_upload(upload_id) as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)


@pytest.fixture(params=["tmpfs", "bind"])
def far(request: pytest.FixtureRequest, root: Path, tmp_path: Path, mount: Mount) -> Path:
    """A repository's directory that is a mount: another device, or the same one where renames fail all the same."""
    if request.param == "tmpfs":
        return mount(root / "far", "-t", "tmpfs", "-o", "size=16m")
    (tmp_path / "elsewhere").mkdir()
    return mount(root / "far", "--bind", source=str(tmp_path / "elsewhere"))


@pytest.fixture
def driver(root: Path) -> LocalDriver:
    return LocalDriver(root)


def leftovers(directory: Path) -> list[Path]:
    return list(directory.rglob(".tmp-*"))


# ---- a repository on another file system


def test_an_upload_is_published_into_a_mount(far: Path, driver: LocalDriver, root: Path) -> None:
    data = os.urandom(3 << 20)
    upload(driver, "u1", data)
    for key in (B, B, C):
        assert publish(driver, "u1", key) == driver.stat(key)
        assert (root / key).read_bytes() == data
    assert leftovers(far) == []
    assert [entry.upload_id for entry in driver.uploads()] == ["u1"]


def test_writes_into_a_mount_are_conditional_too(far: Path, driver: LocalDriver) -> None:
    first = driver.write("far/index.json", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        driver.write("far/index.json", b"2", if_absent=True)
    second = driver.write("far/index.json", b"2", if_etag=first.etag)
    assert driver.read("far/index.json", max_bytes=9) == (b"2", second)
    driver.append("far/app/.journal/1", b"line\n")
    assert [key for key, _ in driver.list("")] == ["far/app/.journal/1", "far/index.json"]
    assert leftovers(far) == []


def test_a_link_into_a_mount_is_a_copy(far: Path, driver: LocalDriver, root: Path) -> None:
    driver.write(A, b"blob")
    driver.link(A, B)
    driver.link(A, B)
    assert (root / B).read_bytes() == b"blob"
    driver.link(B, "near/blobs/sha256/1")
    assert (root / "near/blobs/sha256/1").read_bytes() == b"blob"
    assert leftovers(root) == []
    assert list(driver.uploads()) == []


@pytest.mark.parametrize("present", [False, True])
def test_a_link_within_a_mount_shares_the_inode(far: Path, driver: LocalDriver, root: Path, present: bool) -> None:
    driver.write(B, b"blob")
    if present:
        driver.write(C, b"another")
    driver.link(B, C)
    assert (root / B).stat().st_ino == (root / C).stat().st_ino
    assert leftovers(far) == []


def test_a_temporary_file_in_a_mount_that_was_left_behind_is_reported_and_freed(
    far: Path, driver: LocalDriver, root: Path
) -> None:
    upload(driver, "u1", b"blob")
    process = workers.start(workers.publish_and_die, root, "u1", B)
    process.join(60)
    assert process.exitcode == 9
    assert len(leftovers(far)) == 1
    assert list(driver.list("")) == []
    (marker,) = [entry.upload_id for entry in driver.uploads() if entry.upload_id != "u1"]
    driver.discard_upload(marker)
    assert leftovers(far) == []
    assert [entry.upload_id for entry in driver.uploads()] == ["u1"]


def test_a_link_within_another_disk_replaces_without_a_copy_on_the_way(
    root: Path, mount: Mount, driver: LocalDriver, caplog: pytest.LogCaptureFixture
) -> None:
    mount(root / "far", "-t", "tmpfs", "-o", "size=16m")
    driver.write(B, b"blob")
    driver.write(C, b"another")
    LocalDriver(root).link(B, C)  # which has not met this disk before
    assert (root / B).stat().st_ino == (root / C).stat().st_ino
    assert caplog.records == []


# ---- a full disk


@pytest.fixture
def small(root: Path, mount: Mount) -> LocalDriver:
    """A store on a disk of 1 MiB."""
    return LocalDriver(mount(root, "-t", "tmpfs", "-o", "size=1m"))


def test_a_full_disk_refuses_every_kind_of_write_and_publishes_nothing(small: LocalDriver, root: Path) -> None:
    small.write("a/index.json", b"old")
    small.append("a/.journal/1", b"line\n")
    small.start_upload("u1")
    with small.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(b"x" * 500_000)
        with pytest.raises(StorageFull):
            writer.write(b"x" * 600_000)
        # Whatever was added is dropped by the next one to resume, here so that less than a page is free.
        writer.resume(NO_STATE, offset=500_000)
    with pytest.raises(StorageFull):
        small.write("a/index.json", b"y" * 600_000)
    with pytest.raises(StorageFull):
        small.append("a/.journal/1", b"y" * 600_000 + b"\n")
    assert small.read("a/index.json", max_bytes=10)[0] == b"old"
    assert small.read("a/.journal/1", max_bytes=10)[0] == b"line\n"
    assert [entry.upload_id for entry in small.uploads()] == ["u1"]
    assert publish(small, "u1", "a/blobs/sha256/0").size == 500_000


def test_a_full_disk_fails_the_check(small: LocalDriver, root: Path) -> None:
    with (root / "ballast").open("wb", buffering=0) as ballast:
        assert ballast.write(b"x" * (2 << 20)) < 2 << 20
    with pytest.raises(StorageFull):
        small.check()
    (root / "ballast").unlink()
    small.check()


def test_a_file_size_limit_is_a_full_disk(root: Path) -> None:
    """Without mounting anything: RLIMIT_FSIZE makes the kernel refuse the write."""
    LocalDriver(root).start_upload("u1")
    workers.finish([workers.start(workers.meet_file_size_limit, root, "u1")])


# ---- a disk that cannot be written, or is gone


def test_a_read_only_disk_serves_reads_and_fails_the_check(root: Path, mount: Mount) -> None:
    driver = LocalDriver(mount(root, "-t", "tmpfs", "-o", "size=1m"))
    driver.write("a/x", b"data")
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True, capture_output=True)
    assert driver.read("a/x", max_bytes=10)[0] == b"data"
    with pytest.raises(StorageUnavailable, match="Read-only"):
        driver.check()
    for call in (
        lambda: driver.write("a/x", b"new"),
        lambda: driver.append("a/y", b"line\n"),
        lambda: driver.delete(["a/x"]),
        lambda: driver.link("a/x", "b/x"),
        lambda: driver.start_upload("u1"),
    ):
        with pytest.raises(StorageUnavailable):
            call()


def test_a_store_whose_disk_is_unmounted_is_unavailable_and_never_empty(root: Path, mount: Mount) -> None:
    driver = LocalDriver(mount(root, "-t", "tmpfs", "-o", "size=1m"))
    driver.write("a/x", b"data")
    subprocess.run(["umount", "--lazy", str(root)], check=True, capture_output=True)  # as a disk that is pulled
    calls: list[Callable[[], object]] = [
        lambda: driver.stat("a/x"),
        lambda: driver.read("a/x", max_bytes=10),
        lambda: driver.open("a/x"),
        lambda: list(driver.list("a")),
        lambda: list(driver.list("")),
        lambda: list(driver.children("a")),
        lambda: list(driver.children("")),
        lambda: driver.delete(["a/x"]),
        lambda: driver.write("a/x", b"new"),
        lambda: driver.append("a/.journal/1", b"line\n"),
        lambda: driver.link("a/x", "b/x"),
        lambda: driver.start_upload("u1"),
        lambda: driver.open_upload("u1"),
        lambda: publish(driver, "u1", "a/x"),
        lambda: list(driver.uploads()),
        driver.check,
    ]
    for call in calls:
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, PathNotFound)
    assert list(root.iterdir()) == []

"""Where a hard link is impossible the local driver clones or copies, and says so once."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.storage.errors import PathNotFound
from registry.storage.local import links
from registry.storage.local.driver import LocalDriver
from tests.storage.uploads import NO_STATE, publish

A, B = "a/blobs/sha256/0", "b/blobs/sha256/0"


def upload(driver: LocalDriver, upload_id: str, data: bytes) -> None:
    driver.start_upload(upload_id)
    with driver.open_upload(upload_id) as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)


@pytest.fixture
def driver(root: Path) -> LocalDriver:
    return LocalDriver(root)


@pytest.fixture(params=[errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV], ids=errno.errorcode.get)
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Why no hard link can be made in this test."""
    number = int(request.param)

    def refuse(source: str, target: str, **_: object) -> None:
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "link", refuse)
    return number


def test_a_link_is_one_inode(driver: LocalDriver, root: Path) -> None:
    driver.write(A, b"blob")
    driver.link(A, B)
    assert (root / A).stat().st_ino == (root / B).stat().st_ino
    assert (root / A).stat().st_nlink == 2


def test_a_link_over_another_copy_makes_one_inode(driver: LocalDriver, root: Path) -> None:
    driver.write(A, b"blob")
    driver.write(B, b"blob")
    driver.link(A, B)
    assert (root / A).stat().st_ino == (root / B).stat().st_ino


def test_publishing_makes_no_copy(driver: LocalDriver, root: Path) -> None:
    upload(driver, "u1", b"blob")
    publish(driver, "u1", A)
    assert (root / A).stat().st_ino == (root / ".uploads/u1").stat().st_ino


def test_without_dedupe_each_repository_has_bytes_of_its_own(root: Path) -> None:
    driver = LocalDriver(root, dedupe=False)
    driver.write(A, b"blob")
    driver.link(A, B)
    assert (root / A).stat().st_ino != (root / B).stat().st_ino
    assert (root / B).read_bytes() == b"blob"


@pytest.mark.parametrize("present", [None, b"", b"something else"])
def test_a_link_falls_back_to_bytes_of_its_own(
    driver: LocalDriver, root: Path, reason: int, present: bytes | None
) -> None:
    data = os.urandom(3 << 20)
    driver.write(A, data)
    if present is not None:
        driver.write(B, present)
    linked = driver.link(A, B)
    assert linked == driver.stat(B)
    assert (root / B).read_bytes() == data
    assert (root / A).stat().st_ino != (root / B).stat().st_ino
    assert list(driver.uploads()) == []


def test_publishing_falls_back_and_leaves_the_upload_apart(driver: LocalDriver, root: Path, reason: int) -> None:
    upload(driver, "u1", b"blob")
    for _ in range(2):
        publish(driver, "u1", A)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=2)
        writer.write(b"xx")
    assert (root / A).read_bytes() == b"blob"
    assert [entry.upload_id for entry in driver.uploads()] == ["u1"]


def test_a_missing_source_stays_not_found(driver: LocalDriver, reason: int) -> None:
    with pytest.raises(PathNotFound):
        driver.link(A, B)
    with pytest.raises(PathNotFound):
        publish(driver, "u1", A)


def test_each_reason_is_logged_once(driver: LocalDriver, reason: int, caplog: pytest.LogCaptureFixture) -> None:
    driver.write(A, b"blob")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            driver.link(A, B)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert os.strerror(reason) in caplog.text


def test_a_clone_is_preferred_to_a_copy(
    driver: LocalDriver, reason: int, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """Where the file system can share extents (as if: this one need not) no byte is moved."""

    def clone(copy: int, request: int, origin: int) -> int:
        assert request == 0x40049409
        os.pwrite(copy, os.pread(origin, 100, 0), 0)
        return 0

    def refuse(origin: int, copy: int, length: int) -> None:
        pytest.fail("copied")

    driver.write(A, b"blob")
    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(links, "_copy_bytes", refuse)
    driver.link(A, B)
    assert (root / B).read_bytes() == b"blob"


def test_a_source_that_shrinks_while_it_is_copied_is_not_published(
    driver: LocalDriver, reason: int, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    from registry.storage.errors import StorageUnavailable

    driver.write(A, os.urandom(3 << 20))
    pread: Callable[[int, int, int], bytes] = os.pread

    def shrinking(descriptor: int, size: int, position: int) -> bytes:
        os.truncate(root / A, 1 << 20)
        return pread(descriptor, size, position)

    monkeypatch.setattr(os, "pread", shrinking)
    with pytest.raises(StorageUnavailable):
        driver.link(A, B)
    with pytest.raises(PathNotFound):
        driver.stat(B)
    assert list(driver.uploads()) == []

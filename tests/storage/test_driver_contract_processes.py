"""The contract between processes, for every driver whose store they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.storage.driver import StorageDriver
from registry.storage.errors import UploadBusy
from tests.storage import workers
from tests.storage.drivers import DriverCase, cases
from tests.storage.uploads import NO_STATE, publish

shared = pytest.mark.parametrize("case", cases(lambda case: case.shared), indirect=True)

with_appends = pytest.mark.parametrize(
    "case", cases(lambda case: case.shared and case.capabilities.appends), indirect=True
)

with_rights = pytest.mark.parametrize(
    "case", cases(lambda case: case.shared and case.capabilities.exclusive_uploads), indirect=True
)


@shared
def test_no_conditional_write_of_several_processes_is_lost(driver: StorageDriver, case: DriverCase, root: Path) -> None:
    workers.finish([workers.start(workers.count, case.name, root, 100) for _ in range(3)])
    assert driver.read("counter", max_bytes=10)[0] == b"300"
    assert list(driver.uploads()) == []


@with_appends
def test_appends_of_several_processes_are_never_mixed(driver: StorageDriver, case: DriverCase, root: Path) -> None:
    workers.finish([workers.start(workers.append, case.name, root, name, 60) for name in ("a", "b", "c")])
    lines = driver.read("team/.journal/1", max_bytes=1 << 22)[0].decode().splitlines()
    assert sorted(lines) == sorted(f"{name} {number} {'x' * 3000}" for name in "abc" for number in range(60))


@with_rights
def test_a_killed_writer_blocks_no_other(driver: StorageDriver, case: DriverCase, root: Path, tmp_path: Path) -> None:
    driver.start_upload("u1")
    process = workers.start(workers.hold, case.name, root, "u1", tmp_path / "ready")
    workers.wait_for(tmp_path / "ready")
    with pytest.raises(UploadBusy):
        driver.open_upload("u1")
    with pytest.raises(UploadBusy):
        publish(driver, "u1", "team/blobs/sha256/0")
    workers.kill_at(process, tmp_path / "ready", 0)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=len("committed"))
        writer.write(b" again")
        writer.flush()
    publish(driver, "u1", "team/blobs/sha256/0")
    assert driver.read("team/blobs/sha256/0", max_bytes=100)[0] == b"committed again"

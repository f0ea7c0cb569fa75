"""A driver on an empty store, for each row of ``drivers.py``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.storage.driver import StorageDriver, UploadState
from tests.storage.drivers import DriverCase, cases


@pytest.fixture(params=cases())
def case(request: pytest.FixtureRequest) -> DriverCase:
    """The row; a test that needs a capability parametrizes it indirectly with the rows that have it."""
    found = request.param
    assert isinstance(found, DriverCase)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the store, for drivers that have one."""
    return tmp_path / "store"


@pytest.fixture
def driver(case: DriverCase, root: Path) -> Iterator[StorageDriver]:
    opened = case.open(root)
    yield opened
    opened.close()


@pytest.fixture
def upload(driver: StorageDriver) -> Callable[..., UploadState]:
    """Uploads bytes under an id; returns the upload's state."""

    def do(upload_id: str, data: bytes, *, chunk: int = 1 << 20) -> UploadState:
        state = driver.start_upload(upload_id)
        with driver.open_upload(upload_id) as writer:
            writer.resume(state, offset=0)
            for begin in range(0, len(data), chunk):
                writer.write(data[begin : begin + chunk])
            return writer.flush()

    return do


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something on a directory, for a test that runs as root; it is gone when the test ends."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    mounted: list[Path] = []

    def do(target: Path, *options: str, source: str = "none") -> Path:
        target.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *options, source, str(target)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(target)
        return target

    yield do
    for target in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(target)], capture_output=True, check=False)

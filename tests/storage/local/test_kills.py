"""SIGKILL at any instant leaves every object whole, and nothing that would stay for ever (I1, I8)."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from registry.storage.errors import UploadOffsetMismatch
from registry.storage.local.driver import LocalDriver
from tests.storage import workers
from tests.storage.uploads import NO_STATE, publish

BLOBS = "team/app/blobs/sha256"
JOURNAL = "team/app/.journal/1"


def check_store(driver: LocalDriver) -> None:
    """Nothing under a name is wrong, whatever was going on."""
    for key, stat in driver.list(BLOBS):
        data, _ = driver.read(key, max_bytes=1 << 24)
        assert hashlib.sha256(data).hexdigest() == key.rsplit("/", 1)[1]
        assert stat.size == len(data)


def journal(driver: LocalDriver) -> list[int]:
    """The numbers of the whole lines."""
    if not list(driver.list("team/app/.journal")):
        return []
    numbers = []
    for line in driver.read(JOURNAL, max_bytes=1 << 26)[0].splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        assert record["padding"] == "x" * record["length"]
        numbers.append(record["number"])
    return numbers


def acknowledged(path: Path) -> list[str]:
    """What the worker said was done; its own last line may be cut short."""
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.soak
@pytest.mark.parametrize("fsync", [True, False])
def test_kills_while_publishing_writing_and_appending(root: Path, tmp_path: Path, fsync: bool) -> None:
    driver = LocalDriver(root, fsync=fsync)
    chance = random.Random(3)
    for round_number in range(6):
        ready, done = tmp_path / f"ready{round_number}", tmp_path / f"done{round_number}"
        process = workers.start(workers.churn, root, fsync, round_number, ready, done)
        workers.kill_at(process, ready, chance.uniform(0, 0.15))
        check_store(driver)
        lines = acknowledged(done)
        blobs = {key.rsplit("/", 1)[1] for key, _ in driver.list(BLOBS)}
        assert {line.split()[1] for line in lines if line.startswith("blob ") and len(line) == 69} <= blobs
        numbers = {f"line {round_number * 10**6 + n}" for n in range(10**5)} & set(lines)
        assert numbers <= {f"line {number}" for number in journal(driver)}
        if numbers:
            json.loads(driver.read("team/app/index.json", max_bytes=1 << 20)[0])
        for entry in list(driver.uploads()):
            driver.discard_upload(entry.upload_id)
        assert list(driver.uploads()) == []
        assert list((root / ".uploads").iterdir()) == []
        driver.check()
    assert list(root.rglob(".tmp-*")) == []


def test_an_upload_goes_on_after_its_writer_was_killed(root: Path, tmp_path: Path) -> None:
    driver = LocalDriver(root)
    for round_number in range(3):
        driver.start_upload("u1")
        process = workers.start(workers.upload_for_ever, root, "u1", tmp_path / f"ready{round_number}")
        workers.kill_at(process, tmp_path / f"ready{round_number}", 0.02)
        with driver.open_upload("u1") as writer:
            writer.resume(NO_STATE, offset=4 << 20)
            writer.write(b"end")
            with pytest.raises(UploadOffsetMismatch):
                writer.resume(NO_STATE, offset=8 << 20)
        stat = publish(driver, "u1", f"{BLOBS}/{round_number}")
        assert stat.size == (4 << 20) + 3
        with driver.open(f"{BLOBS}/{round_number}") as reader:
            for _ in range(4):
                assert reader.read(1 << 20) == b"x" * (1 << 20)
            assert reader.read(1 << 20) == b"end"

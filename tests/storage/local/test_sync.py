"""The order of the system calls by which the local driver publishes: what is visible is durable before (I1)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.storage.local.driver import LocalDriver
from tests.storage.uploads import NO_STATE, publish

KEY = "team/app/blobs/sha256/0"


class Calls:
    """What was done to the store: (call, name relative to its root, with ``*`` for the random part of a name)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[tuple[str, str]] = []

    def name(self, path: str) -> str:
        relative = os.path.relpath(path, self.root)
        return ".uploads/tmp-*" if relative.startswith(".uploads/tmp-") else relative

    def take(self) -> list[tuple[str, str]]:
        taken, self.made = self.made, []
        return taken


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    log = Calls(root)
    fsync: Callable[[int], None] = os.fsync

    def record_fsync(descriptor: int) -> None:
        log.made.append(("fsync", log.name(str(Path(f"/proc/self/fd/{descriptor}").readlink()))))
        fsync(descriptor)

    def recording(call: str, place: int, directory: str) -> None:
        function = getattr(os, call)

        def record(*arguments: str, **keywords: Any) -> None:
            descriptor = keywords.get(directory)
            below = "" if descriptor is None else str(Path(f"/proc/self/fd/{descriptor}").readlink())
            log.made.append((call, log.name(os.path.join(below, arguments[place]))))  # noqa: PTH118
            function(*arguments, **keywords)

        monkeypatch.setattr(os, call, record)

    monkeypatch.setattr(os, "fsync", record_fsync)
    recording("link", 1, "dst_dir_fd")
    recording("rename", 1, "dst_dir_fd")
    recording("unlink", 0, "dir_fd")
    return log


def upload(driver: LocalDriver, upload_id: str, data: bytes) -> None:
    driver.start_upload(upload_id)
    with driver.open_upload(upload_id) as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)


NEW_DIRECTORIES = [
    ("fsync", "team/app/blobs/sha256"),
    ("fsync", "team/app/blobs"),
    ("fsync", "team/app"),
    ("fsync", "team"),
    ("fsync", "."),
]


def test_a_new_root_is_durable_with_its_parents(tmp_path: Path, calls: Calls) -> None:
    calls.root = tmp_path
    LocalDriver(tmp_path / "deep/root")
    assert calls.take() == [("fsync", "."), ("fsync", "deep"), ("fsync", "deep/root"), ("fsync", "deep/root")]
    LocalDriver(tmp_path / "deep/root")
    assert calls.take() == []


def test_publication_syncs_the_file_then_links_then_syncs_all_names_to_it(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    upload(driver, "u1", b"blob")
    calls.take()
    publish(driver, "u1", KEY)
    # The first link finds no directory.
    made = [call for call in calls.take() if call != ("link", KEY)]
    assert made == [("fsync", ".uploads/u1"), *NEW_DIRECTORIES]
    publish(driver, "u1", "team/app/blobs/sha256/1")
    assert calls.take() == [
        ("fsync", ".uploads/u1"),
        ("link", "team/app/blobs/sha256/1"),
        ("fsync", "team/app/blobs/sha256"),
    ]


def test_the_link_comes_after_the_sync_of_the_file(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    upload(driver, "u1", b"blob")
    calls.take()
    publish(driver, "u1", KEY)
    made = calls.take()
    assert made.index(("fsync", ".uploads/u1")) < made.index(("link", KEY))
    assert max(place for place, call in enumerate(made) if call == ("link", KEY)) < made.index(NEW_DIRECTORIES[0])


def test_replacing_goes_over_a_temporary_name(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    upload(driver, "u1", b"blob")
    driver.write(KEY, b"wrong")
    calls.take()
    publish(driver, "u1", KEY)
    assert calls.take() == [
        ("fsync", ".uploads/u1"),
        ("link", KEY),
        ("link", ".uploads/tmp-*"),
        ("rename", KEY),
        ("unlink", ".uploads/tmp-*"),
        ("fsync", "team/app/blobs/sha256"),
    ]


def test_a_write_is_synced_before_its_rename_and_its_directory_after(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    driver.write(KEY, b"first")
    made = [call for call in calls.take() if call[0] == "fsync"]
    assert made[-6:] == [("fsync", ".uploads/tmp-*"), *NEW_DIRECTORIES]
    driver.write(KEY, b"second")
    assert calls.take() == [
        ("fsync", ".uploads/tmp-*"),
        ("rename", KEY),
        ("unlink", ".uploads/tmp-*"),
        ("fsync", "team/app/blobs/sha256"),
    ]


def test_an_append_syncs_the_file_and_its_name_once(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    calls.take()
    driver.append(KEY, b"one\n")
    assert calls.take() == [("fsync", KEY), *NEW_DIRECTORIES]
    driver.append(KEY, b"two\n")
    assert calls.take() == [("fsync", KEY)]


def test_a_process_makes_durable_what_another_left_behind(root: Path, calls: Calls) -> None:
    """The process that created the directories or the journal may have been killed before syncing them."""
    LocalDriver(root, fsync=False).append(KEY, b"one\n")
    calls.take()
    driver = LocalDriver(root)
    driver.append(KEY, b"two\n")
    assert calls.take() == [("fsync", KEY), *NEW_DIRECTORIES]


def test_a_directory_that_was_made_anew_is_made_durable_anew(root: Path, calls: Calls) -> None:
    import shutil

    driver = LocalDriver(root)
    driver.write(KEY, b"one")
    (root / "team").rename(root / "gone")
    calls.take()
    driver.write(KEY, b"two")
    assert [call for call in calls.take() if call[0] == "fsync"] == [("fsync", ".uploads/tmp-*"), *NEW_DIRECTORIES]
    shutil.rmtree(root / "gone")


def test_a_link_syncs_its_source_which_another_tool_may_have_written(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    driver.write(KEY, b"blob")
    calls.take()
    driver.link(KEY, "team/app/blobs/sha256/1")
    assert calls.take() == [
        ("fsync", KEY),
        ("link", "team/app/blobs/sha256/1"),
        ("fsync", "team/app/blobs/sha256"),
    ]


def test_a_copy_is_synced_before_its_rename(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root, dedupe=False)
    driver.write(KEY, b"blob")
    calls.take()
    driver.link(KEY, "team/app/blobs/sha256/1")
    assert calls.take() == [
        ("fsync", KEY),
        ("fsync", ".uploads/tmp-*"),
        ("rename", "team/app/blobs/sha256/1"),
        ("unlink", ".uploads/tmp-*"),
        ("fsync", "team/app/blobs/sha256"),
    ]


def test_a_deletion_is_durable_also_when_an_earlier_one_was_cut_off(root: Path, calls: Calls) -> None:
    driver = LocalDriver(root)
    for key in ("a/1", "a/2", "b/1"):
        driver.write(key, b"x")
    calls.take()
    driver.delete(["a/1", "a/2", "b/missing", "c/missing"])
    made = calls.take()
    assert made[:3] == [("unlink", "a/1"), ("unlink", "a/2"), ("unlink", "b/missing")]
    assert sorted(made[3:]) == [("fsync", "a"), ("fsync", "b")]


def test_nothing_is_synced_with_fsync_off(root: Path, calls: Calls) -> None:
    LocalDriver(root)
    calls.take()
    driver = LocalDriver(root, fsync=False)
    upload(driver, "u1", b"blob")
    publish(driver, "u1", KEY)
    driver.write(KEY, b"x")
    driver.append("a/journal", b"x\n")
    driver.link(KEY, "b/x")
    driver.delete(["b/x"])
    assert "fsync" not in {call for call, _ in calls.take()}


def test_a_sync_that_fails_publishes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from registry.storage.errors import PathNotFound, StorageUnavailable

    driver = LocalDriver(root)
    upload(driver, "u1", b"blob")
    driver.write("a/x", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            publish(driver, "u1", KEY)
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            driver.write("a/x", b"new")
    assert [key for key, _ in driver.list("")] == ["a/x"]
    assert driver.read("a/x", max_bytes=10)[0] == b"old"
    # A second fsync could succeed although the pages are gone, so there must be nothing to publish again.
    assert list(driver.uploads()) == []
    with pytest.raises(PathNotFound):
        publish(driver, "u1", KEY)

"""What other tools may leave in the directory of a local store (links, pipes), and what the driver makes of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.storage.driver import Child
from registry.storage.errors import PathNotFound, StorageUnavailable, UploadBusy
from registry.storage.local import LocalDriver
from tests.storage.uploads import publish


@pytest.fixture
def driver(root: Path) -> LocalDriver:
    return LocalDriver(root)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the root."""
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver = LocalDriver(Path("store"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    driver.write("a/x", b"data")
    assert (tmp_path / "store/a/x").read_bytes() == b"data"


def test_a_root_that_cannot_be_made_is_unavailable(secret: Path) -> None:
    with pytest.raises(StorageUnavailable):
        LocalDriver(secret / "below-a-file")


def test_a_symbolic_link_to_a_file_is_no_object(driver: LocalDriver, root: Path, secret: Path) -> None:
    driver.write("a/real", b"real")
    (root / "a/link").symlink_to(secret)
    with pytest.raises(PathNotFound):
        driver.stat("a/link")
    with pytest.raises(PathNotFound):
        driver.read("a/link", max_bytes=10)
    with pytest.raises(PathNotFound):
        driver.open("a/link")
    with pytest.raises(PathNotFound):
        driver.link("a/link", "b/x")
    with pytest.raises(StorageUnavailable):
        driver.append("a/link", b"line\n")
    assert [key for key, _ in driver.list("")] == ["a/real"]
    assert list(driver.children("a")) == [Child("real", is_prefix=False)]
    assert secret.read_bytes() == b"secret"


def test_writing_over_a_symbolic_link_replaces_the_link(driver: LocalDriver, root: Path, secret: Path) -> None:
    (root / "link").symlink_to(secret)
    driver.write("link", b"ours")
    assert not (root / "link").is_symlink()
    assert secret.read_bytes() == b"secret"


def test_a_symbolic_link_in_place_of_an_upload_is_not_followed(driver: LocalDriver, root: Path, secret: Path) -> None:
    (root / ".uploads/u1").symlink_to(secret)
    for call in (lambda: driver.open_upload("u1"), lambda: publish(driver, "u1", "a/x")):
        with pytest.raises(PathNotFound):
            call()
    driver.discard_upload("u1")
    assert secret.read_bytes() == b"secret"


def test_freeing_a_temporary_name_removes_nothing_outside_of_the_root(
    driver: LocalDriver, root: Path, tmp_path: Path
) -> None:
    for name, target in {
        "tmp-1": tmp_path / ".tmp-outside",
        "tmp-2": root / "a/object",
        "tmp-3": root / "a/../../.tmp-outside",
    }.items():
        Path(os.path.normpath(target)).parent.mkdir(exist_ok=True)
        target.write_bytes(b"stays")
        (root / ".uploads" / name).symlink_to(target)
        driver.discard_upload(name)
        assert target.read_bytes() == b"stays"
    assert list(driver.uploads()) == []


def test_a_repository_behind_a_symbolic_link_is_listed(driver: LocalDriver, root: Path, tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (root / "team").symlink_to(tmp_path / "big-disk")
    driver.write("team/app/index.json", b"{}")
    assert (tmp_path / "big-disk/app/index.json").exists()
    assert [key for key, _ in driver.list("")] == ["team/app/index.json"]
    assert list(driver.children("")) == [Child("team", is_prefix=True)]


def test_a_circle_of_symbolic_links_ends(driver: LocalDriver, root: Path) -> None:
    driver.write("a/b/x", b"data")
    (root / "a/b/up").symlink_to(root / "a")
    (root / "a/self").symlink_to("self")
    assert [key for key, _ in driver.list("")] == ["a/b/x"]


def test_a_pipe_blocks_nobody_and_is_no_object(driver: LocalDriver, root: Path) -> None:
    (root / "a").mkdir()
    os.mkfifo(root / "a/pipe")
    with pytest.raises(PathNotFound):
        driver.stat("a/pipe")
    with pytest.raises(PathNotFound):
        driver.open("a/pipe")
    assert list(driver.list("")) == []


def test_a_directory_where_an_object_should_be_is_an_error_of_the_write(driver: LocalDriver) -> None:
    driver.write("a/b/x", b"data")
    with pytest.raises(StorageUnavailable):
        driver.write("a/b", b"data")
    with pytest.raises(StorageUnavailable):
        driver.write("a/b/x/y", b"data")
    assert list(driver.uploads()) == []


def test_an_object_that_shrinks_under_its_reader_is_an_error_not_an_end(driver: LocalDriver, root: Path) -> None:
    driver.write("a/x", b"0123456789")
    with driver.open("a/x") as reader:
        os.truncate(root / "a/x", 4)
        assert reader.read(4) == b"0123"
        with pytest.raises(StorageUnavailable):
            reader.read(4)


def test_an_object_that_grows_under_its_reader_ends_where_it_ended(driver: LocalDriver) -> None:
    driver.append("a/journal", b"one\n")
    with driver.open("a/journal") as reader:
        driver.append("a/journal", b"two\n")
        assert reader.read(100) == b"one\n"
        assert reader.read(100) == b""


def test_a_directory_that_cannot_be_listed_is_an_error_not_empty(
    driver: LocalDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.write("a/x", b"data")
    driver.write("b/x", b"data")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = driver.list("")
    assert next(listing)[0] == "a/x"
    with pytest.raises(StorageUnavailable):
        next(listing)
    with pytest.raises(StorageUnavailable):
        driver.children("b")


def test_uploads_that_cannot_be_listed_are_an_error(driver: LocalDriver, root: Path) -> None:
    (root / ".uploads").rmdir()
    with pytest.raises(StorageUnavailable):
        list(driver.uploads())
    with pytest.raises(StorageUnavailable):
        driver.check()


def test_what_is_no_upload_is_not_reported_as_one(driver: LocalDriver, root: Path) -> None:
    (root / ".uploads/.nfs0000").touch()
    driver.start_upload("u1")
    assert [entry.upload_id for entry in driver.uploads()] == ["u1"]


def test_an_upload_cannot_take_the_name_of_a_temporary_file(driver: LocalDriver) -> None:
    with pytest.raises(ValueError, match="not an upload id"):
        driver.start_upload("tmp-1")


def test_an_upload_that_is_discarded_while_its_right_is_taken_is_not_found(
    driver: LocalDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.start_upload("u1")
    flock = fcntl.flock

    def discard_first(descriptor: int, kind: int) -> None:
        driver.discard_upload("u1")
        flock(descriptor, kind)

    with monkeypatch.context() as late:
        late.setattr(fcntl, "flock", discard_first)
        with pytest.raises(PathNotFound):
            driver.open_upload("u1")


def test_an_upload_that_is_begun_again_while_its_right_is_taken_is_busy(
    driver: LocalDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.start_upload("u1")
    flock = fcntl.flock

    def begin_first(descriptor: int, kind: int) -> None:
        driver.start_upload("u1")
        flock(descriptor, kind)

    with monkeypatch.context() as late:
        late.setattr(fcntl, "flock", begin_first)
        with pytest.raises(UploadBusy):
            driver.open_upload("u1")
    driver.open_upload("u1").close()


def test_writers_survive_another_who_removes_empty_directories(driver: LocalDriver, root: Path) -> None:
    """An operator's ``find -type d -empty -delete`` beside a running registry."""
    stop = False

    def sweep() -> None:
        while not stop:
            for directory in ("team/app/blobs", "team/app", "team"):
                try:
                    (root / directory).rmdir()
                except OSError:
                    continue

    with ThreadPoolExecutor(3) as pool:
        sweeper = pool.submit(sweep)

        def work(name: str) -> None:
            for number in range(100):
                try:
                    driver.write(f"team/app/blobs/{name}", b"%d" % number)
                except StorageUnavailable:
                    continue  # swept between the last rename and its sync: told, and to be repeated
                driver.delete([f"team/app/blobs/{name}"])

        for done in [pool.submit(work, name) for name in "ab"]:
            done.result()
        stop = True
        sweeper.result()
    shutil.rmtree(root / "team", ignore_errors=True)
    assert list(driver.uploads()) == []

"""What other tools may leave in the directory of a local store (links, pipes), and what the driver makes of it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.storage.driver import Child
from registry.storage.errors import PathNotFound, PathRefused, StorageError, StorageUnavailable, UploadBusy
from registry.storage.local import files, journal, opening, reader, walk
from registry.storage.local.driver import LocalDriver
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
    assert list(driver.children("a")) == [Child("link", is_prefix=False, is_link=True), Child("real", is_prefix=False)]
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


@pytest.mark.parametrize("target", ["outside", "store/real"])
def test_a_symbolic_link_to_a_directory_is_followed_by_nothing(
    driver: LocalDriver, root: Path, tmp_path: Path, target: str
) -> None:
    driver.write("real/app/index.json", b"{}")
    shutil.copytree(root / "real", tmp_path / "outside")
    (root / "team").symlink_to(tmp_path / target)
    before = sorted((tmp_path / target).rglob("*"))
    for key in ("team/app/index.json", "team/new/index.json"):
        for call in (
            lambda key=key: driver.stat(key),
            lambda key=key: driver.read(key, max_bytes=10),
            lambda key=key: driver.open(key),
            lambda key=key: driver.write(key, b"ours"),
            lambda key=key: driver.write(key, b"ours", if_absent=True),
            lambda key=key: driver.append(key, b"line\n"),
            lambda key=key: driver.delete([key]),
            lambda key=key: driver.link("real/app/index.json", key),
            lambda key=key: driver.link(key, "real/app/copy"),
            lambda: list(driver.children("team/app")),
            lambda: list(driver.list("team")),
        ):
            with pytest.raises(PathRefused, match="team is a symbolic link, which is not followed"):
                call()
    assert sorted((tmp_path / target).rglob("*")) == before
    assert (tmp_path / target / "app/index.json").read_bytes() == b"{}"
    assert [key for key, _ in driver.list("")] == ["real/app/index.json"]
    assert list(driver.children("")) == [Child("real", is_prefix=True), Child("team", is_prefix=False, is_link=True)]
    assert list(driver.uploads()) == []


def test_a_root_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    driver = LocalDriver(tmp_path / "link")
    driver.write("a/x", b"data")
    assert (root / "a/x").read_bytes() == b"data"
    assert driver.read("a/x", max_bytes=10)[0] == b"data"
    driver.check()


def test_a_link_that_took_the_place_of_a_directory_above_the_root_proves_nothing_missing(tmp_path: Path) -> None:
    driver = LocalDriver(tmp_path / "disk/store")
    driver.write("a/x", b"data")
    (tmp_path / "disk").rename(tmp_path / "larger")
    (tmp_path / "disk").symlink_to("larger")
    for look in (lambda: driver.stat("a/x"), lambda: driver.children(""), lambda: driver.children("a")):
        with pytest.raises(StorageUnavailable):
            look()
    with pytest.raises(StorageUnavailable):
        list(driver.list(""))


def test_links_that_lead_to_themselves_are_followed_by_nothing(driver: LocalDriver, root: Path) -> None:
    driver.write("a/b/x", b"data")
    (root / "a/b/up").symlink_to(root / "a")
    (root / "a/self").symlink_to("self")
    (root / "one").symlink_to(root)
    (root / "two").symlink_to(root)
    assert [key for key, _ in driver.list("")] == ["a/b/x"]
    assert [child.name for child in driver.children("") if child.is_prefix] == ["a"]


def test_without_openat2_it_is_the_same(driver: LocalDriver, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a kernel before 5.6, or a filter of system calls that does not know it."""
    monkeypatch.setattr(opening, "open_unlinked", opening.open_by_component)
    for module in (files, journal, reader, walk):
        monkeypatch.setattr(module, "open_unlinked", opening.open_by_component)
    driver.write("a/b/x", b"data")
    driver.append("a/journal", b"line\n")
    driver.link("a/b/x", "a/y")
    assert [key for key, _ in driver.list("")] == ["a/b/x", "a/journal", "a/y"]
    assert driver.stat("a/y").size == len(driver.read("a/b/x", max_bytes=10)[0])
    (root / "link").symlink_to(root / "a")
    (root / "a/file").symlink_to("y")
    for key in ("link/y", "link/b/x"):
        with pytest.raises(PathRefused, match="link is a symbolic link"):
            driver.read(key, max_bytes=10)
        with pytest.raises(PathRefused, match="link is a symbolic link"):
            driver.write(key, b"ours")
    for key in ("a/file", "a/none", "none/a", "a/y/below"):
        with pytest.raises(PathNotFound):
            driver.stat(key)


def test_a_directory_that_becomes_a_link_at_any_instant_leads_no_write_out_of_the_root(
    driver: LocalDriver, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "app").mkdir(parents=True)
    driver.write("team/app/x", b"data")
    (root / "link").symlink_to(outside)
    names = os.fsencode(root / "team"), os.fsencode(root / "link")
    exchange, at_path, stop = ctypes.CDLL(None).renameat2, -100, False

    def swap() -> None:
        while not stop:
            assert exchange(at_path, names[0], at_path, names[1], 2) == 0

    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap)
        for number in range(300):
            for call in (
                lambda number=number: driver.write(f"team/app/{number}", b"data"),
                lambda: driver.append("team/app/journal", b"line\n"),
                lambda number=number: driver.link("team/app/x", f"team/app/link-{number}"),
            ):
                with contextlib.suppress(StorageError):
                    call()
        stop = True
        swapping.result()
    assert list((outside / "app").iterdir()) == []


@pytest.mark.parametrize("away", [False, True])
def test_what_is_appended_to_a_journal_is_not_appended_to_a_snapshot_by_links(
    driver: LocalDriver, root: Path, tmp_path: Path, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``cp -al`` and ``rsync --link-dest`` make one; ``away``: no name can move there from ``.uploads``."""
    driver.append("team/app/.journal/0", b"one\n")
    (root / "team/copy/.journal").mkdir(parents=True)
    for place in (tmp_path / "snapshot", root / "team/copy/.journal/0"):
        os.link(root / "team/app/.journal/0", place)
    if away:
        rename = os.rename

        def refuse(source: str, target: str, **directories: int | None) -> None:
            if ".uploads" in source:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            rename(source, target, **directories)

        monkeypatch.setattr(os, "rename", refuse)
    driver.append("team/app/.journal/0", b"two\n")
    driver.append("team/copy/.journal/0", b"three\n")
    driver.append("team/app/.journal/0", b"four\n")
    assert (root / "team/app/.journal/0").read_bytes() == b"one\ntwo\nfour\n"
    assert (root / "team/copy/.journal/0").read_bytes() == b"one\nthree\n"
    assert (tmp_path / "snapshot").read_bytes() == b"one\n"
    assert list(driver.uploads()) == []


def test_no_append_is_lost_while_a_journal_is_separated_from_its_links(
    driver: LocalDriver, root: Path, tmp_path: Path
) -> None:
    def work(name: str) -> None:
        for number in range(50):
            driver.append("team/.journal/0", f"{name} {number}\n".encode())

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, name) for name in "ab"]
        for number in range(20):
            with contextlib.suppress(FileNotFoundError):
                os.link(root / "team/.journal/0", tmp_path / f"snapshot-{number}")
        for done in working:
            done.result()
    lines = (root / "team/.journal/0").read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "ab" for number in range(50))


def test_a_pipe_blocks_no_caller_and_is_no_object(driver: LocalDriver, root: Path) -> None:
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
    opened = opening.open_unlinked

    def refuse(path: str, flags: int) -> int:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(walk, "open_unlinked", refuse)
    listing = driver.list("")
    assert next(listing)[0] == "a/x"
    with pytest.raises(PathRefused):
        next(listing)
    with pytest.raises(PathRefused):
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

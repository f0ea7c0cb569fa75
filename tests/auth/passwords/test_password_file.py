"""Changes of a htpasswd file: what stays as it was, and what two of them and a killed one leave."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from registry.auth.errors import AccountError
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_file import PasswordFile
from registry.auth.passwords.password_hash import PasswordHash

ONE, OTHER = (PasswordHash("$2y$05$" + letter * 53) for letter in "ab")
DOCUMENT = f"# people\n\nalice:{ONE.text}\nbob:{ONE.text}\n# robots\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "htpasswd"
    made.write_text(DOCUMENT)
    return made


def test_the_first_user_makes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "new"
    assert PasswordFile(path).users() == []
    PasswordFile(path).add("alice", ONE)
    assert parse_htpasswd(path.read_bytes()) == {"alice": ONE}
    assert path.stat().st_mode & 0o777 == 0o600


def test_comments_and_other_lines_stay(path: Path) -> None:
    file = PasswordFile(path)
    file.add("carol", OTHER)
    file.replace("alice", OTHER)
    file.remove("bob")
    assert path.read_text() == f"# people\n\nalice:{OTHER.text}\n# robots\ncarol:{OTHER.text}\n"
    assert file.users() == ["alice", "carol"]
    assert list(path.parent.iterdir()) == [path]


def test_a_last_line_without_its_end_is_not_run_into(path: Path) -> None:
    path.write_text(f"alice:{ONE.text}")
    PasswordFile(path).add("bob", OTHER)
    assert path.read_text() == f"alice:{ONE.text}\nbob:{OTHER.text}\n"


def test_mode_and_owner_stay(path: Path) -> None:
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    PasswordFile(path).remove("bob")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_link_stays_one(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    PasswordFile(link).remove("bob")
    assert link.is_symlink()
    assert PasswordFile(path).users() == ["alice"]


@pytest.mark.parametrize("user", ["", "a:b", "anonymous", "#x", " x", "a\nb"])
def test_what_cannot_be_a_user_is_not_added(path: Path, user: str) -> None:
    with pytest.raises(AccountError):
        PasswordFile(path).add(user, ONE)
    assert path.read_text() == DOCUMENT


def test_what_is_there_is_not_added_and_what_is_not_is_not_changed(path: Path) -> None:
    file = PasswordFile(path)
    with pytest.raises(AccountError, match="already"):
        file.add("alice", OTHER)
    with pytest.raises(AccountError, match="no user carol"):
        file.replace("carol", OTHER)
    with pytest.raises(AccountError, match="no user carol"):
        file.remove("carol")
    with pytest.raises(AccountError, match="no user # robots"):
        file.remove("# robots")
    assert path.read_text() == DOCUMENT


def test_a_file_that_is_wrong_is_not_changed(path: Path) -> None:
    path.write_text(DOCUMENT + "carol:secret\n")
    with pytest.raises(AccountError, match="line 6"):
        PasswordFile(path).remove("bob")
    assert path.read_text() == DOCUMENT + "carol:secret\n"


def test_changes_at_the_same_time_are_all_made(path: Path) -> None:
    threads = [threading.Thread(target=PasswordFile(path).add, args=(f"user{n}", ONE)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(PasswordFile(path).users()) == 22


def test_what_a_killed_change_left_is_cleared_and_is_never_the_file(path: Path) -> None:
    left = path.with_name(".htpasswd.new")
    left.write_text("alic")
    assert PasswordFile(path).users() == ["alice", "bob"]
    PasswordFile(path).remove("bob")
    assert PasswordFile(path).users() == ["alice"]
    assert not left.exists()


def test_a_change_that_fails_leaves_the_old_file_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        PasswordFile(path).remove("bob")
    assert path.read_text() == DOCUMENT
    assert list(path.parent.iterdir()) == [path]

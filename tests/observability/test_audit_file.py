"""Lines of the audit log: whole ones of several processes, also through rotations and on a full disk."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from registry.observability.audit_file import SAY_AGAIN_SECONDS, AuditFile
from tests.support.processes import processes

LINES = 300
LONG = 6000
"""More bytes than one write to a pipe moves at once."""


@pytest.fixture(autouse=True)
def log_on_stdout() -> Iterator[None]:
    """The log as it is before a command sets it up: another test of this process may have run one."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write_many(path: Path, name: str) -> None:
    """In a process of its own."""
    file = AuditFile(path)
    for number in range(LINES):
        file(json.dumps({"name": name, "number": number, "text": name * LONG}).encode() + b"\n")


def test_a_new_file_is_for_its_owner_and_the_group_that_collects_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        AuditFile(tmp_path / "audit").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o640


def test_lines_are_appended_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.write_bytes(b"before\n")
    AuditFile(path)(b"one\n")
    AuditFile(path)(b"two\n")
    assert path.read_bytes() == b"before\none\ntwo\n"


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path, names = tmp_path / "audit", ["a", "b", "c"]
    running = [processes().Process(target=write_many, args=(path, name)) for name in names]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in names:
        assert [line["number"] for line in lines if line["name"] == name] == list(range(LINES))


@pytest.mark.parametrize("follows", ["nothing", "an empty file"])
def test_a_rotated_file_is_left_for_the_one_that_has_its_name_now(tmp_path: Path, follows: str) -> None:
    path, former = tmp_path / "audit", tmp_path / "audit.1"
    file = AuditFile(path)
    file(b"one\n")
    path.rename(former)
    if follows == "an empty file":
        path.touch()
    file(b"two\n")
    assert (former.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")
    assert file.dropped == 0


def test_a_file_that_was_emptied_in_its_place_is_written_from_its_beginning(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit")
    file(b"one\n")
    os.truncate(tmp_path / "audit", 0)
    file(b"two\n")
    assert (tmp_path / "audit").read_bytes() == b"two\n"


def test_where_no_new_file_can_be_made_the_former_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    file = AuditFile(place / "audit")
    place.rename(tmp_path / "moved")
    file(b"one\n")
    assert (tmp_path / "moved/audit").read_bytes() == b"one\n"
    assert file.dropped == 0
    assert "No such file or directory" in capsys.readouterr().out


def test_a_full_disk_is_counted_and_told_once_a_minute_and_raises_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, clock = tmp_path / "audit", Clock()
    path.symlink_to("/dev/full")
    file = AuditFile(path, clock)
    for _ in range(3):
        file(b"line\n")
    assert file.dropped == 3
    assert capsys.readouterr().out.count("No space left on device") == 1
    clock.now += SAY_AGAIN_SECONDS
    file(b"line\n")
    assert "dropped=4" in capsys.readouterr().out


def test_a_line_that_a_full_disk_cut_ends_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit"
    file, write = AuditFile(path), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        file(b"first\n")
    file(b"second\n")
    assert path.read_bytes() == b"fir\nsecond\n"
    assert file.dropped == 1


@pytest.mark.parametrize("kind", ["directory", "nowhere", "pipe without a reader"])
def test_what_cannot_be_written_is_told_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe without a reader":
        os.mkfifo(path)
    else:
        path = path / "below"
    with pytest.raises(OSError, match="audit"):
        AuditFile(path)

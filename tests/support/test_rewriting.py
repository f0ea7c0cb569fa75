"""Workers share the rewriting of asserts: each does its part, and finds what another has done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from _pytest.assertion import rewrite

from tests.support.rewriting import files, share_rewriting

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Worker:
    """What ``share_rewriting`` needs of the settings of one of two workers."""

    def __init__(self, config: pytest.Config, place: int, directory: Path) -> None:
        self.workerinput = {"workerid": f"gw{place}", "workercount": 2}
        self.args = [str(directory)]
        self.stash = config.stash
        self.getini = config.getini


def kept(file: Path) -> bool:
    """Whether pytest would take what is kept of a file."""
    place = rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"
    return rewrite._read_pyc(file, place) is not None


def test_two_workers_rewrite_each_file_once(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    made = [tmp_path / "below" / f"test_{number}.py" for number in range(5)]
    made[0].parent.mkdir()
    for file in made:
        file.write_text("def test() -> None:\n    assert 1 == 1\n")
    for place, parts in enumerate((made[::2], made)):
        share_rewriting(Worker(pytestconfig, place, tmp_path))  # type: ignore[arg-type]  # all that is used of it
        assert [file for file in made if kept(file)] == parts


def test_nothing_is_written_without_workers(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("")
    worker = Worker(pytestconfig, 0, tmp_path)
    del worker.workerinput
    share_rewriting(worker)  # type: ignore[arg-type]  # as above
    assert not kept(file)


def test_files_are_those_that_were_named_or_are_below_what_was(tmp_path: Path) -> None:
    one, other = tmp_path / "test_one.py", tmp_path / "test_other.py"
    for file in (one, other, tmp_path / "help.py"):
        file.touch()
    assert files([f"{one}::test_it[a::b]"]) == [one]
    assert files([str(tmp_path), str(one)]) == [one, other]
    assert files([str(tmp_path / "help.py"), str(tmp_path / "test_none.py" / "none")]) == []

"""The trace: what it counts as a call, as a file entered, and as a change of file."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.trace import BACKGROUND, Recorder, table

if TYPE_CHECKING:
    from pathlib import Path

OUTER = """
def outer(inner, times):
    for _ in range(times):
        sorted([2, 1], key=inner)
    return own()

def own():
    return 1

def waits():
    yield 1
    yield 2
"""
INNER = """
def inner(value):
    return value
"""


def module(path: Path, text: str) -> Any:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


def recorded(recorder: Recorder, function: Any, *arguments: Any) -> dict[tuple[str, str], int]:
    recorder.begin()
    before = sys.getprofile()
    sys.setprofile(recorder.see)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return {(caller, file): count for caller, file, count in recorder.end()}


def test_calls_are_counted_by_the_file_of_the_caller_and_the_file_called(tmp_path: Path) -> None:
    outer = module(tmp_path / "outer.py", OUTER)
    inner = module(tmp_path / "inner.py", INNER)
    counted = recorded(Recorder(tmp_path), outer.outer, inner.inner, 3)
    assert counted == {("", "outer.py"): 1, ("outer.py", "inner.py"): 6, ("outer.py", "outer.py"): 1}


def test_a_generator_that_goes_on_is_called_once(tmp_path: Path) -> None:
    outer = module(tmp_path / "outer.py", OUTER)
    assert recorded(Recorder(tmp_path), lambda: list(outer.waits())) == {("", "outer.py"): 1}


def test_background_jobs_are_not_counted(tmp_path: Path) -> None:
    job = module(tmp_path / BACKGROUND, OUTER)
    inner = module(tmp_path / "inner.py", INNER)
    assert recorded(Recorder(tmp_path), job.outer, inner.inner, 3) == {}


def test_a_row_counts_what_all_rounds_have_in_common() -> None:
    first = Counter({("", "a.py"): 1, ("a.py", "b.py"): 3, ("a.py", "c.py"): 1})
    second = Counter({("", "a.py"): 1, ("a.py", "b.py"): 2, ("a.py", "a.py"): 5})
    assert list(table({"GET": [first, second]}))[2:] == ["| GET | 2 | 3 | 3 |"]

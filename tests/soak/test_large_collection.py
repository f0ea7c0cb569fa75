"""Collections of large stores (check 25 of lifecycle.md): bounded memory, and as much more work as there are blobs.

Work is counted, not timed: SQLite counts the instructions of its machine, which are the same on every machine. Times,
and those of pulls and pushes beside it, are rows of ``python -m benchmarks.collection``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.collection.store import BLOBS, fill_database, fill_directory, garbage_left
from registry.config.settings import load_settings
from registry.images.registry import Registry
from registry.maintenance.collection.survey.gc_state import GcState
from tests.soak.budget import budget

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

REPOSITORIES = budget(sample=25, full=1000)
"""In the smaller store, of 100 blobs each, half of which are garbage."""
TIMES = budget(sample=4, full=10)
"""How many times more there are in the larger one."""
MOST_BYTES = 300 << 20
MORE = 1.15
"""Work for a blob of the larger store, at most, against that for one of the smaller: trees of rows grow deeper."""
ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """What a collection did."""

    work: dict[str, int]
    objects: int


def collect(repositories: int, directory: Path) -> list[Run]:
    """One run that finds what is out of use, and one that frees it."""
    root, config = directory / "root", directory / "config.json"
    gc = {"grace": 0, "lease": 0, "interval": None, "rate": None}
    config.write_text(json.dumps({"storage": {"root_directory": str(root), "fsync": False}, "gc": gc}))
    settings = load_settings(config)
    fill_directory(root, repositories)
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    fill_database(database, root, repositories)
    registry = Registry.open(settings)
    GcState(registry).take_over()
    registry.close()
    runs = [_collect_once(config) for _ in range(2)]
    assert garbage_left(root, repositories) == 0
    return runs


def _collect_once(config: Path) -> Run:
    told = config.with_name("work.json")
    program = [sys.executable, "-m", "tests.soak.collecting.counted_program", str(told)]
    done = subprocess.run(
        [*program, "gc", "--config", str(config), "--json"], cwd=ROOT, capture_output=True, check=True, timeout=1200
    )
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["problems"] == []
    return Run(json.loads(told.read_text()), document["objects"])


def test_memory_is_bounded_and_work_grows_as_blobs_do_and_in_no_transaction(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for each in (small, large):
        each.mkdir()
    smaller, larger = collect(REPOSITORIES, small), collect(REPOSITORIES * TIMES, large)
    assert [run.objects for run in smaller] == [0, REPOSITORIES * BLOBS]
    assert [run.objects for run in larger] == [0, REPOSITORIES * TIMES * BLOBS]
    for less, more in zip(smaller, larger, strict=True):
        assert more.work["instructions"] <= less.work["instructions"] * TIMES * MORE
        assert more.work["most"] <= less.work["most"] * MORE
        assert more.work["memory"] < MOST_BYTES

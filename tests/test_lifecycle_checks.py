"""Checks of collection, retention and undelete: what a registry has to pass, each named by the tests that do it.

A test or a module of tests below FOLDERS says so in its docstring: "check 7", "checks 2, 2b and 3"; elsewhere it says
"check 7 of lifecycle.md". What it calls "check 7 of access" is one of ``tests/test_access_checks.py``.

Each check is done twice: over SQLite with a local disk, and over PostgreSQL with S3 and two replicas. The name of a row
of parameters says which it is, or else MODULES does. What a check cannot have is in WITHOUT.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.registry_world import REPLICAS
from tests.test_access_checks import OTHER as FOLDERS

CHECKS = {
    "1": "slow clocks: a replica collects what another pushes, their clocks 90 s off either way",
    "2": "late deletes: the store answers with an error, or not at all, and deletes later",
    "2b": "the collector is killed after it sent, and the store carries the delete out later",
    "3": "the collector is stopped between claim and delete, and goes on after a push",
    "4": "a whole collection passes between a publisher's look and its commit",
    "5": "a sweep of orphans and a push of the same bytes at once",
    "6": "a push that takes longer than a lease keeps what HEAD said is there",
    "7": "a child that HEAD of a manifest says is there can be named by an index",
    "8": "a matrix build: children by digest, the index late; later all go in one run",
    "9": "a chain of signatures is kept, restored and removed with its image",
    "10": "what is pulled by digest stays, and goes when the pulls stop",
    "11": "a dry run changes nothing, and the run does exactly what it said",
    "12": "an empty or older database, or a second registry: refused, and no delete is sent",
    "13": "every list, read, parse, delete and statement fails once",
    "14": "a repository that cannot be read keeps its blobs, shared ones too",
    "15": "a blob of two repositories goes with the second, after the grace",
    "16": "retention after a rebuild keeps the newest by push time",
    "17": "the trash survives the database",
    "18": "hard links: what is freed is told by inode",
    "19": "a tool that copies a layout for long loses nothing",
    "20": "a collection between adoption and manifests takes nothing",
    "21": "a rollback after a collection finds the originals",
    "22": "max_share: a rule that matches everything changes nothing",
    "23": "a table of rules",
    "24": "quotas: what is full, what still works, what frees",
    "25": "latency and memory beside a large collection",
    "26": "what is withheld stays so through rebuild, collection and scrub",
    "27": "beside a process of the release before nothing is collected",
}
LOCAL = "local"
"""The name of what is over SQLite with a local disk."""
PLACES = (LOCAL, REPLICAS)
MODULES = {
    "images/test_deletion_replicas.py": {REPLICAS},
    "upgrade/test_collection.py": set[str](),  # its rows are named otherwise
    "cli/test_gc.py": {LOCAL},
    "soak/test_large_collection.py": {LOCAL},
    "maintenance/retention/test_decision.py": {LOCAL, REPLICAS},
}
"""Modules of which all that has no named row is done at these places; a decision is a function of values."""
NAMES = {"directory": LOCAL, "bucket": REPLICAS}
"""What else a row is called."""
WITHOUT = {
    ("2", LOCAL): "a system call has deleted a file when it returns: no delete of a directory comes later",
    ("2b", LOCAL): "as check 2: what a killed process has deleted is gone by then",
    ("18", REPLICAS): "an object of a bucket has one name",
    ("25", REPLICAS): "the work that is counted, and the transaction that is bounded, are those of SQLite",
    ("21", LOCAL): "registries are taken over in a bucket",
}
"""Checks that a kind of storage cannot have, and why."""
ROOT = Path(__file__).parent
_NUMBERS = r"\d++b?+(?:(?:, | and )\d++b?+)*+"
NAMED = re.compile(rf"\b[Cc]hecks? ({_NUMBERS})(?! of (?:access|mirrors))")
NAMED_ELSEWHERE = re.compile(rf"\b[Cc]hecks? ({_NUMBERS}) of lifecycle")


@cache
def named() -> dict[str, list[str]]:
    """The tests and modules that name each check."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        pattern = NAMED if path.relative_to(ROOT).parts[0] in FOLDERS else NAMED_ELSEWHERE
        if path == Path(__file__) or pattern.search(text) is None:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for match in pattern.finditer(ast.get_docstring(node) or ""):
                    for number in re.findall(r"\d+b?", match[1]):
                        told = f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'all of it')}"
                        found.setdefault(number, []).append(told)
    return found


def test_no_check_of_another_number_is_named() -> None:
    assert named().keys() <= CHECKS.keys()


@pytest.mark.parametrize("number", sorted(CHECKS))
def test_a_check_is_named_by_a_test(number: str) -> None:
    assert named().get(number), f"no test says that it is check {number}: {CHECKS[number]}"


@cache
def places() -> dict[str, set[str]]:
    """Where each check is done."""
    files = sorted({told.partition(": ")[0] for tests in named().values() for told in tests})
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "", *(str(ROOT / file) for file in files)]
    done = subprocess.run(
        command, cwd=ROOT.parent, env={**os.environ, "PYTEST_ADDOPTS": ""}, check=True, capture_output=True, text=True
    )
    rows: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        name, _, row = line.removeprefix("tests/").removesuffix("]").partition("[")
        file, _, test = name.partition("::")
        if test:
            at = {NAMES.get(part, part) for part in _parts(row)} & set(PLACES) or MODULES.get(file, set())
            for told in (f"{file}: {test.split('::')[-1]}", f"{file}: all of it"):
                rows[told] = rows.get(told, set()) | at
    return {number: set[str]().union(*(rows[told] for told in tests)) for number, tests in named().items()}


def _parts(row: str) -> set[str]:
    """The names of which that of a row is made, some of which have a dash."""
    return {name for name in (*PLACES, *NAMES) if re.search(rf"(?:^|-){name}(?:-|$)", row)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", sorted(CHECKS))
def test_a_check_is_done_at_each_place(number: str, place: str) -> None:
    is_done = place in places()[number]
    assert is_done is ((number, place) not in WITHOUT), f"check {number} at {place}: {CHECKS[number]}"

"""Every module has its tests at its own path under ``tests/``, or its docstring names them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "registry").rglob("*.py") if path.name != "__init__.py")
NAMED = re.compile(r"^Tests: (?P<paths>.*)\.$", re.MULTILINE)
PATH = re.compile(r"``(tests/[\w/]+\.py)``")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_reader_finds_the_tests_of_a_module(module: Path) -> None:
    own = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text()))
    assert docstring, "a module says what it holds"
    named = NAMED.search(docstring)
    if (ROOT / own).exists():
        assert named is None, f"{own} is where a reader looks anyway"
        return
    assert named, f"there is no {own}: write it, or name the tests in the docstring, as 'Tests: ``tests/...``.'"
    paths = PATH.findall(named["paths"])
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path

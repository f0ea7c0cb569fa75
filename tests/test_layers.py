"""The structure of ``registry/`` that import-linter does not hold: no circle of imports, and no crowded package."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import registry

ROOT = Path(registry.__file__).parent
MOST_MODULES = 25
"""In one package, those of its subpackages and its ``__init__`` left out."""
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports anywhere: in functions and below ``TYPE_CHECKING`` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def test_no_modules_import_each_other() -> None:
    sorter = TopologicalSorter({name: set(imported(path)) - {name} for name, path in MODULES.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_no_package_has_more_modules_than_a_reader_can_look_over() -> None:
    found = Counter(path.parent.relative_to(ROOT.parent) for path in MODULES.values() if path.name != "__init__.py")
    assert {package: count for package, count in found.items() if count > MOST_MODULES} == {}

"""Declared dependencies: what the code imports is declared, and what is declared is used.

A module that comes along with another package works until that package changes its mind, or where it was never
installed. Extras of a package cannot be seen in imports: ``tests/wheel`` runs what an installation has.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
OWN = {"registry", "tests", "benchmarks", "migrations"}
BY_NAME = {
    "uvloop": "uvicorn is told to use it",
    "google-crc32c": "google-cloud-storage has it too",
}
"""Dependencies that may be declared without an import, and why."""
TOOLS = {
    "boto3-stubs", "hatchling", "import-linter", "mypy", "mypy-boto3-s3", "pytest-timeout", "pytest-xdist", "ruff",
    "types-cachetools",
}  # fmt: skip
"""Dependencies of the development that are programs, plugins and types."""


@cache
def imported(directory: str) -> dict[str, str]:
    """Dotted names of modules outside the project that are imported when the code runs, each with a file that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / directory).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in running(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
            for name in names:
                if name.partition(".")[0] not in sys.stdlib_module_names | OWN:
                    found.setdefault(name, str(path.relative_to(ROOT)))
    return found


def running(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a module but for those that only type checkers see."""
    if isinstance(tree, ast.Import | ast.ImportFrom):
        return [tree]
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return [node for child in tree.orelse for node in running(child)]
    children = [child for child in ast.iter_child_nodes(tree) if not isinstance(child, ast.expr)]  # they have none
    return [node for child in children for node in running(child)]


def distribution_of(module: str) -> str:
    """The installed distribution that has the file of ``module``: ``google.auth`` and ``google.cloud`` differ."""
    candidates = top_levels()[module.partition(".")[0]]
    if len(set(candidates)) == 1:
        return canonical(candidates[0])
    wanted = module.replace(".", "/")
    while wanted:
        for name in candidates:
            if files_of(name) & {f"{wanted}.py", f"{wanted}/__init__.py"}:
                return canonical(name)
        wanted = wanted.rpartition("/")[0]
    raise AssertionError(f"no installed distribution has the module {module}")


@cache
def top_levels() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def files_of(name: str) -> set[str]:
    return {str(file) for file in metadata.files(name) or []}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None) -> set[str]:
    """Names of what an installation with ``extra`` (None: without any) asks for by itself."""
    names = set()
    for requirement in metadata.requires(DISTRIBUTION) or []:
        wanted = re.search(r"""extra == ["'](\w+)["']""", requirement)
        if (wanted and wanted[1]) == extra:
            found = re.match(r"[\w.-]+", requirement)
            assert found is not None
            names.add(canonical(found[0]))
    return names


@pytest.mark.parametrize("directory", ["registry", "migrations"])
def test_what_the_product_imports_is_declared(directory: str) -> None:
    plain, with_postgresql = declared(None), declared("postgresql")
    for module, path in imported(directory).items():
        distribution = distribution_of(module)
        optional = path.startswith("registry/database/") and distribution in with_postgresql
        assert distribution in plain or optional, f"{path} imports {module}: declare {distribution}"


@pytest.mark.parametrize("directory", ["tests", "benchmarks"])
def test_what_tests_import_is_declared(directory: str) -> None:
    known = declared(None) | declared("dev")
    for module, path in imported(directory).items():
        assert distribution_of(module) in known, f"{path} imports {module}: declare {distribution_of(module)}"


def test_what_is_declared_is_used() -> None:
    product = {distribution_of(module) for directory in ("registry", "migrations") for module in imported(directory)}
    assert declared(None) - product <= BY_NAME.keys()
    assert declared("postgresql") <= product
    development = {distribution_of(module) for directory in ("tests", "benchmarks") for module in imported(directory)}
    assert declared("dev") - development <= TOOLS

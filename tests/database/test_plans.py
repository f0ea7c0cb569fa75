"""How SQLite finds rows: what is asked for each manifest never reads all that a repository has."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import registry.database
from registry.database.engine import Database
from registry.database.statement import Statement
from tests.support.sqlite import create_current

STATEMENTS = {
    f"{module.name.removeprefix('registry.database.')}.{name}": statement
    for module in pkgutil.walk_packages(registry.database.__path__, "registry.database.")
    for name, statement in sorted(vars(importlib.import_module(module.name)).items())
    if isinstance(statement, Statement)
}
LARGE = "blob|manifest|membership|reference|tag|trash_manifest|trash_reference|withheld"
"""Tables of which a repository may have a hundred thousand rows."""
WHOLE = re.compile(r"SCAN (?P<all>\w+)|SEARCH (?P<some>\w+) USING .*\(repository_id=\?\)$")
"""A step of a plan that reads all rows of a table, or of a repository."""
SMALL_INDEXES = ("ix_blob_gone", "ix_manifest_incomplete")
"""Those of few rows."""
OF_A_REPOSITORY = {
    "collection.emptying._EVICTABLE",
    "collection.scrub._TAGS",
    "manifest_bodies._REMOVE_OF_REPOSITORY",
    "manifests._ALL",
    "manifests._PUSHED_AT",
    "memberships._OF_REPOSITORY",
    "migration_queries._LOST",
    "migration_queries._UNCOPIED_TOTAL",
    "mirrors.contents._CONTENTS",
    "quotas.groups._COUNT",
    "references._CHILDREN_BY_DIGEST",
    "references._OF_REPOSITORY",
    "repositories._REMOVE",
    "repositories._REMOVE_REFERENCES",
    "repositories._REMOVE_TRASH",
    "tags._OF_REPOSITORY",
    "tags._UPDATED_AT",
    "withheld._ALL",
    "withheld._ARE_NAMED",
    "withheld._COUNT",
    "withheld._NAMED_BY_IT_ALONE",
    "withheld._REMOVE_ALL",
    "withheld._REMOVE_FOLDED",
}
"""What is meant to read all of a repository, or of all, or what one withholds, which is bounded."""

ASK_WHETHER_THERE_IS_ANY = {
    "collection.empty_repositories._AGAIN",
    "collection.empty_repositories._NOTE",
    "collection.empty_repositories._PAGE",
    "collection.empty_repositories._UNSIGHTED_PAGE",
    "collection.empty_repositories._UNSIGHTED_REST",
    "collection.emptying._OLDEST",
}
"""What stops at the first row of a repository, or the first few."""


def steps(database: Database, statement: Statement) -> list[str]:
    """The plan of a statement."""
    values: dict[str, object] = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", text_of(statement)))
    if statement._expanding is not None:
        values[statement._expanding] = [1, 2, 3]
    explained = f"EXPLAIN QUERY PLAN {statement._sql}"
    planned = Statement(explained, expanding=statement._expanding, sqlite=statement._sqlite)
    with database.transaction() as connection:
        return [row[3] for row in connection.execute(planned, values)]


def text_of(statement: Statement) -> str:
    return " ".join((statement._sql, *(statement._sqlite or ())))


def read_whole(step: str, text: str) -> str | None:
    """The large table of which a step reads all rows, or all of a repository; None if there is none."""
    found = WHOLE.search(step)
    if found is None or any(index in step for index in SMALL_INDEXES):
        return None
    named = {table: table for table in LARGE.split("|")}
    named |= {alias: table for table, alias in re.findall(rf"\b({LARGE}) (?:AS )?(\w+)", text)}
    return named.get(found["all"] or found["some"])


def test_no_statement_reads_all_of_a_repository(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    create_current(path)
    database = Database(f"sqlite:///{path}")
    found = {
        name: step
        for name, statement in STATEMENTS.items()
        for step in steps(database, statement)
        if name not in OF_A_REPOSITORY | ASK_WHETHER_THERE_IS_ANY and read_whole(step, text_of(statement)) is not None
    }
    database.close()
    assert found == {}


def test_the_list_of_exceptions_names_statements_that_there_are() -> None:
    assert STATEMENTS.keys() >= OF_A_REPOSITORY | ASK_WHETHER_THERE_IS_ANY

"""Tags page by page: each once, in the order that a page says, and at its cost however many there are."""

from __future__ import annotations

import pytest

from registry.database import blobs, manifests, memberships, repositories, tags
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.database.transaction import Transaction
from tests.database.work import analyze, work

NOW = 1_800_000_000.0


def fill(connection: Transaction, repository: int, *, first: int, count: int, each: int) -> None:
    """Manifests of a repository with as many tags ``each``."""
    for number in range(first, first + count):
        blob = blobs.put(connection, f"sha256:{number:064x}", size=number, lease=0).get().id
        memberships.add(connection, repository, blob, now=NOW)
        manifests.put(
            connection,
            repository,
            blob,
            media_type="m",
            artifact_type=None,
            subject=None,
            annotations="{}",
            now=NOW,
        )
        for tag in range(each):
            tags.put(connection, repository, f"v{tag:03}-{number}", blob, sequence=number, now=NOW)


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_pages_by_manifest_and_by_name_have_each_tag_once(database: Database, count: int) -> None:
    with database.transaction() as connection:
        repository = repositories.create(connection, "team/app", etag="", now=NOW).id
        fill(connection, repository, first=1, count=4, each=5)
        fill(connection, repositories.create(connection, "team/b", etag="", now=NOW).id, first=3, count=4, each=2)
    by_manifest: list[tuple[int, str]] = []
    by_name: list[str] = []
    with database.autocommit() as connection:
        place = (-1, "")
        while page := tags.by_manifest(connection, repository, after=place, count=count).get():
            assert len(page) <= count
            by_manifest += [(blob, name) for blob, name, *_ in page]
            place = by_manifest[-1]
        while judged := tags.judged(connection, repository, last=by_name[-1] if by_name else "", count=count).get():
            by_name += [row.name for row in judged]
    assert by_manifest == sorted(by_manifest)
    assert by_name == sorted(by_name) == sorted(name for _, name in by_manifest)
    assert len(by_name) == 20


@pytest.mark.parametrize("statement", [tags._BY_MANIFEST, tags._JUDGED], ids=["by-manifest", "by-name"])
def test_a_page_costs_as_much_however_many_tags_there_are(database: Database, statement: Statement) -> None:
    with database.transaction() as connection:
        repository = repositories.create(connection, "team/app", etag="", now=NOW).id
        fill(connection, repository, first=1, count=100, each=5)
    analyze(database)
    values = {"repository": repository, "blob": 5, "last": "v000-5", "count": 20}
    before = work(database, statement, values)
    with database.transaction() as connection:
        fill(connection, repository, first=101, count=900, each=5)
    analyze(database)
    assert work(database, statement, values) <= before * 1.5, f"{before} before"

"""The oldest trash of a group: in the order of deletion over all its repositories, at the cost of a page."""

from __future__ import annotations

import random

import pytest

from registry.config.access_sections import QuotaSettings
from registry.database import blobs, repositories
from registry.database.collection import emptying, trash
from registry.database.collection.trash import TrashRow
from registry.database.engine import Database
from registry.database.transaction import Transaction
from registry.oci.quotas import Group, Quotas
from tests.database.work import analyze, work

NOW = 1_800_000_000.0


def group_of(pattern: str) -> Group:
    ((_, quota),) = Quotas([QuotaSettings(repositories=(pattern,), bytes=1)])._quotas.values()
    return quota.group


def delete(connection: Transaction, deletions: list[str], *, first: int = 0) -> list[int]:
    """Put a manifest into the trash of each of these repositories, in this order; the ids of the manifests."""
    made = []
    for number, name in enumerate(deletions, first):
        row = repositories.find(connection, name).get() or repositories.create(connection, name, etag="", now=NOW)
        digest = f"sha256:{number:064x}"
        blob = blobs.put(connection, digest, size=1, lease=0).get().id
        trashed = TrashRow(blob, digest, 1, "m", number + 1, number + 1, NOW + number, ())
        trash.add(connection, row.id, trashed, [])
        made.append(blob)
    return made


def pages(database: Database, group: Group, *, count: int) -> list[tuple[str, int]]:
    """What leaves the trash page by page: the repository and the manifest of each row."""
    found: list[tuple[str, int]] = []
    while True:
        with database.transaction() as connection:
            page = emptying.oldest(connection, group, count=count).get()
            for row in page:
                assert trash.remove(connection, row.repository_id, row.blob_id, before=row.removed_at)
        assert len(page) <= count
        found += [(row.repository, row.blob_id) for row in page]
        if not page:
            return found


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_what_was_deleted_first_in_the_group_goes_first(database: Database, count: int) -> None:
    chosen = random.Random(count)
    names = ["b/app", *(f"a/{number}" for number in range(6))]
    deletions = [chosen.choice(names) for _ in range(60)]
    with database.transaction() as connection:
        repositories.create(connection, "a/nothing", etag="", now=NOW)
        made = delete(connection, deletions)
    expected = [(name, blob) for name, blob in zip(deletions, made, strict=True) if name.startswith("a/")]
    assert pages(database, group_of("a/**"), count=count) == expected
    assert pages(database, group_of("b/**"), count=count) == [
        (name, blob) for name, blob in zip(deletions, made, strict=True) if name == "b/app"
    ]


def test_a_page_costs_as_much_however_large_the_trash_is(database: Database) -> None:
    group = group_of("a/**")
    few = [f"{prefix}/{number % 5}" for number in range(100) for prefix in "ab"]
    with database.transaction() as connection:
        delete(connection, few)
    values = {**group._asdict(), "count": 5, "ever": emptying._EVER}
    before = work(database, emptying._OLDEST, values)
    with database.transaction() as connection:
        delete(connection, few * 10, first=len(few))
    analyze(database)
    assert work(database, emptying._OLDEST, values) <= before * 1.5, f"{before} before"

"""The rows of quotas, over SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.config.access_sections import QuotaSettings
from registry.database import blobs, memberships, repositories
from registry.database.engine import Database
from registry.database.quotas import groups, usage
from registry.database.quotas.usage import UsageRow
from registry.database.transaction import Transaction
from registry.oci.glob import Glob
from registry.oci.quotas import Group, Quotas
from tests.database.conftest import wait_for_a_lock

NOW = 1_750_000_000.25
NAMES = [
    "team_a/app",
    "team-a/app",
    "team.a/app",
    "teamxa/app",
    "team_a/app/deep",
    "team_a/app_b",
    "team_a",
    "team__a/x",
    "a",
    "z9/z9",
    "z9/app/app/z9",
    "app",
    "teampp/app/z9",
]
SEGMENTS = ["team_a", "team-a", "team.a", "team*", "*a", "app", "*", "**", "app_b", "z9", "*a*p*"]


def group_of(*patterns: str) -> Group:
    ((_, quota),) = Quotas([QuotaSettings(repositories=patterns, bytes=1)])._quotas.values()
    return quota.group


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def fill(transaction: Transaction, sizes: dict[str, dict[int, int]]) -> None:
    """Repositories with blobs of these sizes."""
    for name, its in sizes.items():
        repository = repositories.create(transaction, name, etag="", now=NOW)
        for number, size in its.items():
            blob = blobs.put(transaction, digest(number), size=size, lease=0).get().id
            memberships.add(transaction, repository.id, blob, now=NOW)


def test_a_blob_of_several_repositories_counts_once(database: Database) -> None:
    with database.transaction() as connection:
        fill(connection, {"a/one": {1: 10, 2: 5}, "a/two": {1: 10, 3: 2}, "b/one": {1: 10, 4: 100}, "a": {5: 1000}})
        assert groups.count(connection, group_of("a/**")) == (17, 10)
        assert groups.count(connection, group_of("a/two", "b/*")) == (112, 100)
        assert groups.count(connection, group_of("**")) == (1117, 1000)
        assert groups.count(connection, group_of("none/**")) == (0, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patterns=st.lists(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3), min_size=1, max_size=3))
def test_the_database_finds_the_repositories_that_the_patterns_match(
    shared: Database, patterns: list[list[str]]
) -> None:
    texts = tuple("/".join(parts) for parts in patterns)
    with shared.transaction() as connection:
        fill(connection, {name: {number: 1 << number} for number, name in enumerate(NAMES)})
        found = groups.count(connection, group_of(*texts)).used
        for row in repositories.names(connection).get():
            repositories.remove(connection, repositories.find(connection, row).get().id)  # type: ignore[union-attr]
    expected = {name for name in NAMES if any(Glob(text).matches(name, {}) for text in texts)}
    assert {name for number, name in enumerate(NAMES) if found >> number & 1} == expected


def test_pushes_are_added_until_the_limit_and_what_the_group_has_is_not(database: Database) -> None:
    group = group_of("a/**")
    with database.transaction() as connection:
        fill(connection, {"a/one": {1: 10}, "b/one": {2: 10}})

        def add(number: int, size: int, limit: int = 30) -> bool:
            return usage.add(connection, "q", group, digest(number), size=size, limit=limit).get()

        assert not add(2, 1)
        assert usage.note(connection, "q", used=10, added=0, due_at=NOW) == UsageRow(10, 0, NOW)
        assert not add(1, 10)
        assert groups.is_held(connection, group, digest(1)).get()
        assert not groups.is_held(connection, group, digest(2)).get()
        assert not groups.is_held(connection, group, digest(3)).get()
        assert add(2, 20)
        assert not add(3, 1)
        assert add(3, 1, limit=31)
        assert usage.find(connection, "q").get() == UsageRow(31, 21, NOW)
        assert usage.find(connection, "other").get() is None


def test_what_was_added_while_it_was_counted_is_not_lost(database: Database) -> None:
    group = group_of("a/**")
    with database.transaction() as connection:
        usage.note(connection, "q", used=100, added=0, due_at=NOW)
        usage.add(connection, "q", group, digest(1), size=5, limit=1000)
    with database.snapshot() as counting:
        before = usage.find(counting, "q").get()
        assert before is not None
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_add, database, group, 7).result()
        assert usage.find(counting, "q").get() == before
    with database.transaction() as connection:
        noted = usage.note(connection, "q", used=50, added=before.added, due_at=NOW)
    assert noted == UsageRow(57, 12, NOW)


def _add(database: Database, group: Group, size: int, limit: int = 1000) -> bool:
    with database.transaction() as connection:
        return usage.add(connection, "q", group, digest(size), size=size, limit=limit).get()


def test_of_two_transactions_that_add_what_fits_once_one_is_refused(database: Database) -> None:
    group = group_of("a/**")
    with database.transaction() as connection:
        usage.note(connection, "q", used=0, added=0, due_at=NOW)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            assert usage.add(connection, "q", group, digest(1), size=6, limit=10).get()
            other = pool.submit(_add, database, group, 7, 10)
            if not database.is_sqlite:
                wait_for_a_lock(database.url.render_as_string(hide_password=False))
        assert not other.result(60)


def test_one_process_takes_the_turn_to_count_what_is_due(database: Database) -> None:
    with database.transaction() as connection:
        assert not usage.take_turn(connection, "q", now=NOW, until=NOW + 60)
        usage.note(connection, "q", used=0, added=0, due_at=NOW)
        assert not usage.take_turn(connection, "q", now=NOW - 1, until=NOW + 60)
        assert usage.take_turn(connection, "q", now=NOW, until=NOW + 60)
        assert not usage.take_turn(connection, "q", now=NOW, until=NOW + 60)
        assert usage.take_turn(connection, "q", now=NOW + 60, until=NOW + 120)

"""What an upstream did not have counts for a while, and no longer."""

from __future__ import annotations

from functools import partial

from registry.database.engine import Database
from registry.database.mirrors import remote_misses
from tests.database.mirrors.conftest import at_once, pass_time

KEY = "library/app:v1"


def put(database: Database, key: str = KEY, *, mirror: str = "hub", seconds: float = 60) -> None:
    with database.transaction() as connection:
        remote_misses.put(connection, mirror, key, seconds=seconds)


def left(database: Database, key: str = KEY, *, mirror: str = "hub", most: float = 60) -> float:
    with database.autocommit() as connection:
        return remote_misses.left(connection, mirror, key, most=most).get()


def test_a_miss_counts_for_its_mirror_and_key_until_its_end(database: Database, second: Database) -> None:
    assert left(database) == 0
    put(database)
    assert 0 < left(second) <= 60
    assert left(second, "library/app:v2") == 0
    assert left(second, mirror="other") == 0
    pass_time(database, 61)
    assert left(second) == 0


def test_a_miss_that_is_seen_again_counts_from_then(database: Database, second: Database) -> None:
    put(database)
    pass_time(database, 50)
    at_once(*(partial(put, each) for each in (database, second) * 3))
    assert left(database) > 15


def test_a_miss_of_another_clock_or_of_longer_settings_does_not_count(database: Database) -> None:
    put(database)
    assert left(database, most=30) == 0
    pass_time(database, -1e6)
    assert left(database) == 0
    assert left(database, most=0) == 0


def test_misses_that_are_over_go_in_pages_and_the_rest_stays(database: Database) -> None:
    for number in range(7):
        put(database, f"library/app:{number}")
    pass_time(database, 61)
    put(database)
    removed: list[int] = []
    while not removed or removed[-1]:
        with database.transaction() as connection:
            removed.append(remote_misses.remove_over(connection, count=3))
    assert removed == [3, 3, 1, 0]
    assert left(database) > 0

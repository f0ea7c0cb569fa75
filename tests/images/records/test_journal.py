"""Records of a repository: written durably, read in the order of their numbers, never skipped."""

from __future__ import annotations

import pytest

from registry.images.layout import Span
from registry.images.records.journal import PAGE, Journal, NumberTaken, UnreadableRecord
from registry.oci.record import Record
from registry.storage.driver import StorageDriver
from tests.support.registry_world import NAME, World


@pytest.fixture(name="driver")
def _driver(world: World) -> StorageDriver:
    return world.driver()


@pytest.fixture(name="journal")
def _journal(world: World) -> Journal:
    return Journal(world.registry().backends)


def line(sequence: int, tag: str = "v1") -> bytes:
    """A record that removes a tag."""
    return Record(
        sequence=sequence,
        time="2026-11-25T03:00:00Z",
        actor="test",
        operation="untag",
        digest=None,
        descriptor=None,
        tags=(tag,),
        old={},
    ).to_line()


def test_records_are_read_in_the_order_of_their_numbers(journal: Journal) -> None:
    for sequence in (3, 1, 2):
        journal.write(NAME, sequence, line(sequence))
    assert list(journal.after(NAME, 0)) == [1, 2, 3]
    assert journal.after(NAME, 2) == {3: line(3)}
    assert [record.sequence for record in journal.history(NAME, 0, 2)] == [1, 2]
    assert journal.last(NAME) == 3


def test_writing_a_record_twice_is_harmless(journal: Journal) -> None:
    for _ in range(2):
        journal.write(NAME, 1, line(1))
    assert journal.after(NAME, 0) == {1: line(1)}


def test_a_repository_without_records_has_none(journal: Journal) -> None:
    assert (journal.after(NAME, 0), journal.last(NAME), journal.has_records(NAME)) == ({}, 0, False)
    journal.write(NAME, 1, line(1))
    assert journal.has_records(NAME)


@pytest.mark.parametrize("kind", ["memory"])
def test_a_number_is_taken_once_where_records_are_objects(journal: Journal) -> None:
    journal.write(NAME, 1, line(1))
    with pytest.raises(NumberTaken):
        journal.write(NAME, 1, line(1, "other"))
    assert journal.after(NAME, 0) == {1: line(1)}


@pytest.mark.parametrize("kind", ["local"])
def test_a_line_that_was_cut_short_is_skipped_and_a_whole_one_never(journal: Journal, driver: StorageDriver) -> None:
    journal.write(NAME, 1, line(1))
    key = f"{NAME}/.journal/0000000000000000.jsonl"
    driver.append(key, line(2)[:20] + b"\n")
    journal.write(NAME, 3, line(3))
    assert list(journal.after(NAME, 0)) == [1, 3]
    driver.append(key, b'{"sequence":4,"operation":"of a later release"}\n')
    with pytest.raises(UnreadableRecord):
        journal.after(NAME, 0)


def pack(world: World, driver: StorageDriver, first: int, last: int) -> None:
    """Records in one object, as a later release makes it, without those of their own."""
    layout = world.registry().backends.layout
    driver.write(layout.pack(NAME, Span(first, last)), b"".join(map(line, range(first, last + 1))))


def test_records_in_packs_are_read_with_those_of_their_own(
    world: World, journal: Journal, driver: StorageDriver
) -> None:
    pack(world, driver, 1, 40)
    pack(world, driver, 41, 50)
    for sequence in (49, 50, 51, 52):  # a packer was killed before it removed the first two
        journal.write(NAME, sequence, line(sequence))
    assert list(journal.after(NAME, 0)) == list(range(1, 53))
    assert list(journal.after(NAME, 45)) == list(range(46, 53))
    assert [record.sequence for record in journal.history(NAME, 0, 52)] == list(range(1, 53))
    assert [record.sequence for record in journal.history(NAME, 20, 45)] == list(range(21, 46))
    assert [record.sequence for record in journal.history(NAME, 45, 51)] == list(range(46, 52))
    assert [record.sequence for record in journal.backwards(NAME)] == list(range(52, 0, -1))
    assert [record.sequence for record in journal.backwards(NAME, 44)] == list(range(43, 0, -1))
    assert journal.last(NAME) == 52


def test_a_repository_whose_records_are_all_in_packs_has_a_last_one(
    world: World, journal: Journal, driver: StorageDriver
) -> None:
    pack(world, driver, 1, 3)
    assert (journal.last(NAME), journal.has_records(NAME)) == (3, True)


def test_a_line_of_a_pack_that_is_cut_short_is_never_skipped(
    world: World, journal: Journal, driver: StorageDriver
) -> None:
    """It is written whole, from records that were acknowledged."""
    key = world.registry().backends.layout.pack(NAME, Span(1, 2))
    driver.write(key, line(1) + line(2)[:20])
    with pytest.raises(UnreadableRecord):
        journal.after(NAME, 0)


def test_many_records_are_read_backwards_page_by_page(journal: Journal) -> None:
    count = 2 * PAGE + 10
    for sequence in range(1, count + 1):
        journal.write(NAME, sequence, line(sequence))
    assert [record.sequence for record in journal.backwards(NAME)] == list(range(count, 0, -1))

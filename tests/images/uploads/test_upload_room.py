"""Upload sessions are bounded, in all and of each address; beginning one is never refused."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from registry.database import upload_sessions
from registry.database.upload_sessions import SessionRow
from registry.images.uploads.session_ids import noted
from registry.images.uploads.upload_room import Bounds, surplus
from registry.oci.digest import Digest
from registry.oci.errors import BlobUploadUnknown
from registry.storage.errors import PathRefused
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.registry_world import KINDS, NAME, World, pull_blob

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction
    from registry.images.registry import Registry

ONE, OTHER, THIRD = "192.0.2.1", "192.0.2.2", "2001:db8::1"


def begin(
    world: World, registry: Registry, address: str | None, count: int = 1, *, account: str | None = None
) -> list[str]:
    """Sessions, each a second younger than the one before."""
    begun = []
    for _ in range(count):
        world.clock.now += 1
        begun.append(registry.uploads.start(NAME, address=address, account=account))
    return begun


def living(registry: Registry, uploads: list[str]) -> list[str]:
    """Those that are still open."""
    found = []
    for upload in uploads:
        try:
            registry.uploads.find(NAME, upload)
        except BlobUploadUnknown:
            continue
        found.append(upload)
    return found


@pytest.mark.parametrize(
    ("counts", "lost"),
    [
        ({}, {}),
        ({"a": 5, "b": 5}, {}),
        ({"a": 6, "b": 1}, {"a": 1}),
        ({"a": 9, "b": 8}, {"a": 4, "b": 3}),
        ({"a": 5, "b": 4, "c": 3}, {"a": 2}),
        ({"a": 4, "b": 4, "c": 4}, {"a": 1, "b": 1}),
        (dict.fromkeys("abcdefghijkl", 1), {"a": 1, "b": 1}),
        ({"": 20}, {"": 15}),
        ({"a": 60, "b": 1}, {"a": 20}),
        ({"a": 6, "account x": 6}, {"a": 1, "account x": 1}),
        ({"account x": 1, **dict.fromkeys("cdefghijklm", 1)}, {"c": 1, "d": 1}),
        ({f"account {number}": 1 for number in range(12)}, {}),
        ({**{f"account {number}": 1 for number in range(12)}, "c": 1}, {"c": 1}),
    ],
)
def test_who_has_the_most_loses_first(counts: dict[str, int], lost: dict[str, int]) -> None:
    assert surplus(counts, Bounds(10, 5), 20) == lost


def test_an_address_at_its_bound_goes_on_and_loses_its_oldest(world: World) -> None:
    registry = world.registry(uploads_per_address=3)
    others = begin(world, registry, OTHER)
    mine = begin(world, registry, ONE, 5)
    assert living(registry, mine) == mine[-3:]
    assert living(registry, others) == others
    assert {entry.upload_id for entry in registry.backends.driver.uploads()} <= {
        noted(upload) for upload in (*mine[-3:], *others)
    }
    assert registry.uploads.count() == 4


def test_addresses_of_one_machine_are_one(world: World) -> None:
    registry = world.registry(uploads_per_address=2)
    mine = [begin(world, registry, f"2001:db8::{number}")[0] for number in range(1, 5)]
    assert living(registry, mine) == mine[-2:]


def test_a_stranger_at_his_bound_ends_only_his_own(world: World) -> None:
    registry = world.registry(uploads_per_address=2)
    known = begin(world, registry, ONE, 2, account="user:alice")
    strange = begin(world, registry, ONE, 4)
    assert living(registry, [*known, *strange]) == [*known, *strange[-2:]]
    again = begin(world, registry, OTHER, account="user:alice")
    assert living(registry, [*known, *again]) == [known[1], *again]


def test_a_known_client_keeps_a_session_whatever_strangers_begin(world: World) -> None:
    registry = world.registry(uploads=5)
    known = begin(world, registry, ONE, account="user:alice")
    strange = [begin(world, registry, f"192.0.2.{number}")[0] for number in range(10, 20)]
    assert living(registry, known) == known
    assert len(living(registry, strange)) == 4


def test_what_is_added_to_counts_from_then(world: World) -> None:
    registry = world.registry(uploads_per_address=2)
    first, second = begin(world, registry, ONE, 2)
    world.clock.now += 1
    with registry.uploads.open(NAME, first, 0) as addition:
        addition.write(b"goes on")
        addition.commit()
    begin(world, registry, ONE)
    assert living(registry, [first, second]) == [first]


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_is_being_written_to_is_not_idle(world: World) -> None:
    registry = world.registry(uploads_per_address=2)
    assert registry.backends.driver.capabilities.exclusive_uploads
    first, second = begin(world, registry, ONE, 2)
    with registry.uploads.open(NAME, first, 0) as addition:
        addition.write(b"takes ")
        third, fourth = begin(world, registry, ONE, 2)
        addition.write(b"long")
        registry.uploads.finish(addition, Digest.of(b"takes long"))
    assert living(registry, [first, second, third, fourth]) == [fourth]
    assert pull_blob(registry, Digest.of(b"takes long")) == b"takes long"


def test_where_all_have_too_many_the_largest_loses_and_the_small_do_not(world: World) -> None:
    registry = world.registry(uploads=6)
    small = begin(world, registry, OTHER)
    large = begin(world, registry, ONE, 4)
    third = begin(world, registry, THIRD, 3)
    assert living(registry, large) == large[-2:]
    assert living(registry, small + third) == small + third


def test_all_replicas_count_together(world: World) -> None:
    replicas = [world.registry(uploads_per_address=4) for _ in range(3)]
    mine = [upload for _ in range(4) for registry in replicas for upload in begin(world, registry, ONE)]
    assert living(replicas[0], mine) == mine[-4:]


def test_sessions_that_a_former_release_began_count_as_one_address(world: World) -> None:
    registry = world.registry(uploads_per_address=3)
    old = [str(uuid.uuid4()) for _ in range(5)]
    for upload in old:
        world.clock.now += 1
        note = registry.backends.driver.start_upload(upload).note
        with registry.backends.database.transaction() as connection:
            row = SessionRow(upload, NAME, 0, "sha256", Digest.of(b""), note, None, world.clock.now)
            upload_sessions.add(connection, row, now=world.clock.now)
    begin(world, registry, ONE)
    assert living(registry, old) == old[-3:]


def test_a_store_that_cannot_free_refuses_no_session(world: World) -> None:
    driver = FaultyDriver(world.driver(), [Fault("discard_upload", times=None), Fault("open_upload", times=None)])
    registry = world.registry(driver=driver, uploads_per_address=2)
    mine = begin(world, registry, ONE, 4)
    assert mine[-1] in living(world.registry(), mine)
    assert driver.struck


def test_a_session_whose_file_is_refused_keeps_no_other_from_ending(world: World) -> None:
    registry = world.registry(uploads_per_address=2)
    refused = begin(world, registry, ONE)
    fault = Fault("open_upload", key=noted(*refused), times=None, effect=PathRefused)
    registry = world.registry(driver=FaultyDriver(world.driver(), [fault]), uploads_per_address=2)
    mine = begin(world, registry, ONE, 4)
    assert living(world.registry(), refused + mine) == refused + mine[-1:]


def test_many_pushes_from_one_address_end_nothing(world: World) -> None:
    registry = world.registry(uploads=3, uploads_per_address=3)
    waiting = begin(world, registry, ONE)
    for number in range(30):
        (upload,) = begin(world, registry, ONE)
        data = b"%d" % number
        with registry.uploads.open(NAME, upload, 0) as addition:
            addition.write(data)
            registry.uploads.finish(addition, Digest.of(data))
    assert living(registry, waiting) == waiting


def test_with_large_bounds_a_push_pays_for_no_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = world.registry(uploads=1000, uploads_per_address=500)
    counts: list[int] = []
    real = upload_sessions.count_by_address

    def counted(connection: Transaction) -> Later[dict[str, int]]:
        counts.append(1)
        return real(connection)

    monkeypatch.setattr(upload_sessions, "count_by_address", counted)
    begin(world, registry, ONE, 21)
    assert len(counts) == 5

"""Users with passwords: what a flood of logins costs, and what a change of the file does (checks 12, 16, 17)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from registry.auth.credentials import Basic
from registry.auth.groups import Groups
from registry.auth.identity import Identity, Kind
from registry.auth.passwords.hashing_pool import HashingPool
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_hash import PasswordHash
from registry.auth.passwords.password_users import WRONG, PasswordUsers
from registry.auth.passwords.throttle import Throttle
from registry.auth.watched_file import WatchedFile
from registry.oci.errors import Unauthorized, Unavailable

HERE, THERE = "192.0.2.1", "192.0.2.2"


def line(user: str, password: str) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


class Place:
    """A file with alice and bob, and the number of hashes that were made."""

    def __init__(self, path: Path, hashes: list[str]) -> None:
        self.path = path
        self.hashes = hashes
        self.write(line("alice", "secret"), line("bob", "other"))
        self.pool = HashingPool()
        self.users = PasswordUsers(
            WatchedFile(path, parse_htpasswd), Groups({"team": ["alice"]}), self.pool, Throttle(10, 300.0, lambda: 1.0)
        )

    def write(self, *lines: str) -> None:
        new = self.path.with_name("new")
        new.write_text("".join(lines))
        new.replace(self.path)

    def attempt(self, *attempts: tuple[str, str, str]) -> list[Identity | BaseException]:
        """What each gets; all at the same time."""

        async def run() -> list[Identity | BaseException]:
            tries = (self.users.identify(Basic(user, password), address) for user, password, address in attempts)
            return await asyncio.gather(*tries, return_exceptions=True)

        return asyncio.run(run())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    hashes: list[str] = []
    verify: Callable[[PasswordHash, str], bool] = PasswordHash.verify

    def count(stored: PasswordHash, password: str) -> bool:
        hashes.append(stored.text)
        return verify(stored, password)

    monkeypatch.setattr(PasswordHash, "verify", count)
    made = Place(tmp_path / "htpasswd", hashes)
    yield made
    made.pool.close()


def wrong(found: Identity | BaseException) -> bool:
    return isinstance(found, Unauthorized) and found.message == WRONG


def test_a_password_proves_a_user_with_groups(place: Place) -> None:
    (found,) = place.attempt(("alice", "secret", HERE))
    assert found == place.users.find("alice")
    assert isinstance(found, Identity)
    assert found == Identity(Kind.USER, "alice", frozenset({"team"}), credential=found.credential)
    assert len(found.credential) == 16


def test_requests_with_one_password_share_one_hash(place: Place) -> None:
    found = place.attempt(*[("alice", "secret", HERE)] * 50)
    assert {type(each) for each in found} == {Identity}
    assert len(place.hashes) == 1


def test_requests_with_one_wrong_password_get_an_error_each(place: Place) -> None:
    """What is answered to one of them is written into its error."""
    found = place.attempt(*[("alice", "guess", HERE)] * 5)
    assert all(map(wrong, found))
    assert len({id(each) for each in found}) == 5
    assert len(place.hashes) == 1


def test_a_client_that_leaves_does_not_end_the_hash_of_those_that_stay(place: Place) -> None:
    async def leave() -> Identity:
        first = asyncio.ensure_future(place.users.identify(Basic("alice", "secret"), HERE))
        second = asyncio.ensure_future(place.users.identify(Basic("alice", "secret"), HERE))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(leave()).name == "alice"
    assert len(place.hashes) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_a_thousand_wrong_passwords_cost_ten_hashes_and_keep_no_other_address_out(place: Place, at_once: bool) -> None:
    attempts = [("alice", f"guess {number}", HERE) for number in range(1000)]
    if at_once:
        found = place.attempt(*attempts)
    else:
        found = [each for attempt in attempts[:40] for each in place.attempt(attempt)]
    assert all(map(wrong, found))
    assert len(place.hashes) == 10
    (throttled,) = place.attempt(("alice", "secret", HERE))
    assert wrong(throttled)
    (elsewhere, another) = place.attempt(("alice", "secret", THERE), ("bob", "other", HERE))
    assert isinstance(elsewhere, Identity)
    assert isinstance(another, Identity)


def test_an_unknown_user_costs_a_hash_of_the_file_always_the_same(place: Place) -> None:
    found = [each for number in range(5) for each in place.attempt(("mallory", f"guess {number}", HERE))]
    assert all(map(wrong, found))
    assert len(place.hashes) == 5
    assert len(set(place.hashes)) == 1


def test_no_password_proves_a_user_that_is_not_there(place: Place) -> None:
    """The hash that is made instead is that of one of these two."""
    found = place.attempt(*((f"mallory {number}", word, HERE) for number in range(8) for word in ("secret", "other")))
    assert all(map(wrong, found))


def test_a_login_that_found_no_room_is_not_counted_as_wrong(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_work: object, _crowd: str) -> bool:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(place.pool, "run", full)
        found = place.attempt(*(("alice", f"guess {number}", HERE) for number in range(100)))
    assert all(isinstance(each, Unavailable | Unauthorized) for each in found)
    (after,) = place.attempt(("alice", "secret", HERE))
    assert isinstance(after, Identity)


def test_a_changed_file_holds_for_the_next_password(place: Place) -> None:
    (before,) = place.attempt(("alice", "secret", HERE))
    assert isinstance(before, Identity)
    place.write(line("alice", "new"))
    old, new = place.attempt(("alice", "secret", HERE), ("alice", "new", HERE))
    assert wrong(old)
    assert isinstance(new, Identity)
    assert not place.users.is_current(before)
    assert place.users.is_current(new)


def test_a_user_that_is_removed_is_gone_with_the_next_look_and_the_rest_stays(place: Place) -> None:
    alice, bob = place.users.find("alice"), place.users.find("bob")
    assert alice is not None
    assert bob is not None
    kept = next(each for each in place.path.read_text().splitlines(keepends=True) if each.startswith("bob"))
    place.write(kept)
    place.users.look()
    assert place.users.find("alice") is None
    assert not place.users.is_current(alice)
    assert place.users.is_current(bob)


def test_a_wrong_password_that_is_repeated_is_hashed_and_counted_once(place: Place) -> None:
    for user in ("alice", "mallory"):
        place.hashes.clear()
        for _ in range(50):
            assert all(map(wrong, place.attempt((user, "old", HERE))))
        assert len(place.hashes) == 1
    (found,) = place.attempt(("alice", "secret", HERE))
    assert isinstance(found, Identity)


def test_a_password_that_was_wrong_is_looked_at_again_when_the_file_has_changed(place: Place) -> None:
    assert all(map(wrong, place.attempt(("alice", "new", HERE), ("carol", "new", HERE))))
    place.write(line("alice", "new"), line("carol", "new"))
    place.users.look()
    found = place.attempt(("alice", "new", HERE), ("carol", "new", HERE))
    assert [type(each) for each in found] == [Identity, Identity]


def test_what_is_remembered_of_wrong_passwords_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.auth.passwords.password_users.MAX_WRONG", 3)
    for number in range(6):
        place.attempt(("mallory", f"guess {number}", HERE))
    assert len(place.users._known.wrong) == 3
    assert not any(b"guess" in key for key in place.users._known.wrong)


def test_a_file_that_makes_no_sense_changes_nothing_and_is_told(place: Place) -> None:
    place.write("alice:secret\n")
    (found,) = place.attempt(("alice", "secret", HERE))
    assert isinstance(found, Identity)
    assert place.users.problem is not None
    assert "line 1" in place.users.problem


def test_a_file_without_users_lets_no_password_in(place: Place) -> None:
    place.write("# none\n")
    assert all(map(wrong, place.attempt(("alice", "secret", HERE), ("mallory", "", HERE))))
    assert place.hashes == []

"""Logins at every door, counted in hashes: many good ones, many wrong ones, many at once (checks 16, 17)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.auth.passwords.password_hash import PasswordHash
from registry.oci.errors import Unavailable
from tests.api.service import Reply, Service, serving

PASSWORDS = {f"user{number}": f"word-{number}" for number in range(20)}
HERE, THERE = "192.0.2.1", "192.0.2.2"
FORM = "application/x-www-form-urlencoded"


class Door:
    """A service behind a proxy that names its clients, and the hashes that were made."""

    def __init__(self, service: Service, hashes: list[str]) -> None:
        self.service = service
        self.hashes = hashes

    def basic(self, user: str, password: str, address: str = HERE, path: str = "/v2/") -> Reply:
        credentials = b64encode(f"{user}:{password}".encode()).decode()
        return self.service.call(
            "GET", path, headers={"Authorization": f"Basic {credentials}", "X-Forwarded-For": address}
        )

    def form(self, user: str, password: str) -> Reply:
        body = urlencode({"grant_type": "password", "service": "x", "username": user, "password": password}).encode()
        headers = {"Content-Type": FORM, "X-Forwarded-For": HERE}
        return self.service.call("POST", "/auth/token", body, headers)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    hashes: list[str] = []
    verify: Callable[[PasswordHash, str], bool] = PasswordHash.verify

    def count(stored: PasswordHash, password: str) -> bool:
        hashes.append(stored.text)
        return verify(stored, password)

    monkeypatch.setattr(PasswordHash, "verify", count)
    users = tmp_path / "htpasswd"
    users.write_text(
        "".join(
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
            for user, password in PASSWORDS.items()
        )
    )
    with serving(tmp_path, {"auth": {"htpasswd": {"file": users}}}) as service:
        yield Door(service, hashes)


def test_twenty_users_at_every_door_cost_a_hash_for_each_door(door: Door) -> None:
    for _ in range(5):
        for user, password in PASSWORDS.items():
            assert door.basic(user, password).status == 200
            assert door.basic(user, password, THERE, "/auth/token").status == 200
            assert door.form(user, password).status == 200
    assert len(door.hashes) <= 3 * len(PASSWORDS)


def test_guesses_at_every_door_share_one_bucket_and_leave_the_rest_alone(door: Door) -> None:
    assert door.basic("user1", PASSWORDS["user1"]).status == 200
    door.hashes.clear()
    for number in range(30):
        assert door.basic("user1", f"guess {number}").status == 401
        assert door.basic("user1", f"guess {number}", HERE, "/auth/token").status == 401
        assert door.form("user1", f"guess {number}").status == 401
        assert door.basic("user1", PASSWORDS["user1"]).status == 200  # it was verified before
    assert len(door.hashes) == 10
    assert door.basic("user1", PASSWORDS["user1"], THERE, "/auth/token").status == 200
    assert door.basic("user2", PASSWORDS["user2"]).status == 200


def test_a_refusal_says_the_same_of_users_that_are_there_and_that_are_not(door: Door) -> None:
    known, unknown = door.basic("user1", "wrong"), door.basic("mallory", "wrong")
    assert (known.status, known.json, known.headers.get("www-authenticate")) == (
        unknown.status,
        unknown.json,
        unknown.headers.get("www-authenticate"),
    )
    assert len(door.hashes) == 2


def test_where_too_many_wait_the_answer_is_503_with_a_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_pool: object, _work: object, _crowd: str) -> bool:
        await asyncio.sleep(0)
        raise Unavailable("too many", headers={"Retry-After": "1"})

    with monkeypatch.context() as patch:
        patch.setattr("registry.auth.passwords.hashing_pool.HashingPool.run", full)
        for reply in (door.basic("user1", "word-1"), door.form("user1", "word-1")):
            assert reply.status == 503
            assert reply.headers["retry-after"] == "1"
    assert door.basic("user1", "word-1").status == 200

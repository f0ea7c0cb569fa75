"""From credentials to an identity: which authenticator is asked, what is remembered, and what is never hashed."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import bcrypt
import pytest

from registry.auth.authenticators import Authenticators
from registry.auth.credentials import Basic, Bearer
from registry.auth.directory import LiveDirectory
from registry.auth.groups import Groups
from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.issuers import Issuers
from registry.auth.passwords.hashing_pool import HashingPool
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_hash import PasswordHash
from registry.auth.passwords.password_users import PasswordUsers
from registry.auth.passwords.throttle import Throttle
from registry.auth.tokens.bearer import Verified
from registry.auth.verified import VerifiedCredentials
from registry.auth.watched_file import WatchedFile
from registry.oci.errors import Unauthorized
from tests.auth.keys.place import Keys

T = TypeVar("T")

HERE = "192.0.2.1"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"
SSO = Identity(Kind.OIDC, "sso/carol")


class TokensOfOthers:
    """Issuers that believe one token, and note what they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def of_bearer(self, text: str) -> Verified:
        self.asked.append("bearer")
        return self._of(text)

    def of_provider(self, text: str) -> Verified:
        self.asked.append("provider")
        return self._of(text)

    def _of(self, text: str) -> Verified:
        if text != JWT:
            raise Unauthorized
        return Verified(SSO, 2_000_000_000.0)


async def run(function: Callable[[str], T], text: str) -> T:
    return await asyncio.to_thread(function, text)


class Place:
    """A process with alice and bob, keys, and a provider."""

    def __init__(self, directory: Path, hashes: list[str]) -> None:
        self.hashes = hashes
        self.keys = Keys(directory)
        self.path = directory / "htpasswd"
        self.write(alice="secret", bob="other")
        self.pool = HashingPool()
        users = PasswordUsers(WatchedFile(self.path, parse_htpasswd), Groups({}), self.pool, Throttle(10, 300.0))
        api_keys = self.keys.process()
        self.directory = LiveDirectory(users, api_keys)
        self.directory.look()
        self.issuers = TokensOfOthers()
        verified = VerifiedCredentials(self.directory, 600.0, lambda: self.keys.now)
        self.authenticators = Authenticators(
            users, api_keys, cast("Issuers", self.issuers), self.directory, verified, run
        )

    def write(self, **passwords: str) -> None:
        hashed = {user: bcrypt.hashpw(each.encode(), bcrypt.gensalt(4)).decode() for user, each in passwords.items()}
        new = self.path.with_name("new")
        new.write_text("".join(f"{user}:{each}\n" for user, each in hashed.items()))
        new.replace(self.path)

    def basic(self, user: str, password: str, address: str = HERE) -> Identity:
        """As a request does it: what is remembered first."""
        header = b"Basic " + b64encode(f"{user}:{password}".encode())
        return self._ask(header, Basic(user, password), address)

    def bearer(self, token: str) -> Identity:
        return self._ask(b"Bearer " + token.encode(), Bearer(token), HERE)

    def _ask(self, header: bytes, credentials: Basic | Bearer, address: str) -> Identity:
        found = self.authenticators.remembered(header)
        if found is not None:
            return found.identity
        return asyncio.run(self.authenticators.authenticate(header, credentials, address))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    hashes: list[str] = []
    verify: Callable[[PasswordHash, str], bool] = PasswordHash.verify

    def count(stored: PasswordHash, password: str) -> bool:
        hashes.append(stored.text)
        return verify(stored, password)

    monkeypatch.setattr(PasswordHash, "verify", count)
    made = Place(tmp_path, hashes)
    yield made
    made.pool.close()
    made.keys.database.close()


def test_no_credentials_are_anonymous(place: Place) -> None:
    assert asyncio.run(place.authenticators.authenticate(b"", None, HERE)) is ANONYMOUS


def test_a_password_is_hashed_once_for_many_requests(place: Place) -> None:
    assert {place.basic("alice", "secret").name for _ in range(200)} == {"alice"}
    assert {place.basic("bob", "other").name for _ in range(200)} == {"bob"}
    assert len(place.hashes) == 2


def test_a_password_is_hashed_anew_when_its_time_is_over(place: Place) -> None:
    place.basic("alice", "secret")
    place.keys.now += 601
    place.basic("alice", "secret")
    assert len(place.hashes) == 2


def test_a_remembered_success_passes_while_guesses_are_throttled(place: Place) -> None:
    place.basic("alice", "secret")
    for number in range(50):
        with pytest.raises(Unauthorized):
            place.basic("alice", f"guess {number}")
        assert place.basic("alice", "secret").name == "alice"
    assert len(place.hashes) == 11


def test_a_wrong_password_that_is_repeated_keeps_no_right_one_out(place: Place) -> None:
    for _ in range(30):
        with pytest.raises(Unauthorized):
            place.basic("alice", "wrong")
    assert place.basic("alice", "secret").name == "alice"
    assert len(place.hashes) == 2


def test_a_changed_password_ends_the_old_one_and_no_other_is_hashed_anew(place: Place) -> None:
    place.basic("alice", "secret")
    place.basic("bob", "other")
    kept = next(line for line in place.path.read_text().splitlines(keepends=True) if line.startswith("bob"))
    place.write(alice="new")
    place.path.write_text(place.path.read_text() + kept)
    place.directory.look()
    place.hashes.clear()
    assert place.basic("bob", "other").name == "bob"
    assert place.hashes == []
    with pytest.raises(Unauthorized):
        place.basic("alice", "secret")
    assert place.basic("alice", "new").name == "alice"


@pytest.mark.parametrize("user", ["", "alice", "key:1", "anything"])
def test_a_key_is_a_password_whatever_the_user_and_is_never_hashed_as_one(place: Place, user: str) -> None:
    secret = place.keys.add()
    assert place.basic(user, secret.text).who == f"key:{secret.key_id}"
    assert place.bearer(secret.text).who == f"key:{secret.key_id}"
    with pytest.raises(Unauthorized):
        place.basic(user, secret.text[:-1])
    assert place.hashes == []


def test_a_revoked_key_is_refused_after_the_next_look(place: Place) -> None:
    secret = place.keys.add()
    place.basic("", secret.text)
    place.keys.store.remove(secret.key_id)
    place.directory.look()
    with pytest.raises(Unauthorized):
        place.basic("", secret.text)


def test_a_key_is_not_remembered_beyond_its_end(place: Place) -> None:
    secret = place.keys.add(expires=place.keys.now + 5)
    place.basic("", secret.text)
    place.keys.now += 5
    with pytest.raises(Unauthorized):
        place.basic("", secret.text)


def test_a_token_of_a_provider_is_a_password_for_any_user_and_is_never_hashed(place: Place) -> None:
    for user in ("", "alice", "gitlab-ci-token"):
        assert place.basic(user, JWT) == SSO
    with pytest.raises(Unauthorized):
        place.basic("alice", JWT + "x")
    assert place.issuers.asked == ["provider"] * 4
    assert place.hashes == []


def test_a_bearer_token_may_be_of_every_issuer_and_is_verified_once(place: Place) -> None:
    assert [place.bearer(JWT) for _ in range(5)] == [SSO] * 5
    assert place.issuers.asked == ["bearer"]


def test_a_password_in_a_form_is_remembered_too(place: Place) -> None:
    async def ask() -> Identity:
        return await place.authenticators.of_password(Basic("alice", "secret"), HERE)

    assert [asyncio.run(ask()).name for _ in range(5)] == ["alice"] * 5
    assert len(place.hashes) == 1


def test_what_is_not_configured_refuses(place: Place) -> None:
    issuers = cast("Issuers", place.issuers)
    nothing = LiveDirectory(None, None)
    bare = Authenticators(None, None, issuers, nothing, VerifiedCredentials(nothing, 600.0), run)
    for credentials in (Basic("alice", "secret"), Basic("", place.keys.add().text), Bearer(place.keys.add().text)):
        with pytest.raises(Unauthorized):
            asyncio.run(bare.authenticate(b"x", credentials, HERE))

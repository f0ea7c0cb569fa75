"""Hashes of passwords: what is taken, what is not, and what is told of them."""

from __future__ import annotations

import bcrypt
import pytest
from argon2 import PasswordHasher

from registry.auth.passwords.password_hash import BCRYPT_BYTES, MAX_BYTES, PasswordHash

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def of_bcrypt(password: bytes, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).replace(b"$2b$", b"$" + prefix + b"$").decode()


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_bcrypt_of_each_name_is_verified(prefix: bytes) -> None:
    stored = PasswordHash.parse(of_bcrypt(b"secret", prefix))
    assert stored.verify("secret")
    assert not stored.verify("Secret")
    assert not stored.verify("")


def test_argon2id_is_verified() -> None:
    stored = PasswordHash.parse(CHEAP.hash("sécret"))
    assert stored.verify("sécret")
    assert not stored.verify("secret")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "$apr1$salt$hash",
        "$6$salt$hash",
        "$2x$10$" + "a" * 53,
        "$2b$03$" + "a" * 53,
        "$2b$17$" + "a" * 53,
        "$2b$31$" + "a" * 53,
        "$2b$32$" + "a" * 53,
        "$2b$10$" + "a" * 52,
        "$2b$10$" + "a" * 53 + ":more",
        "$2b$10$" + "a" * 53 + "\n",
        "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=8,t=1000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=8,t=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=8,t=1,p=1$c2Fs$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFza",
        "$argon2id$v=16$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$é",
    ],
)
def test_anything_else_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="hash") as caught:
        PasswordHash.parse(text)
    assert not text or text not in str(caught.value)


def test_a_password_longer_than_bcrypt_looks_at_is_checked_by_its_beginning() -> None:
    stored = PasswordHash.parse(of_bcrypt(b"x" * BCRYPT_BYTES))
    assert stored.verify("x" * (BCRYPT_BYTES + 20))
    assert not stored.verify("x" * (BCRYPT_BYTES - 1))


def test_a_huge_password_is_wrong() -> None:
    assert not PasswordHash.parse(CHEAP.hash("secret")).verify("x" * (MAX_BYTES + 1))


@pytest.mark.parametrize("password", ["", "se\0cret", "é" * (BCRYPT_BYTES // 2) + "x"])
def test_bcrypt_is_not_made_of_what_it_cannot_tell_apart(password: str) -> None:
    with pytest.raises(ValueError, match="the password"):
        PasswordHash.make(password, "bcrypt")


def test_a_hash_that_is_made_is_verified_and_has_a_version_of_its_own() -> None:
    one, other = (PasswordHash.make("secret", "bcrypt") for _ in range(2))
    assert PasswordHash.parse(one.text).verify("secret")
    assert one.version != other.version
    assert len(one.version) == 16

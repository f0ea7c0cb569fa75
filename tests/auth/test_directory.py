"""The directory: users and keys by name, and what ends that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.auth.certificates import Certificates
from registry.auth.directory import LiveDirectory
from registry.auth.groups import Groups
from registry.auth.identity import Identity, Kind
from registry.auth.passwords.hashing_pool import HashingPool
from registry.auth.passwords.htpasswd import parse_htpasswd
from registry.auth.passwords.password_users import PasswordUsers
from registry.auth.passwords.throttle import Throttle
from registry.auth.watched_file import WatchedFile
from registry.config.access_sections import CertificateSettings
from tests.auth.keys.place import Keys

ALICE = "alice:$2b$04$" + "a" * 53 + "\n"


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(ALICE)
    return path


@pytest.fixture
def directory(file: Path, keys: Keys) -> LiveDirectory:
    users = PasswordUsers(WatchedFile(file, parse_htpasswd), Groups({}), HashingPool(), Throttle(1, 1.0))
    return LiveDirectory(users, keys.process())


def test_users_and_keys_are_found_by_name(directory: LiveDirectory, keys: Keys) -> None:
    secret = keys.add()
    alice, key = directory.find(Kind.USER, "alice"), directory.find(Kind.KEY, secret.key_id)
    assert alice is not None
    assert key is not None
    assert (alice.who, key.who) == ("alice", f"key:{secret.key_id}")
    assert directory.find(Kind.USER, secret.key_id) is None
    assert directory.find(Kind.KEY, "alice") is None
    assert directory.find(Kind.OIDC, "alice") is None
    assert directory.find(Kind.CERTIFICATE, "alice") is None


def test_a_look_ends_what_was_taken_away(directory: LiveDirectory, keys: Keys, file: Path) -> None:
    secret = keys.add()
    directory.look()
    alice, key, generation = (
        directory.find(Kind.USER, "alice"),
        directory.find(Kind.KEY, secret.key_id),
        directory.generation,
    )
    assert alice is not None
    assert key is not None
    assert directory.is_current(alice, generation)
    assert directory.is_current(key, generation)
    file.write_text("# none\n")
    keys.store.remove(secret.key_id)
    directory.look()
    assert not directory.is_current(alice, directory.generation)
    assert not directory.is_current(key, generation)


def test_a_problem_is_named_without_a_name(directory: LiveDirectory, file: Path) -> None:
    assert directory.problems == []
    file.write_text("alice:secret\n")
    directory.look()
    assert directory.problems == ["auth.htpasswd"]
    file.write_text(ALICE + "# repaired\n")
    directory.look()
    assert directory.problems == []


def test_without_users_and_keys_their_identities_hold_no_more() -> None:
    nothing = LiveDirectory(None, None)
    nothing.look()
    nothing.close()
    assert nothing.find(Kind.USER, "alice") is None
    assert not nothing.is_current(Identity(Kind.USER, "alice"), nothing.generation)
    assert not nothing.is_current(Identity(Kind.KEY, "1"), nothing.generation)
    assert nothing.is_current(Identity(Kind.OIDC, "sso/alice"), nothing.generation)
    assert nothing.problems == []


def test_a_name_in_certificates_is_found_where_these_are_in_use() -> None:
    certificates = Certificates(CertificateSettings(), Groups({"machines": ["cert:ci"]}))
    found = LiveDirectory(None, None, certificates).find(Kind.CERTIFICATE, "ci")
    assert found is not None
    assert (found.who, found.groups) == ("cert:ci", frozenset({"machines"}))

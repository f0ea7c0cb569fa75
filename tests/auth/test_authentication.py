"""All of authentication, from the settings: a user, a key and a token of ours, and what ends them (check 12)."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import bcrypt
import pytest

from registry.auth.authentication import Authentication, check_files
from registry.auth.credentials import Basic, Bearer, credentials_of
from registry.auth.identity import Identity
from registry.auth.keys.key_scope import KeyScope
from registry.auth.oidc.provider import Used
from registry.auth.tokens.scopes import Scope
from registry.config.access_sections import AuthSettings
from registry.config.file import ConfigError
from registry.oci.errors import Unauthorized
from tests.auth.keys.place import Keys
from tests.auth.signing import ec, jwks

T = TypeVar("T")
USED = Used(frozenset(), frozenset())


def line(user: str, password: str) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


async def run(function: object, text: str) -> object:
    assert callable(function)
    return await asyncio.to_thread(function, text)


class Place:
    """A storage, a database and a htpasswd file with alice; each process has its own memory."""

    def __init__(self, directory: Path) -> None:
        self.keys = Keys(directory)
        self.keys.now = time.time()
        self.path = directory / "htpasswd"
        self.path.write_text(line("alice", "secret"))
        self.opened: list[Authentication] = []

    def process(self, **changes: object) -> Authentication:
        settings = AuthSettings.model_validate({"htpasswd": {"file": self.path}, **changes})
        made = Authentication(
            settings,
            service="registry.test",
            used=USED,
            driver=self.keys.driver,
            database=self.keys.database,
            run=run,  # type: ignore[arg-type]  # any function of a text
        )
        made.directory.look()
        self.opened.append(made)
        return made

    def close(self) -> None:
        for each in self.opened:
            each.close()
        self.keys.database.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def ask(process: Authentication, header: bytes) -> Identity:
    found = process.authenticators.remembered(header)
    if found is not None:
        return found.identity
    credentials = credentials_of([(b"authorization", header)])
    return asyncio.run(process.authenticators.authenticate(header, credentials, "192.0.2.1"))


def basic(user: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def token(process: Authentication, identity: Identity) -> bytes:
    return b"Bearer " + process.issuers.own.tokens.access(identity, [Scope("repository", "app", ("pull",))]).encode()


def test_every_process_takes_what_one_gave_until_the_password_changes(place: Place) -> None:
    one, other = place.process(), place.process()
    header = token(one, ask(one, basic("alice", "secret")))
    for process in (one, other):
        assert ask(process, header).who == "alice"
    place.path.write_text(line("alice", "another one"))
    for process in (one, other):
        process.directory.look()
        for each in (header, basic("alice", "secret")):
            with pytest.raises(Unauthorized):
                ask(process, each)


def test_every_process_takes_a_key_and_its_tokens_until_it_is_revoked(place: Place) -> None:
    one, other = place.process(), place.process()
    secret = place.keys.add(scope=KeyScope.of(["app"], ["pull"]))
    key = basic("", secret.text)
    header = token(one, ask(one, key))
    for process in (one, other):
        for each in (key, header):
            found = ask(process, each)
            assert found.who == f"key:{secret.key_id}"
            assert found.subject.who == "alice"
            assert found.scope is not None
            assert found.scope.allows("pull", "app")
            assert not found.scope.allows("push", "app")
    place.keys.store.remove(secret.key_id)
    for process in (one, other):
        process.directory.look()
        for each in (key, header):
            with pytest.raises(Unauthorized):
                ask(process, each)


def test_a_user_that_is_removed_takes_its_keys_and_tokens_along(place: Place) -> None:
    process, secret = place.process(), place.keys.add()
    headers = [basic("", secret.text), basic("alice", "secret")]
    headers += [token(process, ask(process, header)) for header in headers]
    for header in headers:
        ask(process, header)
    place.path.write_text("# none\n")
    process.directory.look()
    for header in headers:
        with pytest.raises(Unauthorized):
            ask(process, header)


def test_a_token_of_ours_is_no_password(place: Place) -> None:
    process = place.process()
    text = token(process, ask(process, basic("alice", "secret"))).removeprefix(b"Bearer ").decode()
    for user in ("", "alice"):
        with pytest.raises(Unauthorized):
            asyncio.run(process.authenticators.of_password(Basic(user, text), None))


def test_keys_that_are_not_enabled_are_no_keys(place: Place) -> None:
    process, secret = place.process(keys={"enabled": False}), place.keys.add()
    for credentials in (Basic("", secret.text), Bearer(secret.text)):
        with pytest.raises(Unauthorized):
            asyncio.run(process.authenticators.authenticate(b"x", credentials, None))


def test_a_file_that_cannot_be_used_is_a_mistake_of_the_settings(place: Place) -> None:
    place.path.write_text("alice:secret\n")
    with pytest.raises(ConfigError, match=r"auth\.htpasswd\.file.*line 1") as caught:
        place.process()
    assert "alice:secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["auth.htpasswd.file", "auth.token.key_file", "auth.token.external.keys_file"])
def test_files_are_checked_before_anything_starts(place: Place, tmp_path: Path, name: str) -> None:
    bad, keys = tmp_path / "bad", tmp_path / "keys"
    bad.write_text("too short\n")
    keys.write_bytes(jwks(ec()))
    files = {"auth.htpasswd.file": place.path, "auth.token.key_file": None, "auth.token.external.keys_file": keys}

    def settings() -> AuthSettings:
        external = {"realm": "https://auth.test", "issuer": "x", "service": "y"}
        external["keys_file"] = str(files["auth.token.external.keys_file"])
        return AuthSettings.model_validate(
            {
                "htpasswd": {"file": files["auth.htpasswd.file"]},
                "token": {"key_file": files["auth.token.key_file"], "external": external},
            }
        )

    check_files(settings())
    files[name] = bad
    with pytest.raises(ConfigError) as caught:
        check_files(settings())
    assert [problem.key for problem in caught.value.problems] == [name]
    assert "too short" not in caught.value.problems[0].message

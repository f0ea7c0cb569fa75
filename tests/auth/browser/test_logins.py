"""Logins that fail, and many at once: what of them is counted, and how many wait for a provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from registry.auth.browser.attempt import Attempts
from registry.auth.browser.login_provider import LoginProvider, ProviderAnswer
from registry.auth.browser.logins import EXCHANGES, Logins
from registry.auth.browser.sessions import BrowserSessions
from registry.auth.credentials import Basic
from registry.auth.directory import LiveDirectory
from registry.auth.identity import Identity, Kind
from registry.auth.passwords.throttle import Throttle
from registry.auth.tokens.signing_keys import DatabaseKeys
from registry.database.engine import Database
from registry.oci.errors import (
    Denied,
    NotFound,
    RegistryError,
    RequestInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from tests.support.sqlite import create_current

GUEST = Identity(Kind.OIDC, "sso/guest", credential="1" * 16)
FAILURES = 3


class Provider:
    """A provider that does with each answer what a test says."""

    def __init__(self) -> None:
        self.identify: Callable[..., Identity] = self.let_in

    def let_in(self, *_arguments: object) -> Identity:
        return GUEST

    def address(self, *_arguments: object) -> str:
        return "https://sso.example.org/authorize"

    def fail(self, error: RegistryError) -> None:
        def identify(*_arguments: object) -> Identity:
            raise error

        self.identify = identify


class Place:
    """The logins of one process, at one provider."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(create_current(directory / "cache.db"))
        self.provider = Provider()
        self.attempts = Attempts(DatabaseKeys(self.database), "registry.example.org")
        sessions = BrowserSessions(self.database, LiveDirectory(None, None), {"sso": "1" * 16})
        providers = {"sso": cast("LoginProvider", self.provider)}
        self.logins = Logins(None, providers, self.attempts, sessions, Throttle(FAILURES, 3600, lambda: 0.0))

    def finish(self, address: str | None = "192.0.2.1", **changes: Any) -> object:
        attempt = self.attempts.begin("sso", "/")
        answer = ProviderAnswer("code", attempt.state, "", "")._replace(**changes)
        return self.logins.finish(self.attempts.seal(attempt), answer, "https://x", address=address, former="")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize("error", [RequestInvalid(), Unauthorized()])
def test_answers_that_prove_nothing_are_counted_for_their_address_alone(place: Place, error: RegistryError) -> None:
    place.provider.fail(error)
    for _ in range(FAILURES):
        with pytest.raises(type(error)):
            place.finish()
    place.provider.identify = place.provider.let_in
    with pytest.raises(TooManyRequests):
        place.finish()
    place.finish("192.0.2.2")


@pytest.mark.parametrize("error", [Unavailable(), Denied()])
def test_a_provider_that_is_down_or_refuses_a_user_uses_nothing_up(place: Place, error: RegistryError) -> None:
    place.provider.fail(error)
    for _ in range(FAILURES * 3):
        with pytest.raises(type(error)):
            place.finish()
    place.provider.identify = place.provider.let_in
    place.finish()


def test_an_answer_with_another_state_is_refused_before_anything_is_asked_or_counted(place: Place) -> None:
    place.provider.fail(Unauthorized())
    for _ in range(FAILURES * 3):
        with pytest.raises(RequestInvalid):
            place.finish(state="x")
    form, sealed = place.logins.form("")
    with pytest.raises(RequestInvalid):
        place.logins.finish(sealed, ProviderAnswer("code", form.state, "", ""), "https://x", address=None, former="")


def test_few_logins_wait_for_a_silent_provider_and_the_rest_is_told_to_come_again(place: Place) -> None:
    began, go_on = threading.Semaphore(0), threading.Event()

    def identify(*_arguments: object) -> Identity:
        began.release()
        assert go_on.wait(60)
        return GUEST

    place.provider.identify = identify
    done = list[object]()
    threads = [
        threading.Thread(target=lambda number=number: done.append(place.finish(f"192.0.2.{number}")))
        for number in range(EXCHANGES)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert began.acquire(timeout=60)
    for _ in range(FAILURES * 2):
        with pytest.raises(Unavailable):
            place.finish("192.0.2.9")
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(done) == EXCHANGES
    place.finish("192.0.2.9")


def test_without_users_there_is_no_password_and_without_a_provider_no_login_at_it(place: Place) -> None:
    assert not place.logins.has_passwords
    with pytest.raises(NotFound):
        asyncio.run(place.logins.verify_password(Basic("alice", "x"), None))
    with pytest.raises(NotFound):
        place.logins.start("other", "/", "https://x")


def test_a_form_is_that_of_the_browser_to_which_it_was_shown(place: Place) -> None:
    attempt, sealed = place.logins.form("")
    again, resealed = place.logins.form(sealed)
    assert again == attempt
    place.logins.check_form(resealed, attempt.form_token)
    redirection = place.logins.start("sso", "/", "https://x")
    at_provider = place.attempts.read(redirection.sealed)
    for kept, token in (
        (sealed, ""),
        (sealed, attempt.state),
        ("", attempt.form_token),
        (redirection.sealed, at_provider.form_token),
    ):
        with pytest.raises(RequestInvalid):
            place.logins.check_form(kept, token)

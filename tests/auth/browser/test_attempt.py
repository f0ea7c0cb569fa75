"""A login that a browser keeps: good for some minutes, in every process, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.auth.browser.attempt import SECONDS, Attempts
from registry.auth.identity import Identity, Kind
from registry.auth.jwt import LEEWAY, JwtInvalid
from registry.auth.tokens.signing_keys import DatabaseKeys
from registry.auth.tokens.token import ACCESS, Tokens
from registry.database.engine import Database
from registry.oci.errors import RequestInvalid
from tests.support.sqlite import create_current

NOW = 1_800_000_000.0
SERVICE = "registry.example.org"


class Place:
    """Processes over one database."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.database = Database(create_current(directory / "cache.db"))

    def keys(self) -> DatabaseKeys:
        return DatabaseKeys(self.database, lambda: self.now)

    def process(self, service: str = SERVICE) -> Attempts:
        return Attempts(self.keys(), service, lambda: self.now)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.database.close()


def test_every_process_reads_what_one_has_sealed(place: Place) -> None:
    one = place.process()
    attempt = one.begin("sso", "/r/app?x=1")
    sealed = one.seal(attempt)
    assert place.process().read(sealed) == attempt
    assert len(sealed) < 2000, "it is a cookie"


def test_an_attempt_ends_after_some_minutes(place: Place) -> None:
    sealed = place.process().seal(place.process().begin("sso", "/"))
    place.now += SECONDS + LEEWAY - 1
    place.process().read(sealed)
    place.now += 1
    with pytest.raises(RequestInvalid, match="begin it again"):
        place.process().read(sealed)


def test_what_was_not_sealed_here_is_refused(place: Place) -> None:
    attempts = place.process()
    sealed = attempts.seal(attempts.begin("sso", "/"))
    other = place.process("other.example.org")
    head, claims, signature = sealed.split(".")
    for text in (
        "",
        "x",
        sealed[:-4],
        f"{head}.{claims}.",
        f"{head}.{claims[:-2]}AA.{signature}",
        other.seal(other.begin("", "")),
    ):
        with pytest.raises(RequestInvalid):
            attempts.read(text)


def test_an_attempt_is_no_token_and_a_token_is_no_attempt(place: Place) -> None:
    attempts, tokens = place.process(), Tokens(place.keys(), SERVICE, 60, lambda: place.now)
    with pytest.raises(JwtInvalid):
        tokens.read(attempts.seal(attempts.begin("sso", "/")), ACCESS)
    with pytest.raises(RequestInvalid):
        attempts.read(tokens.access(Identity(Kind.USER, "alice"), []))


def test_nothing_of_what_others_see_tells_the_rest(place: Place) -> None:
    attempt = place.process().begin("sso", "/")
    said = [attempt.state, attempt.nonce, attempt.verifier, attempt.challenge, attempt.form_token, attempt.mark]
    assert len({*said, attempt.secret}) == 7
    assert {len(each) for each in said} == {43}, "as RFC 7636 wants a verifier to be"
    assert place.process().begin("sso", "/").secret != attempt.secret

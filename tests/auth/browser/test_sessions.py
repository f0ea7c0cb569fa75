"""Sessions of browsers: in every process, for eight hours, and no longer than what they prove."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.auth.browser import sessions
from registry.auth.browser.sessions import MOST_OF_ONE, SECONDS, USE_PAUSE, BrowserSessions
from registry.auth.identity import Identity, Kind
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.oci.errors import RequestInvalid
from tests.support.sqlite import create_current

NOW = 1_800_000_000.0
ALICE = Identity(Kind.USER, "alice", frozenset({"team"}), credential="1" * 16)
GUEST = Identity(
    Kind.OIDC, "sso/guest", frozenset({"sso/dev"}), {"ref": ("a", "b"), "sub": "x"}, credential="2" * 16, is_user=True
)
ROWS = Statement("SELECT id, actor, identity, attempt, used_at FROM browser_session ORDER BY used_at, id")


class Place:
    """Processes over one database; the users and providers that they know change."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.users = {"alice": ALICE}
        self.added: dict[str, Identity] = {}
        """What the users are with the next look."""
        self.versions = {"sso": "2" * 16}
        self.database = Database(url)

    def process(self) -> BrowserSessions:
        return BrowserSessions(self.database, self, self.versions, lambda: self.now)

    def look(self) -> None:
        """See LiveDirectory."""
        self.users |= self.added

    def find(self, kind: Kind, name: str) -> Identity | None:
        """See Directory."""
        return self.users.get(name) if kind is Kind.USER else None

    def rows(self) -> list[tuple[object, ...]]:
        with self.database.autocommit() as connection:
            return connection.execute(ROWS, {}).all()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        url = create_current(tmp_path / "cache.db")
    else:
        url = request.getfixturevalue("new_database")()
    made = Place(url)
    yield made
    made.database.close()


@pytest.mark.parametrize("identity", [ALICE, GUEST])
def test_a_session_is_known_to_every_process_until_it_is_ended(place: Place, identity: Identity) -> None:
    secret = place.process().begin(identity)
    found = place.process().find(secret)
    assert found is not None
    assert found.identity == identity
    assert found.expires == NOW + SECONDS
    place.process().end(secret)
    assert place.process().find(secret) is None
    place.process().end(secret)


def test_the_database_has_no_secret(place: Place) -> None:
    secret = place.process().begin(GUEST)
    found = place.process().find(secret)
    assert found is not None
    assert found.form_token != secret
    for hidden in (secret, found.form_token):
        assert hidden not in str(place.rows())


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "x" * 1000, "'; DROP TABLE browser_session; --", "\0" * 43])
def test_what_is_no_secret_finds_nothing(place: Place, secret: str) -> None:
    place.process().begin(ALICE)
    assert place.process().find(secret) is None
    place.process().end(secret)
    assert len(place.rows()) == 1


def test_a_session_ends_after_eight_hours_however_it_is_used(place: Place) -> None:
    process = place.process()
    secret = process.begin(ALICE)
    while place.now < NOW + SECONDS - 1800:
        place.now += 1800
        process.expire()
        assert process.find(secret) is not None
    place.now = NOW + SECONDS
    assert process.find(secret) is None
    assert len(place.rows()) == 1
    process.expire()
    assert place.rows() == []


def test_a_user_that_is_gone_or_has_another_password_has_no_session_any_more(place: Place) -> None:
    secret = place.process().begin(ALICE)
    place.users = {"alice": Identity(Kind.USER, "alice", credential="9" * 16)}
    assert place.process().find(secret) is None
    place.users = {}
    assert place.process().find(secret) is None


def test_a_session_that_began_with_a_new_password_is_known_to_a_process_that_has_not_looked(place: Place) -> None:
    changed = Identity(Kind.USER, "alice", credential="9" * 16)
    secret = place.process().begin(changed)
    place.added = {"alice": changed}
    assert place.users["alice"] == ALICE
    found = place.process().find(secret)
    assert found is not None
    assert found.identity == changed


def test_a_session_has_the_groups_that_its_user_has_now(place: Place) -> None:
    secret = place.process().begin(ALICE)
    place.users = {"alice": Identity(Kind.USER, "alice", frozenset({"other"}), credential="1" * 16)}
    found = place.process().find(secret)
    assert found is not None
    assert found.identity.groups == {"other"}


@pytest.mark.parametrize("versions", [{}, {"sso": "3" * 16}, {"other": "2" * 16}])
def test_a_provider_that_is_gone_or_makes_other_identities_ends_its_sessions(
    place: Place, versions: dict[str, str]
) -> None:
    secret = place.process().begin(GUEST)
    place.versions = versions
    assert place.process().find(secret) is None


def test_one_identity_has_so_many_sessions_and_ends_the_one_that_it_used_longest_ago(place: Place) -> None:
    process = place.process()
    other, first = process.begin(GUEST), process.begin(ALICE)
    place.now += USE_PAUSE
    second = process.begin(ALICE)
    place.now += USE_PAUSE
    assert process.find(first) is not None, "it is used again"
    for _ in range(MOST_OF_ONE - 1):
        place.now += 1
        process.begin(ALICE)
    assert len(place.rows()) == MOST_OF_ONE + 1
    assert process.find(second) is None
    assert process.find(first) is not None
    assert process.find(other) is not None


def test_all_have_so_many_sessions_together(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    monkeypatch.setattr(sessions, "_BATCH", 2)
    process, made = place.process(), []
    for number in range(8):
        place.now += 1
        place.users[str(number)] = Identity(Kind.USER, str(number))
        made.append(process.begin(place.users[str(number)]))
    process.expire()
    assert [process.find(secret) is not None for secret in made] == [False] * 5 + [True] * 3


def test_a_login_makes_one_session(place: Place) -> None:
    process = place.process()
    secret = process.begin(GUEST, "mark")
    with pytest.raises(RequestInvalid, match="used already"):
        place.process().begin(GUEST, "mark")
    assert process.find(secret) is not None
    assert len(place.rows()) == 1
    process.begin(GUEST, "another")
    process.begin(ALICE)
    process.begin(ALICE)
    assert len(place.rows()) == 4


def test_a_new_session_of_a_browser_ends_the_one_before(place: Place) -> None:
    process = place.process()
    former = process.begin(ALICE)
    secret = process.begin(GUEST, "mark", former)
    assert process.find(former) is None
    assert process.find(secret) is not None


def test_use_is_written_once_in_some_minutes(place: Place) -> None:
    process = place.process()
    secret = process.begin(ALICE)
    for passed, used in ((1, 0), (USE_PAUSE, USE_PAUSE), (USE_PAUSE + 1, USE_PAUSE)):
        place.now = NOW + passed
        process.find(secret)
        assert place.rows()[0][4] == NOW + used

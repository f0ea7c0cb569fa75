"""Proof: a connection that goes on with the same header is not asked again, and is refused as soon as any other is."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest

from registry.api.access import Action
from registry.api.proof import MAX_HEADER, MAX_PULLS, Proof, Proofs
from registry.auth.identity import Identity, Kind
from registry.auth.verified import Verification
from registry.config.access_sections import AccessSettings
from tests.api.service import Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.api.access import Access, Caller, Peer

REPO, OTHER = "team/app", "team/other"
RULES: list[dict[str, Any]] = [
    {"who": ["anonymous"], "repositories": ["public"], "actions": ["pull"]},
    {"who": ["alice"], "repositories": ["team/**"], "actions": ["pull"]},
]
PASSWORDS = {"alice": "wonderland", "bob": "builder"}


class Place:
    """A process, and one connection to it."""

    def __init__(self, service: Service, users: Path) -> None:
        self.service = service
        self.users = users
        self.access: Access = service.context.access
        self.peer: Peer = self.access.peer("127.0.0.1", None)
        self.hashed = 0
        self.decided = 0
        self.now: float | None = None

    def token(self, *repositories: str) -> bytes:
        scopes = "&".join(f"scope=repository:{repository}:pull" for repository in repositories)
        reply = self.service.call("GET", f"/auth/token?{scopes}", headers={"Authorization": basic("alice").decode()})
        return b"Bearer " + str(reply.json["token"]).encode()

    def verify(self, header: bytes) -> None:
        """Have another connection come with a header first, as its own route does."""
        status = self.service.call("GET", "/v2/", headers={"Authorization": header.decode()}).status
        assert status == 200

    def read(self, *headers: bytes, repository: str = REPO) -> Caller | None:
        lines = [(b"authorization", header) for header in headers]
        only = headers[0] if len(headers) == 1 else b""
        return self.access.identify_reader(self.peer, lines, only, None, repository)


def basic(user: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{PASSWORDS[user]}".encode())


def write_users(path: Path, **passwords: str) -> None:
    lines = [f"{user}:{bcrypt.hashpw(each.encode(), bcrypt.gensalt(4)).decode()}\n" for user, each in passwords.items()]
    new = path.with_name("new")
    new.write_text("".join(lines))
    new.replace(path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    users = tmp_path / "htpasswd"
    write_users(users, **PASSWORDS)
    with serving(tmp_path, {"auth": {"htpasswd": {"file": users}}, "access": {"rules": RULES}}) as service:
        authentication = service.context.authentication
        assert authentication is not None
        authentication.directory.look()
        made = Place(service, users)
        verified: Any = vars(authentication.authenticators)["_verified"]
        key, decide, clock = verified.key, made.access.decide, vars(verified)["_clock"]

        def count_key(*parts: bytes) -> Any:
            made.hashed += 1
            return key(*parts)

        def count_decision(caller: Caller, action: Action, repository: str | None) -> Any:
            made.decided += 1
            return decide(caller, action, repository)

        monkeypatch.setattr(verified, "key", count_key)
        monkeypatch.setattr(verified, "_clock", lambda: clock() if made.now is None else made.now)
        monkeypatch.setattr(made.access, "decide", count_decision)
        yield made


@pytest.fixture(params=["password", "token"])
def header(request: pytest.FixtureRequest, place: Place) -> bytes:
    """Credentials of alice that were verified, and that the connection has read with."""
    found = basic("alice") if request.param == "password" else place.token(REPO)
    place.verify(found)
    caller = place.read(found)
    assert caller is not None
    assert caller.identity.who == "alice"
    return found


def test_the_same_header_is_neither_hashed_nor_decided_again(place: Place, header: bytes) -> None:
    place.hashed = place.decided = 0
    for _ in range(3):
        caller = place.read(bytes(bytearray(header)))
        assert caller is not None
        assert (caller.identity.who, caller.address, caller.is_verified) == ("alice", "127.0.0.1", True)
    assert (place.hashed, place.decided) == (0, 0)


def test_another_header_is_asked_about_and_takes_its_place(place: Place, header: bytes) -> None:
    place.verify(basic("bob"))
    assert place.read(basic("bob")) is None, "no rule lets bob pull"
    anonymous = place.read(repository="public")
    assert anonymous is not None
    assert anonymous.identity.is_anonymous
    assert place.read() is None
    assert place.read(b"") is None
    assert place.read(header + b"x") is None
    assert place.read(header, header) is None, "several count for nothing"
    assert place.read(header) is not None


def test_each_repository_is_decided_for_itself(place: Place, header: bytes) -> None:
    place.decided = 0
    is_bounded = header.startswith(b"Bearer")
    for _ in range(2):
        assert (place.read(header, repository=OTHER) is None) is is_bounded
        assert (place.read(header, repository="public") is None) is is_bounded
        assert place.read(header, repository="secret") is None
    assert place.decided >= 4


def test_a_password_that_changed_ends_it(place: Place, header: bytes) -> None:
    write_users(place.users, alice="another", bob=PASSWORDS["bob"])
    authentication = place.service.context.authentication
    assert authentication is not None
    authentication.directory.look()
    assert place.read(header) is None
    assert place.read(header) is None


def test_a_user_that_is_gone_ends_it(place: Place, header: bytes) -> None:
    write_users(place.users, bob=PASSWORDS["bob"])
    authentication = place.service.context.authentication
    assert authentication is not None
    authentication.directory.look()
    assert place.read(header) is None


def test_what_was_verified_long_ago_ends_it(place: Place, header: bytes) -> None:
    place.now = 4_000_000_000.0
    assert place.read(header) is None


def test_other_rules_are_asked_at_once(place: Place, header: bytes) -> None:
    without = AccessSettings.model_validate({"rules": RULES[:1]})
    place.service.context.take_access(without, is_stale=False)
    assert place.read(header) is None
    place.service.context.take_access(AccessSettings.model_validate({"rules": RULES}), is_stale=False)
    place.verify(header)
    assert place.read(header) is not None


@pytest.mark.parametrize("kind", ["key", "token of a key"])
def test_a_key_that_was_revoked_ends_it(place: Place, kind: str) -> None:
    context = place.service.context
    authentication = context.authentication
    assert authentication is not None
    created = place.service.call(
        "POST",
        "/api/v1/keys",
        json.dumps({"repositories": ["team/**"], "actions": ["pull"], "days": 1}).encode(),
        {"Authorization": basic("alice").decode(), "Content-Type": "application/json"},
    )
    assert created.status == 201, created
    header = b"Basic " + b64encode(b"any:" + created.json["secret"].encode())
    if kind != "key":
        reply = place.service.call(
            "GET", f"/auth/token?scope=repository:{REPO}:pull", headers={"Authorization": header.decode()}
        )
        header = b"Bearer " + reply.json["token"].encode()
    authentication.directory.look()
    place.verify(header)
    place.decided = 0
    for _ in range(2):
        assert place.read(header) is not None
    assert place.decided == 1
    revoked = place.service.call(
        "DELETE", f"/api/v1/keys/{created.json['id']}", headers={"Authorization": basic("alice").decode()}
    )
    assert revoked.status == 204, revoked
    authentication.directory.look()
    assert place.read(header) is None


def verification(name: str) -> Verification:
    return Verification(b"", Identity(Kind.USER, name), 0.0, "", 0, None)


def test_a_connection_keeps_the_last_header_alone_and_no_long_one() -> None:
    proofs = Proofs()
    proofs.note(b"one", verification("one"))
    proofs.note(b"two", verification("two"))
    found = proofs.find(b"two")
    assert found is not None
    assert found.verification.identity.name == "two"
    assert proofs.find(b"one") is None
    for unkept in (b"x" * (MAX_HEADER + 1), b""):
        proofs.note(unkept, verification("long"))
        assert proofs.find(unkept) is proofs.find(b"two") is None


def test_a_proof_keeps_a_bounded_number_of_repositories_and_those_of_one_revision() -> None:
    proof = Proof(verification("one"))
    for number in range(MAX_PULLS + 1):
        proof.allow_pull(f"app/{number}", 7)
    assert [number for number in range(MAX_PULLS + 1) if proof.may_pull(f"app/{number}", 7)] == [MAX_PULLS]
    assert not proof.may_pull(f"app/{MAX_PULLS}", 8)
    proof.allow_pull("app/0", 8)
    assert proof.may_pull("app/0", 8)
    assert not proof.may_pull(f"app/{MAX_PULLS}", 8)

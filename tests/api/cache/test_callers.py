"""Callers of every read: each is told the same with a memory of reads and without, whatever it keeps (check 22)."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

import bcrypt
import pytest

from registry.api.guard import SERVICE
from registry.auth.identity import Identity, Kind
from registry.auth.tokens.signing_keys import DatabaseKeys
from registry.auth.tokens.token import Tokens
from tests.api.cache.test_response_cache import (
    BLOBS,
    BOTH,
    FIRST,
    LAYER,
    OTHER,
    OWN_HEADERS,
    READS,
    REPO,
    SECOND,
    SIGNATURE,
    WIDE,
    Read,
    Sections,
)
from tests.api.service import Reply, Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORDS = {"owner": "wonderland", "neighbour": "builder", "stranger": "singer"}
RULES: list[dict[str, Any]] = [
    {"who": ["owner"], "repositories": ["both/**"], "actions": ["pull"]},
    {"who": ["neighbour"], "repositories": [OTHER], "actions": ["pull"]},
    {"who": ["stranger"], "repositories": ["elsewhere/**"], "actions": ["*"]},
]
CATALOG = [Read(method, f"/v2/_catalog{query}") for method in ("GET", "HEAD") for query in ("", "?n=1")]
ALL = [*READS, *CATALOG]


class Answer(NamedTuple):
    """What can be compared between processes."""

    status: int
    headers: dict[str, str]
    body: bytes


class Place:
    """Two processes on one storage and one database, of which the second has no memory; and callers of both."""

    def __init__(self, remembering: Service, routes: Service) -> None:
        self.remembering = remembering
        self.routes = routes
        owner = f"/auth/token?scope=repository:{REPO}:pull&scope=repository:{OTHER}:pull"
        self.callers = {
            "owner": basic("owner"),
            "owner by a token": f"Bearer {self._token(owner)}",
            "neighbour": basic("neighbour"),
            "stranger": basic("stranger"),
            "anonymous": "",
            "anonymous by a token": f"Bearer {self._token('/auth/token', '')}",
            "owner by a token for nothing": f"Bearer {self._token('/auth/token')}",
            "owner by an expired token": f"Bearer {self._expired()}",
            "owner with a wrong password": basic("owner", "wrong"),
        }

    def _token(self, path: str, authorization: str | None = None) -> str:
        headers = {"Authorization": basic("owner")} if authorization is None else {}
        return str(self.remembering.call("GET", path, headers=headers).json["token"])

    def _expired(self) -> str:
        keys = DatabaseKeys(self.remembering.registry.backends.database)
        made = Tokens(keys, SERVICE, 3600, clock=lambda: time.time() - 7200)
        return made.access(Identity(Kind.USER, "owner"), ())

    def ask(self, service: Service, caller: str, read: Read) -> Answer:
        headers = dict([read.header]) if read.header else {}
        if self.callers[caller]:
            headers["Authorization"] = self.callers[caller]
        reply: Reply = service.call(read.method, read.target, headers=headers)
        return Answer(reply.status, {k: v for k, v in reply.headers.items() if k not in OWN_HEADERS}, reply.body)


def basic(user: str, password: str | None = None) -> str:
    return f"Basic {b64encode(f'{user}:{password or PASSWORDS[user]}'.encode()).decode()}"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    database: Sections = {}
    if request.param == "postgresql":
        database["database"] = {"url": request.getfixturevalue("new_database")()}
    with serving(tmp_path, database) as service:
        fill(service)
    users = tmp_path / "htpasswd"
    users.write_text(
        "".join(
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
            for user, password in PASSWORDS.items()
        )
    )
    guarded: Sections = {**database, "auth": {"htpasswd": {"file": users}}, "access": {"rules": RULES}}
    with (
        serving(tmp_path, guarded) as remembering,
        serving(tmp_path, {**guarded, "limits": {"read_memory": 0}}) as routes,
    ):
        yield Place(remembering, routes)


def fill(service: Service) -> None:
    for blob in BLOBS:
        service.push_blob(REPO, blob)
    service.push_blob(OTHER, LAYER)
    for tag, manifest in (("one", FIRST), ("two", SECOND), ("wide", WIDE), ("multi", BOTH)):
        service.push(REPO, tag, manifest)
    service.push(REPO, SIGNATURE.digest, SIGNATURE)
    service.registry.fold_waiting()


def test_every_caller_is_told_the_same_with_memory_and_without(place: Place) -> None:
    asked = [(caller, read) for caller in place.callers for read in ALL]
    expected = {each: place.ask(place.routes, *each) for each in asked}
    for order in (asked, asked, list(reversed(asked))):  # cold, warm, and each after other callers
        for each in order:
            assert place.ask(place.remembering, *each) == expected[each], each


def test_what_is_warm_is_for_those_that_may_read_it(place: Place) -> None:
    for _ in range(2):
        for read in ALL:
            place.ask(place.remembering, "owner", read)
    found = {each: [place.ask(place.remembering, each, read) for read in READS] for each in place.callers}
    assert found["owner by a token"] == found["owner"]
    assert {answer.status for answer in found["owner"]} >= {200, 206, 304, 404, 416}
    for caller, answers in found.items():
        if caller in {"owner", "owner by a token"}:
            continue
        for read, answer in zip(READS, answers, strict=True):
            if caller == "neighbour" and OTHER in read.target:
                assert answer.status == 200
                continue
            assert answer.status == (403 if caller in {"neighbour", "stranger"} else 401), (caller, read)
            assert not {"etag", "docker-content-digest", "link", "content-range"} & answer.headers.keys()
            absent = read._replace(target=read.target.replace(REPO, "both/none").replace(OTHER, "both/none"))
            assert same_but_for_the_name(answer, place.ask(place.remembering, caller, absent)), (caller, read)


def same_but_for_the_name(one: Answer, other: Answer) -> bool:
    def without(answer: Answer) -> str:
        text = f"{answer.status} {sorted(answer.headers.items())} {answer.body!r}"
        for name in (REPO, OTHER, "both/none"):
            text = text.replace(name, "NAME")
        return text.replace(f"'content-length', '{len(answer.body)}'", "")

    return without(one) == without(other)

"""Quotas over two replicas and PostgreSQL: as many pushes pass as fit, and what is deleted makes room for both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from threading import Barrier

import pytest

from registry.database.engine import Database
from registry.database.statement import Statement
from tests.clients.wire import Answer, Wire
from tests.replicas.conftest import Config
from tests.support.payloads import Blob
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

LIMIT = 2 << 20
SIZE = LIMIT // 2
ACCESS = {
    "rules": [{"who": ["anonymous"], "repositories": ["**"], "actions": ["push", "delete"]}],
    "quotas": [{"repositories": ["team_a/**"], "bytes": LIMIT}, {"repositories": ["**"], "bytes": "1GiB"}],
}
ROUNDS = 4
PUSHES = 6
"""At once, of which two fit."""


@pytest.fixture
def guarded(shared_config: Config) -> Config:
    return {**shared_config, "access": ACCESS}


@pytest.fixture
def pair(guarded: Config, replica: Callable[[Config], RegistryProcess]) -> list[Wire]:
    return [Wire(replica(guarded).address) for _ in range(2)]


@pytest.fixture
def database(guarded: Config) -> Iterator[Database]:
    opened = Database(guarded["database"]["url"])
    yield opened
    opened.close()


def push(wire: Wire, repository: str, blob: Blob, before: Callable[[], object] = lambda: None) -> Answer:
    """Upload in two requests, with something done between them."""
    begun = wire.request("POST", f"/v2/{repository}/blobs/uploads/")
    before()
    if begun.status != HTTPStatus.ACCEPTED:
        return begun
    return wire.request("PUT", f"{begun.headers['location']}?digest={blob.digest}", blob.data)


def members(database: Database, below: str) -> int:
    """Bytes of the blobs of repositories."""
    statement = Statement(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blob WHERE id IN (SELECT m.blob_id FROM membership m"
        " JOIN repository r ON r.id = m.repository_id WHERE r.name >= :low AND r.name < :high)"
    )
    with database.autocommit() as connection:
        return int(connection.execute(statement, {"low": below, "high": f"{below}~"}).one()[0])


def test_of_pushes_to_both_replicas_at_once_as_many_pass_as_fit(pair: list[Wire], database: Database) -> None:
    for turn in range(ROUNDS):
        blobs, together = [Blob(os.urandom(SIZE)) for _ in range(PUSHES)], Barrier(PUSHES)

        def attempt(number: int, blobs: list[Blob] = blobs, together: Barrier = together) -> Answer:
            return push(pair[number % 2], f"team_a/app{number % 3}", blobs[number], together.wait)

        with ThreadPoolExecutor(PUSHES) as pool:
            answers = list(pool.map(attempt, range(PUSHES)))
        statuses = [answer.status for answer in answers]
        assert statuses.count(HTTPStatus.CREATED) == 2, (turn, answers)
        assert statuses.count(HTTPStatus.FORBIDDEN) == PUSHES - 2, (turn, answers)
        for answer in answers:
            if answer.status == HTTPStatus.FORBIDDEN:
                assert answer.json()["errors"][0]["detail"]["limit"] == LIMIT
        assert members(database, "team_a/") == LIMIT
        for number, blob in enumerate(blobs):
            path = f"/v2/team_a/app{number % 3}/blobs/{blob.digest}"
            there = statuses[number] == HTTPStatus.CREATED
            assert pair[(number + 1) % 2].request("HEAD", path).status == (200 if there else 404)
            if there:
                assert pair[(number + 1) % 2].request("DELETE", path).status == HTTPStatus.ACCEPTED


def test_what_one_replica_pushed_fills_the_quota_of_the_other(pair: list[Wire]) -> None:
    one, other = pair
    blob = Blob(os.urandom(LIMIT))
    assert push(one, "team_a/app", blob).status == HTTPStatus.CREATED
    assert push(other, "team_a/app", Blob(b"one more")).status == HTTPStatus.FORBIDDEN
    assert push(other, "teamxa/app", Blob(b"not theirs")).status == HTTPStatus.CREATED
    mount = f"/v2/team_a/other/blobs/uploads/?mount={blob.digest}&from=team_a/app"
    assert other.request("POST", mount).status == HTTPStatus.CREATED
    for name in ("app", "other"):
        path = f"/v2/team_a/{name}/blobs/{blob.digest}"
        assert one.request("DELETE", path).status == HTTPStatus.ACCEPTED
    assert push(other, "team_a/app", Blob(os.urandom(LIMIT))).status == HTTPStatus.CREATED

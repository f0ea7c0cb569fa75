"""Hiding: what an answer about hidden content costs says as little as the answer (checks 3 and 9).

Time is not measured but what takes it: statements, calls to storage, hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from registry.database.transaction import Transaction
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import FaultyDriver
from tests.api.service import Reply, serving
from tests.api.test_guard import PASSWORDS, RULES, Registry, basic, write_users
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from registry.database.statement import Statement

HIDDEN = Blob(b"of a repository that few may read")
ABSENT = Blob(b"that is nowhere")
OWN = Blob(b"of carol")
IMAGE = image(HIDDEN, [])
NOWHERE = image(ABSENT, [])
TARGETS = ["manifests/one", f"manifests/{IMAGE.digest}", f"blobs/{HIDDEN.digest}", "tags/list"]
TARGETS += [f"referrers/{IMAGE.digest}"]


class Cost(NamedTuple):
    """What a request took."""

    statements: list[str]
    storage_calls: int


class Place(Registry):
    """A registry whose work is counted; ``secret/app`` has content that carol and strangers may not read."""

    def __init__(self, registry: Registry, driver: FaultyDriver, statements: list[str]) -> None:
        super().__init__(registry.service, registry.users)
        self._driver = driver
        self._statements = statements

    def cost(self, method: str, path: str, user: str, body: bytes = b"", **headers: str) -> tuple[Reply, Cost]:
        self._statements.clear()
        before = self._driver.calls.total()
        if user:
            headers["Authorization"] = basic(user, PASSWORDS[user])
        reply = self.service.call(method, path, body, headers)
        return reply, Cost(list(self._statements), self._driver.calls.total() - before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    statements: list[str] = []
    execute = Transaction.execute

    def counting(self: Transaction, statement: Statement, values: Mapping[str, Any]) -> Any:
        statements.append(str(statement._sql))
        return execute(self, statement, values)

    monkeypatch.setattr(Transaction, "execute", counting)
    driver, users = FaultyDriver(MemoryDriver()), tmp_path / "htpasswd"
    write_users(users, PASSWORDS)
    sections: dict[str, dict[str, object]] = {"auth": {"htpasswd": {"file": users}}, "access": {"rules": RULES}}
    with serving(tmp_path, sections, driver=driver) as service:
        made = Place(Registry(service, users), driver, statements)
        for method, path, body, kind in (
            ("POST", f"/v2/secret/app/blobs/uploads/?digest={HIDDEN.digest}", HIDDEN.data, "x/y"),
            ("PUT", "/v2/secret/app/manifests/one", IMAGE.data, IMAGE.media_type),
        ):
            assert made.cost(method, path, "alice", body, **{"Content-Type": kind})[0].status == 201
        own = f"/v2/carol/app/blobs/uploads/?digest={OWN.digest}"
        assert made.cost("POST", own, "carol", OWN.data)[0].status == 201
        for user in PASSWORDS:  # what follows hashes no password, and looks at nothing for the first time
            made.call("HEAD", f"/v2/carol/app/blobs/{OWN.digest}", user)
        yield made


@pytest.mark.parametrize("user", ["", "carol"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_hidden_repository_costs_what_one_costs_that_is_not_there(place: Place, user: str, target: str) -> None:
    for method in ("GET", "HEAD"):
        for _ in range(2):
            place.call(method, f"/v2/secret/app/{target}", "alice")  # warm for its owner
            hidden, cost = place.cost(method, f"/v2/secret/app/{target}", user)
            absent, other = place.cost(method, f"/v2/secret/abs/{target}", user)
            assert hidden.status == absent.status == (403 if user else 401)
            assert hidden.body == absent.body
            assert cost == other == Cost([], 0)


@pytest.mark.parametrize("source", ["", "&from=secret/app"])
def test_a_mount_of_a_hidden_blob_costs_what_one_costs_that_is_nowhere(place: Place, source: str) -> None:
    found = []
    for blob in (HIDDEN, ABSENT):
        reply, cost = place.cost("POST", f"/v2/carol/app/blobs/uploads/?mount={blob.digest}{source}", "carol")
        assert reply.status == 202
        assert blob.digest not in str(reply.headers)
        found.append((reply.body, sorted(reply.headers), cost))
        assert place.call("HEAD", f"/v2/carol/app/blobs/{blob.digest}", "carol").status == 404
    assert found[0] == found[1]


def test_a_hidden_blob_is_looked_for_at_the_cost_of_one_that_is_nowhere(place: Place) -> None:
    for method in ("HEAD", "GET"):
        (one, cost), (two, other) = (
            place.cost(method, f"/v2/carol/app/blobs/{blob.digest}", "carol") for blob in (HIDDEN, ABSENT)
        )
        assert (one.status, one.code if one.body else None) == (two.status, two.code if two.body else None)
        assert one.status == 404
        assert cost == other
        assert cost.statements


def test_a_manifest_that_names_a_hidden_blob_is_refused_at_the_cost_of_one_that_is_nowhere(place: Place) -> None:
    found = []
    for manifest in (IMAGE, NOWHERE):
        kind = {"Content-Type": manifest.media_type}
        reply, cost = place.cost("PUT", "/v2/carol/app/manifests/one", "carol", manifest.data, **kind)
        found.append((reply.status, reply.code, cost))
    assert found[0] == found[1]
    assert found[0][0] in {400, 404}

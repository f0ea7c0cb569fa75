"""Access: every request is decided before memory, routes and redirects, and changes bear the name of their caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from registry.api.access import Action, Caller, allow
from registry.auth.identity import Identity, Kind
from registry.oci.errors import Denied, Unauthorized
from registry.server.application import CHAPTERS
from tests.api.service import Service, serving
from tests.support.payloads import Blob, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.api.http.routing import OciRoute
    from registry.oci.errors import RegistryError

REPO = "team/app"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
ROUTES = [cast("OciRoute", route) for chapter in CHAPTERS for route in chapter.router.routes]
REQUESTS = sorted((method, route.path, route.action) for route in ROUTES for method in route.methods or ())
READS = [
    ("GET", f"/v2/{REPO}/manifests/one"),
    ("HEAD", f"/v2/{REPO}/manifests/one"),
    ("GET", f"/v2/{REPO}/tags/list"),
    ("GET", f"/v2/{REPO}/referrers/{IMAGE.digest}"),
    ("HEAD", f"/v2/{REPO}/blobs/{CONFIG.digest}"),
    ("GET", f"/v2/{REPO}/blobs/{CONFIG.digest}"),
]
"""Answered from memory once they were answered by their routes."""


class Guard:
    """A decision that remembers what it was asked."""

    def __init__(self) -> None:
        self.refusal: RegistryError | None = None
        self.asked: list[tuple[Caller, Action, str | None]] = []

    def __call__(self, caller: Caller, action: Action, repository: str | None) -> RegistryError | None:
        self.asked.append((caller, action, repository))
        return self.refusal


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as found:
        found.push_blob(REPO, CONFIG)
        found.push(REPO, "one", IMAGE)
        yield found


@pytest.fixture
def guard(service: Service) -> Guard:
    guard = Guard()
    service.context.access.decide = guard
    return guard


@pytest.mark.parametrize(("method", "template", "action"), REQUESTS)
def test_a_refusal_is_the_answer_of_every_route(
    service: Service, guard: Guard, method: str, template: str, action: Action
) -> None:
    guard.refusal = Denied()
    path = template.replace("{name:path}", REPO)
    for parameter, value in (("reference", "one"), ("digest", CONFIG.digest), ("upload", "0" * 32)):
        path = path.replace(f"{{{parameter}}}", value)
    reply = service.call(method, path, b"" if method in {"GET", "HEAD"} else b"bytes")
    assert reply.status == 403
    assert guard.asked[-1][1:] == (action, REPO if "{name" in template else None)
    guard.refusal = None
    assert service.call("GET", f"/v2/{REPO}/manifests/one").status == 200, "nothing has changed"
    assert service.call("HEAD", f"/v2/{REPO}/blobs/{CONFIG.digest}").status == 200


@pytest.mark.parametrize(("method", "path"), READS)
def test_what_is_in_memory_is_not_told_to_a_caller_that_is_refused(
    service: Service, guard: Guard, method: str, path: str
) -> None:
    for _ in range(2):
        assert service.call(method, path).status == 200
    guard.refusal = Unauthorized()
    reply = service.call(method, path)
    assert reply.status == 401
    assert IMAGE.digest not in reply.headers.values()
    guard.refusal = None
    assert service.call(method, path).status == 200


def test_an_address_in_the_store_is_not_told_to_a_caller_that_is_refused(
    service: Service, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 23."""
    monkeypatch.setattr(service.context.redirects, "wanted", lambda *_: True)
    monkeypatch.setattr(service.context.redirects, "address", lambda _: "https://bucket.example.org/signed")
    path = f"/v2/{REPO}/blobs/{CONFIG.digest}"
    for _ in range(2):
        assert service.call("GET", path).location == "https://bucket.example.org/signed"
    guard.refusal = Denied()
    reply = service.call("GET", path)
    assert reply.status == 403
    assert "location" not in reply.headers


@pytest.mark.parametrize("source", [f"&from={REPO}", ""])
def test_a_blob_is_mounted_only_where_its_caller_may_pull_from(service: Service, source: str) -> None:
    target = f"/v2/other/app/blobs/uploads/?mount={CONFIG.digest}{source}"
    service.context.access.decide = lambda _caller, action, _name: Denied() if action is Action.PULL else None
    assert service.call("POST", target).status == 202, "an upload proves that the client has the bytes"
    service.context.access.decide = allow
    assert service.call("POST", target).status == 201


def test_the_decision_knows_the_caller(service: Service, guard: Guard) -> None:
    service.call("GET", f"/v2/{REPO}/manifests/one", headers={"User-Agent": "crane/1"})
    assert guard.asked == [(Caller("127.0.0.1", "crane/1"), Action.PULL, REPO)]


def test_a_change_bears_the_name_of_its_caller() -> None:
    assert Caller("10.0.0.1", None).actor == "10.0.0.1"
    assert Caller("10.0.0.1", None, Identity(Kind.USER, "alice")).actor == "user:alice"
    assert Caller(None, None).actor == "unknown"


def test_a_change_bears_the_address_beside_a_name_and_in_place_of_one() -> None:
    assert Caller("10.0.0.1", None, Identity(Kind.USER, "alice")).actor_address == "10.0.0.1"
    assert Caller("10.0.0.1", None).actor_address is None

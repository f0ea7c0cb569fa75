"""As which identity a caller is known, and where the cookie of a browser counts: below /api/v1 alone (check 24)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.admin.purge import PURGE
from registry.admin.routing import AdminRoute
from registry.api.access import Action
from registry.database.errors import DatabaseUnavailable
from registry.server.application import ADMINISTRATION, CHAPTERS
from tests.admin.place import ORIGIN, Place, basic
from tests.api.service import serving
from tests.support.payloads import Blob, image

SESSION = "/api/v1/session"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
ROUTES: list[Any] = [route for chapter in ADMINISTRATION for route in chapter.router.routes]
OCI: list[Any] = [route for chapter in CHAPTERS for route in chapter.router.routes]
REQUESTS = sorted((method, route.path) for route in ROUTES for method in route.methods)
ACCOUNT_REQUESTS = [request for request in REQUESTS if request[1].startswith((SESSION, "/api/v1/keys"))]
"""What is about callers and their keys."""
OCI_REQUESTS = sorted((method, route.path) for route in OCI for method in route.methods)


def path_of(template: str, key: str = "0" * 16) -> str:
    return template.replace("{key}", key).replace("{name:path}", "team/app")


def test_a_user_is_told_who_it_is(shared: Place) -> None:
    for caller in (basic("bob"), shared.session("bob"), shared.session("bob", None)):
        reply = shared.call("GET", SESSION, caller)
        assert reply.status == 200
        said = reply.json
        assert (said["who"], said["kind"], said["groups"], said["admin"]) == ("bob", "user", ["staff"], False)
        assert (said["expires"] is not None) == ("Cookie" in caller)
        assert reply.headers["cache-control"] == "no-store"


def test_every_kind_of_caller_is_told_what_it_is(shared: Place) -> None:
    key_id, key = shared.key(owner="bob", repositories=["**"], actions=["pull"])
    workload = {"Authorization": f"Bearer {shared.provider.token(sub='job')}"}
    found = {
        name: shared.call("GET", SESSION, caller).json
        for name, caller in {
            "admin": basic("admin"),
            "key": key,
            "token": shared.token("bob"),
            "workload": workload,
            "guest": shared.session("sso/guest", None, "sso/ops"),
            "carol": basic("carol"),
        }.items()
    }
    assert {name: said["who"] for name, said in found.items()} == {
        "admin": "admin",
        "key": f"key:{key_id}",
        "token": "bob",
        "workload": "oidc:sso/job",
        "guest": "oidc:sso/guest",
        "carol": "carol",
    }
    assert [name for name, said in found.items() if said["admin"]] == ["admin", "guest"]


def test_a_caller_without_credentials_or_with_wrong_ones_is_told_nothing(shared: Place) -> None:
    wrong: list[dict[str, str]] = [
        {},
        shared.token(""),
        basic("bob", "wrong"),
        {"Authorization": "Basic Og=="},
        {"Authorization": "Bearer x"},
        {"Cookie": "session=" + "x" * 43},
        {"Cookie": "session="},
        {"Cookie": f"session={'x' * 43}; session={'y' * 43}"},
        {"Cookie": "__Host-" + shared.session("bob")["Cookie"]},
    ]
    for method, path in REQUESTS:
        for caller in wrong:
            reply = shared.call(method, path_of(path), caller)
            assert reply.status == 401, (method, path, caller)
            assert reply.code == "UNAUTHORIZED"
            assert reply.headers["www-authenticate"].startswith("Bearer ")


def test_every_route_of_the_administration_takes_sessions_and_needs_an_identity_or_a_right() -> None:
    assert {type(route) for route in ROUTES} == {AdminRoute}
    of_repositories, others = (
        {route.action for route in ROUTES if route.path != PURGE and ("{name:path}" in route.path) is wanted}
        for wanted in (True, False)
    )
    assert of_repositories == {Action.PULL, Action.PUSH}
    assert others == {Action.IDENTITY}
    assert not [route for route in OCI if isinstance(route, AdminRoute)]


@pytest.mark.parametrize(("method", "template"), OCI_REQUESTS)
def test_the_cookie_of_a_session_is_ignored_by_every_other_route(shared: Place, method: str, template: str) -> None:
    path = template.replace("{name:path}", "team/app")
    for parameter, value in (("reference", "one"), ("digest", CONFIG.digest), ("upload", "0" * 32)):
        path = path.replace(f"{{{parameter}}}", value)
    without = shared.service.call(method, path)
    for user in ("admin", "bob"):
        reply = shared.service.call(method, path, headers=shared.session(user))
        assert (reply.status, reply.headers.get("www-authenticate")) == (
            without.status,
            without.headers.get("www-authenticate"),
        )


def test_the_cookie_of_a_session_reads_nothing_that_is_warm_and_buys_no_token(shared: Place) -> None:
    blob = "/v2/team/app/blobs/uploads/?digest=" + CONFIG.digest
    assert shared.service.call("POST", blob, CONFIG.data, basic("bob")).status == 201
    manifest, kind = "/v2/team/app/manifests/one", {"Content-Type": IMAGE.media_type}
    assert shared.service.call("PUT", manifest, IMAGE.data, {**kind, **basic("bob")}).status == 201
    for _ in range(2):
        assert shared.service.call("GET", manifest, headers=basic("bob")).status == 200
    session = shared.session("bob")
    assert shared.service.call("GET", manifest, headers=session).status == 401
    token = shared.service.call("GET", "/auth/token?scope=repository:team/app:pull", headers=session).json["token"]
    assert shared.service.call("GET", manifest, headers={"Authorization": f"Bearer {token}"}).status == 401


def test_credentials_go_before_a_cookie_also_where_they_are_wrong(shared: Place) -> None:
    session = shared.session("admin")
    assert shared.call("GET", SESSION, {**session, **basic("bob")}).json["who"] == "bob"
    assert shared.call("GET", SESSION, {**session, **basic("bob", "wrong")}).status == 401


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example.org", "https://registry.test", "http://registry.test:81"]
)
@pytest.mark.parametrize(("method", "path"), [request for request in REQUESTS if request[0] != "GET"])
def test_what_changes_something_by_cookie_comes_from_a_page_of_the_registry(
    shared: Place, method: str, path: str, origin: str | None
) -> None:
    key_id, _ = shared.key(owner="bob")
    reply = shared.call(method, path_of(path, key_id), shared.session("admin", origin), {})
    assert (reply.status, reply.code) == (403, "DENIED")
    done = shared.call(method, path_of(path, key_id), shared.session("admin", ORIGIN), {})
    refused = {"restore": {404}, "purge": {400}}  # there is nothing to restore, and nothing that is to be purged
    assert done.status in refused.get(path.rpartition("/")[2], {200, 201, 204})


def test_a_page_of_another_site_changes_nothing_with_credentials_that_a_browser_adds_either(shared: Place) -> None:
    foreign = {**basic("bob"), "Origin": "https://evil.example.org"}
    assert shared.call("POST", "/api/v1/keys", foreign, {}).status == 403
    assert shared.call("POST", "/api/v1/keys", basic("bob"), {}).status == 201, "programs say nothing of a page"


def test_a_session_that_was_ended_is_none(shared: Place) -> None:
    session = shared.session("bob")
    authentication = shared.service.context.authentication
    assert authentication is not None
    assert authentication.logins is not None
    authentication.logins.sessions.end(session["Cookie"].partition("=")[2])
    assert shared.call("GET", SESSION, session).status == 401


def test_a_database_that_is_away_is_unavailable_and_no_refusal(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    session = shared.session("bob")

    def fail(*_arguments: object) -> None:
        raise DatabaseUnavailable("it is away")

    monkeypatch.setattr("registry.database.credentials.browser_sessions.find", fail)
    assert shared.call("GET", SESSION, session).status == 503
    monkeypatch.undo()
    assert shared.call("GET", SESSION, session).status == 200


@pytest.mark.parametrize(("method", "path"), ACCOUNT_REQUESTS)
def test_without_authentication_there_are_no_accounts_to_administer(tmp_path: Path, method: str, path: str) -> None:
    with serving(tmp_path) as service:
        reply = service.call(method, path_of(path))
        assert (reply.status, reply.code) == (404, "NOT_FOUND")

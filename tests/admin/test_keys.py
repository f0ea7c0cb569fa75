"""API keys over HTTP: of one's own, of all for administrators, and for no caller that has a part of its rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.admin import keys
from tests.admin.place import ORIGIN, Headers, Place, basic, opened

KEYS = "/api/v1/keys"
SESSION = "/api/v1/session"


def make(place: Place, caller: Headers, **wanted: Any) -> Any:
    reply = place.call("POST", KEYS, caller, wanted)
    assert reply.status == 201, reply
    return reply.json


def ids(place: Place, caller: Headers, query: str = "") -> list[str]:
    reply = place.call("GET", KEYS + query, caller)
    assert reply.status == 200, reply
    return [key["id"] for key in reply.json["keys"]]


@pytest.mark.parametrize("by", ["password", "browser"])
def test_a_user_makes_a_key_uses_it_sees_it_and_revokes_it(place: Place, by: str) -> None:
    bob = basic("bob") if by == "password" else place.session("bob")
    reply = place.call(
        "POST", KEYS, bob, {"description": "for CI", "days": 30, "repositories": ["team/app"], "actions": ["pull"]}
    )
    assert reply.status == 201
    made = reply.json
    secret = made.pop("secret")
    assert reply.headers["location"] == f"{KEYS}/{made['id']}"
    assert reply.headers["cache-control"] == "no-store"
    assert made["owner"] == "bob"
    assert made["scope"] == {"repositories": ["team/app"], "actions": ["pull"]}
    assert made["last_used"] is None
    key = basic("", secret)
    assert place.call("GET", "/v2/team/app/tags/list", key).status == 404, "it may look, and there is nothing"
    assert place.call("POST", "/v2/team/app/blobs/uploads/", key).status == 403
    place.service.context.authentication.directory._keys.write_uses()  # type: ignore[union-attr]
    shown = place.call("GET", f"{KEYS}/{made['id']}", bob)
    assert shown.json == {**made, "last_used": shown.json["last_used"]}
    assert shown.json["last_used"] is not None
    assert ids(place, bob) == [made["id"]]
    for reply in (shown, place.call("GET", KEYS, bob), place.call("GET", f"{KEYS}?all=true", basic("admin"))):
        assert secret[10:] not in reply.body.decode(), "it is shown once"
        assert "sha256" not in reply.body.decode()
    assert place.call("DELETE", f"{KEYS}/{made['id']}", bob).status == 204
    assert place.call("DELETE", f"{KEYS}/{made['id']}", bob).status == 404
    place.look()
    assert place.call("GET", SESSION, key).status == 401
    assert ids(place, bob) == []


def test_keys_of_another_user_are_as_those_that_are_not_there(place: Place) -> None:
    bobs = make(place, basic("bob"))["id"]
    own = make(place, basic("carol"))["id"]
    absent = "0" * 16
    assert ids(place, basic("carol")) == [own]
    for method in ("GET", "DELETE"):
        replies = [
            place.call(method, f"{KEYS}/{key}", basic("carol")) for key in (bobs, absent, "..", "%2e%2e", "x" * 300)
        ]
        assert {reply.status for reply in replies} == {404}
        assert len({reply.body for reply in replies[:2]}) == 1
    assert place.call("GET", f"{KEYS}?all=true", basic("carol")).status == 403, "admin somewhere is not admin"
    for owner in ("bob", "admin", None, "nobody"):
        assert place.call("POST", KEYS, basic("carol"), {"owner": owner}).status == 403
    assert ids(place, basic("bob")) == [bobs]


def test_an_administrator_sees_makes_and_revokes_those_of_all(place: Place) -> None:
    bobs, admin = make(place, basic("bob"))["id"], basic("admin")
    of_itself = make(place, admin, owner=None, description="a robot")
    assert of_itself["owner"] is None
    carols = make(place, admin, owner="carol")["id"]
    own = make(place, admin)["id"]
    assert ids(place, admin) == [own]
    assert ids(place, admin, "?all=true") == sorted([bobs, of_itself["id"], carols, own])
    assert ids(place, basic("carol")) == [carols]
    assert place.call("POST", KEYS, admin, {"owner": "nobody"}).status == 400
    assert place.call("GET", f"{KEYS}/{bobs}", admin).json["owner"] == "bob"
    assert place.call("DELETE", f"{KEYS}/{bobs}", admin).status == 204
    assert ids(place, basic("bob")) == []


def test_an_administrator_of_a_provider_has_no_keys_of_its_own(place: Place) -> None:
    guest = place.session("sso/guest", "http://registry.test", "sso/ops")
    bobs = make(place, guest, owner="bob")["id"]
    assert ids(place, guest, "?all=true") == [bobs]
    assert place.call("GET", KEYS, guest).status == 403
    assert place.call("POST", KEYS, guest, {}).status == 403
    assert place.call("DELETE", f"{KEYS}/{bobs}", guest).status == 204


def test_a_caller_with_a_part_of_the_rights_of_a_user_makes_no_key_that_has_all(place: Place) -> None:
    owned = make(place, basic("bob"))
    bounded = make(place, basic("admin"), actions=["pull"])
    callers = {
        "a key": basic("", owned["secret"]),
        "a bounded key of an administrator": basic("", bounded["secret"]),
        "a token": place.token("bob"),
        "a token of an administrator": place.token("admin"),
        "a workload": {"Authorization": f"Bearer {place.provider.token()}"},
        "a user of a provider": place.session("sso/guest"),
    }
    for name, caller in callers.items():
        for method, path in (
            ("GET", KEYS),
            ("POST", KEYS),
            ("GET", f"{KEYS}/{owned['id']}"),
            ("DELETE", f"{KEYS}/{owned['id']}"),
        ):
            assert place.call(method, path, caller, {} if method == "POST" else None).status == 403, (name, method)
    assert ids(place, basic("bob")) == [owned["id"]]


def test_a_key_for_the_administration_is_one_that_an_administrator_has_made_so(place: Place) -> None:
    _, key = place.key(repositories=["**"], actions=["admin"])
    assert place.call("GET", SESSION, key).json["admin"] is True
    assert len(ids(place, key, "?all=true")) == 1
    _, narrow = place.key(repositories=["team/**"], actions=["admin"])
    assert place.call("GET", f"{KEYS}?all=true", narrow).status == 403


@pytest.mark.parametrize(
    "wanted",
    [
        {"ower": "bob"},
        {"id": "0" * 16},
        {"owner": 1},
        {"days": 0},
        {"days": 91},
        {"days": True},
        {"days": 1.5},
        {"days": "30"},
        {"repositories": "**"},
        {"repositories": [1]},
        {"repositories": ["UPPER"]},
        {"repositories": ["{claim}"]},
        {"repositories": ["a"] * 101},
        {"repositories": ["a" * 256]},
        {"actions": ["read"]},
        {"actions": [None]},
        {"description": "x" * 201},
        {"description": "a\nb"},
        {"description": None},
        [],
        "x",
        None,
    ],
)
def test_a_request_that_is_not_understood_makes_nothing(shared: Place, wanted: object) -> None:
    reply = shared.service.call("POST", KEYS, b"null" if wanted is None else b"", basic("bob"))
    assert reply.status == 400, "it says no Content-Type"
    reply = shared.call("POST", KEYS, basic("bob"), wanted) if wanted is not None else reply
    assert (reply.status, reply.code) == (400, "UNSUPPORTED")
    assert ids(shared, basic("bob")) == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"days": 1, "days": 2}', b"\xff", b'"' + b"x" * 70_000 + b'"'])
def test_a_body_that_is_no_json_or_too_large_is_refused(shared: Place, body: bytes) -> None:
    kind = {"Content-Type": "application/json"}
    assert shared.service.call("POST", KEYS, body, {**basic("bob"), **kind}).status == 400


def test_a_user_has_so_many_keys_and_an_administrator_makes_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MOST_OF_ONE", 3)
    made = [make(place, basic("bob"))["id"] for _ in range(3)]
    reply = place.call("POST", KEYS, basic("bob"), {})
    assert (reply.status, reply.code) == (403, "DENIED")
    make(place, basic("carol"))
    make(place, basic("admin"), owner="bob")
    assert place.call("DELETE", f"{KEYS}/{made[0]}", basic("bob")).status == 204
    assert place.call("DELETE", f"{KEYS}/{made[1]}", basic("bob")).status == 204
    make(place, basic("bob"))


def test_a_list_is_paged_for_a_user_and_for_administrators(place: Place) -> None:
    own = sorted(make(place, basic("bob"))["id"] for _ in range(3))
    every = sorted([*own, make(place, basic("carol"))["id"]])
    for caller, query, expected in ((basic("bob"), "", own), (basic("admin"), "all=true&", every)):
        path, found = f"{KEYS}?{query}n=2", list[str]()
        while path:
            reply = place.call("GET", path, caller)
            found += [key["id"] for key in reply.json["keys"]]
            assert len(reply.json["keys"]) <= 2
            link = reply.headers.get("link", "")
            path = link.removesuffix('>; rel="next"').removeprefix("<").removeprefix(ORIGIN)
        assert found == expected
    assert place.call("GET", f"{KEYS}?n=0", basic("bob")).json == {"keys": []}
    for wrong in ("n=x", "n=-1", "n=" + "9" * 50):
        assert place.call("GET", f"{KEYS}?{wrong}", basic("bob")).status == 400


def test_a_list_of_a_user_reads_its_own_keys(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make(place, basic("bob"))["id"]
    for _ in range(3):
        make(place, basic("admin"), owner=None)
    driver = place.service.registry.backends.driver
    find, read = driver.read, list[str]()

    def noting(path: str, **options: Any) -> Any:
        read.append(path)
        return find(path, **options)

    monkeypatch.setattr(driver, "read", noting)
    assert ids(place, basic("bob")) == [own]
    assert read == [f".auth/keys/{own}.json"]


def test_keys_that_are_not_enabled_are_not_there(tmp_path: Path) -> None:
    with opened(tmp_path, keys={"enabled": False}) as place:
        for method, path in (("GET", KEYS), ("POST", KEYS), ("GET", f"{KEYS}/{'0' * 16}"), ("DELETE", f"{KEYS}/x")):
            assert place.call(method, path, basic("bob"), {} if method == "POST" else None).status == 404
